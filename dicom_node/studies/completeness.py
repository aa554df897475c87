"""When is a study complete? A pure decision: it knows only a monotonic clock, what arrived and the rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

QUIET_AFTER_FAILURE = 5
"""How many times the quiet time is waited for a sender whose association failed; up to the deadline, as always.

Senders try again after one to five minutes; the quiet time is one minute by default.
"""


@dataclass(frozen=True, slots=True)
class WaitingRules:
    """How long to wait: see ``[receive]``."""

    quiet_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What of a study has arrived, on a monotonic clock.

    Parameters
    ----------
    first_s, last_s
        When the first and the last new instance came.
    open_associations
        How many associations that carried the study are still open.
    instances
        How many new instances came.
    failed_s
        When the last of the associations that failed ended; None if none did, or if their senders have come again and
        ended well.
    """

    first_s: float
    last_s: float
    open_associations: int
    instances: int
    failed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until_s`, unless something arrives or an association ends."""

    until_s: float


class Reason(StrEnum):
    """Why a study is taken as complete."""

    QUIET = "quiet"
    QUIET_AFTER_ABORT = "quiet_after_abort"
    DEADLINE = "deadline"
    DEADLINE_AFTER_ABORT = "deadline_after_abort"


@dataclass(frozen=True, slots=True)
class Complete:
    """The study is complete; `reason` is the evidence."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline is over and instances still arrive: to be shown, and collected once they stop."""


def decide(now_s: float, arrivals: Arrivals, rules: WaitingRules) -> Wait | Complete | Expired:
    """Return whether a study is complete.

    Quiet without an open association completes it. An open association lengthens the wait, up to the deadline; so does
    one that failed, by `QUIET_AFTER_FAILURE` times the quiet time from its end or the last instance on. From the
    deadline on quiet alone completes it. Without quiet at the deadline it is `Expired`.

    Parameters
    ----------
    now_s
        The same monotonic clock as in `arrivals`.
    arrivals
        At least one instance.
    rules
        Quiet time and deadline.
    """
    quiet_from_s = settled_from_s = arrivals.last_s + rules.quiet_s
    deadline_s = arrivals.first_s + rules.deadline_s
    failed = arrivals.failed_s is not None
    if arrivals.failed_s is not None:
        settled_from_s = max(arrivals.last_s, arrivals.failed_s) + QUIET_AFTER_FAILURE * rules.quiet_s
    if now_s >= settled_from_s and not arrivals.open_associations:
        return Complete(Reason.QUIET_AFTER_ABORT if failed else Reason.QUIET)
    if now_s >= deadline_s and now_s >= quiet_from_s:
        return Complete(Reason.DEADLINE_AFTER_ABORT if failed else Reason.DEADLINE)
    if now_s >= deadline_s:
        return Expired()
    return Wait(deadline_s if arrivals.open_associations else min(settled_from_s, deadline_s))
