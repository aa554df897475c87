"""The Study Instance UID of an encoded data set: found without decoding it, and in constant memory."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, Final, Protocol

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from models.uid import LONGEST, is_uid

MOST_INFLATED_BYTES: Final = 2**26
"""Of a deflated data set on the way to the UID; headers have some thousand bytes before it."""
_MOST_ELEMENTS = 200_000
"""Before the UID, those in sequences too: an enhanced image refers to some thousand others."""
_STUDY_INSTANCE_UID = 0x0020000D
_FIRST_TAG = 0x00010000
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_STEP_BYTES = 2**16
# Their length has four bytes (PS3.5 7.1.2).
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_LITTLE, _BIG = (struct.Struct(order + "HHI") for order in "<>")
_SHORT_LITTLE, _SHORT_BIG = (struct.Struct(order + "H") for order in "<>")


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes:
        """Return the next bytes; fewer at the end."""

    def seek(self, offset: int, whence: int, /) -> int:
        """Skip forwards."""


class _Inflated:
    """What a deflated stream holds, read forwards."""

    def __init__(self, deflated: BinaryIO) -> None:
        self._deflated = deflated
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._ready = b""
        self._left_bytes = MOST_INFLATED_BYTES

    def read(self, size: int, /) -> bytes:
        while len(self._ready) < size and (more := self._more()):
            self._ready += more
        found, self._ready = self._ready[:size], self._ready[size:]
        return found

    def seek(self, offset: int, _whence: int, /) -> int:
        while offset > len(self._ready):
            offset -= len(self._ready)
            self._ready = self._more()
            if not self._ready:
                return 0
        self._ready = self._ready[offset:]
        return 0

    def _more(self) -> bytes:
        """Return some more; nothing at the end, and behind the bound."""
        while self._left_bytes > 0 and not self._inflater.eof:
            deflated = self._inflater.unconsumed_tail or self._deflated.read(_STEP_BYTES)
            inflated = self._inflater.decompress(deflated, _STEP_BYTES)
            self._left_bytes -= len(inflated)
            if inflated or not deflated:
                return inflated
        return b""


def find_study_uid(data_set: BinaryIO, transfer_syntax: str) -> str | None:
    """Return the Study Instance UID of an encoded data set, None if there is no valid one; reads no further.

    Parameters
    ----------
    data_set
        Stands at its beginning; without File Meta Information.
    transfer_syntax
        In which it is encoded; a deflated one is inflated as far as needed, and no further than `MOST_INFLATED_BYTES`.

    Raises
    ------
    zlib.error
        If a deflated data set cannot be inflated.
    """
    stream: _Bytes = _Inflated(data_set) if transfer_syntax == DeflatedExplicitVRLittleEndian else data_set
    return _Walk(stream, transfer_syntax).study_uid()


class _Walk:
    """A walk over the elements of a data set, which come in ascending order (PS3.5 7.1)."""

    def __init__(self, stream: _Bytes, transfer_syntax: str) -> None:
        self._stream = stream
        self._implicit = transfer_syntax == ImplicitVRLittleEndian
        big = transfer_syntax == ExplicitVRBigEndian
        self._head, self._short = (_BIG, _SHORT_BIG) if big else (_LITTLE, _SHORT_LITTLE)
        self._left = _MOST_ELEMENTS

    def study_uid(self) -> str | None:
        first = True
        while head := self._next():
            if first:
                # Some senders encode otherwise than they negotiated; the first element shows it.
                first, self._implicit = False, not _is_vr(head[4:6])
            tag, length = self._element(head, implicit=self._implicit)
            if tag == _STUDY_INSTANCE_UID:
                return self._value(length)
            if tag > _STUDY_INSTANCE_UID or tag < _FIRST_TAG:
                return None
            if length == _UNDEFINED:
                self._skip_items(implicit=self._implicit or head[4:6] == b"UN")
            else:
                self._stream.seek(length, 1)
        return None

    def _next(self) -> bytes:
        self._left -= 1
        head = self._stream.read(8) if self._left > 0 else b""
        return head if len(head) == 8 else b""

    def _element(self, head: bytes, *, implicit: bool) -> tuple[int, int]:
        """Return tag and length, and stand at the value."""
        group, number, length = self._head.unpack(head)
        tag, vr = group << 16 | number, head[4:6]
        if implicit or group == 0xFFFE or not _is_vr(vr):
            return tag, length
        if vr not in _LONG:
            return tag, self._short.unpack_from(head, 6)[0]
        rest = self._stream.read(4)
        if len(rest) < 4:
            return tag, 0
        return tag, int.from_bytes(rest, "little" if self._head is _LITTLE else "big")

    def _skip_items(self, *, implicit: bool) -> None:
        """Stand behind the delimiter of a sequence; what is nested is counted, never stacked by recursion."""
        open_sequences = [implicit]
        while open_sequences and (head := self._next()):
            tag, length = self._element(head, implicit=open_sequences[-1])
            if tag == _SEQUENCE_END:
                open_sequences.pop()
            elif tag not in (_ITEM, _ITEM_END) and length == _UNDEFINED:
                open_sequences.append(open_sequences[-1] or head[4:6] == b"UN")
            elif length != _UNDEFINED:
                self._stream.seek(length, 1)

    def _value(self, length: int) -> str | None:
        if length > LONGEST + 2:
            return None
        value = self._stream.read(length)
        text = value.decode("ascii", "replace").strip(" \0") if len(value) == length else ""
        return text if is_uid(text) else None


def _is_vr(text: bytes) -> bool:
    return text.isalpha() and text.isupper()
