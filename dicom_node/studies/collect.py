"""When is a study complete? A pure decision, and the loop that asks it and hands studies on.

`decide` knows only a monotonic clock, what arrived and the rules. The `Collector` records arrivals over any number of
associations, senders and retries, and starts again from the files: a study whose digest is not the one last noted as
collected is taken up as if it had just arrived.

An association fails if it ends otherwise than by a release, or if the node did not store what it brought. The sender
is then likely to come again: the study is waited for longer, until that sender's next association ends well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from dicom_node.errors import StudyUnknown
from dicom_node.log import say
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Ending, Event, State

logger = logging.getLogger(__name__)

QUIET_AFTER_FAILURE = 5
"""How many times the quiet time is waited for a sender whose association failed; up to the deadline, as always.

Senders try again after one to five minutes; the quiet time is one minute by default.
"""
_TURN_S = 1.0
_ANY_STUDY = ""


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


@dataclass(frozen=True, slots=True)
class End:
    """The end of an association.

    Attributes
    ----------
    ending
        How it came.
    calling, address
        Who had opened it: AE title and address.
    """

    ending: Ending = Ending.RELEASED
    calling: str = ""
    address: str = ""


_RELEASED = End()


@dataclass(slots=True)
class _Record:
    first_s: float
    last_s: float
    instances: int = 0
    expired: bool = False
    retry_s: float = 0.0
    failed_s: dict[str, float] = field(default_factory=dict)
    """When the association of a sender failed, by AE title."""


def _failed(end: End, refused: int) -> bool:
    return end.ending is not Ending.RELEASED or refused > 0


@dataclass(slots=True)
class _Open:
    """An open association: since when it carries something, and how many instances were refused of each study."""

    since_s: float
    refused: Counter[str] = field(default_factory=Counter)


class Collector:
    """Collects what the receiver stores and submits complete studies.

    Parameters
    ----------
    spool
        The received studies.
    rules
        Quiet time and deadline; may be replaced while running.
    submit
        Called with a complete study, the reason and the digest of its files, from one thread. If it raises, it is
        called again later.
    retry_s
        Seconds before a failed submission is tried again.
    clock
        Monotonic clock in seconds.
    """

    def __init__(
        self,
        spool: Spool,
        rules: WaitingRules,
        submit: Callable[[Study, str, str], None],
        *,
        retry_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._spool = spool
        self._submit = submit
        self._retry_s = retry_s
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take up what an earlier process left, then decide about once a second until `stop`."""
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop deciding; nothing is lost, the next start goes on from the files."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def stored(self, association: int, study_uid: str, outcome: Outcome) -> None:
        """Record an instance.

        Parameters
        ----------
        association
            Any number that stays the same while the association is open.
        study_uid
            Of the instance.
        outcome
            An instance that was there already starts nothing again.
        """
        with self._lock:
            if outcome is not Outcome.SAME:
                self._arrived(study_uid)
            self._opened(association).refused[study_uid] += 0

    def refused(self, association: int, study_uid: str | None) -> None:
        """Record an instance that was not stored.

        Parameters
        ----------
        association
            As for `stored`.
        study_uid
            Of the instance; None where it cannot be read: then it may be of any study of the association.
        """
        with self._lock:
            self._opened(association).refused[study_uid or _ANY_STUDY] += 1

    def closed(self, association: int, end: End = _RELEASED) -> None:
        """Record how an association ended, here and in the timelines of the studies that it carried."""
        with self._lock:
            over = self._opened(association)
            del self._open[association]
            of_any = over.refused.pop(_ANY_STUDY, 0)
            refused = {uid: of_any + count for uid, count in over.refused.items()}
            again = [uid for uid, count in refused.items() if self._ended(uid, end, count, over.since_s)]
        for uid, count in refused.items():
            self._note_end(uid, end, count, again=uid in again)

    def resume(self) -> None:
        """Take up every study whose files are not the ones last noted as collected."""
        for study in self._spool.studies():
            noted = study.timeline()
            if noted.collected_digest != study.digest():
                with self._lock:
                    if study.uid not in self._records:
                        self._arrived(study.uid)
                        self._records[study.uid].failed_s = dict.fromkeys(noted.failing, self._clock())

    def turn(self) -> None:
        """Decide once about every study, and submit the complete ones."""
        with self._lock:
            now_s = self._clock()
            due = [
                (uid, self._arrivals(uid, record)) for uid, record in self._records.items() if now_s >= record.retry_s
            ]
        for uid, arrivals in due:
            decision = decide(now_s, arrivals, self.rules)
            if isinstance(decision, Complete):
                self._complete(uid, arrivals, decision.reason)
            elif isinstance(decision, Expired):
                self._expire(uid)

    def _run(self) -> None:
        resumed = False
        while not self._stopping.is_set():
            try:
                if not resumed:
                    self.resume()
                    resumed = True
                self.turn()
            except Exception:
                say(logger, "collecting failed, tried again", level=logging.ERROR)
            self._stopping.wait(min(_TURN_S, self.rules.quiet_s / 4))

    def _arrivals(self, uid: str, record: _Record) -> Arrivals:
        carrying = sum(uid in association.refused for association in self._open.values())
        failed_s = max(record.failed_s.values(), default=None)
        return Arrivals(record.first_s, record.last_s, carrying, record.instances, failed_s)

    def _arrived(self, study_uid: str) -> None:
        now_s = self._clock()
        record = self._records.setdefault(study_uid, _Record(now_s, now_s))
        record.last_s = now_s
        record.instances += 1

    def _opened(self, association: int) -> _Open:
        return self._open.setdefault(association, _Open(self._clock()))

    def _ended(self, uid: str, end: End, refused: int, since_s: float) -> bool:
        """Keep the end of an association as evidence; return whether it ended well after one of its sender failed."""
        record = self._records.get(uid)
        if record is None:
            return False
        if _failed(end, refused):
            record.failed_s[end.calling] = self._clock()
        elif since_s > record.failed_s.get(end.calling, since_s):
            del record.failed_s[end.calling]
            return True
        return False

    def _note_end(self, uid: str, end: End, refused: int, *, again: bool) -> None:
        who = {"calling": end.calling, "address": end.address}
        try:
            if again:
                self._spool.study(uid).note(Event.SENT_AGAIN, **who)
            if not _failed(end, refused):
                return
            facts = {**who, "ending": end.ending, "refused": refused}
            say(logger, "association failed", level=logging.WARNING, study=uid, **facts)
            self._spool.study(uid).note(Event.ASSOCIATION_FAILED, **facts)
        except StudyUnknown:
            say(logger, "nothing of a study was stored", level=logging.WARNING, study=uid, calling=end.calling)

    def _complete(self, uid: str, arrivals: Arrivals, reason: str) -> None:
        try:
            study = self._spool.study(uid)
            digest = study.digest()
            if digest != study.timeline().collected_digest:
                self._submit(study, reason, digest)
                study.note(Event.COLLECTED, digest=digest, reason=reason, instances=len(study.instances()))
                say(logger, "study complete", study=uid, reason=reason, instances=arrivals.instances)
        except Exception:
            say(logger, "study not submitted, tried again", level=logging.ERROR, study=uid)
            self._put_off(uid)
            return
        self._forget(uid, arrivals)

    def _forget(self, uid: str, arrivals: Arrivals) -> None:
        """Drop the record, unless something arrived while the study was submitted: that starts a new wait."""
        with self._lock:
            record = self._records[uid]
            if record.instances == arrivals.instances:
                del self._records[uid]
            else:
                record.first_s, record.expired = record.last_s, False

    def _put_off(self, uid: str) -> None:
        with self._lock:
            self._records[uid].retry_s = self._clock() + self._retry_s

    def _expire(self, uid: str) -> None:
        with self._lock:
            record = self._records[uid]
            first_time, record.expired = not record.expired, True
        if first_time:
            study = self._spool.study(uid)
            # Late instances of a study that is already read say nothing about its state.
            study.note(Event.DEADLINE, State.ARRIVING_LATE if study.state() == State.RECEIVING else None)
            say(logger, "study still arrives after the deadline", level=logging.WARNING, study=uid)
