"""Who is signed in, in memory: a start of the pages signs everybody out. And how often somebody may try."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dicom_node.web.users import Role

IDLE_S: Final = 1800.0
LONGEST_S: Final = 43200.0
MOST_FAILURES: Final = 5
WINDOW_S: Final = 300.0
"""After `MOST_FAILURES` within so many seconds nobody is let in by that name."""
_MOST: Final = 1000
_BYTES: Final = 32


@dataclass(slots=True)
class Session:
    """Somebody who signed in.

    Attributes
    ----------
    name, role
        Who, and what as.
    csrf
        What each form of theirs carries.
    began_s, seen_s
        When it began, and when it was last used.
    """

    name: str
    role: Role
    csrf: str
    began_s: float
    seen_s: float


class Sessions:
    """The open sessions by the token in the browser's cookie.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, Session] = {}
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def open(self, name: str, role: Role) -> str:
        """Begin a session, and return the new token of it."""
        now_s, token = self._clock(), secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._open = {each: session for each, session in self._open.items() if self._holds(session)}
            while len(self._open) >= _MOST:
                del self._open[next(iter(self._open))]
            self._open[token] = Session(name, role, secrets.token_urlsafe(_BYTES), now_s, now_s)
        return token

    def of(self, token: str, *, used: bool = True) -> Session | None:
        """Return the session of a token, if it is open; it is used now, unless a page only renews itself."""
        with self._lock:
            session = self._open.get(token)
            if session is None or not self._holds(session):
                self._open.pop(token, None)
                return None
            if used:
                session.seen_s = self._clock()
            return session

    def close(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(token, None)

    def close_all_of(self, name: str) -> None:
        """End every session of a user, whose role or password is another one now."""
        with self._lock:
            self._open = {token: session for token, session in self._open.items() if session.name != name}

    def may_try(self, name: str) -> bool:
        """Return whether somebody may try a password for a name."""
        with self._lock:
            return len(self._recent(name)) < MOST_FAILURES

    def failed(self, name: str) -> None:
        """Count a wrong password."""
        with self._lock:
            recent = self._recent(name)
            recent.append(self._clock())
            while len(self._failures) >= _MOST:
                del self._failures[next(iter(self._failures))]
            self._failures[name] = recent

    def _recent(self, name: str) -> deque[float]:
        since_s = self._clock() - WINDOW_S
        return deque((at_s for at_s in self._failures.get(name, ()) if at_s > since_s), maxlen=MOST_FAILURES)

    def _holds(self, session: Session) -> bool:
        now_s = self._clock()
        return now_s - session.seen_s < IDLE_S and now_s - session.began_s < LONGEST_S
