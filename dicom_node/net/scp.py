"""The DICOM port: C-ECHO, C-STORE, and the results of storage commitment; bytes to the spool, then the answer.

Of a data set only as much is read as it takes to find the study it belongs to. Success means the file is fsynced.
Only configured peers may associate, by AE title and address, and only those with the role "source" may store.

Storage commitment: the node is the SCU of that service, so the PACS opens an association of its own to report a result
and proposes the SCP role for itself (PS3.4 J.3.3); the result is kept as
``<data_dir>/commitments/<transaction_uid>.json``.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import zlib
from enum import IntEnum
from io import BytesIO
from typing import Any, Protocol, cast

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
)
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.config import Config, PeerRole
from dicom_node.errors import ConfigError, SpoolFull
from dicom_node.log import say
from dicom_node.net.association import send_at_once
from dicom_node.net.callers import Caller, known_roles, plain_address
from dicom_node.net.commitments import write_commitment
from dicom_node.net.contexts import accept_storage, refused_contexts, serve_storage, supported_contexts
from dicom_node.studies.collect import End
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Ending, Event
from models.uid import is_uid

logger = logging.getLogger(__name__)

MAXIMUM_ASSOCIATIONS = 64
# Modalities hold an association open between the series of an examination.
IDLE_TIMEOUT_S = 1800
MESSAGE_TIMEOUT_S = 120
REQUEST_TIMEOUT_S = 30
MAXIMUM_PDU_BYTES = 128 * 1024

# Transient, by the service provider (presentation): local limit exceeded (PS3.8 9.3.4).
LOCAL_LIMIT = (0x02, 0x03, 0x02)
_STUDY_INSTANCE_UID = 0x0020000D
_INFLATE_BYTES = 64 * 1024
_LAST_NOTES_S = 5.0


class Status(IntEnum):
    """The DIMSE statuses the node answers with (PS3.4 B.2.3, PS3.7 C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NOT_AUTHORISED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    NO_STUDY = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class Refusal(IntEnum):
    """Why an association is rejected for good: diagnostic of the service user (PS3.8 9.3.4)."""

    CALLING_AE_TITLE = 3
    CALLED_AE_TITLE = 7


class Listener(Protocol):
    """Who is notified of arrivals; `collect.Collector` is one. Calls come from many threads and must return at once."""

    def stored(self, association: int, study_uid: str, outcome: Outcome) -> None:
        """Take note that an instance is in the spool."""

    def refused(self, association: int, study_uid: str | None) -> None:
        """Take note that an instance was not stored; None if its study cannot be read."""

    def closed(self, association: int, end: End) -> None:
        """Take note that the association is over, and how it ended."""


class Receiver:
    """The listening application entity.

    Parameters
    ----------
    config
        Whole configuration.
    spool
        Where instances go.
    listener
        Told of every stored instance and every closed association.
    """

    def __init__(self, config: Config, spool: Spool, listener: Listener | None = None) -> None:
        self._config = config
        self._spool = spool
        self._listener = listener
        self._callers: dict[Association, Caller] = {}
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None:
            raise RuntimeError("the receiver is not started")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Remove what a crash left half-written, then listen.

        Raises
        ------
        ConfigError
            If the port cannot be opened (``port_unavailable``).
        """
        self._spool.clean()
        node = self._config.node
        # pynetdicom would decode and print every message, patient attributes included; its manual names this switch.
        _config.LOG_HANDLER_LEVEL = "none"
        try:
            self._server = _application_entity(node.ae_title).start_server(
                (node.bind, node.port), block=False, evt_handlers=self._events()
            )
        except OSError as error:
            raise ConfigError(
                f"Port {node.port} on {node.bind} cannot be opened ({error.strerror}): change node.port or node.bind.",
                "port_unavailable",
            ) from None
        # pynetdicom has no setting for its backlog of 5 (no upstream issue known).
        if self._server and self._server.socket:
            self._server.socket.listen(MAXIMUM_ASSOCIATIONS)
        say(logger, "listening", ae_title=node.ae_title, bind=node.bind, port=self.port)

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no new association, let open ones finish for `grace_s`, then abort them."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        until_s = time.monotonic() + grace_s
        while server.active_associations and time.monotonic() < until_s:
            time.sleep(0.05)
        for association in server.active_associations:
            association.abort()
        until_s = time.monotonic() + _LAST_NOTES_S
        while self._callers and time.monotonic() < until_s:
            time.sleep(0.01)
        say(logger, "stopped")

    def _events(self) -> list[Any]:
        return [
            (evt.EVT_CONN_OPEN, send_at_once),
            (evt.EVT_CONN_CLOSE, _let_go),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, lambda event: serve_storage(event.assoc)),
            (evt.EVT_ACSE_RECV, self._on_abort),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_EVENT_REPORT, self._on_commitment),
        ]

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        called, calling = request.called_ae_title.strip(), request.calling_ae_title.strip()
        address = plain_address(association.requestor.address)
        roles = known_roles(self._config, calling, address)
        if called != self._config.node.ae_title:
            _reject(association, Refusal.CALLED_AE_TITLE, calling, called, address)
        elif roles is None:
            _reject(association, Refusal.CALLING_AE_TITLE, calling, called, address)
        elif len(self._callers) >= MAXIMUM_ASSOCIATIONS:
            say(logger, "association put off, too many are open", level=logging.WARNING, calling=calling)
            association.acse.send_reject(*LOCAL_LIMIT)
            association.kill()
        else:
            accept_storage(association)
            with self._lock:
                self._callers[association] = Caller(calling, address, PeerRole.SOURCE in roles)
            # Not every end of an association has an event (a lost connection): wait for its thread.
            threading.Thread(target=self._await_end, args=(association,), name="association-end", daemon=True).start()

    def _await_end(self, association: Association) -> None:
        association.join()
        caller = self._callers[association]
        try:
            if self._listener:
                self._listener.closed(
                    id(association), End(_ending(association, caller), caller.ae_title, caller.address)
                )
        except Exception:
            say(logger, "end of an association not noted", level=logging.ERROR)
        finally:
            with self._lock:
                del self._callers[association]

    def _on_abort(self, event: evt.Event) -> None:
        """Keep how the sender ended; pynetdicom makes an A-P-ABORT of a lost connection too."""
        caller, primitive = self._callers.get(event.assoc), cast(Any, event).primitive
        if caller and isinstance(primitive, (A_ABORT, A_P_ABORT)):
            caller.ending = Ending.ABORTED if isinstance(primitive, A_ABORT) else Ending.LOST

    def _on_store(self, event: evt.Event) -> Dataset:
        caller = self._callers[event.assoc]
        if not caller.may_store:
            say(logger, "refused, not a source", level=logging.WARNING, ae_title=caller.ae_title)
            return _answer(Status.NOT_AUTHORISED, "this AE title is not a source")
        study_uid = None
        try:
            study_uid = find_study_uid(cast(Any, event.request).DataSet, event.context.transfer_syntax)
        except Exception:
            say(logger, "refused, unreadable data set", level=logging.ERROR, ae_title=caller.ae_title)
            status, comment = Status.CANNOT_UNDERSTAND, "unreadable data set"
        else:
            status, comment = self._store(event, caller, study_uid)
        if status is not Status.SUCCESS and self._listener:
            self._listener.refused(id(event.assoc), study_uid)
        return _answer(status, comment)

    def _store(self, event: evt.Event, caller: Caller, study_uid: str | None) -> tuple[Status, str]:
        sop_instance_uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
        if study_uid is None or not is_uid(sop_instance_uid):
            say(logger, "refused, no valid UID", level=logging.WARNING, ae_title=caller.ae_title)
            return Status.NO_STUDY, "no valid Study or SOP Instance UID"
        try:
            stored = self._spool.store(study_uid, sop_instance_uid, event.encoded_dataset())
            self._arrived(event.assoc, caller, study_uid, stored.outcome)
        except SpoolFull:
            say(logger, "refused, disk full", level=logging.ERROR)
            return Status.OUT_OF_RESOURCES, "disk full, send again later"
        except Exception:
            say(logger, "instance not stored", level=logging.ERROR)
            return Status.PROCESSING_FAILURE, "could not be stored"
        return Status.SUCCESS, ""

    def _arrived(self, association: Association, caller: Caller, study_uid: str, outcome: Outcome) -> None:
        if outcome is Outcome.CONFLICT:
            say(logger, "instance kept beside another with its UID", level=logging.WARNING, study=study_uid)
        if study_uid not in caller.studies:
            caller.studies.add(study_uid)
            study = self._spool.study(study_uid)
            study.note(Event.ASSOCIATION, calling=caller.ae_title, address=caller.address)
            _note_refused(study, association, caller)
        if self._listener:
            self._listener.stored(id(association), study_uid, outcome)

    def _on_commitment(self, event: evt.Event) -> tuple[int, None]:
        try:
            write_commitment(self._spool.data_dir, event.event_information)
        except Exception:
            say(logger, "storage commitment result not kept", level=logging.ERROR)
            return Status.PROCESSING_FAILURE, None
        return Status.SUCCESS, None


def find_study_uid(data_set: BytesIO, transfer_syntax: UID) -> str | None:
    """Return the Study Instance UID of an encoded data set, None if there is no valid one; reads no further.

    Parameters
    ----------
    data_set
        As it came, without File Meta Information.
    transfer_syntax
        In which it is encoded; a deflated one is inflated as far as needed.

    Raises
    ------
    Exception
        Whatever pydicom meets in a data set it cannot read.
    """
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        return _find_deflated(data_set.getvalue())
    data_set.seek(0)
    uid, _ = _scan(data_set, transfer_syntax)
    return uid


def _find_deflated(data_set: bytes) -> str | None:
    """Inflate a little, then all the more, until an element behind the place of the UID is reached."""
    size_bytes = _INFLATE_BYTES
    while True:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        start = inflater.decompress(data_set, size_bytes)
        uid, passed = _scan(BytesIO(start), ExplicitVRLittleEndian)
        if passed or len(start) < size_bytes:
            return uid
        size_bytes *= 8


def _scan(stream: BytesIO, transfer_syntax: UID) -> tuple[str | None, bool]:
    """Return the UID, and whether an element behind its place was seen."""
    passed = False

    def behind(tag: BaseTag, _vr: str | None, _length_bytes: int) -> bool:
        nonlocal passed
        passed = int(tag) > _STUDY_INSTANCE_UID
        return passed

    elements = read_dataset(stream, transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian, stop_when=behind)
    if _STUDY_INSTANCE_UID not in elements:
        return None, passed
    element: Any = elements.get_item(_STUDY_INSTANCE_UID)
    text = element.value.decode("ascii", "replace").strip(" \0") if len(element.value or b"") == element.length else ""
    return (text if is_uid(text) else None), passed


def _application_entity(ae_title: str) -> AE:
    entity = AE(ae_title)
    # pynetdicom counts connections that never ask for an association too (no upstream issue known); `Receiver` counts
    # those that do.
    entity.maximum_associations = sys.maxsize
    entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
    entity.acse_timeout = REQUEST_TIMEOUT_S
    entity.dimse_timeout = MESSAGE_TIMEOUT_S
    entity.network_timeout = IDLE_TIMEOUT_S
    entity.supported_contexts = supported_contexts()
    return entity


def _reject(association: Association, refusal: Refusal, calling: str, called: str, address: str) -> None:
    facts = {"reason": refusal.name.lower(), "calling": calling, "called": called, "address": address}
    say(logger, "association refused", level=logging.WARNING, **facts)
    association.acse.send_reject(0x01, 0x01, int(refusal))
    association.kill()


def _note_refused(study: Study, association: Association, caller: Caller) -> None:
    """Note the contexts that were refused beside what the study came in, once for each sender."""
    refused = [context.as_json() for context in refused_contexts(association)]
    facts = {"calling": caller.ae_title, "contexts": refused}
    if not refused or any(entry.facts == facts for entry in study.timeline()):
        return
    study.note(Event.CONTEXTS_REFUSED, **facts)
    say(logger, "contexts refused", level=logging.WARNING, study=study.uid, contexts=len(refused))


def _ending(association: Association, caller: Caller) -> Ending:
    if association.is_released:
        return Ending.RELEASED
    return caller.ending or (Ending.ABORTED_HERE if association.is_aborted else Ending.LOST)


def _answer(status: Status, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = int(status)
    if comment:
        answer.ErrorComment = comment
    return answer


def _let_go(event: evt.Event) -> None:
    """End the thread of a connection that closed before it asked for anything, such as a load balancer's probe.

    pynetdicom 3.0.4 lets it wait until `acse_timeout`; its issue 669 was about what such threads kept, not their wait.
    """
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)
