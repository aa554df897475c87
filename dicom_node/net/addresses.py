"""The addresses that the hosts of peers have now, looked up anew now and then."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.log import say

logger = logging.getLogger(__name__)

KEPT_S = 60.0
"""How long an answer of the name service counts before it is asked again."""
FAILURE_KEPT_S = 10.0
OLD_ANSWER_S = 900.0
"""How long the last answer counts while the name service gives none."""


def plain_address(text: str) -> str:
    """Return an address in one spelling; IPv4 inside IPv6 is IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: frozenset[str]
    found_s: float
    again_s: float


class Addresses:
    """All addresses of a host, IPv4 and IPv6; where none can be found there is none.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> frozenset[str]:
        """Return the addresses of `host`, spelt as `plain_address` does; none if the name service knows none."""
        with self._lock:
            known = self._answers.get(host)
        if known is None or self._clock() >= known.again_s:
            known = self._ask(host, known)
            with self._lock:
                self._answers[host] = known
        return known.addresses

    def _ask(self, host: str, before: _Answer | None) -> _Answer:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return self._without_answer(host, before)
        now_s = self._clock()
        return _Answer(frozenset(plain_address(str(entry[4][0])) for entry in found), now_s, now_s + KEPT_S)

    def _without_answer(self, host: str, before: _Answer | None) -> _Answer:
        now_s = self._clock()
        recent = before is not None and now_s - before.found_s < OLD_ANSWER_S
        kept = before if recent and before else _Answer(frozenset(), now_s - OLD_ANSWER_S, 0.0)
        say(logger, "peer host unknown", level=logging.WARNING, host=host, addresses_kept=len(kept.addresses))
        return _Answer(kept.addresses, kept.found_s, now_s + FAILURE_KEPT_S)
