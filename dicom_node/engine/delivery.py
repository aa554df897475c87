"""One attempt to deliver an object: offer it, have it proved, and say when the next attempt is due.

Sent is not delivered: a delivery counts when the peer has shown that it holds the object, by storage commitment or by
C-FIND, as the peer is configured; of a FHIR server it is read back, a receiver of HL7
acknowledges it. What is sent are the stored bytes of the run, never
a report built anew. What a peer took is not sent again unless the peer says, twice, that it does not hold it; what is
proved is never sent again.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom

from dicom_node.config import Config, FhirServer, Hl7Receiver, Peer, Receiver
from dicom_node.engine.addressing import identified
from dicom_node.engine.object_identity import identity
from dicom_node.engine.outbox import LONGEST_PAUSE_S, Outbox
from dicom_node.engine.outbox_tables import Due, Item
from dicom_node.errors import DatabaseUnusable, ObjectDenied, ObjectMissing, PeerAway, PeerError, StudyUnknown
from dicom_node.log import say
from dicom_node.net import fhir, mllp, scu
from dicom_node.net.commitments import not_committed, read_commitment, reported, unanswered
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.standings import Overcome, Standing, standings, state_after_failure, state_of
from dicom_node.studies.timeline import Delivery, Event, Kind, State

logger = logging.getLogger(__name__)

# Pauses differ by this share, so that what failed together does not come again together.
_JITTER = 0.15
_MOST_DOUBLINGS = 32
_DENIALS = 2
"""How often a peer denies to hold what it took before it is sent again: many list an object only after a while."""
_AFTER_REPORT_S = 2.0
"""Pause of what points to a report that is still on its way."""
_STRAY_S = 86400
"""How long a result that nobody asked for is kept: `check` asks too, and reads its result itself."""


class Deliveries:
    """Makes attempts; it keeps nothing in memory, the timelines know what was delivered and the outbox what waits.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    outbox
        What waits to be delivered.
    """

    def __init__(self, config: Config, spool: Spool, outbox: Outbox) -> None:
        self._config = config
        self._spool = spool
        self._outbox = outbox
        self._receivers = {one.name: one for one in config.receivers}

    def reconfigure(self, config: Config) -> None:
        """Deliver by another configuration from the next attempt on."""
        self._config, self._receivers = config, {one.name: one for one in config.receivers}

    def attempt(self, due: Due) -> None:
        """Offer an object that is due, and have it proved; whatever comes of it, the outbox knows when it is due again.

        Parameters
        ----------
        due
            What was taken from the outbox.

        Raises
        ------
        DatabaseUnusable
            If the outbox cannot be told what came of it.
        """
        peer, study = self._receivers.get(due.item.peer), self._study(due.item)
        if peer is None or study is None:
            self._withdraw(due.item, study)
        elif due.asked:
            timeout = unanswered(peer.name, self._config.delivery.commitment_timeout_s)
            self._failed(due, study, Event.VERIFY_FAILED, timeout)
        elif isinstance(peer, Peer) and due.left_s > 0 and _comes_before_its_report(study, due.item):
            self._wait_for_report(due, study, peer)
        elif self._stage(due, study, peer, Event.SEND_FAILED):
            self._stage(due, study, peer, Event.VERIFY_FAILED)

    def take_results(self) -> None:
        """Read the results of storage commitment that came: for whatever attempt, and however late."""
        for file in reported(self._spool.data_dir):
            request = self._outbox.requests.answered(file.stem)
            if request is not None:
                self._result(file, request.item, request.sop_instance_uid)
            if request is not None or _age_s(file) > _STRAY_S:
                file.unlink(missing_ok=True)

    def _wait_for_report(self, due: Due, study: Study, peer: Peer) -> None:
        """Have what points to a report wait for it; who was to look whether the peer is back does so all the same."""
        try:
            if due.probe:
                scu.echo(self._config, peer)
                self._back(due)
        except PeerAway as error:
            self._away(due, study, Event.SEND_FAILED, error)
        except PeerError:
            self._back(due)
            self._outbox.again(due, pause_s(_AFTER_REPORT_S, due.failures, due.left_s))
        else:
            self._outbox.again(due, pause_s(_AFTER_REPORT_S, due.failures, due.left_s))

    def _stage(self, due: Due, study: Study, peer: Receiver, failure: Event) -> bool:
        """Send or prove; return whether that went well."""
        name, stage = ("send", self._send) if failure is Event.SEND_FAILED else ("verify", self._prove)
        try:
            with _step(study, name, due.item):
                stage(due, study, peer)
        except PeerAway as error:
            self._away(due, study, failure, error)
        except PeerError as error:
            self._back(due)
            self._failed(due, study, failure, error)
        except DatabaseUnusable:
            raise
        except Exception as error:
            fault = f"A fault in the node ({type(error).__name__}): see its log."
            self._failed(due, study, failure, PeerError(fault, "internal_error"))
        else:
            self._back(due)
            return True
        return False

    def _send(self, due: Due, study: Study, peer: Receiver) -> None:
        item, objects = due.item, _objects(study, due.item)
        if not objects:
            raise ObjectMissing(f"The run has no object of the kind {item.kind}: compare the data folder.")
        standing = _standing(study, item)
        held = standing.taken in objects and standing.denials < _DENIALS
        if held or not standing.proved.isdisjoint(objects):
            return
        taken = _offer(self._config, peer, list(objects.values()))
        facts = identity(taken.path)
        facts |= {"refused": list(taken.refused)} if taken.refused else {}
        facts |= {"remark": taken.remark} if taken.remark else {}
        study.note(Event.SENT, state_of, **_of(item), file=taken.path.name, **facts)
        if taken.remark:
            say(logger, "taken with a remark", level=logging.WARNING, study=study.uid, status=taken.status, **_to(item))

    def _prove(self, due: Due, study: Study, peer: Receiver) -> None:
        """Ask the peer whether it holds what it took."""
        item, standing = due.item, _standing(study, due.item)
        if standing.taken in standing.proved:
            self._outbox.remove(item)
        elif isinstance(peer, FhirServer):
            fhir.read_back(peer, _taken_file(study, item, standing))
            self._proved(item, study, standing.taken, "read")
        elif isinstance(peer, Hl7Receiver):
            self._proved(item, study, standing.taken, "acknowledged")
        elif peer.verify == "commitment":
            self._ask(due, study, peer, standing)
        else:
            if peer.verify == "find":
                _find(self._config, peer, _taken_file(study, item, standing))
            self._proved(item, study, standing.taken, peer.verify)

    def _ask(self, due: Due, study: Study, peer: Peer, standing: Standing) -> None:
        """Ask for storage commitment; from here on a row waits, and nobody else."""
        transaction_uid, timeout_s = f"2.25.{uuid.uuid4().int}", self._config.delivery.commitment_timeout_s
        self._outbox.requests.begin(due, transaction_uid, standing.taken, timeout_s)
        facts = {**_of(due.item), "transaction_uid": transaction_uid, "until": _in(timeout_s)}
        study.note(Event.ASKED, **facts)
        header = pydicom.dcmread(_taken_file(study, due.item, standing), stop_before_pixels=True)
        scu.request_commitment(
            self._config, peer, [(str(header.SOPClassUID), str(header.SOPInstanceUID))], transaction_uid
        )
        self._outbox.requests.sent(transaction_uid)

    def _result(self, file: Path, item: Item, sop_instance_uid: str) -> None:
        study, commitment = self._study(item), read_commitment(file)
        if study is None:
            self._outbox.remove(item)
        elif sop_instance_uid in commitment.committed:
            self._proved(item, study, sop_instance_uid, "commitment")
        elif (due := self._outbox.requests.waits_for(file.stem)) is not None:
            self._failed(due, study, Event.VERIFY_FAILED, not_committed(item.peer, commitment, sop_instance_uid))

    def _proved(self, item: Item, study: Study, sop_instance_uid: str, proof: str) -> None:
        """Note a proof; the last one of a study makes the study delivered."""
        facts = {**_of(item), "proof": proof, "sop_instance_uid": sop_instance_uid}
        if study.note(Event.VERIFIED, state_of, **facts).state is State.DELIVERED:
            study.note(Event.DELIVERED)
            say(logger, "study delivered", study=study.uid)
        self._outbox.remove(item)

    def _failed(self, due: Due, study: Study, event: Event, error: PeerError) -> None:
        """Have an object tried again after a pause, or set it aside: that never concerns another object."""
        aside = error.permanent or due.left_s <= 0
        pause, jitter = pause_s(self._config.delivery.retry_s, due.failures, due.left_s), _jitter()
        facts: dict[str, object] = {"code": error.code, "sentence": str(error)}
        facts |= {} if aside else {"next_attempt": _in(pause * jitter)}
        facts |= {"denied": True} if isinstance(error, ObjectDenied) else {}
        if not self._noted(event, due.item, study, facts):
            return
        _say(event, study, due.item, error)
        if aside:
            self._outbox.set_aside(due.item)
            self._give_up(due.item, study, error, refused=error.permanent)
        else:
            self._outbox.again(due, pause, jitter)

    def _away(self, due: Due, study: Study, event: Event, error: PeerError) -> None:
        """Have everything wait that is for a peer that is away; one object at a time looks whether it is back."""
        pause, over, told = self._outbox.away(due, self._config.delivery.retry_s, _jitter())
        facts = {"code": error.code, "sentence": str(error), "next_attempt": _in(pause)}
        if self._noted(event, due.item, study, facts):
            _say(event, study, due.item, error)
        for item in told:
            other = self._study(item)
            if other is not None and item != due.item:
                self._noted(Event.PUT_OFF, item, other, facts)
        for item in over:
            other = self._study(item)
            if other is not None:
                self._give_up(item, other, error, refused=False)

    def _back(self, due: Due) -> None:
        if due.probe and self._outbox.back(due.item.peer):
            say(logger, "destination is back", peer=due.item.peer)

    def _give_up(self, item: Item, study: Study, error: PeerError, *, refused: bool) -> None:
        facts = {"code": error.code, "sentence": str(error), "refused": refused}
        if self._noted(Event.GAVE_UP, item, study, facts):
            say(logger, "delivery set aside", level=logging.ERROR, study=study.uid, code=error.code, **_to(item))

    def _noted(self, event: Event, item: Item, study: Study, facts: Mapping[str, object]) -> bool:
        """Note a failure; return False, and forget the item, if its object was proved meanwhile."""
        try:
            study.note(event, state_after_failure, **_of(item), **facts)
        except Overcome:
            self._outbox.remove(item)
            return False
        return True

    def _withdraw(self, item: Item, study: Study | None) -> None:
        """Forget what is for nobody: its study was removed, or its peer is no destination any more."""
        self._outbox.remove(item)
        if study is not None:
            study.note(Event.WITHDRAWN, state_of, **_of(item))

    def _study(self, item: Item) -> Study | None:
        try:
            return self._spool.study(item.study_uid)
        except StudyUnknown:
            return None


def _say(event: Event, study: Study, item: Item, error: PeerError) -> None:
    facts = {"level": logging.WARNING, "study": study.uid, "code": error.code, **_to(item)}
    if event is Event.SEND_FAILED:
        say(logger, "send failed", **facts)
    else:
        say(logger, "verify failed", **facts)


def pause_s(retry_s: float, failures: int, left_s: float) -> float:
    """Return the pause before the next attempt: they double up to an hour, and after the last one there is an attempt.

    Parameters
    ----------
    retry_s
        The first pause.
    failures
        Before this one.
    left_s
        What is left of the time to give up.
    """
    return min(retry_s * 2.0 ** min(failures, _MOST_DOUBLINGS), LONGEST_PAUSE_S, left_s)


def _offer(config: Config, receiver: Receiver, alternatives: list[Path]) -> scu.Taken:
    """Have a receiver take the first of some objects that it can take, in the way that it speaks."""
    if isinstance(receiver, FhirServer):
        fhir.post(receiver, alternatives[0])
        return scu.Taken(alternatives[0], ())
    if isinstance(receiver, Hl7Receiver):
        mllp.send(receiver, alternatives[0])
        return scu.Taken(alternatives[0], ())
    return scu.send_first_accepted(config, receiver, alternatives)


def _find(config: Config, peer: Peer, file: Path) -> None:
    """Look whether the peer lists an object."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    found = scu.find_instances(config, peer, str(header.StudyInstanceUID), str(header.SeriesInstanceUID))
    if str(header.SOPInstanceUID) not in found:
        raise ObjectDenied(f'Peer "{peer.name}" does not list the object it accepted: look at its log.', "not_found")


def _objects(study: Study, item: Item) -> dict[str, Path]:
    """Return the files that may be sent; a key object points to the report in the one SOP class that the peer took."""
    folder = study.run_folder(item.input_digest)
    objects = identified(folder, Kind(item.kind))
    if item.kind != Kind.KEY:
        return objects
    pairs = zip(identified(folder, Kind.SR), objects.items(), strict=True)
    return dict(key for report, key in pairs if report == _report(study, item).taken)


def _comes_before_its_report(study: Study, item: Item) -> bool:
    return item.kind == Kind.KEY and not _report(study, item).taken


def _report(study: Study, item: Item) -> Standing:
    return _standing(study, replace(item, kind=Kind.SR))


def _standing(study: Study, item: Item) -> Standing:
    delivery = Delivery(item.peer, item.kind)
    return standings(study.timeline(), item.input_digest).get(delivery) or Standing(delivery)


def _taken_file(study: Study, item: Item, standing: Standing) -> Path:
    return identified(study.run_folder(item.input_digest), Kind(item.kind))[standing.taken]


def _of(item: Item) -> dict[str, object]:
    return {"peer": item.peer, "kind": item.kind, "input_digest": item.input_digest}


def _to(item: Item) -> dict[str, Any]:
    return {"peer": item.peer, "kind": item.kind}


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _jitter() -> float:
    return random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nobody gains from foreseeing a pause


def _age_s(file: Path) -> float:
    try:
        return datetime.now(UTC).timestamp() - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def _step(study: Study, name: str, item: Item) -> Iterator[None]:
    say(logger, "step started", study=study.uid, step=name, **_to(item))
    yield
    say(logger, "step finished", study=study.uid, step=name, **_to(item))
