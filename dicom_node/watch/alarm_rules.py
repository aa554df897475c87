"""Which causes for an alarm there are now: rules over the facts of a node; no identifier stands in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from dicom_node.config import AlarmsSection
from dicom_node.watch.facts import Facts
from dicom_node.watch.health import age, down
from dicom_node.watch.pulse import Readings

_GB: Final = 10**9
_FEWEST: Final = 5
"""Studies unlike the model's in a week, below which a rise says nothing."""
_WEEK: Final = timedelta(days=7)
_BEFORE: Final = timedelta(days=35)


class Rule(StrEnum):
    """What the node tells of."""

    NOTHING_RECEIVED = "nothing_received"
    STUDY_STOPPED = "study_stopped"
    REPORT_UNDELIVERED = "report_undelivered"
    QUEUE_WAITS = "queue_waits"
    PROCESS_DOWN = "process_down"
    DISK_LOW = "disk_low"
    CERTIFICATE_ENDS = "certificate_ends"
    OUT_OF_RANGE_RISES = "out_of_range_rises"
    NOT_KNOWN = "not_known"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why there is an alarm.

    Attributes
    ----------
    rule
        Which rule says so.
    subject
        What it is about: a peer, a process, the pseudonym of a study; what makes it another cause of the same rule.
    sentence
        What is wrong, and what to do.
    """

    rule: Rule
    subject: str
    sentence: str

    @property
    def key(self) -> str:
        """What makes it the same cause as before."""
        return f"{self.rule}:{self.subject}"


def causes(facts: Facts, section: AlarmsSection, since_s: float) -> list[Cause]:
    """Return every cause for an alarm.

    Parameters
    ----------
    facts
        Of the node now.
    section
        From when on something is one.
    since_s
        Studies that stopped before, in seconds since the epoch, are of the past.
    """
    found = [cause for rule in _RULES for cause in rule(facts, section)]
    return [*found, *(_stopped(facts, since_s) if section.stopped else ())]


def _silent(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    limit_s = section.nothing_received_hours * 3600
    for peer, last_s in facts.studies.heard_s.items() if facts.studies else ():
        if limit_s and facts.now_s - last_s > limit_s:
            sentence = f"Nothing was received from {peer} for {age(facts.now_s - last_s)}: look at its routing."
            yield Cause(Rule.NOTHING_RECEIVED, peer, sentence)


def _stopped(facts: Facts, since_s: float) -> Iterator[Cause]:
    for each in facts.studies.stopped if facts.studies else ():
        if each.since_s >= since_s:
            sentence = f"Study {each.pseudonym} is {each.state} ({each.code}): see `dicom-node show {each.pseudonym}`."
            yield Cause(Rule.STUDY_STOPPED, each.pseudonym, sentence)


def _undelivered(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    limit_s = section.undelivered_min * 60
    for each in facts.studies.undelivered if facts.studies else ():
        if limit_s and facts.now_s - each.since_s > limit_s:
            whom, why = each.peer or "their destinations", f" ({each.code})" if each.code else ""
            waits = f"{each.studies} reports wait for {whom}, the oldest for {age(facts.now_s - each.since_s)}{why}"
            yield Cause(Rule.REPORT_UNDELIVERED, each.peer, f"{waits}: see `dicom-node check`.")


def _queue(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    since_s = facts.studies.queued_since_s if facts.studies else None
    if since_s is not None and section.queue_min and facts.now_s - since_s > section.queue_min * 60:
        yield Cause(Rule.QUEUE_WAITS, "", f"A study waits to be read for {age(facts.now_s - since_s)}: is a worker up?")


def _down(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    for pulse in down(facts):
        if section.down_min and facts.now_s - pulse.beaten_s > section.down_min * 60:
            said = f"The {pulse.process} {pulse.name} is down for {age(facts.now_s - pulse.beaten_s)}: see its log."
            yield Cause(Rule.PROCESS_DOWN, pulse.name, said)


def _disk(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    over_gb = (facts.free_bytes - facts.reserve_bytes) / _GB
    if section.disk_gb and over_gb < section.disk_gb:
        what = "nothing is received" if over_gb < 0 else "below disk_reserve_gb nothing is received any more"
        yield Cause(Rule.DISK_LOW, "", f"{facts.free_bytes / _GB:.1f} GB are free on the disk; {what}: make room.")


def _certificates(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    for each in facts.certificates:
        if section.certificate_days and (not each.holds or each.days <= section.certificate_days):
            state = f"ends in {each.days} days" if each.holds else "does not hold or cannot be read"
            yield Cause(Rule.CERTIFICATE_ENDS, each.what, f"The {each.what} {state}: renew it.")


def _out_of_range(facts: Facts, section: AlarmsSection) -> Iterator[Cause]:
    today = datetime.fromtimestamp(facts.now_s, UTC)
    week, before = _readings(facts, today - _WEEK, today), _readings(facts, today - _BEFORE, today - _WEEK)
    share, usual = _share(week), _share(before)
    enough = before.read >= _FEWEST and week.out_of_range >= _FEWEST
    if section.out_of_range_rise and enough and share >= section.out_of_range_rise * usual:
        said = f"{100 * share:.0f} % of the studies of a week are unlike those of the model, {100 * usual:.0f} % before"
        yield Cause(Rule.OUT_OF_RANGE_RISES, "", f"{said}: has a protocol, a scanner or a filter changed?")


def _readings(facts: Facts, first: datetime, last: datetime) -> Readings:
    """Return what all workers read after one day, and up to another."""
    after, until = first.date().isoformat(), last.date().isoformat()
    days = [one for pulse in facts.pulses for day, one in pulse.days.items() if after < day <= until]
    return Readings(sum(one.read for one in days), sum(one.out_of_range for one in days))


def _share(readings: Readings) -> float:
    return readings.out_of_range / readings.read if readings.read else 0.0


def _not_known(facts: Facts, _section: AlarmsSection) -> Iterator[Cause]:
    for what, known in (("index", facts.studies), ("queue", facts.deliveries)):
        if known is None:
            yield Cause(Rule.NOT_KNOWN, what, f"The {what} cannot be read: look at the database and the disk.")


_RULES: Final[tuple[Callable[[Facts, AlarmsSection], Iterator[Cause]], ...]] = (
    _silent,
    _undelivered,
    _queue,
    _down,
    _disk,
    _certificates,
    _out_of_range,
    _not_known,
)
MEANING: Final[Mapping[Rule, str]] = {
    Rule.NOTHING_RECEIVED: "a source that sent studies before has sent none for `alarms.nothing_received_hours`",
    Rule.STUDY_STOPPED: "a study is `held` or `failed`; told of those since the alarms first ran",
    Rule.REPORT_UNDELIVERED: "reports wait for a destination longer than `alarms.undelivered_min`",
    Rule.QUEUE_WAITS: "a study waits to be read longer than `alarms.queue_min`",
    Rule.PROCESS_DOWN: "receiver or worker did not end in order and are silent for `alarms.down_min`",
    Rule.DISK_LOW: "less than `alarms.disk_gb` is free beyond `receive.disk_reserve_gb`",
    Rule.CERTIFICATE_ENDS: "a certificate ends within `alarms.certificate_days`, or does not hold",
    Rule.OUT_OF_RANGE_RISES: "a week has more studies unlike the model's than before, by `alarms.out_of_range_rise`",
    Rule.NOT_KNOWN: "index or queue cannot be read, so that the rules above see nothing",
}
"""What each rule is about, as the runbook says it."""
