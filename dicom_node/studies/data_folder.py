"""The data folder of a node: private to its user, and what its disk refuses, in a sentence."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError, SpoolFull
from models.whole_files import make_folder

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def make_private(data_dir: Path) -> None:
    """Make `data_dir` with mode 0700, but never take a folder of somebody else's away from others."""
    make_folder(data_dir)
    if data_dir.stat().st_mode & 0o077 == 0:
        return
    if any(data_dir.iterdir()) and not (data_dir / "spool").is_dir():
        raise SpoolError(
            f"The data folder {data_dir} is open to others and holds other things: name an empty one.", "spool_unusable"
        )
    data_dir.chmod(0o700)


def unusable(data_dir: Path, error: OSError) -> str:
    """Return why the folder cannot be used, and what to do."""
    what = f"The data folder {data_dir} cannot be used ({error.strerror}): "
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{what}a file is in its place, so name another folder in node.data_dir."
    if error.errno == errno.EROFS:
        return f"{what}mount its disk for writing."
    if error.errno in _NO_SPACE:
        return f"{what}free space on its disk."
    if isinstance(error, PermissionError) and data_dir.is_dir():
        return f"{what}give it to this user."
    return f"{what}make it for this user, or name another folder in node.data_dir."


def disk_error(data_dir: Path, error: OSError) -> SpoolError:
    """Return what the disk said, with a code and a sentence."""
    if error.errno in _NO_SPACE:
        return SpoolFull(f"The disk of {data_dir} is full: free space on it.")
    return SpoolError(f"The disk of {data_dir} refuses to write ({error.strerror}): look at the system log.")
