"""The door: connections of which nothing is known yet, and those of which nothing more is to be known.

One thread holds them all, without a thread, a buffer or a list of contexts for each: it accepts, shakes hands where a
port speaks TLS, and gathers the association request, at most `LONGEST_REQUEST_BYTES` whatever its length claims, and
until ARTIM expires however slowly it drips. A whole request goes to a thread of its own. A connection that was
rejected, aborted or released comes back to be closed by its peer (Sta13 of PS3.8 9.2).

Where too many wait, the one that has waited longest gives way: of the same address first, then of all.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from dicom_node.net.addresses import plain_address
from dicom_node.net.strangers import Strangers
from dicom_node.net.tls import PortTLS, say_goodbye
from dicom_node.net.tls_faults import TLSFault, begins_tls, fault_of
from dicom_node.net.upper_layer import (
    HEADER_BYTES,
    TABLE,
    AbortReason,
    Action,
    Incoming,
    State,
    abort,
    read_header,
)
from dicom_node.net.upper_layer_request import LONGEST_REQUEST_BYTES

logger = logging.getLogger(__name__)

ARTIM_S: Final = 30.0
"""For the whole request, and for a peer to close (PS3.8 9.1.4)."""
MOST_WAITING: Final = 256
MOST_WAITING_OF_ADDRESS: Final = 64
MOST_WAITING_BYTES: Final = 2**25
"""Of all requests that are not whole yet."""
BACKLOG: Final = 256
_PIECE_BYTES = 2**16
_TICK_S = 0.5
_MOST_IGNORED_BYTES = 2**22
_NO_SOCKETS_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is listened on.

    The handshake of a TLS port happens here, within ARTIM and without a thread; the connection that a whole request is
    handed over with is then an `ssl.SSLSocket`, which knows the certificate of its peer.

    Attributes
    ----------
    socket
        Bound and listening.
    tls
        How TLS is spoken; None for a plain port.
    """

    socket: socket.socket
    tls: PortTLS | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A connection over which an association was asked for.

    Attributes
    ----------
    socket
        Plain or of TLS; nothing behind the request was read from it.
    address
        Of the peer, as `plain_address` spells it.
    request
        Content of the A-ASSOCIATE-RQ.
    """

    socket: socket.socket
    address: str
    request: bytes


@dataclass(slots=True, eq=False)
class _Waiting:
    """A connection at the door."""

    socket: socket.socket
    address: str
    until_s: float
    state: State = State.AWAITING_REQUEST
    shaking_hands: bool = False
    ignored_bytes: int = 0
    received: bytearray = field(default_factory=bytearray)

    def missing_bytes(self) -> int:
        """Return how much of the header, or else of the request, is not there yet."""
        if len(self.received) < HEADER_BYTES:
            return HEADER_BYTES - len(self.received)
        return HEADER_BYTES + read_header(self.received)[1] - len(self.received)


class Door:
    """The ports that are listened on, and who waits there.

    Parameters
    ----------
    ports
        Closed by `shut`.
    on_request
        Called from the one thread with every whole request; must return at once.
    on_fault
        Called in the same way with the address of a caller with whom TLS came to nothing, and why.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        on_request: Callable[[Asked], None],
        on_fault: Callable[[str, TLSFault], None],
    ) -> None:
        self._ports = ports
        self._on_request = on_request
        self._on_fault = on_fault
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[_Waiting, None] = {}
        self._leaving: deque[tuple[socket.socket, str]] = deque()
        self._waiting_bytes = 0
        self._strangers = Strangers()
        self._shut, self._closing_ports, self._ports_closed = (threading.Event() for _ in range(3))
        self._bell, self._rope = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def open(self) -> None:
        """Accept connections from now on."""
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        for port in self._ports:
            port.socket.setblocking(False)
            self._selector.register(port.socket, selectors.EVENT_READ, port)
        self._thread.start()

    def close_ports(self) -> None:
        """Accept nothing more; who waits already may still ask."""
        self._closing_ports.set()
        self._ring()
        self._ports_closed.wait()

    def shut(self) -> None:
        """Close the ports and every connection that waits."""
        self._shut.set()
        self._ring()
        self._thread.join()

    def leave(self, connection: socket.socket, address: str) -> None:
        """Take a connection over, until its peer closes it or ARTIM expires."""
        self._leaving.append((connection, address))
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            self._rope.send(b"\0")

    def _run(self) -> None:
        while not self._shut.is_set():
            for key, _ in self._selector.select(_TICK_S):
                self._attend(key.data)
            if self._closing_ports.is_set():
                self._close_ports()
            self._take_leaving()
            now_s = time.monotonic()
            for waiting in [waiting for waiting in self._waiting if waiting.until_s < now_s]:
                self._expire(waiting)
            self._strangers.say_counts()
        self._close_all()

    def _attend(self, data: Port | _Waiting | None) -> None:
        if data is None:
            with contextlib.suppress(OSError):
                self._bell.recv(4096)
        elif isinstance(data, Port):
            self._accept(data)
        elif data in self._waiting:
            try:
                self._advance(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError):
                pass
            except ssl.SSLEOFError:
                self._forget(data)
            except ssl.SSLError as error:
                self._on_fault(data.address, fault_of(error))
                self._forget(data)
            except OSError:
                self._forget(data)

    def _accept(self, port: Port) -> None:
        try:
            connection, peer = port.socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            # No descriptors are left: whoever waits longest has to go, or accepting would spin.
            self._give_way(self._waiting)
            time.sleep(_NO_SOCKETS_PAUSE_S)
            return
        try:
            address = plain_address(str(peer[0]))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            if port.tls:
                context = port.tls.context
                connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):
            connection.close()
            return
        self._admit(_Waiting(connection, address, time.monotonic() + ARTIM_S, shaking_hands=port.tls is not None))

    def _admit(self, waiting: _Waiting) -> None:
        self._waiting[waiting] = None
        self._selector.register(waiting.socket, selectors.EVENT_READ, waiting)
        same = [other for other in self._waiting if other.address == waiting.address]
        if len(same) > MOST_WAITING_OF_ADDRESS:
            self._give_way(same)
        elif len(self._waiting) > MOST_WAITING:
            self._give_way(self._waiting)

    def _give_way(self, candidates: Sequence[_Waiting] | dict[_Waiting, None]) -> None:
        oldest = next(iter(candidates), None)
        if oldest is not None:
            self._strangers.count("too many wait", oldest.address)
            self._forget(oldest)

    def _advance(self, waiting: _Waiting) -> None:
        """Go on with a connection that can be read from, as far as that goes without waiting."""
        if waiting.state is State.AWAITING_CLOSE:
            ignored_bytes = len(waiting.socket.recv(_PIECE_BYTES))
            waiting.ignored_bytes += ignored_bytes
            if not ignored_bytes or waiting.ignored_bytes > _MOST_IGNORED_BYTES:
                self._forget(waiting)
            return
        if waiting.shaking_hands and isinstance(waiting.socket, ssl.SSLSocket):
            waiting.socket.do_handshake()
            waiting.shaking_hands = False
        # What TLS has decrypted already makes no socket readable.
        while not self._gather(waiting) and isinstance(waiting.socket, ssl.SSLSocket):
            pass

    def _gather(self, waiting: _Waiting) -> bool:
        """Read a piece of the request; return whether nothing more is to be read here."""
        piece = waiting.socket.recv(min(waiting.missing_bytes(), _PIECE_BYTES))
        if not piece:
            return self._act(waiting, Incoming.CLOSED)
        waiting.received += piece
        self._waiting_bytes += len(piece)
        if len(waiting.received) < HEADER_BYTES:
            return False
        incoming, length = read_header(waiting.received)
        if length > LONGEST_REQUEST_BYTES:
            return self._act(waiting, Incoming.UNKNOWN)
        if incoming is not Incoming.ASSOCIATE_RQ or not waiting.missing_bytes():
            return self._act(waiting, incoming)
        if self._waiting_bytes > MOST_WAITING_BYTES:
            self._give_way(self._waiting)
        return waiting not in self._waiting

    def _act(self, waiting: _Waiting, incoming: Incoming) -> bool:
        match TABLE[State.AWAITING_REQUEST][incoming]:
            case Action.DECIDE:
                self._let_in(waiting)
            case Action.ABORT_BEFORE:
                self._turn_away(waiting, incoming)
            case _:
                self._forget(waiting)
        return True

    def _let_in(self, waiting: _Waiting) -> None:
        self._remove(waiting)
        self._on_request(Asked(waiting.socket, waiting.address, bytes(waiting.received[HEADER_BYTES:])))

    def _turn_away(self, waiting: _Waiting, incoming: Incoming) -> None:
        known = incoming is not Incoming.UNKNOWN
        if begins_tls(waiting.received):
            self._on_fault(waiting.address, TLSFault.NEEDED)
        else:
            what = incoming.name if known else _foreign(waiting.received)
            self._strangers.count(f"no association request: {what}", waiting.address)
        self._remove(waiting)
        with contextlib.suppress(OSError):
            waiting.socket.send(abort(AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNISED_PDU))
        self._await_close(waiting.socket, waiting.address)

    def _expire(self, waiting: _Waiting) -> None:
        if waiting.shaking_hands:
            self._on_fault(waiting.address, TLSFault.NO_ANSWER)
        elif waiting.state is State.AWAITING_REQUEST and waiting.received:
            self._strangers.count("association request not whole in time", waiting.address)
        self._forget(waiting)

    def _take_leaving(self) -> None:
        while self._leaving:
            self._await_close(*self._leaving.popleft())

    def _await_close(self, connection: socket.socket, address: str) -> None:
        try:
            connection.setblocking(False)
            say_goodbye(connection)
            connection.shutdown(socket.SHUT_WR)
            self._admit(_Waiting(connection, address, time.monotonic() + ARTIM_S, State.AWAITING_CLOSE))
        except (OSError, ValueError, KeyError):
            connection.close()

    def _forget(self, waiting: _Waiting) -> None:
        self._remove(waiting)
        waiting.socket.close()

    def _remove(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            del self._waiting[waiting]
            self._waiting_bytes -= len(waiting.received)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(waiting.socket)

    def _close_ports(self) -> None:
        if self._ports_closed.is_set():
            return
        for port in self._ports:
            self._selector.unregister(port.socket)
            port.socket.close()
        self._ports_closed.set()

    def _close_all(self) -> None:
        self._take_leaving()
        for waiting in list(self._waiting):
            self._forget(waiting)
        self._close_ports()
        self._selector.close()
        self._bell.close()
        self._rope.close()


def _foreign(received: bytearray) -> str:
    """Return what something that is no PDU looks like."""
    if received[:1].isalpha() and received[:4].isascii():
        return "text, as of another protocol"
    return "longer than any" if received[:1] == b"\x01" else "no PDU"
