"""An instance while it is received: a file that grows piece by piece, in no study until it is whole and fsynced."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Self

from models.whole_files import open_own

_LOOK_BYTES = 2**24
"""After so many bytes the free space is looked at anew."""
_PIECE_BYTES = 2**20
_META_START = 144
"""Preamble, DICM and the group length element of the File Meta Information (PS3.10 7.1)."""


class IncomingInstance:
    """An instance that is being received.

    Parameters
    ----------
    folder
        On the disk of the spool.
    require_space
        Raises if so many bytes more would touch the reserve.
    disk_errors
        Gives errors of the disk their sentence.
    """

    def __init__(
        self,
        folder: Path,
        require_space: Callable[[int], None],
        disk_errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._require_space = require_space
        self._disk_errors = disk_errors
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.part"
        self._file = open_own(self._path, os.O_RDWR | os.O_EXCL)
        self._looked_at_bytes = 0
        self._is_synced = False
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece.

        Raises
        ------
        SpoolFull
            If it would touch the reserve, or the disk is full.
        SpoolError
            If the disk refuses.
        """
        self.size_bytes += len(piece)
        with self._disk_errors():
            if self.size_bytes - self._looked_at_bytes > _LOOK_BYTES:
                self._require_space(len(piece))
                self._looked_at_bytes = self.size_bytes
            _write_all(self._file, piece)

    def data_set(self) -> BinaryIO:
        """Return the data set, for reading; it is closed with this object."""
        reader = open(self._file, "rb", buffering=2**14, closefd=False)  # noqa: SIM115
        reader.seek(_data_set_start(os.pread(self._file, _META_START, 0)))
        return reader

    def link(self, name: Path) -> bool:
        """Give what was received a name, once it is fsynced; whoever is first stays.

        Returns
        -------
        bool
            Whether the name is of this one; False if it was taken.
        """
        if not self._is_synced:
            os.fsync(self._file)
            self._is_synced = True
        try:
            os.link(self._path, name)
        except FileExistsError:
            return False
        return True

    def holds_the_same_as(self, file: Path) -> bool:
        """Return whether the data sets are the same, whatever the File Meta Information."""
        with file.open("rb") as other, self.data_set() as ours:
            start = _data_set_start(other.read(_META_START))
            if file.stat().st_size - start != self.size_bytes - ours.tell():
                return False
            other.seek(start)
            return all(piece == other.read(_PIECE_BYTES) for piece in _pieces(ours))

    def digest(self) -> str:
        """Return the SHA-256 of the data set, in hex."""
        with self.data_set() as ours:
            whole = hashlib.sha256()
            for piece in _pieces(ours):
                whole.update(piece)
        return whole.hexdigest()

    def discard(self) -> None:
        """Remove the file, but for the names it was given; more than once does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _write_all(file: int, piece: bytes | memoryview) -> None:
    written = os.write(file, piece)
    while written < len(piece):
        written += os.write(file, piece[written:])


def _data_set_start(start: bytes) -> int:
    """Return where the data set begins behind the File Meta Information, whose group length stands first."""
    if start[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return 0
    return _META_START + int.from_bytes(start[140:144], "little")
