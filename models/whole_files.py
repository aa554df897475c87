"""Files that are there whole or not at all, however a process ends: the one way in which every package writes them."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Any, Final

from models.visible_text import visible_json

OWNER_ALONE: Final = 0o600
"""Permissions of a file where nobody says otherwise: it may hold patient data."""
READABLE_BY_ALL: Final = 0o644
"""Permissions of a file without patient data that is made for others, such as a model."""
OWNER_ENTERS: Final = 0o700
ENTERED_BY_ALL: Final = 0o755
"""Permissions of a folder: where nobody says otherwise, and of one whose files all may read."""
_UNFINISHED: Final = ("*.part", ".*.tmp")
"""Names of files that are being written; versions before 2026-11-28 used the second."""


def write_whole(file: Path, content: bytes, permissions: int = OWNER_ALONE) -> None:
    """Write a file so that a crash or a power cut leaves the old one or the new one.

    Processes may write the same file at the same time: one of their contents stays, whole.

    Parameters
    ----------
    file
        In a folder that exists.
    content
        All of it.
    permissions
        Of the file; the process's umask neither adds to them nor takes away.
    """
    temporary = _temporary(file)
    try:
        _write_synced(temporary, content, permissions)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)


def write_json(file: Path, value: Any, permissions: int = OWNER_ALONE, *, allow_nan: bool = True) -> None:
    """Write a JSON file by `write_whole`, in UTF-8 and indented; a terminal may show it as it is.

    Parameters
    ----------
    file, permissions
        See `write_whole`.
    value
        Of JSON's types; a `StrEnum` is written as its value.
    allow_nan
        Whether NaN and infinities are written as JavaScript has them; JSON does not.

    Raises
    ------
    ValueError
        If a number is not finite although `allow_nan` is False; nothing is written then.
    """
    content = visible_json(value, indent=2, allow_nan=allow_nan) + "\n"
    write_whole(file, content.encode(), permissions)


def write_new(file: Path, content: bytes, permissions: int = OWNER_ALONE) -> bool:
    """Write a file that nobody has written yet; whoever is first stays, and nothing is ever replaced.

    Parameters
    ----------
    file, content, permissions
        As for `write_whole`. The folder's entry is not fsynced: `sync_folder` once covers many files.

    Returns
    -------
    bool
        Whether the file is this one; False if another one has its name.
    """
    temporary = _temporary(file)
    try:
        _write_synced(temporary, content, permissions)
        os.link(temporary, file)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def put_in_place(written: Path, file: Path) -> None:
    """Give a file that was written piece by piece, elsewhere on the same disk, its name, durably.

    Parameters
    ----------
    written
        On the disk of `file`; gone afterwards.
    file
        Replaced if it is there.
    """
    sync_file(written)
    written.replace(file)
    sync_folder(file.parent)


def drop_unfinished(folder: Path) -> int:
    """Remove what writing had begun in a folder when its process was killed.

    Parameters
    ----------
    folder
        No other process may write there.

    Returns
    -------
    int
        How many files that were.
    """
    left = [file for pattern in _UNFINISHED for file in folder.glob(pattern)]
    for file in left:
        file.unlink(missing_ok=True)
    return len(left)


def make_folder(folder: Path, permissions: int = OWNER_ENTERS) -> None:
    """Make a folder, and those above it that are missing.

    Parameters
    ----------
    folder
        Left as it is where it is there.
    permissions
        Of what is made; the process's umask neither adds to them nor takes away.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, permissions)
    try:
        folder.mkdir(permissions)
        folder.chmod(permissions)
    except FileExistsError:
        if not folder.is_dir():
            raise


def open_own(file: Path, flags: int) -> int:
    """Return a descriptor of a file that is written piece by piece, made for its owner alone where it is missing.

    Parameters
    ----------
    file
        In a folder that exists.
    flags
        As `os.open` has them; `O_CREAT` is added.
    """
    descriptor = os.open(file, flags | os.O_CREAT | os.O_CLOEXEC, OWNER_ALONE)
    os.fchmod(descriptor, OWNER_ALONE)
    return descriptor


def append_line(file: Path, line: str, *, sync: bool = True) -> None:
    """Add a line to a file, durably and in one write: processes may do so at the same time.

    Parameters
    ----------
    file
        Made for its owner alone where it is missing, in a folder that exists.
    line
        Without line feeds.
    sync
        False where `sync_file` follows, once for many lines.
    """
    descriptor = open_own(file, os.O_RDWR | os.O_APPEND)
    try:
        content = f"{_unfinished(descriptor)}{line}\n".encode()
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unfinished(descriptor: int) -> str:
    """Return a line feed if the last line was cut off, so that the next one stands alone."""
    size_bytes = os.fstat(descriptor).st_size
    return "" if size_bytes == 0 or os.pread(descriptor, 1, size_bytes - 1) == b"\n" else "\n"


def sync_file(file: Path) -> None:
    """Make what was written into a file survive a power cut, whoever wrote it.

    Parameters
    ----------
    file
        Which one.
    """
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut.

    Parameters
    ----------
    folder
        Just changed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(file: Path) -> Path:
    return file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(8)}.part")


def _write_synced(file: Path, content: bytes, permissions: int) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions), "wb") as stream:
        os.fchmod(stream.fileno(), permissions)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
