"""Which studies hold something that is not collected yet: a list in files, so that a start reads no other study.

::

    <data_dir>/collecting/<study_uid>      an empty file, there before the first new instance of the study is

A mark is made durable before an instance gets its name, and removed after the study was noted as collected. A crash
between any two steps leaves a mark too many at most: that study is looked at once more, and nothing is done twice.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from models.uid import is_uid
from models.whole_files import OWNER_ALONE, sync_folder

FOLDER: Final = "collecting"


class Unfinished:
    """The marks of one data folder; one process at a time stores instances and removes marks.

    Parameters
    ----------
    data_dir
        Of the node. One of an earlier version has no marks: then every study of its spool is marked, once.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        self._lock = threading.Lock()
        self._marked: set[str] = set()
        self._adding: Counter[str] = Counter()
        self._latest: dict[str, int] = {}
        self._numbers = itertools.count(1)
        if not self._folder.is_dir():
            _mark_all(data_dir, self._folder)

    def uids(self) -> list[str]:
        """Return the marked studies."""
        return sorted(file.name for file in self._folder.iterdir() if is_uid(file.name))

    def __contains__(self, study_uid: str) -> bool:
        return (self._folder / study_uid).exists()

    @contextmanager
    def adding(self, study_uid: str) -> Iterator[Callable[[], None]]:
        """Yield what is to be called before the study is changed; while the block runs its mark is not removed."""
        changed = False

        def mark() -> None:
            nonlocal changed
            changed = True
            if study_uid not in self._marked:
                self._make(study_uid)

        with self._lock:
            self._adding[study_uid] += 1
        try:
            yield mark
        finally:
            with self._lock:
                if changed:
                    self._latest[study_uid] = next(self._numbers)
                self._adding[study_uid] -= 1
                self._adding += Counter()

    def latest(self, study_uid: str) -> int:
        """Return a number that is another one after each change of the study."""
        with self._lock:
            return self._latest.get(study_uid, 0)

    def finish(self, study_uid: str, latest: int) -> bool:
        """Remove the mark of a study, unless something was added since `latest` was asked for.

        Returns
        -------
        bool
            Whether it was removed.
        """
        with self.resting(study_uid) as rests:
            if not rests or self._latest.get(study_uid, 0) != latest:
                return False
            (self._folder / study_uid).unlink(missing_ok=True)
            self._marked.discard(study_uid)
            self._latest.pop(study_uid, None)
            return True

    @contextmanager
    def resting(self, study_uid: str) -> Iterator[bool]:
        """Yield whether nothing is being added to a study; nothing can be added to any before the block ends."""
        with self._lock:
            yield not self._adding[study_uid]

    def _make(self, study_uid: str) -> None:
        (self._folder / study_uid).touch(OWNER_ALONE)
        sync_folder(self._folder)
        with self._lock:
            self._marked.add(study_uid)


def _mark_all(data_dir: Path, folder: Path) -> None:
    """Make the folder with a mark for every study that is there, whole or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=f"{FOLDER}.", dir=data_dir))
    spool = data_dir / "spool"
    for study in spool.iterdir() if spool.is_dir() else ():
        if is_uid(study.name):
            (temporary / study.name).touch(OWNER_ALONE)
    sync_folder(temporary)
    with suppress(OSError):  # Another process was first.
        temporary.rename(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(data_dir)
