"""An instance while it is received: a file that grows piece by piece, in no study until it is whole and fsynced."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Self

from dicom_node.studies.seal import META_START, ROOM, SEAL_BYTES, Seal, data_set_start

_LOOK_BYTES = 2**24
"""After so many bytes the free space is looked at anew."""
_PIECE_BYTES = 2**20


class IncomingInstance:
    """An instance that is being received.

    Parameters
    ----------
    path, file
        On the disk of the spool, and its descriptor, which is closed with this object.
    require_space
        Raises if so many bytes more would touch the reserve.
    disk_errors
        Gives errors of the disk their sentence.
    """

    def __init__(
        self,
        path: Path,
        file: int,
        require_space: Callable[[int], None],
        disk_errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._require_space = require_space
        self._disk_errors = disk_errors
        self.path = path
        self._file = file
        self._looked_at_bytes = 0
        self._is_synced = False
        self._meta_bytes = 0
        self._is_kept = False
        self.size_bytes = os.fstat(file).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()

    def write_meta(self, meta: bytes) -> None:
        """Write preamble and File Meta Information, with the room of a seal at the end; raises as `write` does."""
        self.write(meta)
        if meta.endswith(ROOM):
            self._meta_bytes = len(meta)

    def seal(self, study_uid: str, sop_instance_uid: str) -> bool:
        """Write down, before it is fsynced, that it is whole; return whether there is room for that."""
        if not self._meta_bytes:
            return False
        size_bytes, checksum = self.size_bytes - self._meta_bytes, 0
        with self.data_set() as ours:
            for piece in _pieces(ours):
                checksum = zlib.crc32(piece, checksum)
        seal = Seal(study_uid, sop_instance_uid, size_bytes, checksum)
        os.pwrite(self._file, seal.encode(), self._meta_bytes - SEAL_BYTES)
        return True

    def keep_slot(self) -> None:
        """Leave the file where it was written when this object is discarded: it is durable by that name."""
        self._is_kept = True

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
        reader.seek(data_set_start(os.pread(self._file, META_START, 0)))
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
            os.link(self.path, name)
        except FileExistsError:
            return False
        return True

    def holds_the_same_as(self, file: Path) -> bool:
        """Return whether the data sets are the same, whatever the File Meta Information."""
        with file.open("rb") as other, self.data_set() as ours:
            start = data_set_start(other.read(META_START))
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
            if not self._is_kept:
                self.path.unlink(missing_ok=True)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _write_all(file: int, piece: bytes | memoryview) -> None:
    written = os.write(file, piece)
    while written < len(piece):
        written += os.write(file, piece[written:])
