"""What each process of a node says of itself, in a file of its own, so that others see that it lives and what it does.

::

    <data_dir>/pulse/<name>.json       written every few seconds by a thread that nothing waits for

Receiver, workers and pages are separate processes, perhaps on several machines with one data folder: a file is what
all of them can read. Counts go on over a restart under the same name.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from models.whole_files import make_folder, write_json

FOLDER: Final = "pulse"
EVERY_S: Final = 10.0
SILENT_S: Final = 60.0
"""After so long without a beat a process counts as down: it missed several."""
FORGOTTEN_S: Final = 7 * 86400.0
"""A process that has been silent for so long is one of the past, such as a worker of another name."""
DAYS_KEPT: Final = 60
BOUNDS_S: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Of the histogram of a step."""


class Process(StrEnum):
    """What a process of the node is there for."""

    RECEIVER = "receiver"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Durations:
    """How long a step took: how often it ended within each of `BOUNDS_S`, how often at all, and seconds in all."""

    within: tuple[int, ...] = (0,) * len(BOUNDS_S)
    count: int = 0
    sum_s: float = 0.0

    def with_one(self, seconds: float) -> Durations:
        """Return these and one more."""
        within = tuple(count + (seconds <= bound) for count, bound in zip(self.within, BOUNDS_S, strict=True))
        return Durations(within, self.count + 1, self.sum_s + seconds)


@dataclass(frozen=True, slots=True)
class Readings:
    """Of a day: how many studies were read, and how many of them are unlike those of the model."""

    read: int = 0
    out_of_range: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a GPU."""

    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The models that a worker reads with, where, and since when it has read with these."""

    model: str
    version: str
    digest: str
    brain_weights: str
    brain_digest: str
    device: str
    since_s: float

    def since(self, before: Loaded | None) -> Loaded:
        """Return these, in use for as long as before where those were the same."""
        same = before is not None and replace(before, since_s=self.since_s) == self
        return before if before is not None and same else self


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a process last said of itself.

    Attributes
    ----------
    process, name, pid
        Which one.
    place
        The host that it runs on, and where its pid counts there: containers of one host share its name.
    started_s, beaten_s
        Since when it runs, and when it last said so, in seconds since the epoch.
    ready
        Whether it does what it is there for; a worker still loads its models before.
    ended
        Whether it ended in order.
    steps
        How long its steps took, by their names.
    days
        What it read, by day.
    memory
        Of its GPU, where it has one.
    loaded
        The models of a worker; they stay when it starts again with the same ones.
    """

    process: Process
    name: str
    place: str
    pid: int
    started_s: float
    beaten_s: float
    ready: bool = False
    ended: bool = False
    steps: Mapping[str, Durations] = field(default_factory=dict)
    days: Mapping[str, Readings] = field(default_factory=dict)
    memory: Memory | None = None
    loaded: Loaded | None = None

    def lives(self, now_s: float) -> bool:
        """Return whether it was heard of lately, and has not ended; what runs here is looked at itself."""
        gone = self.place == here() and not Path(f"/proc/{self.pid}").exists()
        return not (self.ended or gone) and now_s - self.beaten_s <= SILENT_S


class Beating:
    """Says what a process does, and that it lives; calls come from many threads, and cost a lock.

    Parameters
    ----------
    data_dir
        Of the node.
    process, name
        Which process; no two at a time have the same name.
    """

    def __init__(self, data_dir: Path, process: Process, name: str) -> None:
        self._file = pulse_file(data_dir, name)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._memory: Callable[[], Memory | None] = lambda: None
        before = _read(self._file)
        now_s = time.time()
        new = Pulse(process, name, here(), os.getpid(), now_s, now_s)
        self._pulse = replace(new, steps=before.steps, days=before.days, loaded=before.loaded) if before else new
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def step(self, name: str, seconds: float) -> None:
        """Count a step that ended well."""
        with self._lock:
            durations = self._pulse.steps.get(name, Durations()).with_one(seconds)
            self._pulse = replace(self._pulse, steps={**self._pulse.steps, name: durations})

    def read(self, out_of_range: bool) -> None:
        """Count a study that was read."""
        today = datetime.now(UTC).date()
        with self._lock:
            before = self._pulse.days.get(today.isoformat(), Readings())
            oldest = (today - timedelta(days=DAYS_KEPT)).isoformat()
            kept = {day: readings for day, readings in self._pulse.days.items() if day >= oldest}
            kept[today.isoformat()] = Readings(before.read + 1, before.out_of_range + out_of_range)
            self._pulse = replace(self._pulse, days=kept)

    def look_at_memory(self, memory: Callable[[], Memory | None]) -> None:
        """Say from now on how much memory of its GPU is in use."""
        self._memory = memory

    def loaded(self, loaded: Loaded) -> None:
        """Say from now on which models are read with."""
        with self._lock:
            self._pulse = replace(self._pulse, loaded=loaded.since(self._pulse.loaded))

    def ready(self) -> None:
        """Say that the process does from now on what it is there for."""
        with self._lock:
            self._pulse = replace(self._pulse, ready=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def end(self) -> None:
        """Say that the process ends in order."""
        self._stop.set()
        self._thread.join(EVERY_S)
        with self._lock:
            self._pulse = replace(self._pulse, ended=True, ready=False)
        self._beat()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._beat()
            self._stop.wait(EVERY_S)

    def _beat(self) -> None:
        memory = self._memory()
        with self._lock:
            self._pulse = replace(self._pulse, beaten_s=time.time(), memory=memory)
            said = asdict(self._pulse)
        try:
            make_folder(self._file.parent)
            write_json(self._file, said)
        except OSError:
            # A full disk still takes a time.
            with suppress(OSError):
                os.utime(self._file)


@contextmanager
def beating(data_dir: Path, process: Process, name: str) -> Iterator[Beating]:
    """Beat for as long as the block lasts."""
    heart = Beating(data_dir, process, name)
    heart.start()
    try:
        yield heart
    finally:
        heart.end()


def here() -> str:
    """Return where pids of this process count."""
    return f"{socket.gethostname()} {Path('/proc/self/ns/pid').stat().st_ino}"


def pulse_file(data_dir: Path, name: str) -> Path:
    """Return where a process says what it does."""
    return data_dir / FOLDER / f"{name}.json"


def pulses(data_dir: Path, now_s: float) -> list[Pulse]:
    """Return what the processes of a data folder last said, those of the past left out, the receiver first."""
    found = filter(None, map(_read, (data_dir / FOLDER).glob("*.json")))
    lately = [pulse for pulse in found if now_s - pulse.beaten_s < FORGOTTEN_S]
    return sorted(lately, key=lambda pulse: (list(Process).index(pulse.process), pulse.name))


def _read(file: Path) -> Pulse | None:
    """Return what a process said; None if it is not there, cannot be read, or is of another version."""
    try:
        said = json.loads(file.read_text("utf-8"))
        return _pulse(said, file.stat().st_mtime)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _pulse(said: Mapping[str, Any], touched_s: float) -> Pulse:
    made = {
        "process": Process(said["process"]),
        "beaten_s": max(float(said["beaten_s"]), touched_s),
        "steps": {name: Durations(**{**one, "within": tuple(one["within"])}) for name, one in said["steps"].items()},
        "days": {day: Readings(**one) for day, one in said["days"].items()},
        "memory": Memory(**said["memory"]) if said["memory"] else None,
        "loaded": Loaded(**said["loaded"]) if said.get("loaded") else None,
    }
    return Pulse(**{**said, **made})
