"""A destination under our control: pynetdicom's SCP with faults that a test switches, and wires that break."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

STORED = (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
    KeyObjectSelectionDocumentStorage,
)
SUCCESS = 0x0000
TAKEN = (SUCCESS, 0x0111, 0xB000, 0xB006, 0xB007)
_LATER_S = 0.05


@dataclass
class Destination:
    """What a destination does now, and what it got.

    Attributes
    ----------
    port
        Where it listens; kept while it is down.
    node_port, reports_as
        Where it reports storage commitment to, and under which AE title.
    store
        Returns the status of a C-STORE.
    outcome
        Returns what it commits to of the asked references, and what not with which Failure Reason; None: no result.
    result_after_s
        How long a result takes.
    answer
        Returns the status of the request for storage commitment, when it is to be answered.
    lists
        Returns the answer to a C-FIND of images, by what is stored.
    services
        SOP classes that it offers.
    calling, called
        Whether our title is known there, and whether it is called by its own.
    tls
        How it takes connections and how it makes them; None: in the clear.
    came, stored
        How often each SOP Instance UID came, and was taken.
    asked
        Transaction UIDs of storage commitment, with the references.
    """

    port: int
    node_port: int
    title: str = "PACS"
    reports_as: str = "PACS"
    store: Callable[[evt.Event], int] = lambda _: SUCCESS
    outcome: Callable[[list[str]], tuple[list[str], dict[str, int]] | None] = lambda uids: (uids, {})
    result_after_s: float = _LATER_S
    answer: Callable[[], int] = lambda: SUCCESS
    lists: Callable[[Counter[str]], list[dict[str, str]]] = lambda stored: [{"SOPInstanceUID": uid} for uid in stored]
    services: Sequence[str] = (
        *STORED,
        StorageCommitmentPushModel,
        StudyRootQueryRetrieveInformationModelFind,
        Verification,
    )
    calling: str = "TSCNODE"
    called: str = "PACS"
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
    came: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, list[Dataset]]] = field(default_factory=list)
    _server: Any = None

    def up(self) -> None:
        """Listen, with the services and titles of now."""
        entity = AE(self.called)
        entity.require_called_aet = True
        entity.require_calling_aet = [self.calling]
        for service in self.services:
            entity.add_supported_context(service)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_C_FIND, self._on_find),
        ]
        where, context = ("127.0.0.1", self.port), self.tls[0] if self.tls else None
        self._server = entity.start_server(where, block=False, evt_handlers=handlers, ssl_context=context)

    def down(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def again(self, **changes: Any) -> None:
        """Change what it does, and come up with it."""
        self.down()
        for name, value in changes.items():
            setattr(self, name, value)
        self.up()

    def report(self, transaction_uid: str, references: list[Dataset]) -> None:
        """Report a storage commitment on an association of its own."""
        found = self.outcome([str(one.ReferencedSOPInstanceUID) for one in references])
        if found is None:
            return
        committed, failed = found
        result = Dataset()
        result.TransactionUID = transaction_uid
        result.ReferencedSOPSequence = [one for one in references if one.ReferencedSOPInstanceUID in committed]
        result.FailedSOPSequence = [_failed(one, failed[uid]) for one in references if (uid := _uid(one)) in failed]
        entity = AE(self.reports_as)
        entity.add_requested_context(StorageCommitmentPushModel)
        roles: Any = [build_role(StorageCommitmentPushModel, scp_role=True)]
        secured = (self.tls[1], "127.0.0.1") if self.tls else None
        association = entity.associate("127.0.0.1", self.node_port, ae_title="TSCNODE", ext_neg=roles, tls_args=secured)
        if association.is_established:
            kind = 2 if failed else 1
            with contextlib.suppress(RuntimeError, ValueError):
                association.send_n_event_report(
                    result, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
                )
            association.release()

    def _on_store(self, event: evt.Event) -> int:
        uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
        self.came[uid] += 1
        status = self.store(event)
        if status in TAKEN:
            self.stored[uid] += 1
        return status

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        request = (str(asked.TransactionUID), list(asked.ReferencedSOPSequence))
        self.asked.append(request)
        timer = threading.Timer(self.result_after_s, self.report, request)
        timer.daemon = True
        timer.start()
        return self.answer(), None

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for elements in self.lists(self.stored):
            answer = Dataset()
            answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            for keyword, value in elements.items():
                setattr(answer, keyword, value)
            yield 0xFF00, answer


def _uid(reference: Dataset) -> str:
    return str(reference.ReferencedSOPInstanceUID)


def _failed(reference: Dataset, reason: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.ReferencedSOPClassUID
    item.ReferencedSOPInstanceUID = reference.ReferencedSOPInstanceUID
    item.FailureReason = reason
    return item


def first(times: int, then: Callable[[evt.Event], int]) -> Callable[[evt.Event], int]:
    """Return what does something the first few times, and answers with Success from then on."""
    left = [times]

    def store(event: evt.Event) -> int:
        left[0] -= 1
        return then(event) if left[0] >= 0 else SUCCESS

    return store


@contextmanager
def silent(port: int) -> Iterator[None]:
    """Accept connections and say nothing while the block lasts."""
    with socket.create_server(("127.0.0.1", port)):
        yield


@contextmanager
def cut(port: int, to: int, after_bytes: int) -> Iterator[None]:
    """Carry connections to another port, and cut each after so many bytes of ours, in the middle of a PDU."""
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(0.1)

    def carry(source: socket.socket, target: socket.socket, most: int) -> None:
        sent = 0
        with contextlib.suppress(OSError), source, target:
            while sent < most and (data := source.recv(min(4096, most - sent))):
                target.sendall(data)
                sent += len(data)

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                ours, _ = server.accept()
                theirs = socket.create_connection(("127.0.0.1", to))
                threading.Thread(target=carry, args=(ours, theirs, after_bytes), daemon=True).start()
                threading.Thread(target=carry, args=(theirs, ours, 1 << 30), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.close()
