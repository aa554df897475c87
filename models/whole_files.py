"""Files that are there whole or not at all, however a process ends: the one way in which every package writes them."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

OWNER_ALONE: Final = 0o600
"""Permissions of a file that holds patient data."""


def write_whole(file: Path, content: bytes, permissions: int = 0o666) -> None:
    """Write a file so that a crash or a power cut leaves the old one or the new one.

    Processes may write the same file at the same time: one of their contents stays, whole.

    Parameters
    ----------
    file
        In a folder that exists.
    content
        All of it.
    permissions
        Of a new file, less those that the process's umask takes away.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(file.parent)


def write_json(file: Path, value: Any, permissions: int = 0o666, *, allow_nan: bool = True) -> None:
    """Write a JSON file by `write_whole`, in UTF-8 and indented.

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
    content = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=allow_nan) + "\n"
    write_whole(file, content.encode(), permissions)


def drop_unfinished(folder: Path) -> None:
    """Remove what `write_whole` had begun in a folder when its process was killed.

    Parameters
    ----------
    folder
        No other process may write there.
    """
    for left in folder.glob("*.part"):
        left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
