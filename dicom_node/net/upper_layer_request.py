"""Association requests: read within limits, whatever their lengths claim."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pynetdicom.pdu_items import (
    AsynchronousOperationsWindowSubItem,
    MaximumLengthSubItem,
    PresentationContextItemRQ,
    SCP_SCU_RoleSelectionSubItem,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.net.upper_layer import Abort, AbortReason

LONGEST_REQUEST_BYTES: Final = 2**20
"""Of an A-ASSOCIATE-RQ; 128 contexts with every transfer syntax take a fifth of it."""
MOST_CONTEXTS: Final = 128
"""Odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""
_MOST_ITEMS = 16_384
"""In the whole request: 128 transfer syntaxes for each of 128 contexts; there are about 60."""
_FIXED_BYTES = 68
_APPLICATION_CONTEXT, _CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAXIMUM_LENGTH, _WINDOW, _ROLE = 0x51, 0x53, 0x54


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ asks for (PS3.8 9.3.2).

    Attributes
    ----------
    titles
        Both as they came, with the reserved bytes behind them.
    protocol_version
        Bits; the first is the version that there is.
    application_context
        Name; empty where none was sent.
    contexts
        Proposed ones, each with a number of its own and at least one transfer syntax.
    roles
        By SOP class: whether the requestor would be SCU, and SCP (PS3.7 D.3.3.4).
    maximum_length
        Bytes of the longest PDU that the requestor takes; 0 for any.
    window
        How many operations at once the requestor would invoke, and perform; None where it does not say (PS3.7 D.3.3.3).
    """

    titles: bytes
    protocol_version: int
    application_context: str
    contexts: tuple[PresentationContext, ...]
    roles: Mapping[str, tuple[bool, bool]]
    maximum_length: int
    window: tuple[int, int] | None


@dataclass(slots=True)
class _UserInformation:
    maximum_length: int = 0
    window: tuple[int, int] | None = None
    roles: dict[str, tuple[bool, bool]] = field(default_factory=dict)


def read_titles(content: bytes) -> tuple[bytes, bytes]:
    """Return called and calling AE title of a request, which stand first in it, as they came.

    Parameters
    ----------
    content
        Of the PDU, behind its header.

    Raises
    ------
    Abort
        If the request is too short to name anybody.
    """
    if len(content) < _FIXED_BYTES:
        raise _invalid("the request is cut off")
    return content[4:20], content[20:36]


def read_request(content: bytes) -> AssociationRequest:
    """Return what a request asks for.

    Parameters
    ----------
    content
        Of the PDU, behind its header; not longer than `LONGEST_REQUEST_BYTES`.

    Raises
    ------
    Abort
        If it is not a valid request.
    """
    read_titles(content)
    if sum(1 for _ in _items_of_items(content)) > _MOST_ITEMS:
        raise _invalid("the request has more items than any sender needs")
    application_context, contexts, user = "", [], _UserInformation()
    try:
        for kind, start, end in _items(content, _FIXED_BYTES, len(content)):
            if kind == _APPLICATION_CONTEXT:
                application_context = content[start:end].decode("ascii").rstrip(" \0")
            elif kind == _CONTEXT:
                contexts.append(_context(content[start - 4 : end]))
            elif kind == _USER_INFORMATION:
                _read_user_information(content, start, end, user)
    except Abort:
        raise
    except Exception:
        # pynetdicom's items raise whatever they stumble over.
        raise _invalid("an item of the request cannot be read") from None
    if len({context.context_id for context in contexts}) < len(contexts):
        raise _invalid("two contexts have the same number")
    if not contexts:
        raise _invalid("the request proposes nothing")
    version = int.from_bytes(content[:2], "big")
    return AssociationRequest(
        *(content[4:_FIXED_BYTES], version, application_context, tuple(contexts)),
        *(user.roles, user.maximum_length, user.window),
    )


def _items(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of the content of each item."""
    while start < end:
        if end - start < 4:
            raise _invalid("an item of the request is cut off")
        kind, length = struct.unpack_from(">BxH", content, start)
        if start + 4 + length > end:
            raise _invalid("an item of the request is cut off")
        yield kind, start + 4, start + 4 + length
        start += 4 + length


def _items_of_items(content: bytes) -> Iterator[int]:
    """Yield the type of every item and sub-item, as far as the contexts are not too many."""
    contexts = 0
    for kind, start, end in _items(content, _FIXED_BYTES, len(content)):
        yield kind
        contexts += kind == _CONTEXT
        if contexts > MOST_CONTEXTS:
            raise _invalid("more contexts are proposed than there are numbers for")
        if kind in (_CONTEXT, _USER_INFORMATION):
            yield from (kind for kind, _, _ in _items(content, min(start + 4 * (kind == _CONTEXT), end), end))


def _context(item: bytes) -> PresentationContext:
    decoded = PresentationContextItemRQ()
    decoded.decode(item)
    context = decoded.to_primitive()
    if not context.context_id or context.context_id % 2 == 0:
        raise _invalid("the number of a context is not odd")
    if not context.abstract_syntax or not context.transfer_syntax:
        raise _invalid("a context proposes nothing")
    return context


def _read_user_information(content: bytes, start: int, end: int, user: _UserInformation) -> None:
    """Read the sub-items that concern the node; others shall be ignored (PS3.7 D.3.3)."""
    for kind, at, behind in _items(content, start, end):
        whole = content[at - 4 : behind]
        if kind == _MAXIMUM_LENGTH:
            length = MaximumLengthSubItem()
            length.decode(whole)
            user.maximum_length = length.maximum_length_received or 0
        elif kind == _WINDOW:
            window = AsynchronousOperationsWindowSubItem()
            window.decode(whole)
            user.window = window.max_operations_invoked or 0, window.max_operations_performed or 0
        elif kind == _ROLE:
            role = SCP_SCU_RoleSelectionSubItem()
            role.decode(whole)
            user.roles[str(role.uid)] = bool(role.scu), bool(role.scp)


def _invalid(because: str) -> Abort:
    return Abort(AbortReason.INVALID_PARAMETER, because)
