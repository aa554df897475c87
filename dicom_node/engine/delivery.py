"""Deliver result objects: offer, prove, try again for days, set aside.

Sent is not delivered: a delivery counts when the peer has shown that it holds the object, by storage commitment or by
C-FIND, as the peer is configured. What is sent are the stored bytes of the run, never a report built anew.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import chain, product
from pathlib import Path

import pydicom

from dicom_node.config import Config, Peer
from dicom_node.engine.contract import Offered, Proved
from dicom_node.engine.run_folder import objects, saliency_kinds
from dicom_node.errors import DeliveryError, ObjectMissing, PeerError
from dicom_node.log import say
from dicom_node.net import scu
from dicom_node.net.commitments import await_commitment, commitment_file
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Delivery, Event, Kind, State, Timeline
from pipeline.report import Predecessor

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 3600.0
_SECONDS_PER_HOUR = 3600


class Outbox:
    """What the steps of a delivery do; it keeps nothing in memory, only the timelines know what was delivered.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    """

    def __init__(self, config: Config, spool: Spool) -> None:
        self._config = config
        self._spool = spool

    def destinations(self) -> list[str]:
        """Return the names of the peers that get results."""
        return [peer.name for peer in self._config.destinations]

    def deliveries(self, study_uid: str, state: str) -> list[Delivery]:
        """Return what a study sends, and to whom.

        Parameters
        ----------
        study_uid
            A received study.
        state
            What reading came to. Scored: every object that is configured. Held: the report of it, where that is
            configured, to peers that do not know the reason. Anything else: nothing.
        """
        timeline = self._spool.study(study_uid).timeline()
        if state == State.HELD and self._config.report.held == "sr":
            told = timeline.told_of_hold
            return [Delivery(peer, Kind.HELD) for peer in self.destinations() if peer not in told]
        if state != State.SCORED:
            return []
        digest = timeline.read_digest
        maps = saliency_kinds(self._spool.study(study_uid).run_folder(digest) if digest else None)
        # Page and maps are objects of their own: each is delivered, proved and set aside by itself.
        kinds = chain.from_iterable(
            maps if kind is Kind.SALIENCY else (kind,) for kind in map(Kind, self._config.report.send)
        )
        return [Delivery(*pair) for pair in product(self.destinations(), kinds)]

    def send(self, study_uid: str, input_digest: str, kind: str, peer: str) -> Offered:
        """Offer an object to a peer; a failure is a value, so that the pause before the next attempt is durable.

        Parameters
        ----------
        study_uid, input_digest
            The run that left the object.
        kind
            A `Kind`.
        peer
            Name of a destination.
        """
        study = self._spool.study(study_uid)
        try:
            taken = self._offer(study.run_folder(input_digest), Kind(kind), peer)
        except PeerError as error:
            study.note(Event.SEND_FAILED, peer=peer, kind=kind, code=error.code, sentence=str(error))
            say(logger, "send failed", level=logging.WARNING, study=study_uid, peer=peer, kind=kind, code=error.code)
            return {"ok": False, "permanent": error.permanent}
        facts = _identity(taken.path) | ({"refused": list(taken.refused)} if taken.refused else {})
        # A study that is held stays held, whoever was told.
        state = None if kind == Kind.HELD else State.SENDING
        file = taken.path.name
        study.note(Event.SENT, state, peer=peer, kind=kind, file=file, input_digest=input_digest, **facts)
        return {"ok": True, "file": file}

    def verify(self, study_uid: str, input_digest: str, kind: str, peer: str, file: str) -> Proved:
        """Ask the peer whether it holds what was sent; the last delivery of a study makes the study delivered.

        Parameters
        ----------
        study_uid, input_digest, kind, peer
            As for `send`.
        file
            Name of the file that was taken.
        """
        study = self._spool.study(study_uid)
        path = study.run_folder(input_digest) / file
        try:
            proof = prove(self._config, self._config.peer(peer), path, self._spool.data_dir)
        except PeerError as error:
            study.note(Event.VERIFY_FAILED, peer=peer, kind=kind, code=error.code, sentence=str(error))
            say(logger, "verify failed", level=logging.WARNING, study=study_uid, peer=peer, kind=kind, code=error.code)
            return {"ok": False}
        study.note(Event.VERIFIED, peer=peer, kind=kind, proof=proof, input_digest=input_digest)
        proved = study.timeline().verified(input_digest)
        if kind != Kind.HELD and proved >= set(self.deliveries(study_uid, State.SCORED)):
            study.note(Event.DELIVERED, State.DELIVERED)
            say(logger, "study delivered", study=study_uid)
        return {"ok": True}

    def give_up(self, study_uid: str, kind: str, peer: str) -> None:
        """Set a delivery aside; ``dicom-node retry`` takes it up again."""
        state = None if kind == Kind.HELD else State.DELIVERY_FAILED
        self._spool.study(study_uid).note(Event.GAVE_UP, state, peer=peer, kind=kind)
        say(logger, "delivery set aside", level=logging.ERROR, study=study_uid, peer=peer, kind=kind)

    def delays_s(self) -> Iterator[float]:
        """Yield the pauses between attempts to deliver."""
        return delays_s(self._config.delivery.retry_s, self._config.delivery.give_up_hours)

    def _offer(self, folder: Path, kind: Kind, peer: str) -> scu.Taken:
        alternatives = objects(folder, kind)
        if not alternatives:
            raise ObjectMissing(f"The run has no object of the kind {kind}: compare the data folder.")
        return scu.send_first_accepted(self._config, self._config.peer(peer), alternatives)


def predecessor(timeline: Timeline) -> Predecessor | None:
    """Return the report of a study that was sent last, if any: what is read now revises it."""
    sent = timeline.report
    return Predecessor(*(sent.text(field.name) for field in fields(Predecessor))) if sent else None


def delays_s(retry_s: float, give_up_hours: float) -> Iterator[float]:
    """Yield pauses that double up to an hour, until together they exceed the time to give up.

    Parameters
    ----------
    retry_s
        The first pause.
    give_up_hours
        More than zero.

    Examples
    --------
    >>> list(delays_s(1000, 1))
    [1000, 2000, 3600.0]
    """
    pause_s, total_s = retry_s, 0.0
    while total_s < give_up_hours * _SECONDS_PER_HOUR:
        yield pause_s
        total_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def prove(config: Config, peer: Peer, object_file: Path, data_dir: Path) -> str:
    """Return how the peer proved that it holds the object: ``commitment``, ``find`` or ``none`` if none is asked for.

    Parameters
    ----------
    config
        Of the node.
    peer
        Its `verify` says how it proves.
    object_file
        What was sent.
    data_dir
        Where the receiver keeps the results of storage commitment.

    Raises
    ------
    PeerError
        If it did not prove it.
    """
    if peer.verify == "none":
        return "none"
    dataset = pydicom.dcmread(object_file, stop_before_pixels=True)
    uid = str(dataset.SOPInstanceUID)
    if peer.verify == "find":
        found = scu.find_instances(config, peer, str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID))
        if uid not in found:
            raise DeliveryError(f"Peer {peer.name} does not list the object it accepted: look at its log.", "not_found")
        return "find"
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    scu.request_commitment(config, peer, [(str(dataset.SOPClassUID), uid)], transaction_uid)
    file = commitment_file(data_dir, transaction_uid)
    answer = await_commitment(file, peer.name, config.delivery.commitment_timeout_s)
    if uid not in answer.committed:
        raise DeliveryError(f"Peer {peer.name} does not commit to the object: look at its log.", "not_committed")
    return "commitment"


def _identity(file: Path) -> dict[str, object]:
    """Return what kind of object was sent, and the UIDs by which a revision names it."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    uids = Predecessor(str(header.SeriesInstanceUID), str(header.SOPClassUID), str(header.SOPInstanceUID))
    return {"sop_class": header.SOPClassUID.name, **asdict(uids)}
