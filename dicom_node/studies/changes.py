"""Which studies changed since the index last looked: marks that whoever changes a study leaves, and the index takes.

::

    <data_dir>/changed/<study_uid>       an empty file
                       <study_uid>~      taken, and not done yet
                       lock              held by who takes

They are cheap and not fsynced: what a power failure loses, the index finds when it compares itself with the spool.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from models.uid import is_uid
from models.whole_files import OWNER_ALONE, open_own

FOLDER: Final = "changed"
_TAKEN = "~"


def mark_changed(data_dir: Path, study_uid: str) -> None:
    """Leave a mark; whoever changes a study goes on if the disk does not take it."""
    with suppress(OSError):
        (data_dir / FOLDER / study_uid).touch(OWNER_ALONE)


@contextmanager
def taking(data_dir: Path) -> Iterator[bool]:
    """Yield whether the caller may take marks: one process at a time does, for as long as the block lasts."""
    with os.fdopen(open_own(data_dir / FOLDER / "lock", os.O_WRONLY), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def take_changed(data_dir: Path, update: Callable[[Sequence[str]], None], most: int = 500) -> int:
    """Hand changed studies over, and forget their marks once that is done; only while `taking`.

    Parameters
    ----------
    data_dir
        Of the node.
    update
        Called with UIDs of studies, some of which may be gone. What changes while it runs is handed over the next time;
        if it raises, so is all of it.
    most
        How many studies at once.

    Returns
    -------
    int
        How many studies that were.
    """
    folder = data_dir / FOLDER
    uids = sorted(filter(is_uid, {name.removesuffix(_TAKEN) for name in os.listdir(folder)}))[:most]  # noqa: PTH208
    for uid in uids:
        with suppress(FileNotFoundError):
            (folder / uid).rename(folder / f"{uid}{_TAKEN}")
    if uids:
        update(uids)
    for uid in uids:
        (folder / f"{uid}{_TAKEN}").unlink(missing_ok=True)
    return len(uids)
