"""A port that stays ours from the moment it is chosen until a program that we start listens on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """Yield a loopback port that nobody else is given while the block runs.

    It is bound and not listened on: the system gives it to no other socket and refuses connections to it, and a server
    that allows addresses to be reused (SO_REUSEADDR), as DICOM and web servers do, may listen on it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
