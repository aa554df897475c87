"""Slots: empty files whose names are durable before anything is written to them, so that one fsync keeps an instance.

An instance is durable once its slot is fsynced. The name that it gets in its study is made durable later, together with
those of others; until then it keeps the name of its slot, and a start gives it the other one again.
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from typing import Final

from models.whole_files import make_folder, open_own, sync_folder

_MOST: Final = 64
"""Slots that wait to be filled, and instances whose second name is not durable yet."""
_FIRST = 8


class Slots:
    """The slots of one process that receives.

    Parameters
    ----------
    folder
        On the disk of the spool; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._empty: list[Path] = []
        self._batch = _FIRST
        self._named: list[tuple[Path, Path]] = []
        self._lock, self._settling = threading.Lock(), threading.Lock()

    def open(self) -> tuple[Path, int]:
        """Return an empty slot and its descriptor, for reading and writing."""
        with self._lock:
            while True:
                if not self._empty:
                    self._make()
                slot = self._empty.pop()
                try:
                    return slot, os.open(slot, os.O_RDWR | os.O_CLOEXEC)
                except FileNotFoundError:
                    self._empty.clear()

    def named(self, slot: Path, folder: Path) -> None:
        """Take note that what is in a slot has a name in a folder, which is not durable yet."""
        with self._lock:
            self._named.append((slot, folder))

    @property
    def are_full(self) -> bool:
        """Whether so many instances keep their slots that they are to be settled."""
        return len(self._named) >= _MOST

    def settle(self) -> None:
        """Make the names of instances durable and let their slots go.

        Raises
        ------
        OSError
            If the disk refuses; they keep their slots then.
        """
        with self._settling:
            with self._lock:
                named, self._named = self._named, []
            try:
                for folder in {folder for _, folder in named if folder.is_dir()}:
                    sync_folder(folder)
            except OSError:
                with self._lock:
                    self._named += named
                raise
            for slot, _ in named:
                slot.unlink(missing_ok=True)

    def let_go(self, folder: Path) -> None:
        """Make the names in a folder durable and let the slots of these instances go, also those of another process.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        if not (folder.is_dir() and self._folder.is_dir()):
            return
        sync_folder(folder)
        with os.scandir(folder) as entries:
            there = {entry.inode() for entry in entries}
        with os.scandir(self._folder) as slots:
            named = [self._folder / slot.name for slot in slots if slot.inode() in there]
        for slot in named:
            slot.unlink(missing_ok=True)
        sync_folder(self._folder)

    def clear(self) -> None:
        """Settle, and leave no slot: nothing is being received."""
        self.settle()
        with self._lock:
            empty, self._empty, self._batch = self._empty, [], _FIRST
        for slot in empty:
            slot.unlink(missing_ok=True)

    def _make(self) -> None:
        if not self._folder.is_dir():
            make_folder(self._folder)
            sync_folder(self._folder.parent)
        batch = f"{os.getpid()}-{secrets.token_hex(8)}"
        slots = [self._folder / f"{batch}-{number}.part" for number in range(self._batch)]
        for slot in slots:
            os.close(open_own(slot, os.O_WRONLY | os.O_EXCL))
        sync_folder(self._folder)
        self._empty, self._batch = slots, min(2 * self._batch, _MOST)
