"""Files that are there whole or not at all, however a process ends."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one.

    Processes may write the same file at the same time: one of their contents stays, whole.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def drop_unfinished(folder: Path) -> None:
    """Remove what `write_whole` had begun in a folder when its process was killed; no other process may write there."""
    for left in folder.glob("*.part"):
        left.unlink(missing_ok=True)
