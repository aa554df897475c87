"""When is a study complete? A pure decision: it knows only a monotonic clock, what is known of a study, and the rules.

Nothing arriving is no proof of anything, so a quiet time is waited for. Evidence shortens that: the three contrasts are
there and whole, or a scanner or PACS has announced what there is and all of it is here. Evidence against it lengthens:
an association failed, or the PACS counts more images than came. What comes after the start makes a revision, if it
changes what is selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

QUIET_AFTER_FAILURE = 5
"""How many times the quiet time is waited for a sender whose association failed; up to the deadline, as always.

Senders try again after one to five minutes; the quiet time is one minute by default.
"""
PAUSES: Final = 2
"""How many times the longest pause that a study had is waited for: a sender that pauses once does so again."""


@dataclass(frozen=True, slots=True)
class WaitingRules:
    """How long to wait: see ``[receive]``."""

    quiet_s: float
    deadline_s: float
    settle_s: float = 5.0


class Counted(StrEnum):
    """What the PACS says of the number of images, beside what has arrived."""

    UNKNOWN = "unknown"
    """Nobody was asked, or no answer can be used."""
    ASKED = "asked"
    """The answer is still to come."""
    ALL = "all"
    MORE = "more"


@dataclass(frozen=True, slots=True)
class Total:
    """How many images a PACS holds of the series that count, and how many of these are here."""

    held: int
    here: int

    @property
    def counted(self) -> Counted:
        """What that says."""
        return Counted.MORE if self.held > self.here else Counted.ALL


class Announced(StrEnum):
    """What procedure steps and notifications of availability say of a study, beside what has arrived."""

    NOTHING = "nothing"
    OPEN = "open"
    """A procedure step goes on, or images that were announced have not arrived."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a study beyond its arrival.

    Attributes
    ----------
    whole
        Whether each contrast has a series without doubt, whose slices make a whole head.
    counted, announced
        What others say of it.
    """

    whole: bool = False
    counted: Counted = Counted.UNKNOWN
    announced: Announced = Announced.NOTHING


NOTHING_KNOWN: Final = Known()


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
    ended_s
        When the last of the associations ended; None if none has.
    pause_s
        The longest time between two instances.
    known
        What else is known.
    """

    first_s: float
    last_s: float
    open_associations: int
    instances: int
    failed_s: float | None = None
    ended_s: float | None = None
    pause_s: float = 0.0
    known: Known = NOTHING_KNOWN


class Reason(StrEnum):
    """Why a study is taken as complete, or waits."""

    SETTLED = "settled"
    QUIET = "quiet"
    QUIET_AFTER_ABORT = "quiet_after_abort"
    DEADLINE = "deadline"
    DEADLINE_AFTER_ABORT = "deadline_after_abort"


class Evidence(StrEnum):
    """What spoke for a study to be complete, or against it."""

    CONTRASTS_WHOLE = "contrasts_whole"
    ASSOCIATIONS_RELEASED = "associations_released"
    COUNT_EQUAL = "count_equal"
    COUNT_LARGER = "count_larger"
    ANNOUNCED_ARRIVED = "announced_arrived"
    ANNOUNCED_MISSING = "announced_missing"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until_s`, unless something arrives or an association ends.

    `short` says that the PACS counts more images than came, and that nothing else is waited for.
    """

    until_s: float
    short: bool = False


@dataclass(frozen=True, slots=True)
class Complete:
    """The study is complete, by which rule and on what evidence."""

    reason: Reason
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline is over and instances still arrive: to be shown, and collected once they stop."""


def decide(now_s: float, arrivals: Arrivals, rules: WaitingRules) -> Wait | Complete | Expired:
    """Return whether a study is complete.

    Quiet without an open association completes it. With evidence that everything is there a shorter time does, which is
    never shorter than twice the longest pause that the study had, unless what was announced has arrived. An open
    association lengthens the wait, up to the deadline; so does one that failed, by `QUIET_AFTER_FAILURE` times the
    quiet time from its end or the last instance on; so does a PACS that counts more images. From the deadline on quiet
    alone completes it. Without quiet at the deadline it is `Expired`.

    Parameters
    ----------
    now_s
        The same monotonic clock as in `arrivals`.
    arrivals
        At least one instance.
    rules
        Quiet time, deadline, and the time that is waited on top of evidence.
    """
    quiet_from_s = arrivals.last_s + rules.quiet_s
    deadline_s = arrivals.first_s + rules.deadline_s
    settled_from_s, reason = _settled(arrivals, rules)
    failed, short = arrivals.failed_s is not None, arrivals.known.counted is Counted.MORE
    if now_s >= settled_from_s and not arrivals.open_associations and not short:
        return Complete(reason, evidence(arrivals))
    if now_s >= deadline_s and now_s >= quiet_from_s:
        return Complete(Reason.DEADLINE_AFTER_ABORT if failed else Reason.DEADLINE, evidence(arrivals))
    if now_s >= deadline_s:
        return Expired()
    if arrivals.open_associations or short:
        return Wait(deadline_s, short and not arrivals.open_associations and now_s >= settled_from_s)
    return Wait(min(settled_from_s, deadline_s))


def _settled(arrivals: Arrivals, rules: WaitingRules) -> tuple[float, Reason]:
    """Return from when on nothing more is expected, if no association is open, and by which rule."""
    if arrivals.failed_s is not None:
        failed_from_s = max(arrivals.last_s, arrivals.failed_s)
        return failed_from_s + QUIET_AFTER_FAILURE * rules.quiet_s, Reason.QUIET_AFTER_ABORT
    quiet_from_s = arrivals.last_s + rules.quiet_s
    if arrivals.ended_s is None or not _all_there(arrivals.known):
        return quiet_from_s, Reason.QUIET
    announced = arrivals.known.announced is Announced.ALL
    settle_s = rules.settle_s if announced else max(rules.settle_s, PAUSES * arrivals.pause_s)
    settled_from_s = max(arrivals.last_s, arrivals.ended_s) + settle_s
    return (settled_from_s, Reason.SETTLED) if settled_from_s < quiet_from_s else (quiet_from_s, Reason.QUIET)


def _all_there(known: Known) -> bool:
    """Return whether evidence says that everything is there, and none that something is not."""
    said = known.whole or known.announced is Announced.ALL
    return said and known.announced is not Announced.OPEN and known.counted not in (Counted.ASKED, Counted.MORE)


def evidence(arrivals: Arrivals) -> tuple[Evidence, ...]:
    """Return what speaks for a study to be complete, and against it.

    Parameters
    ----------
    arrivals
        As for `decide`.
    """
    known, released = arrivals.known, arrivals.ended_s is not None and arrivals.failed_s is None
    spoken = {
        Evidence.CONTRASTS_WHOLE: known.whole,
        Evidence.ASSOCIATIONS_RELEASED: released and not arrivals.open_associations,
        Evidence.COUNT_EQUAL: known.counted is Counted.ALL,
        Evidence.COUNT_LARGER: known.counted is Counted.MORE,
        Evidence.ANNOUNCED_ARRIVED: known.announced is Announced.ALL,
        Evidence.ANNOUNCED_MISSING: known.announced is Announced.OPEN,
    }
    return tuple(each for each, holds in spoken.items() if holds)
