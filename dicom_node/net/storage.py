"""C-STORE: the data set goes to the spool as it comes, and Success means that file and folder are fsynced."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node.errors import SpoolFull
from dicom_node.log import say
from dicom_node.net.accepted import AcceptedAssociation
from dicom_node.net.contexts import AcceptedContext
from dicom_node.net.dimse import Request, Status
from dicom_node.net.study_uid import find_study_uid
from dicom_node.studies.incoming import IncomingInstance
from dicom_node.studies.seal import ROOM
from dicom_node.studies.spool import Outcome, Spool
from models.uid import is_uid

logger = logging.getLogger(__name__)

_GB = 10**9
_HEAD_BYTES = 2**14
"""Kept in memory, where the study stands in nearly every data set."""
_SHORT_VR, _LONG_VR = struct.Struct("<HH2sH"), struct.Struct("<HH2sHI")


class Arrivals(Protocol):
    """Who is told of instances, from many threads."""

    def stored(self, association: AcceptedAssociation, study_uid: str, outcome: Outcome) -> None:
        """Take note that an instance is in the spool."""

    def refused(self, association: AcceptedAssociation, study_uid: str | None) -> None:
        """Take note that an instance was not stored; None if its study cannot be read."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where instances go, and who is told.

    Attributes
    ----------
    spool
        Where instances go.
    arrivals
        Told of each, before the sender is.
    longest_bytes
        Of a data set.
    """

    spool: Spool
    arrivals: Arrivals
    longest_bytes: int


class StoreOperation:
    """One C-STORE.

    Parameters
    ----------
    storage
        Where the instance goes.
    association, context
        In which it comes.
    request
        Its command set.
    """

    def __init__(
        self, storage: Storage, association: AcceptedAssociation, context: AcceptedContext, request: Request
    ) -> None:
        self._storage = storage
        self._association = association
        self._context = context
        self._request = request
        self._refusal: tuple[Status, str] | None = None
        self._incoming: IncomingInstance | None = None
        self._head = bytearray()
        self._bytes = 0
        try:
            self._incoming = storage.spool.receive()
            self._incoming.write_meta(file_meta(context, request))
        except Exception as error:
            self._refuse(error)

    def write(self, piece: memoryview) -> None:
        """Write a piece of the data set; what is refused already is received and dropped."""
        self._bytes += len(piece)
        if len(self._head) < _HEAD_BYTES:
            self._head += piece[:_HEAD_BYTES]
        if self._incoming is None or self._refusal:
            return
        if self._bytes > self._storage.longest_bytes:
            # Out of resources would have the sender come again with the same object for ever.
            self._refusal = Status.TOO_LARGE, f"larger than {self._storage.longest_bytes / _GB:g} GB"
            say(logger, "refused, larger than max_object_gb", level=logging.ERROR, **self._sender())
            self._incoming.discard()
            return
        try:
            self._incoming.write(piece)
        except Exception as error:
            self._refuse(error)

    def perform(self) -> tuple[Status, str]:
        """Keep what came, durably, and return status and comment."""
        study_uid = self._study_uid()
        try:
            if not self._refusal and study_uid and self._incoming:
                stored = self._storage.spool.keep(self._incoming, study_uid, self._request.sop_instance)
                self._storage.arrivals.stored(self._association, study_uid, stored.outcome)
        except Exception as error:
            self._refuse(error)
        self.discard()
        if self._refusal:
            self._storage.arrivals.refused(self._association, study_uid)
        return self._refusal or (Status.SUCCESS, "")

    def discard(self) -> None:
        """Remove what was written."""
        if self._incoming:
            self._incoming.discard()

    def _study_uid(self) -> str | None:
        """Return the study that the instance is of, as far as it can be read; without it, it is refused."""
        try:
            study_uid = self._find_study_uid()
        except Exception:
            say(logger, "refused, unreadable data set", level=logging.ERROR, **self._sender())
            self._refusal = self._refusal or (Status.CANNOT_UNDERSTAND, "unreadable data set")
            return None
        if self._refusal is None and (study_uid is None or not is_uid(self._request.sop_instance)):
            say(logger, "refused, no valid UID", level=logging.WARNING, **self._sender())
            self._refusal = Status.NO_STUDY, "no valid Study or SOP Instance UID"
        return study_uid

    def _find_study_uid(self) -> str | None:
        """Look into what came first; hardly ever is that not enough."""
        syntax = self._context.transfer_syntax
        study_uid = find_study_uid(BytesIO(self._head), syntax)
        if study_uid or not self._incoming or self._refusal or self._bytes <= len(self._head):
            return study_uid
        with self._incoming.data_set() as data_set:
            return find_study_uid(data_set, syntax)

    def _refuse(self, error: Exception) -> None:
        self.discard()
        if isinstance(error, SpoolFull):
            say(logger, "refused, disk full", level=logging.ERROR)
            self._refusal = Status.OUT_OF_RESOURCES, "disk full, send again later"
        else:
            say(logger, "instance not stored", level=logging.ERROR)
            self._refusal = Status.PROCESSING_FAILURE, "could not be stored"

    def _sender(self) -> dict[str, str]:
        return {"ae_title": self._association.caller.ae_title}


def file_meta(context: AcceptedContext, request: Request) -> bytes:
    """Return preamble, prefix and File Meta Information of a received instance (PS3.10 7.1).

    Parameters
    ----------
    context
        Its transfer syntax; its SOP class, where the request names none.
    request
        SOP class and instance.
    """
    sop_class = request.sop_class if is_uid(request.sop_class) else str(context.abstract_syntax)
    elements = b"".join(
        (
            _LONG_VR.pack(2, 0x0001, b"OB", 0, 2) + b"\0\1",
            _element(0x0002, b"UI", sop_class),
            _element(0x0003, b"UI", request.sop_instance[:64]),
            _element(0x0010, b"UI", context.transfer_syntax),
            _element(0x0012, b"UI", PYNETDICOM_IMPLEMENTATION_UID),
            _element(0x0013, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION),
            ROOM,
        )
    )
    return bytes(128) + b"DICM" + _SHORT_VR.pack(2, 0, b"UL", 4) + len(elements).to_bytes(4, "little") + elements


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("latin-1", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return _SHORT_VR.pack(2, number, vr, len(value)) + value
