"""How many of something there may be at once: of one kind, and in all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable


class Places:
    """Places that are taken and given back; any thread may.

    Parameters
    ----------
    each
        For one key, so that nobody shuts others out.
    all_together
        For all keys.
    """

    def __init__(self, each: int, all_together: int) -> None:
        self._each = each
        self._all_together = all_together
        self._taken: Counter[Hashable] = Counter()
        self._lock = threading.Lock()

    def take(self, key: Hashable) -> bool:
        """Take a place for `key`, and return whether there was one."""
        with self._lock:
            if self._taken[key] >= self._each or self._taken.total() >= self._all_together:
                return False
            self._taken[key] += 1
            return True

    def give_back(self, key: Hashable) -> None:
        """Give a place back that was taken for `key`."""
        with self._lock:
            self._taken[key] -= 1
            self._taken += Counter()
