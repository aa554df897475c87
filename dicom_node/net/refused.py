"""Callers that were refused of late: counted, said once a minute, and kept for who may want to let one in."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from dicom_node.log import say
from dicom_node.net.callers import Call, Reason, visible_title
from dicom_node.net.tls_faults import TLSFault
from dicom_node.net.tls_sentences import REFUSED
from dicom_node.watch import audit
from models.whole_files import OWNER_ALONE, write_json

logger = logging.getLogger(__name__)

MOST_KEPT = 200
SAID_AGAIN_S = 60.0
LINES_A_MINUTE = 20
_WRITTEN_AGAIN_S = 10.0


class Who(NamedTuple):
    """What makes a caller another one: how it named itself, where it is, whom it called, why it was refused."""

    title: str
    address: str
    called: str
    reason: Reason | TLSFault

    @classmethod
    def of(cls, call: Call, reason: Reason) -> Who:
        """Return who made a call, escaped."""
        return cls(visible_title(call.calling), call.address, visible_title(call.called), reason)


@dataclass(frozen=True, slots=True)
class RefusedCaller:
    """A caller that was refused.

    Attributes
    ----------
    title, called
        AE titles, escaped; empty where a connection ended before it named any.
    address
        Where it is.
    reason
        Why; a sentence for it stands in `tls_sentences`.
    first, last
        When it was refused, in ISO 8601.
    count
        How often.
    """

    title: str
    address: str
    called: str
    reason: Reason | TLSFault
    first: str
    last: str
    count: int

    @property
    def who(self) -> Who:
        """Return what makes it another one."""
        return Who(self.title, self.address, self.called, self.reason)

    @property
    def sentence(self) -> str:
        """Return what is wrong, and what to do."""
        return REFUSED[self.reason]


def refused_file(data_dir: Path) -> Path:
    """Return where they are kept."""
    return data_dir / "refused_callers.json"


def read_refused(data_dir: Path) -> list[RefusedCaller]:
    """Return the callers refused of late, the last one first; none if nobody was, or the file is damaged."""
    try:
        rows = json.loads(refused_file(data_dir).read_text("utf-8"))
        return [RefusedCaller(**{**row, "reason": _reason(row["reason"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return []


class RefusedCallers:
    """What the receiver remembers of those that it refused; calls come from many threads.

    Parameters
    ----------
    data_dir
        The node's data folder; at most `MOST_KEPT` callers are kept there.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._known = {each.who: each for each in reversed(read_refused(data_dir))}
        self._unsaid: dict[Who, int] = {}
        self._said_s: dict[Who, float] = {}
        self._written_s = -_WRITTEN_AGAIN_S
        self._written = True
        self._timer: threading.Timer | None = None

    def note(self, who: Who) -> None:
        """Count a refusal; say so, unless that was done within a minute."""
        audit.refused(reason=who.reason, calling=who.title, called=who.called, address=who.address)
        with self._lock:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            before = self._known.pop(who, None)
            new = RefusedCaller(*who, first=now, last=now, count=1)
            self._known[who] = replace(before, last=now, count=before.count + 1) if before else new
            if len(self._known) > MOST_KEPT:
                del self._known[next(iter(self._known))]
            self._unsaid[who] = self._unsaid.get(who, 0) + 1
            self._written = False
            self._look()

    def close(self) -> None:
        """Say and write what is left."""
        with self._lock:
            if self._timer:
                self._timer.cancel()
            self._say(list(self._unsaid)[:LINES_A_MINUTE])
            self._write()

    def _look(self) -> None:
        """Say and write what is due, and look again while something is left."""
        now_s = time.monotonic()
        self._said_s = {who: said_s for who, said_s in self._said_s.items() if now_s - said_s < SAID_AGAIN_S}
        due = [who for who in self._unsaid if who not in self._said_s]
        self._say(due[: max(0, LINES_A_MINUTE - len(self._said_s))])
        if len(self._unsaid) > MOST_KEPT:
            say(logger, "more callers refused", level=logging.WARNING, times=sum(self._unsaid.values()))
            self._unsaid.clear()
        if now_s - self._written_s >= _WRITTEN_AGAIN_S:
            self._write()
        if (self._unsaid or not self._written) and self._timer is None:
            self._timer = threading.Timer(_WRITTEN_AGAIN_S, self._look_later)
            self._timer.daemon = True
            self._timer.start()

    def _look_later(self) -> None:
        with self._lock:
            self._timer = None
            self._look()

    def _say(self, callers: Iterable[Who]) -> None:
        for who in callers:
            facts = {"reason": who.reason, "calling": who.title, "called": who.called, "address": who.address}
            times = self._unsaid.pop(who)
            sentence = REFUSED[who.reason]
            say(logger, "association refused", level=logging.WARNING, **facts, times=times, sentence=sentence)
            self._said_s[who] = time.monotonic()

    def _write(self) -> None:
        self._written_s, self._written = time.monotonic(), True
        rows = [asdict(each) for each in reversed(self._known.values())]
        try:
            write_json(refused_file(self._data_dir), rows, OWNER_ALONE)
        except OSError:
            say(logger, "refused callers not kept", level=logging.ERROR)


def _reason(code: str) -> Reason | TLSFault:
    with contextlib.suppress(ValueError):
        return Reason(code)
    return TLSFault(code)
