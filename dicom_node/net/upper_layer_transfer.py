"""PDUs of an open association: read into one buffer that is used again and again, with a time-out inside each."""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from dicom_node.net.upper_layer import HEADER_BYTES, Abort, AbortReason, Incoming, read_header

LONGEST_PDU_BYTES: Final = 128 * 1024
"""What the node announces; a longer one is the peer's fault (PS3.8 annex D.1)."""
PDU_TIMEOUT_S: Final = 60.0
"""From the first byte of a PDU to its last; 2.2 kB/s are enough."""
SEND_TIMEOUT_S: Final = 60.0
_BUFFER_BYTES = 2 * (LONGEST_PDU_BYTES + HEADER_BYTES)
_LOOK_S = 1.0
_PDV = struct.Struct(">IBB")
# Linux alone has it, and forgets it after each use. A sender with Nagle's algorithm holds the end of a message back
# until what came before is acknowledged, which the kernel would delay by 40 ms.
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class Closed(Exception):
    """The connection is gone, or was closed by the peer."""


class TimedOut(Exception):
    """The peer did not go on in time."""


class Fragment(NamedTuple):
    """A presentation data value (PS3.8 9.3.5.1 and annex E.2); `content` is valid until the next PDU is read."""

    context: int
    is_command: bool
    is_last: bool
    content: memoryview


class Transfer:
    """An association's connection, behind the request.

    Parameters
    ----------
    connection
        Plain or of TLS.
    stopping
        Asked about once a second, and when the connection was shut: whether the node gives the association up.
    """

    def __init__(self, connection: socket.socket, stopping: Callable[[], bool]) -> None:
        self._connection = connection
        self._stopping = stopping
        # Memory of its own and not of the heap, so that its pages can be given back.
        self._memory = mmap.mmap(-1, _BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._memory)
        self._start = self._end = 0
        self._is_fresh = True
        self._quick = _QUICKACK is not None and connection.family in (socket.AF_INET, socket.AF_INET6)
        connection.settimeout(_LOOK_S)

    def next_pdu(self, wait_s: float) -> tuple[Incoming, memoryview]:
        """Return type and content of the next PDU; the content is valid until the next call.

        Parameters
        ----------
        wait_s
            For its first byte.

        Raises
        ------
        Abort
            If it is longer than the node takes.
        Closed
            If the connection is closed, or the node stops.
        TimedOut
            If it is not there in time.
        """
        until_s, has_begun = time.monotonic() + wait_s, False
        while True:
            held_bytes = self._end - self._start
            if held_bytes >= HEADER_BYTES:
                incoming, length = read_header(self._view, self._start)
                if length > LONGEST_PDU_BYTES:
                    raise Abort(AbortReason.INVALID_PARAMETER, "a PDU is longer than the node takes")
                if held_bytes >= HEADER_BYTES + length:
                    begin = self._start + HEADER_BYTES
                    self._start = begin + length
                    return incoming, self._view[begin : self._start]
            if held_bytes and not has_begun:
                until_s, has_begun = time.monotonic() + PDU_TIMEOUT_S, True
            self._receive(until_s)

    def send(self, content: bytes) -> None:
        """Send a whole PDU.

        Raises
        ------
        Closed
            If the connection is gone, or the peer does not read for `SEND_TIMEOUT_S`.
        """
        rest, until_s = memoryview(content), time.monotonic() + SEND_TIMEOUT_S
        while rest:
            try:
                rest = rest[self._connection.send(rest) :]
            except TimeoutError:
                if time.monotonic() > until_s:
                    raise Closed from None
            except OSError:
                raise Closed from None

    def give_up(self) -> None:
        """Have a thread that waits in `next_pdu` stop waiting."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)

    def _receive(self, until_s: float) -> None:
        """Receive something behind what is held."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + LONGEST_PDU_BYTES + HEADER_BYTES > _BUFFER_BYTES:
            held_bytes = self._end - self._start
            self._view[:held_bytes] = self._view[self._start : self._end]
            self._start, self._end = 0, held_bytes
        while not (count := self._receive_once()):
            if self._stopping():
                raise Closed
            if time.monotonic() > until_s:
                raise TimedOut
        self._end += count
        if time.monotonic() > until_s:
            raise TimedOut

    def _receive_once(self) -> int:
        """Return how many bytes came; 0 if none did within the look."""
        try:
            if self._quick:
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            count = self._connection.recv_into(self._view[self._end :])
        except TimeoutError:
            self._rest()
            return 0
        except OSError:
            raise Closed from None
        if not count:
            raise Closed
        self._is_fresh = False
        return count

    def _rest(self) -> None:
        """Give the pages of the buffer back while nothing comes: hundreds of associations may be open."""
        if not self._is_fresh and self._start == self._end:
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._start, self._end, self._is_fresh = 0, 0, True


def fragments(content: memoryview) -> Iterator[Fragment]:
    """Yield the presentation data values of a P-DATA-TF.

    Raises
    ------
    Abort
        If there is none, or a length is wrong.
    """
    at, end = 0, len(content)
    while at < end or not end:
        if end - at < _PDV.size:
            raise Abort(AbortReason.INVALID_PARAMETER, "a presentation data value is cut off")
        length, context, control = _PDV.unpack_from(content, at)
        behind = at + 4 + length
        if length < 2 or behind > end:
            raise Abort(AbortReason.INVALID_PARAMETER, "a presentation data value has a wrong length")
        yield Fragment(context, bool(control & 1), bool(control & 2), content[at + _PDV.size : behind])
        at = behind


def send_last(transfer: Transfer, pdu: bytes) -> None:
    """Send what ends an association; nobody may be there any more."""
    with contextlib.suppress(Closed):
        transfer.send(pdu)
