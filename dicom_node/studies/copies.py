"""In which order copies of an instance were received: a file of names beside the instances.

::

    <study>/copies.txt        one file name of ``instances/`` a line, oldest first

Only instances that came in different copies stand there, from their first copy on, each as often as it became the
newest. Lines are appended and fsynced before the sender gets its answer; clocks and times of files, which a restored
back-up may have lost, do not count.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from models.whole_files import OWNER_ALONE, sync_folder

COPIES_FILE: Final = "copies.txt"


def received(study_folder: Path) -> tuple[Path, ...]:
    """Return the files of all receipts, oldest first; empty where no instance came in different copies.

    Parameters
    ----------
    study_folder
        Of a received study.
    """
    return tuple(study_folder / "instances" / name for name in _names(study_folder))


def note_receipt(first: Path, copy: Path) -> bool:
    """Write down, durably, that a copy of an instance is the newest one.

    Parameters
    ----------
    first
        File of the copy that came first.
    copy
        File of the one that came now; maybe the same.

    Returns
    -------
    bool
        Whether it was not the newest already.
    """
    folder = first.parent.parent
    names = [name for name in _names(folder) if name == first.name or name.startswith(f"{first.stem}~")]
    newest = names[-1] if names else first.name
    if copy.name == newest:
        return False
    _append(folder / COPIES_FILE, [copy.name] if names else [first.name, copy.name])
    return True


def _names(study_folder: Path) -> list[str]:
    try:
        text = (study_folder / COPIES_FILE).read_text("ascii", "replace")
    except FileNotFoundError:
        return []
    # A power failure may have cut the last line off; its sender got no answer, and sends the copy again.
    return [line[:-1] for line in text.splitlines(keepends=True) if line.endswith(".dcm\n")]


def _append(file: Path, names: list[str]) -> None:
    is_new = not file.exists()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ALONE)
    try:
        # The line feed in front ends a line that was cut off.
        os.write(descriptor, "".join(f"\n{name}\n" for name in names).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(file.parent)
