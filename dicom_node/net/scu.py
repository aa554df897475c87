"""The calls the node makes itself: echo, store, find, move, request of storage commitment.

Every call is one association, has a timeout at every stage, and raises `PeerError` where the peer cannot be talked to
and `DeliveryError` where it answers but does not do it. Both are tried again by whoever calls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_node.config import Config, Peer
from dicom_node.errors import DeliveryError
from dicom_node.net.association import associated, broken_off, no_context, refusal, status_of
from dicom_node.net.commitments import write_commitment

# A PACS that reports a commitment on the association of the request does so at once.
COMMITMENT_WAIT_S = 1.0

PLAIN: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""The transfer syntaxes of results."""
_DUPLICATE = 0x0111
_SOP_CLASS_NOT_SUPPORTED = 0x0122
REMARKS: Final = {
    _DUPLICATE: "it held the object already",
    0xB000: "it changed elements of the object",
    0xB006: "it discarded elements of the object",
    0xB007: "it says that the object does not match its SOP class",
}
"""Statuses other than Success with which an object is taken (PS3.4 B.2.3, PS3.7 C.4)."""
# PS3.7 C.4: a warning means that it was stored, with remarks.
_WARNINGS = range(0xB000, 0xC000)
_PENDING = (0xFF00, 0xFF01)
_REQUEST_COMMITMENT = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """One instance a peer has taken, and the DIMSE status it answered."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The alternative that a peer took, and each better one with the reason why it was refused."""

    path: Path
    refused: tuple[str, ...]
    status: int = 0x0000

    @property
    def remark(self) -> str:
        """What the peer remarked when it took the object, in words; empty for plain Success."""
        if self.status == 0x0000:
            return ""
        return f"{REMARKS.get(self.status, 'a warning of its own')} ({self.status:04X}H)"


def echo(config: Config, peer: Peer) -> float:
    """Return the seconds an association with a C-ECHO takes.

    Raises
    ------
    PeerError
        If there is no association or no answer.
    DeliveryError
        If the answer is not Success (``echo_refused``).
    """
    start_s = time.monotonic()
    with associated(config, peer, [build_context(Verification)]) as association:
        status = status_of(peer, association.send_c_echo())
        if status:
            raise refusal(peer, "C-ECHO", "echo_refused", status)
    return time.monotonic() - start_s


def send(config: Config, peer: Peer, instances: Sequence[Path | Dataset]) -> list[Sent]:
    """Store `instances` at `peer` over one association; warnings and "duplicate" count as stored.

    Parameters
    ----------
    config
        Our own AE title.
    peer
        With a port.
    instances
        Files, or data sets with File Meta Information; sent in the transfer syntax that they have.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If a SOP class is not accepted (``sop_class_refused``) or an instance is refused (``store_refused``).
    """
    read = [_read(instance) for instance in instances]
    with associated(config, peer, _contexts(read)) as association:
        return [_store(peer, association, instance) for instance in read]


def send_first_accepted(config: Config, peer: Peer, alternatives: Sequence[Path]) -> Taken:
    """Store the first of `alternatives` that `peer` takes: by its SOP class, and when it sees the object.

    Parameters
    ----------
    config, peer
        As for `send`.
    alternatives
        The same report as several SOP classes, the best first.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If no SOP class is accepted (``sop_class_refused``) or none of the accepted objects (``store_refused``).
    """
    read = [_read(path) for path in alternatives]
    refused: list[str] = []
    failure = no_context(peer)
    with associated(config, peer, _contexts(read)) as association:
        answers = {context.abstract_syntax: context.status for context in association.rejected_contexts}
        for path, instance in zip(alternatives, read, strict=True):
            why = answers.get(instance.SOPClassUID)
            if why is None:
                try:
                    sent = _store(peer, association, instance)
                except DeliveryError as error:
                    failure, why = error, _why_another(error)
                else:
                    return Taken(path, tuple(refused), sent.status)
            refused.append(f"{instance.SOPClassUID.name}: {why}")
    raise failure


def _why_another(error: DeliveryError) -> str:
    """Say why another SOP class may be taken where this one was not; raise what no other would change."""
    if error.permanent or error.status == _SOP_CLASS_NOT_SUPPORTED:
        return f"status {error.status:04X}H"
    raise error


def find_instances(config: Config, peer: Peer, study_uid: str, series_uid: str | None = None) -> set[str]:
    """Return the SOP Instance UIDs `peer` holds of a study, or of one of its series.

    Parameters
    ----------
    config, peer
        As for `send`.
    study_uid
        Study Instance UID.
    series_uid
        Series Instance UID; without one each series of the study is asked for.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If the query is refused (``find_refused``), or its answers lack what was asked for (``find_incomplete``).
    """
    model = StudyRootQueryRetrieveInformationModelFind
    with associated(config, peer, [build_context(model)]) as association:
        series = [series_uid] if series_uid else _find(peer, association, "SERIES", StudyInstanceUID=study_uid)
        found: set[str] = set()
        for uid in series:
            found |= _find(peer, association, "IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=uid)
    return found


def move(config: Config, peer: Peer, study_uid: str) -> int:
    """Have `peer` send a study to our own AE title and return how many instances it sent.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If the retrieval is refused or incomplete (``move_refused``).
    """
    model = StudyRootQueryRetrieveInformationModelMove
    query = _query("STUDY", StudyInstanceUID=study_uid)
    completed = 0
    with associated(config, peer, [build_context(model)]) as association:
        for answer, _ in association.send_c_move(query, config.node.ae_title, model):
            status = status_of(peer, answer)
            completed = int(answer.get("NumberOfCompletedSuboperations", completed))
            if status and status not in _PENDING:
                raise refusal(peer, "C-MOVE", "move_refused", status)
    return completed


def request_commitment(config: Config, peer: Peer, references: Iterable[tuple[str, str]], transaction_uid: str) -> None:
    """Ask `peer` to commit to the storage of instances.

    Parameters
    ----------
    config, peer
        As for `send`.
    references
        SOP Class UID and SOP Instance UID of each instance.
    transaction_uid
        Names the result, which `write_commitment` keeps when the peer reports it.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If the request is refused (``commitment_refused``), or the peer does not have this service
        (``commitment_unsupported``).
    """
    reported = threading.Event()

    def keep(event: evt.Event) -> tuple[int, None]:
        write_commitment(config.node.data_dir, event.event_information)
        reported.set()
        return 0x0000, None

    handlers = [(evt.EVT_N_EVENT_REPORT, keep)]
    with _committing(config, peer, handlers) as association:
        answer, _ = association.send_n_action(
            _commitment(references, transaction_uid),
            _REQUEST_COMMITMENT,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        if "Status" not in answer:
            raise DeliveryError(
                f'Peer "{peer.name}" breaks off at a request for storage commitment: see that it knows our AE title '
                f"{config.node.ae_title} for this service, then its log.",
                "commitment_refused",
            )
        status = status_of(peer, answer)
        if status:
            raise refusal(peer, "Storage commitment", "commitment_refused", status)
        reported.wait(COMMITMENT_WAIT_S)


@contextmanager
def _committing(config: Config, peer: Peer, handlers: Sequence[Any]) -> Iterator[Association]:
    """Yield an association for storage commitment."""
    try:
        with associated(config, peer, [build_context(StorageCommitmentPushModel)], handlers) as association:
            yield association
    except DeliveryError as error:
        if error.code != "sop_class_refused":
            raise
        raise DeliveryError(
            f'Peer "{peer.name}" does not offer storage commitment: enable storage commitment there, or set `verify` '
            'to "find" or "none".',
            "commitment_unsupported",
        ) from None


def _read(instance: Path | Dataset) -> Dataset:
    return dcmread(instance) if isinstance(instance, Path) else instance


def _contexts(instances: Sequence[Dataset]) -> list[PresentationContext]:
    """Propose one context per SOP class and kind of transfer syntax, in the order of `instances`."""
    wanted: dict[tuple[str, tuple[UID, ...]], None] = {}
    for instance in instances:
        syntax = instance.file_meta.TransferSyntaxUID
        wanted[instance.SOPClassUID, PLAIN if syntax in PLAIN else (syntax,)] = None
    return [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in wanted]


def _store(peer: Peer, association: Association, instance: Dataset) -> Sent:
    try:
        answer = association.send_c_store(instance)
    except ValueError:
        raise no_context(peer) from None
    except RuntimeError:
        raise broken_off(peer) from None
    status = status_of(peer, answer)
    if status not in (0x0000, _DUPLICATE) and status not in _WARNINGS:
        raise refusal(peer, "C-STORE", "store_refused", status)
    return Sent(str(instance.SOPClassUID), str(instance.SOPInstanceUID), status)


def _find(peer: Peer, association: Association, level: str, **keys: str) -> set[str]:
    wanted = {"SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
    query = _query(level, **{wanted: "", **keys})
    found, incomplete = set(), False
    for answer, identifier in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
        status = status_of(peer, answer)
        if status in _PENDING:
            uid = str((identifier or Dataset()).get(wanted) or "")
            found |= {uid} if uid else set()
            incomplete |= not uid
        elif status:
            raise refusal(peer, "C-FIND", "find_refused", status)
    if incomplete and not found:
        raise DeliveryError(
            f'Peer "{peer.name}" answers C-FIND without {wanted}, which was asked for: mend its query service, or set '
            "`verify` to another proof.",
            "find_incomplete",
        )
    return found


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _commitment(references: Iterable[tuple[str, str]], transaction_uid: str) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        request.ReferencedSOPSequence.append(item)
    return request
