"""The audit trail on disk: a file of JSON lines for each day, kept as long as the configuration says.

::

    <data_dir>/audit/2026-11-29.jsonl      0600; a line is an audit message (PS3.15 A.5); days are those of UTC

The file is the truth; a collector gets its lines later. Writing never stops what is audited: a message that the disk
does not take is counted and said in the log, and once the disk takes one again, a message says how many are lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dicom_node.log import say
from dicom_node.watch.audit_message import (
    ActionCode,
    EventID,
    EventType,
    Message,
    ObjectKind,
    Outcome,
    Participant,
    Participated,
)
from models.visible_text import visible_json
from models.whole_files import append_line, make_folder, sync_file

logger = logging.getLogger(__name__)

FOLDER: Final = "audit"
_SAID_AGAIN_S: Final = 60.0


class Trail:
    """The audit trail of one data folder; processes and threads write to it at the same time.

    Parameters
    ----------
    data_dir
        Of the node; who finds none there writes nothing.
    source
        Name of this node among those that are audited.
    keep_days
        Days that a file is kept.
    """

    def __init__(self, data_dir: Path, source: str, keep_days: int) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / FOLDER
        self._source = source
        self._keep_days = keep_days
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced: set[Path] = set()
        self._written = self._synced = 0
        self._day: date | None = None
        self._lost = 0
        self._said_s = -_SAID_AGAIN_S

    def record(self, message: Message) -> None:
        """Write a message, durably; an error of the disk is said in the log, and raised to nobody."""
        try:
            with self._lock:
                self._write(message)
                number = self._written
            self._sync(number)
        except OSError as error:
            with self._lock:
                self._lost += 1
                self._say_lost(error)

    def _sync(self, number: int) -> None:
        """Return when message `number` survives a power cut: those that wait for the disk share the next fsync."""
        with self._syncing:
            if self._synced >= number:
                return
            with self._lock:
                files, self._unsynced, written = self._unsynced, set(), self._written
            for file in files:
                sync_file(file)
            self._synced = written

    def _write(self, message: Message) -> None:
        if not self._data_dir.is_dir():
            return
        now = datetime.now(UTC)
        if self._day != now.date():
            make_folder(self._folder)
            self._remove_old(now.date())
            self._day = now.date()
        file = self._folder / f"{now.date().isoformat()}.jsonl"
        self._append(file, message.as_json(self._source, now))
        if self._lost:
            lost, self._lost = self._lost, 0
            self._append(file, _recording_again(self._source, lost).as_json(self._source, now))

    def _append(self, file: Path, message: Mapping[str, Any]) -> None:
        append_line(file, visible_json(message), sync=False)
        self._unsynced.add(file)
        self._written += 1

    def _say_lost(self, error: OSError) -> None:
        if time.monotonic() - self._said_s >= _SAID_AGAIN_S:
            self._said_s = time.monotonic()
            say(logger, "audit message not written", level=logging.ERROR, cause=error.strerror, lost=self._lost)

    def _remove_old(self, today: date) -> None:
        for file in days(self._data_dir):
            if date.fromisoformat(file.stem) < today - timedelta(days=self._keep_days):
                file.unlink(missing_ok=True)


def days(data_dir: Path) -> list[Path]:
    """Return the files of a data folder's trail, the oldest first."""
    found = []
    for file in (data_dir / FOLDER).glob("*.jsonl"):
        with suppress(ValueError):
            date.fromisoformat(file.stem)
            found.append(file)
    return sorted(found)


def _recording_again(source: str, lost: int) -> Message:
    """Return what tells that the disk took no messages for a while."""
    node = Participated(ObjectKind.NODE, source, {"MessagesLost": str(lost)})
    reporter = (Participant(source, requestor=False),)
    return Message(
        EventID.SECURITY_ALERT,
        ActionCode.EXECUTE,
        reporter,
        (node,),
        Outcome.MINOR_FAILURE,
        (EventType.RECORDING_STARTED,),
    )
