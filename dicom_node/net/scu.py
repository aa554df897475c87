"""The calls the node makes itself: echo, store, find, move, request of storage commitment.

Every call is one association, has a timeout at every stage, and raises `PeerError` where the peer cannot be talked to
and `DeliveryError` where it answers but does not do it. Both are tried again by whoever calls.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
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
from dicom_node.errors import DeliveryError, PeerError
from dicom_node.net.commitments import write_commitment

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 30
MESSAGE_TIMEOUT_S = 120
# A PACS that reports a commitment on the association of the request does so at once.
COMMITMENT_WAIT_S = 1.0

_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_DUPLICATE = 0x0111
_SOP_CLASS_NOT_SUPPORTED = 0x0122
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
    with _associated(config, peer, [build_context(Verification)]) as association:
        status = _status(peer, association.send_c_echo())
        if status:
            raise _refused(peer, "C-ECHO", "echo_refused", status)
    return time.monotonic() - start_s


def send(config: Config, peer: Peer, instances: Sequence[Path | Dataset]) -> list[Sent]:
    """Store `instances` at `peer` over one association; warnings and "duplicate" count as stored.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If a SOP class is not accepted (``sop_class_refused``) or an instance is refused (``store_refused``).
    """
    read = [_read(instance) for instance in instances]
    with _associated(config, peer, _contexts(read)) as association:
        return [_store(peer, association, instance) for instance in read]


def send_first_accepted(config: Config, peer: Peer, alternatives: Sequence[Path]) -> Taken:
    """Store the first of `alternatives` that `peer` takes: by its SOP class, and when it sees the object.

    They are the same report as several SOP classes, the best first.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If no SOP class is accepted (``sop_class_refused``) or none of the accepted objects (``store_refused``).
    """
    read = [_read(path) for path in alternatives]
    refused: list[str] = []
    failure = _no_context(peer)
    with _associated(config, peer, _contexts(read)) as association:
        answers = {context.abstract_syntax: context.status for context in association.rejected_contexts}
        for path, instance in zip(alternatives, read, strict=True):
            why = answers.get(instance.SOPClassUID)
            if why is None:
                try:
                    _store(peer, association, instance)
                except DeliveryError as error:
                    failure, why = error, _why_another(error)
                else:
                    return Taken(path, tuple(refused))
            refused.append(f"{instance.SOPClassUID.name}: {why}")
    raise failure


def _why_another(error: DeliveryError) -> str:
    """Say why another SOP class may be taken where this one was not; raise what no other would change."""
    if error.permanent or error.status == _SOP_CLASS_NOT_SUPPORTED:
        return f"status {error.status:04X}H"
    raise error


def find_instances(config: Config, peer: Peer, study_uid: str, series_uid: str | None = None) -> set[str]:
    """Return the SOP Instance UIDs `peer` holds of a study, or of one of its series.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If the query is refused (``find_refused``).
    """
    model = StudyRootQueryRetrieveInformationModelFind
    with _associated(config, peer, [build_context(model)]) as association:
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
    with _associated(config, peer, [build_context(model)]) as association:
        for answer, _ in association.send_c_move(query, config.node.ae_title, model):
            status = _status(peer, answer)
            completed = int(answer.get("NumberOfCompletedSuboperations", completed))
            if status and status not in _PENDING:
                raise _refused(peer, "C-MOVE", "move_refused", status)
    return completed


def request_commitment(config: Config, peer: Peer, references: Iterable[tuple[str, str]], transaction_uid: str) -> None:
    """Ask `peer` to commit to the storage of instances, each a SOP Class UID and a SOP Instance UID.

    `transaction_uid` names the result, which `write_commitment` keeps when the peer reports it.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If the request is refused (``commitment_refused``).
    """
    reported = threading.Event()

    def keep(event: evt.Event) -> tuple[int, None]:
        write_commitment(config.node.data_dir, event.event_information)
        reported.set()
        return 0x0000, None

    handlers = [(evt.EVT_N_EVENT_REPORT, keep)]
    with _associated(config, peer, [build_context(StorageCommitmentPushModel)], handlers) as association:
        answer, _ = association.send_n_action(
            _commitment(references, transaction_uid),
            _REQUEST_COMMITMENT,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        status = _status(peer, answer)
        if status:
            raise _refused(peer, "Storage commitment", "commitment_refused", status)
        reported.wait(COMMITMENT_WAIT_S)


def send_at_once(event: evt.Event) -> None:
    """Turn Nagle's algorithm off: messages are small, and the other side waits for each.

    pynetdicom has no setting for it (no upstream issue known).
    """
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        with contextlib.suppress(OSError):
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.contextmanager
def _associated(
    config: Config, peer: Peer, contexts: list[PresentationContext], handlers: Sequence[Any] = ()
) -> Iterator[Association]:
    """Yield an established association; it is released afterwards, or aborted if something is raised."""
    association = _associate(config, peer, contexts, handlers)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _associate(config: Config, peer: Peer, contexts: list[PresentationContext], handlers: Sequence[Any]) -> Association:
    _config.LOG_HANDLER_LEVEL = "none"
    connected = threading.Event()
    events = [(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_CONN_OPEN, lambda _: connected.set()), *handlers]
    try:
        association = _application_entity(config.node.ae_title).associate(
            peer.host, peer.port or 0, contexts, ae_title=peer.ae_title, evt_handlers=events
        )
    except OSError:
        raise _unreachable(peer) from None
    if not association.is_established:
        raise _no_association(peer, association, connected.is_set())
    _keep_answers(association)
    return association


def _keep_answers(association: Association) -> None:
    """Give an answer back to whoever waits for it.

    pynetdicom 3.0.4 can lose one: its own loop leaves the checkpoint, is suspended, and then takes the answer to a
    message that was sent meanwhile off the queue and drops it as unexpected; the caller waits until the timeout. Its
    issue 875 shows the symptom and was closed as a question.
    """
    serve, queue = association._serve_request, association.dimse.msg_queue

    def serve_or_give_back(message: Any, context_id: int) -> None:
        if message.is_valid_request:
            serve(message, context_id)
            return
        with queue.mutex:
            queue.queue.appendleft((context_id, message))
            queue.not_empty.notify()

    association._serve_request = serve_or_give_back  # type: ignore[method-assign,assignment]


def _application_entity(ae_title: str) -> AE:
    entity = AE(ae_title)
    entity.connection_timeout = CONNECT_TIMEOUT_S
    entity.acse_timeout = ANSWER_TIMEOUT_S
    entity.dimse_timeout = MESSAGE_TIMEOUT_S
    entity.network_timeout = MESSAGE_TIMEOUT_S
    return entity


def _read(instance: Path | Dataset) -> Dataset:
    return dcmread(instance) if isinstance(instance, Path) else instance


def _contexts(instances: Sequence[Dataset]) -> list[PresentationContext]:
    """Propose one context per SOP class and kind of transfer syntax, in the order of `instances`."""
    wanted: dict[tuple[str, tuple[UID, ...]], None] = {}
    for instance in instances:
        syntax = instance.file_meta.TransferSyntaxUID
        wanted[instance.SOPClassUID, _PLAIN if syntax in _PLAIN else (syntax,)] = None
    return [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in wanted]


def _store(peer: Peer, association: Association, instance: Dataset) -> Sent:
    try:
        answer = association.send_c_store(instance)
    except ValueError:
        raise _no_context(peer) from None
    except RuntimeError:
        raise _broken_off(peer) from None
    status = _status(peer, answer)
    if status not in (0x0000, _DUPLICATE) and status not in _WARNINGS:
        raise _refused(peer, "C-STORE", "store_refused", status)
    return Sent(str(instance.SOPClassUID), str(instance.SOPInstanceUID), status)


def _find(peer: Peer, association: Association, level: str, **keys: str) -> set[str]:
    wanted = {"SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
    query = _query(level, **{wanted: "", **keys})
    found = set()
    for answer, identifier in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
        status = _status(peer, answer)
        if status in _PENDING and identifier is not None:
            found.add(str(identifier[wanted].value))
        elif status not in (0x0000, *_PENDING):
            raise _refused(peer, "C-FIND", "find_refused", status)
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


def _status(peer: Peer, answer: Dataset) -> int:
    """Return the status of an answer; pynetdicom gives an empty one for a timeout or a lost connection."""
    if "Status" not in answer:
        raise _broken_off(peer)
    return int(answer.Status)


def _no_association(peer: Peer, association: Association, connected: bool) -> PeerError:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        return PeerError(
            f'Peer "{peer.name}" rejects the association ({answer.reason_str}): compare the AE titles and addresses '
            "configured on both sides.",
            "association_rejected",
        )
    if answer is not None and answer.result == 0:
        return _no_context(peer)
    return _broken_off(peer) if connected else _unreachable(peer)


def _unreachable(peer: Peer) -> PeerError:
    return PeerError(
        f'Peer "{peer.name}" cannot be reached at {peer.host}:{peer.port}: check host, port, network and firewall.',
        "peer_unreachable",
    )


def _broken_off(peer: Peer) -> PeerError:
    return PeerError(f'Peer "{peer.name}" broke off or did not answer in time: look at its log.', "peer_broke_off")


def _no_context(peer: Peer) -> DeliveryError:
    return DeliveryError(
        f'Peer "{peer.name}" accepts none of the SOP classes offered: enable them there.', "sop_class_refused"
    )


def _refused(peer: Peer, call: str, code: str, status: int) -> DeliveryError:
    return DeliveryError(
        f'{call} was refused by peer "{peer.name}" with status {status:04X}H: see its log.', code, status
    )
