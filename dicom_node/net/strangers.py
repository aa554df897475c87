"""What is said of strangers: at once, and then counted, so that they cannot fill the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Final

from dicom_node.log import say

logger = logging.getLogger(__name__)

SAY_AGAIN_S: Final = 60.0
_MOST_ADDRESSES = 100


class Strangers:
    """Counts of what callers did that are not let in; any thread may count."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._said_s = -SAY_AGAIN_S
        self._lock = threading.Lock()

    def count(self, reason: str, address: str) -> None:
        """Say that a caller was not let in, now or with the next counts.

        Parameters
        ----------
        reason
            A constant.
        address
            Of the caller.
        """
        with self._lock:
            known = (reason, address) in self._counts or len(self._counts) < _MOST_ADDRESSES
            self._counts[reason, address if known else "others"] += 1
        self.say_counts()

    def say_counts(self) -> None:
        """Say what was counted, unless something was said in the last minute."""
        now_s = time.monotonic()
        with self._lock:
            if not self._counts or now_s - self._said_s < SAY_AGAIN_S:
                return
            self._said_s, counts, self._counts = now_s, self._counts, Counter()
        for (reason, address), times in counts.items():
            say(logger, "caller turned away", level=logging.WARNING, reason=reason, address=address, times=times)
