"""The last lines of the log, kept for the pages: the log itself goes to stderr, and may end anywhere.

::

    <data_dir>/log/receive.jsonl      of each process the last megabyte or two; 0600; written as the lines come

What is kept is what the log says: pseudonyms and constant words. A disk that takes no line stops nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from models.whole_files import make_folder, open_own

FOLDER: Final = "log"
_MOST_BYTES: Final = 1_000_000
_READ_BYTES: Final = 500_000
"""Of each process; a line has some 200 bytes."""
_OWN: Final = ("time", "level", "logger", "event", "study")


class LastLines(RotatingFileHandler):
    """Keeps the lines of a process.

    Parameters
    ----------
    data_dir
        Of the node.
    process
        Which process.
    """

    def __init__(self, data_dir: Path, process: str) -> None:
        make_folder(data_dir / FOLDER)
        super().__init__(data_dir / FOLDER / f"{process}.jsonl", maxBytes=_MOST_BYTES, backupCount=1, delay=True)

    def _open(self) -> TextIOWrapper:
        descriptor = open_own(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        """Lose a line that the disk does not take: stderr has it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log.

    Attributes
    ----------
    time, level, process, event
        As it says.
    study
        The pseudonym of a study; empty where it is about none.
    facts
        What else it says.
    """

    time: datetime
    level: str
    process: str
    event: str
    study: str
    facts: Mapping[str, Any]


def last_lines(data_dir: Path) -> list[Line]:
    """Return the last lines of all processes, the newest first."""
    found = [line for file in (data_dir / FOLDER).glob("*.jsonl*") for line in _lines(file)]
    return sorted(found, key=lambda line: line.time, reverse=True)


def _lines(file: Path) -> Iterator[Line]:
    process = file.name.partition(".")[0]
    for text in _end(file).splitlines():
        try:
            said = json.loads(text)
            facts = {name: value for name, value in said.items() if name not in _OWN}
            time = datetime.fromisoformat(said["time"])
            yield Line(time, str(said["level"]), process, str(said["event"]), str(said.get("study", "")), facts)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut off, or of another version


def _end(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _READ_BYTES))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
