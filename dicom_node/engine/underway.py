"""The work under way in this process: what a stop waits for, and how often a study ended the process.

A file stands in the folder of a study for as long as its work runs, with how often that work ended the process since it
last got on. Whoever begins the work and finds the file knows that the process before crashed in it; a process that is
stopped, waits, or is shut down removes it. So only what runs when a process dies is held against a study.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.errors import DatabaseUnusable, SpoolFull
from dicom_node.log import say
from dicom_node.studies.spool import Spool
from models.whole_files import OWNER_ALONE, make_folder, open_own, write_whole

logger = logging.getLogger(__name__)

MAX_CRASHES = 3
"""A study that ends the process once more without getting on is set aside."""
ROOM_BYTES = 64 * 1024**2
"""Free on the disk, so that work which found it full is tried again."""
_UNWINDING_S = 3.0
_LOOK_S = 0.05
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class PutBack(BaseException):
    """Unwinds work that is not to go on now; no `Exception`, so that the engine keeps it as begun."""


class CrashedTooOften(Exception):
    """The work ended the process again and again."""


@dataclass(slots=True)
class _Piece:
    """The work of one workflow, and the step that it is in."""

    study_uid: str
    file: Path
    crashes: int
    step: str = ""
    since_s: float = 0.0


class Underway:
    """What runs in this process.

    Parameters
    ----------
    spool
        The received studies.
    timed
        Told of each step that ended well, and its seconds.
    """

    def __init__(self, spool: Spool, timed: Callable[[str, float], None] = lambda _name, _seconds: None) -> None:
        self._spool = spool
        self._timed = timed
        self._pieces: dict[str, _Piece] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()

    def __contains__(self, workflow_id: str) -> bool:
        """Return whether the work of a workflow runs here."""
        return workflow_id in self._pieces

    @contextmanager
    def work(self, study_uid: str, workflow_id: str) -> Iterator[None]:
        """Count what the block does as the work of a workflow.

        Raises
        ------
        StudyUnknown
            If the study is not there any more.
        CrashedTooOften
            If the same work has ended the process more than `MAX_CRASHES` times without getting on.
        PutBack
            If the process is to end, or runs this work already.
        """
        self._go_on()
        file = self._file(study_uid, workflow_id)
        piece = _Piece(study_uid, file, _crashes(file))
        with self._lock:
            if workflow_id in self._pieces:
                raise PutBack
            self._pieces[workflow_id] = piece
        try:
            if piece.crashes > MAX_CRASHES:
                raise CrashedTooOften
            _write(piece)
            yield
        finally:
            with self._lock:
                del self._pieces[workflow_id]
            file.unlink(missing_ok=True)

    @contextmanager
    def step(self, workflow_id: str, name: str) -> Iterator[None]:
        """Count what the block does as a step, which a stop waits for; a step that ends well is progress.

        Raises
        ------
        PutBack
            If the process is to end, the disk is full or the database away.
        """
        self._go_on()
        piece = self._pieces[workflow_id]
        piece.since_s, piece.step = time.monotonic(), name
        try:
            yield
            self._timed(name, time.monotonic() - piece.since_s)
            if piece.crashes:
                piece.crashes = 0
                _write(piece)
        except Exception as error:
            self.put_back_if_it_passes(piece.study_uid, error)
            raise
        finally:
            piece.step = ""

    @contextmanager
    def alone(self, study_uid: str) -> Iterator[None]:
        """Keep other workers from a study for as long as the block runs.

        Raises
        ------
        PutBack
            If the process is to end while another worker is at the study.
        """
        lock = open_own(self._spool.study(study_uid).folder / "reading.lock", os.O_WRONLY)
        with os.fdopen(lock, "w") as file:
            while not _locked(file.fileno()):
                self._go_on()
                time.sleep(_LOOK_S)
            yield

    def put_back_if_it_passes(self, study_uid: str, error: Exception) -> None:
        """Say what a study waits for, if an error is about a disk that is full or a database that is away.

        Raises
        ------
        PutBack
            If it is.
        """
        facts: dict[str, Any] = {"level": logging.ERROR, "study": study_uid, "cause": type(error).__name__}
        if is_full(error) or not self.has_room():
            say(logger, "disk full, study waits", **facts)
        elif isinstance(error, DatabaseUnusable):
            say(logger, "database away, study waits", **facts)
        else:
            return
        raise PutBack from None

    def has_room(self) -> bool:
        """Return whether the disk has room for work."""
        return self._spool.free_bytes() >= ROOM_BYTES

    def end(self, limit_s: float) -> None:
        """Begin nothing more, and wait for the steps that run, at most `limit_s`."""
        self._ending.set()
        until_s = time.monotonic() + limit_s
        for piece in self._in_steps():
            running_s = round(time.monotonic() - piece.since_s, 1)
            say(logger, "stop waits for a step", study=piece.study_uid, step=piece.step, running_s=running_s)
        while self._in_steps() and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
        # What is left writes down in the database what its step returned, or waits for that database.
        until_s = time.monotonic() + _UNWINDING_S
        while self._pieces and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
        self.forgive()

    def forgive(self) -> None:
        """Hold the end of this process against no study: somebody wants it."""
        for piece in list(self._pieces.values()):
            piece.file.unlink(missing_ok=True)

    def _in_steps(self) -> list[_Piece]:
        return [piece for piece in list(self._pieces.values()) if piece.step]

    def _go_on(self) -> None:
        if self._ending.is_set():
            raise PutBack

    def _file(self, study_uid: str, workflow_id: str) -> Path:
        folder = self._spool.study(study_uid).folder / "begun"
        make_folder(folder)
        return folder / hashlib.sha256(workflow_id.encode()).hexdigest()[:32]


def is_full(error: BaseException | None) -> bool:
    """Return whether an error, or what it came from, is that a disk is full."""
    while error is not None:
        full = isinstance(error, SpoolFull) or (isinstance(error, OSError) and error.errno in _NO_SPACE)
        if full or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _crashes(file: Path) -> int:
    """Return how often the work ended the process, this start being the next one; a cut file counts as one."""
    try:
        return int(file.read_text("ascii") or 0) + 1
    except FileNotFoundError:
        return 0
    except ValueError:
        return 1


def _write(piece: _Piece) -> None:
    write_whole(piece.file, str(piece.crashes).encode(), OWNER_ALONE)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
