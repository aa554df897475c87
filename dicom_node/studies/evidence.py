"""What is known of studies that still arrive, found out beside receiving: from headers, counts and announcements.

Nothing here waits: `Evidence.of` says what is known now, and has the rest found out in threads of its own. Each header
is read once, when no association of its study is open. What is not known yet, or cannot be, costs the quiet time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from dicom_node.config import SelectionSection
from dicom_node.errors import SpoolError
from dicom_node.log import say
from dicom_node.studies.announced import Announcements
from dicom_node.studies.completeness import NOTHING_KNOWN, Counted, Known, Total
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.statements import received, statements
from pipeline.headers import Plane, Problem, read_headers, read_instance
from pipeline.select import contrasts_whole

logger = logging.getLogger(__name__)

ASKED_AGAIN_S: Final = 60.0
"""After this time a PACS that counts more is asked again."""
_MOST_STUDIES = 32
"""Of which headers are kept in memory; those of more are read again."""
_MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Here:
    """What of a study is here.

    Attributes
    ----------
    instances
        SOP Instance UIDs.
    by_series
        How many of them by Series Instance UID, as far as their headers can be read.
    """

    instances: frozenset[str]
    by_series: Mapping[str, int]


Task = TypeVar("Task")
Ask = Callable[[str, Here], Total | None]
"""Asks one peer; None where its answer cannot be used. May hang, and may raise."""


@dataclass(slots=True)
class _Found:
    """What was found out of a study while it had so many instances."""

    instances: int
    whole: bool | None = None
    here: Here | None = None
    totals: dict[str, Total | None] = field(default_factory=dict)
    asked_s: float = 0.0


class Evidence:
    """Finds out what is known of studies.

    Parameters
    ----------
    spool
        The received studies.
    rules
        By which series are selected; may be replaced while running.
    announcements
        Of procedure steps and available instances.
    peers
        Whom to ask for counts, by name.
    clock
        Monotonic clock in seconds.
    """

    def __init__(
        self,
        spool: Spool,
        rules: SelectionSection,
        announcements: Announcements,
        peers: Mapping[str, Ask],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._spool = spool
        self._announcements = announcements
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[str, _Found] = {}
        self._headers: OrderedDict[str, dict[Path, list[Plane] | Problem]] = OrderedDict()
        self._to_read: queue.Queue[tuple[str, int]] = queue.Queue(_MOST_WAITING)
        self._to_ask: dict[str, queue.Queue[tuple[str, int, Here]]] = {}
        threading.Thread(target=self._read_on, name="evidence", daemon=True).start()
        for name, ask in peers.items():
            self._to_ask[name] = queue.Queue(_MOST_WAITING)
            # One thread for each peer: one that hangs keeps no answer of another waiting.
            threading.Thread(target=self._ask_on, args=(name, ask), name=f"counts-{name}", daemon=True).start()

    def of(self, study_uid: str, instances: int) -> Known:
        """Return what is known of a study, and have the rest found out.

        Parameters
        ----------
        study_uid
            A study to which no association is open.
        instances
            Any number that changes when something new has come.
        """
        with self._lock:
            found = self._found.get(study_uid)
            if found is None or found.instances != instances:
                self._found[study_uid] = found = _Found(instances)
                self._put(self._to_read, (study_uid, instances))
            if found.here is None:
                return NOTHING_KNOWN
            counted = self._counted(study_uid, found)
            here, whole = found.here, bool(found.whole)
        return Known(whole, counted, self._announcements.of(study_uid, here.instances))

    def totals(self, study_uid: str) -> dict[str, Total]:
        """Return what each peer that answered counts of a study."""
        with self._lock:
            found = self._found.get(study_uid)
            return {name: total for name, total in found.totals.items() if total} if found else {}

    def forget(self, study_uid: str) -> None:
        """Let go of a study that is complete."""
        with self._lock:
            self._found.pop(study_uid, None)
            self._headers.pop(study_uid, None)

    def _counted(self, study_uid: str, found: _Found) -> Counted:
        """Return what the peers say; ask those whose answer may have changed."""
        assert found.here
        said = {total.counted for total in found.totals.values() if total}
        due = found.asked_s == 0.0 or (Counted.MORE in said and self._clock() > found.asked_s + ASKED_AGAIN_S)
        if due and self._to_ask:
            found.asked_s = self._clock()
            for waiting in self._to_ask.values():
                self._put(waiting, (study_uid, found.instances, found.here))
        if Counted.MORE in said:
            return Counted.MORE
        if len(found.totals) < len(self._to_ask):
            return Counted.ASKED
        return Counted.ALL if said else Counted.UNKNOWN

    @staticmethod
    def _put(waiting: queue.Queue[Task], what: Task) -> None:
        try:
            waiting.put_nowait(what)
        except queue.Full:
            say(logger, "evidence not looked for, too much waits", level=logging.WARNING)

    def _read_on(self) -> None:
        while True:
            study_uid, instances = self._to_read.get()
            try:
                whole, here = self._look(self._spool.study(study_uid))
            except SpoolError:
                continue
            except Exception as error:
                cause = type(error).__name__
                say(logger, "no evidence from headers", level=logging.ERROR, study=study_uid, cause=cause)
                continue
            with self._lock:
                if (found := self._found.get(study_uid)) and found.instances == instances:
                    found.whole, found.here = whole, here

    def _look(self, study: Study) -> tuple[bool, Here]:
        read = self._headers_of(study.uid)

        def once(path: Path) -> list[Plane] | Problem:
            if path not in read:
                read[path] = read_instance(path)
            return read[path]

        stated = statements(study)
        headers = read_headers(study.instances(), received(study, stated), once)
        whole = contrasts_whole(headers, self.rules.rules(), study.choices(), stated.identity)
        return whole, _here(read)

    def _headers_of(self, study_uid: str) -> dict[Path, list[Plane] | Problem]:
        with self._lock:
            read = self._headers.setdefault(study_uid, {})
            self._headers.move_to_end(study_uid)
            while len(self._headers) > _MOST_STUDIES:
                self._headers.popitem(last=False)
        return read

    def _ask_on(self, name: str, ask: Ask) -> None:
        while True:
            study_uid, instances, here = self._to_ask[name].get()
            with self._lock:
                found = self._found.get(study_uid)
            if found is None or found.instances != instances:
                continue
            try:
                total = ask(study_uid, here)
            except Exception as error:
                say(
                    logger,
                    "counts unknown",
                    level=logging.WARNING,
                    study=study_uid,
                    peer=name,
                    cause=type(error).__name__,
                )
                total = None
            with self._lock:
                found.totals[name] = total


def _here(read: Mapping[Path, list[Plane] | Problem]) -> Here:
    """Return what files are there; the spool names them by their SOP Instance UIDs."""
    by_series: Counter[str] = Counter()
    instances = set()
    for path, found in read.items():
        series = found.series_uid if isinstance(found, Problem) else found[0].facts.text("SeriesInstanceUID")
        uid = path.stem.partition("~")[0]
        if uid not in instances:
            instances.add(uid)
            by_series[series or ""] += 1
    return Here(frozenset(instances), by_series)
