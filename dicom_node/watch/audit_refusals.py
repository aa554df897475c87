"""Refused callers for the audit trail: the first of each at once, others counted, so that no stranger fills a disk."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

_WINDOW_S: Final = 60.0
AT_ONCE: Final = 20
"""Messages of a minute before its end."""
MOST_KNOWN: Final = 200
"""Callers that are told apart within a minute; beyond them all are one."""


class RefusedCaller(NamedTuple):
    """What makes a caller another one."""

    calling: str
    called: str
    address: str
    reason: str


OTHERS: Final = RefusedCaller("(others)", "(any)", "", "more callers than are told apart")


class Refusals:
    """Counts refusals; calls come from many threads.

    Parameters
    ----------
    record
        Told of a caller and how often it was refused since it was last told.
    """

    def __init__(self, record: Callable[[RefusedCaller, int], None]) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._counted: Counter[RefusedCaller] = Counter()
        self._told: set[RefusedCaller] = set()
        self._since_s = -_WINDOW_S

    def note(self, caller: RefusedCaller) -> None:
        """Count a refusal; tell of it if that is due, and of those before it once a minute."""
        with self._lock:
            if time.monotonic() - self._since_s >= _WINDOW_S:
                self._tell_all()
            known = caller in self._counted or len(self._counted) + len(self._told) < MOST_KNOWN
            self._counted[caller if known else OTHERS] += 1
            if known and caller not in self._told and len(self._told) < AT_ONCE:
                self._told.add(caller)
                self._record(caller, self._counted.pop(caller))

    def close(self) -> None:
        """Tell what is left."""
        with self._lock:
            self._tell_all()

    def _tell_all(self) -> None:
        for caller, times in self._counted.items():
            self._record(caller, times)
        self._counted.clear()
        self._told.clear()
        self._since_s = time.monotonic()
