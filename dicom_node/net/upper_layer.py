"""The DICOM upper layer of an acceptor: PDUs, and the state table of PS3.8 section 9.2 as a table.

The node never asks for the release of an association that it accepted, so the states of that (Sta7 and Sta9 to Sta12,
release collision among them) are not reached: to a peer that answers a release nobody asked for, the table has an
abort.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum
from typing import Final

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""Of DICOM, and the only one (PS3.7 A.2.1)."""
HEADER_BYTES: Final = 6
"""Type, reserved, length (PS3.8 9.3.1)."""
_HEADER, _ITEM = struct.Struct(">BxI"), struct.Struct(">BxH")


class State(IntEnum):
    """Where an accepted connection is, by its number in the standard."""

    AWAITING_REQUEST = 2
    DECIDING = 3
    ESTABLISHED = 6
    RELEASING = 8
    """Release was asked for, and is answered after what is still at work."""
    AWAITING_CLOSE = 13


class Incoming(IntEnum):
    """What may come: a PDU by its type, or one of the events that are none."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7
    UNKNOWN = 0x100
    """A PDU that is none, or whose content is not valid."""
    CLOSED = 0x101
    TIMER = 0x102


class Action(Enum):
    """What follows, by its name in PS3.8 tables 9-6 to 9-9."""

    DECIDE = "AE-6"
    TAKE_DATA = "DT-2"
    ANSWER_RELEASE = "AR-2"
    ABORT_BEFORE = "AA-1"
    CLOSE = "AA-2"
    NOTE_ABORT = "AA-3"
    NOTE_LOSS = "AA-4"
    FORGET = "AA-5"
    IGNORE = "AA-6"
    ABORT_AGAIN = "AA-7"
    ABORT = "AA-8"
    DONE = "AR-5"


def _row(other: Action, **actions: Action) -> Mapping[Incoming, Action]:
    return {incoming: actions.get(incoming.name, other) for incoming in Incoming}


TABLE: Final[Mapping[State, Mapping[Incoming, Action]]] = {
    State.AWAITING_REQUEST: _row(
        Action.ABORT_BEFORE,
        ASSOCIATE_RQ=Action.DECIDE,
        ABORT=Action.CLOSE,
        CLOSED=Action.FORGET,
        TIMER=Action.CLOSE,
    ),
    State.DECIDING: _row(Action.ABORT, ABORT=Action.NOTE_ABORT, CLOSED=Action.NOTE_LOSS),
    State.ESTABLISHED: _row(
        Action.ABORT,
        P_DATA_TF=Action.TAKE_DATA,
        RELEASE_RQ=Action.ANSWER_RELEASE,
        ABORT=Action.NOTE_ABORT,
        CLOSED=Action.NOTE_LOSS,
    ),
    State.RELEASING: _row(Action.ABORT, ABORT=Action.NOTE_ABORT, CLOSED=Action.NOTE_LOSS),
    State.AWAITING_CLOSE: _row(
        Action.IGNORE,
        ASSOCIATE_RQ=Action.ABORT_AGAIN,
        UNKNOWN=Action.ABORT_AGAIN,
        ABORT=Action.CLOSE,
        CLOSED=Action.DONE,
        TIMER=Action.CLOSE,
    ),
}
"""PS3.8 table 9-10, the rows of an acceptor. TIMER is ARTIM there; in an open association, our own time-outs."""


class AbortReason(IntEnum):
    """Why the node aborts, as service provider (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Rejection(Enum):
    """Why an association is rejected: result, source, diagnostic (PS3.8 9.3.4)."""

    APPLICATION_CONTEXT = (1, 1, 2)
    CALLING_AE_TITLE = (1, 1, 3)
    CALLED_AE_TITLE = (1, 1, 7)
    PROTOCOL_VERSION = (1, 2, 2)
    TOO_MANY_ASSOCIATIONS = (2, 3, 2)


class Abort(Exception):
    """The association has to be aborted by the node.

    Parameters
    ----------
    reason
        Told to the peer.
    because
        A constant sentence for the log.
    """

    def __init__(self, reason: AbortReason, because: str) -> None:
        super().__init__(because)
        self.reason = reason
        self.because = because


def read_header(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[Incoming, int]:
    """Return what PDU begins in `data`, and the length of what follows its header.

    Parameters
    ----------
    data
        At least `HEADER_BYTES` behind `offset`.
    offset
        Where the PDU begins.
    """
    kind, length = _HEADER.unpack_from(data, offset)
    return (Incoming(kind) if 1 <= kind <= 7 else Incoming.UNKNOWN), length


def reject(rejection: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ."""
    return _pdu(Incoming.ASSOCIATE_RJ, bytes((0, *rejection.value)))


def abort(reason: AbortReason | None) -> bytes:
    """Return an A-ABORT: by the service provider with its reason, or by the service user without one."""
    return _pdu(Incoming.ABORT, bytes((0, 0, 0, 0) if reason is None else (0, 0, 2, reason)))


def release_response() -> bytes:
    """Return an A-RELEASE-RP."""
    return _pdu(Incoming.RELEASE_RP, bytes(4))


def accept(titles: bytes, contexts: Iterable[tuple[int, int, str]], user_information: Iterable[bytes]) -> bytes:
    """Return an A-ASSOCIATE-AC.

    Parameters
    ----------
    titles
        Called and calling AE title and the reserved bytes of the request, which are given back (PS3.8 9.3.3).
    contexts
        Of each proposed one its number, result and transfer syntax.
    user_information
        Encoded sub-items.
    """
    parts = [b"\0\1\0\0", titles, item(0x10, APPLICATION_CONTEXT.encode())]
    for number, result, transfer_syntax in contexts:
        parts.append(item(0x21, bytes((number, 0, result, 0)) + item(0x40, transfer_syntax.encode())))
    return _pdu(Incoming.ASSOCIATE_AC, b"".join((*parts, item(0x50, b"".join(user_information)))))


def item(kind: int, content: bytes) -> bytes:
    """Return an item or a sub-item of an association PDU."""
    return _ITEM.pack(kind, len(content)) + content


def data(context: int, command: bytes) -> bytes:
    """Return a P-DATA-TF with a whole command set; responses of the node are shorter than any PDU may be."""
    length = len(command)
    return struct.pack(">BxIIBB", Incoming.P_DATA_TF, length + 6, length + 2, context, 3) + command


def _pdu(kind: Incoming, content: bytes) -> bytes:
    return _HEADER.pack(kind, len(content)) + content
