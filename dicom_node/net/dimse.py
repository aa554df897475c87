"""DIMSE messages of the services that the node performs: command sets read and written (PS3.7 9.3, 10.3, E)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from dicom_node.net.upper_layer import Abort, AbortReason

LONGEST_COMMAND_BYTES: Final = 2**16
"""Of a command set; real ones have some hundred."""
_ELEMENT = struct.Struct("<HHI")
_NO_DATA_SET = 0x0101
_RESPONSE = 0x8000
_LONGEST_COMMENT = 64


class Command(IntEnum):
    """The command fields that the node knows (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_SET = 0x0120
    N_CREATE = 0x0140
    C_CANCEL = 0x0FFF


class Status(IntEnum):
    """The DIMSE statuses the node answers with (PS3.4 B.2.3, PS3.7 C)."""

    SUCCESS = 0x0000
    INVALID_ATTRIBUTE_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    INVALID_OBJECT_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    NO_STUDY = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TOO_LARGE = 0xC001


class _Element(IntEnum):
    """Elements of group 0000."""

    AFFECTED_SOP_CLASS = 0x0002
    REQUESTED_SOP_CLASS = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    RESPONDED_MESSAGE_ID = 0x0120
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE = 0x1000
    REQUESTED_SOP_INSTANCE = 0x1001
    EVENT_TYPE = 0x1002


@dataclass(frozen=True, slots=True)
class Request:
    """A command set that asks for something.

    Attributes
    ----------
    command
        Command field.
    message_id
        Given back in the response.
    sop_class, sop_instance
        UIDs as the sender wrote them, affected or requested, without padding; empty where absent.
    event_type
        Of an N-EVENT-REPORT.
    has_data_set
        Whether a data set follows.
    """

    command: int
    message_id: int
    sop_class: str
    sop_instance: str
    event_type: int
    has_data_set: bool


def read_command(content: bytes | bytearray) -> Request:
    """Return a command set, which is always in implicit VR little endian (PS3.7 6.3.1).

    Parameters
    ----------
    content
        Of all its fragments.

    Raises
    ------
    Abort
        If it is none, or no request.
    """
    elements: dict[int, bytes] = {}
    at, end = 0, len(content)
    while at < end:
        if end - at < _ELEMENT.size:
            raise _invalid("a command set is cut off")
        group, element, length = _ELEMENT.unpack_from(content, at)
        at += _ELEMENT.size
        if group or at + length > end:
            raise _invalid("a command set cannot be read")
        elements[element] = bytes(content[at : at + length])
        at += length
    command = _number(elements, _Element.COMMAND_FIELD)
    if command & _RESPONSE:
        raise Abort(AbortReason.UNEXPECTED_PARAMETER, "a response came to what was never asked")
    return Request(
        command,
        0 if command == Command.C_CANCEL else _number(elements, _Element.MESSAGE_ID),
        _uid(elements, _Element.AFFECTED_SOP_CLASS) or _uid(elements, _Element.REQUESTED_SOP_CLASS),
        _uid(elements, _Element.AFFECTED_SOP_INSTANCE) or _uid(elements, _Element.REQUESTED_SOP_INSTANCE),
        _number(elements, _Element.EVENT_TYPE) if command == Command.N_EVENT_REPORT else 0,
        _number(elements, _Element.DATA_SET_TYPE) != _NO_DATA_SET,
    )


def response(request: Request, status: Status, comment: str = "") -> bytes:
    """Return the command set that answers a request.

    Parameters
    ----------
    request
        What is answered.
    status
        What came of it.
    comment
        ASCII; what is longer than an LO is cut (PS3.7 C).
    """
    parts = [
        _text(_Element.AFFECTED_SOP_CLASS, request.sop_class, "\0"),
        _short(_Element.COMMAND_FIELD, request.command | _RESPONSE),
        _short(_Element.RESPONDED_MESSAGE_ID, request.message_id),
        _short(_Element.DATA_SET_TYPE, _NO_DATA_SET),
        _short(_Element.STATUS, status),
        _text(_Element.ERROR_COMMENT, comment[:_LONGEST_COMMENT], " "),
        _text(_Element.AFFECTED_SOP_INSTANCE, request.sop_instance, "\0"),
        _short(_Element.EVENT_TYPE, request.event_type) if request.event_type else b"",
    ]
    whole = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + len(whole).to_bytes(4, "little") + whole


def _number(elements: dict[int, bytes], element: _Element) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise _invalid("a command set lacks a number")
    return int.from_bytes(value, "little")


def _uid(elements: dict[int, bytes], element: _Element) -> str:
    return elements.get(element, b"")[:128].decode("latin-1").strip(" \0")


def _short(element: _Element, value: int) -> bytes:
    return _ELEMENT.pack(0, element, 2) + value.to_bytes(2, "little")


def _text(element: _Element, value: str, padding: str) -> bytes:
    if not value:
        return b""
    encoded = (value + padding * (len(value) % 2)).encode("latin-1", "replace")
    return _ELEMENT.pack(0, element, len(encoded)) + encoded


def _invalid(because: str) -> Abort:
    return Abort(AbortReason.INVALID_PARAMETER, because)
