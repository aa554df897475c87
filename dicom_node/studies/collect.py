"""The loop that waits for studies to be complete and hands them on.

What is complete says `completeness.decide`. The `Collector` records arrivals over any number of associations, senders
and retries, and starts again from the marks of `unfinished`: those studies are taken up as if they had just arrived,
and no other is looked at. A study that cannot be read is named, and the others go on.

An association fails if it ends otherwise than by a release, or if the node did not store what it brought. The sender
is then likely to come again: the study is waited for longer, until that sender's next association ends well.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from dicom_node.errors import SpoolError, StudyUnknown
from dicom_node.log import say
from dicom_node.studies.completeness import (
    NOTHING_KNOWN,
    Arrivals,
    Complete,
    Expired,
    Known,
    Total,
    Wait,
    WaitingRules,
    decide,
)
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Ending, Event, State

logger = logging.getLogger(__name__)

_TURN_S = 1.0
_LOOK_S = 60.0
_LAST_TURN_S = 5.0
_ANY_STUDY = ""
SHORT: Final = "count_larger"
"""Code of a study that waits because a PACS holds more of it."""


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
    shown: int = 0
    expired: bool = False
    retry_s: float = 0.0
    ended_s: float | None = None
    pause_s: float = 0.0
    told: dict[str, tuple[int, int]] = field(default_factory=dict)
    """What each PACS counts, and how many of these are here, as the timeline says it."""
    failed_s: dict[str, float] = field(default_factory=dict)
    """When the association of a sender failed, by AE title."""


class Evidence(Protocol):
    """Who finds out what is known of studies, and never waits; `evidence.Evidence` is one.

    It is no import: that one reads headers, which receiving alone does not.
    """

    def of(self, study_uid: str, instances: int) -> Known:
        """Return what is known of a study that has so many new instances."""

    def totals(self, study_uid: str) -> dict[str, Total]:
        """Return what each peer that answered counts of a study."""

    def forget(self, study_uid: str) -> None:
        """Let go of a study that is complete."""


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
    evidence
        Finds out what is known of a study beyond its arrival.
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
        evidence: Evidence | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._spool = spool
        self._submit = submit
        self._retry_s = retry_s
        self._evidence = evidence
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()
        self._look_s = -math.inf
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
            self._thread.join(_LAST_TURN_S)

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

    def resume(self) -> int:
        """Take up every study that is marked and that nobody is waiting for; return how many."""
        with self._lock:
            left = [uid for uid in self._spool.unfinished.uids() if uid not in self._records]
        for uid in left:
            failing = self._failing(uid)
            with self._lock:
                if uid not in self._records:
                    self._arrived(uid)
                    self._records[uid].failed_s = dict.fromkeys(failing, self._clock())
        return len(left)

    def turn(self) -> None:
        """Decide once about every study, and submit the complete ones."""
        with self._lock:
            now_s = self._clock()
            due = [
                (uid, self._arrivals(uid, record)) for uid, record in self._records.items() if now_s >= record.retry_s
            ]
        for uid, arrivals in due:
            try:
                self._show(uid, arrivals)
                decision = decide(now_s, arrivals, self.rules)
                if isinstance(decision, Complete):
                    self._complete(uid, arrivals, decision)
                elif isinstance(decision, Wait):
                    self._tell(uid, decision)
                elif isinstance(decision, Expired):
                    self._expire(uid)
            except StudyUnknown:
                self._forget(uid, arrivals)
                self._spool.unfinished.finish(uid, self._spool.unfinished.latest(uid))
            except Exception:
                say(logger, "study not submitted, tried again", level=logging.ERROR, study=uid)
                self._put_off(uid)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
                self.turn()
            except Exception:
                say(logger, "collecting failed, tried again", level=logging.ERROR)
            self._stopping.wait(min(_TURN_S, self.rules.quiet_s / 4, self.rules.settle_s / 4))

    def _look(self) -> None:
        """Look at the marks, at the start and once a minute: an instance may be there of which nobody was told."""
        now_s = self._clock()
        if now_s < self._look_s:
            return
        left = self.resume()
        if self._look_s == -math.inf:
            say(logger, "collecting", unfinished=left)
        self._look_s = now_s + _LOOK_S

    def _failing(self, uid: str) -> frozenset[str]:
        try:
            return self._spool.study(uid).timeline().failing
        except SpoolError as error:
            if not isinstance(error, StudyUnknown):
                say(logger, "study cannot be read", level=logging.ERROR, study=uid)
            return frozenset()

    def _show(self, uid: str, arrivals: Arrivals) -> None:
        """Let the index count the instances of a study that arrives."""
        record = self._records[uid]
        if record.shown != arrivals.instances:
            record.shown = arrivals.instances
            self._spool.study(uid).changed()

    def _arrivals(self, uid: str, record: _Record) -> Arrivals:
        carrying = sum(uid in association.refused for association in self._open.values())
        failed_s = max(record.failed_s.values(), default=None)
        known = NOTHING_KNOWN if carrying else self._known(uid, record.instances)
        ended_s, pause_s = record.ended_s, record.pause_s
        return Arrivals(record.first_s, record.last_s, carrying, record.instances, failed_s, ended_s, pause_s, known)

    def _known(self, uid: str, instances: int) -> Known:
        return self._evidence.of(uid, instances) if self._evidence else NOTHING_KNOWN

    def _tell(self, uid: str, wait: Wait) -> None:
        """Say, where it is so, that the study waits because a PACS counts more; once for each count."""
        if not wait.short or not self._evidence:
            return
        record, totals = self._records[uid], self._evidence.totals(uid)
        counts = {peer: (total.held, total.here) for peer, total in totals.items() if total.held > total.here}
        for peer, (held, here) in counts.items():
            if record.told.get(peer) != (held, here):
                study = self._spool.study(uid)
                sentence = (
                    f'Peer "{peer}" holds {held} MR images of the series, {here} are here: the rest is waited for.'
                )
                state = State.RECEIVING if study.state() == State.RECEIVING else None
                study.note(Event.SHORT, state, code=SHORT, sentence=sentence, peer=peer, counted=held, arrived=here)
                say(logger, "study waits, the PACS counts more", study=uid, peer=peer, counted=held, arrived=here)
        record.told = counts

    def _arrived(self, study_uid: str) -> None:
        now_s = self._clock()
        record = self._records.setdefault(study_uid, _Record(now_s, now_s))
        record.pause_s = max(record.pause_s, now_s - record.last_s)
        record.last_s = now_s
        record.instances += 1

    def _opened(self, association: int) -> _Open:
        return self._open.setdefault(association, _Open(self._clock()))

    def _ended(self, uid: str, end: End, refused: int, since_s: float) -> bool:
        """Keep the end of an association as evidence; return whether it ended well after one of its sender failed."""
        record = self._records.get(uid)
        if record is None:
            return False
        record.ended_s = self._clock()
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

    def _complete(self, uid: str, arrivals: Arrivals, decision: Complete) -> None:
        study, latest = self._spool.study(uid), self._spool.unfinished.latest(uid)
        self._spool.settle()
        digest = study.digest()
        timeline, instances = study.timeline(), len(study.instances())
        if 0 < instances < timeline.expired_instances:
            # It was read when it was whole: a selection of the rest would say that series are missing.
            say(logger, "part of a study whose images were removed", level=logging.WARNING, study=uid)
        elif digest != timeline.collected_digest and instances:
            self._submit(study, decision.reason, digest)
            reason, evidence = decision.reason, list(decision.evidence)
            study.note(
                Event.COLLECTED, digest=digest, reason=reason, instances=len(study.instances()), evidence=evidence
            )
            say(logger, "study complete", study=uid, reason=reason, evidence=evidence, instances=arrivals.instances)
        self._forget(uid, arrivals)
        if self._spool.unfinished.finish(uid, latest):
            self._spool.forget(uid)

    def _forget(self, uid: str, arrivals: Arrivals) -> None:
        """Drop the record, unless something arrived while the study was submitted: that starts a new wait."""
        with self._lock:
            record = self._records[uid]
            if record.instances == arrivals.instances:
                del self._records[uid]
                if self._evidence:
                    self._evidence.forget(uid)
            else:
                record.first_s, record.expired, record.pause_s = record.last_s, False, 0.0

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
