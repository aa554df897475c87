"""Whether a node is well, in ten lines: for `dicom-node status`, for the pages, and for who probes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dicom_node.watch.facts import Facts
from dicom_node.watch.pulse import Process, Pulse

_GB: Final = 10**9
_WAITS_S: Final = 1800.0
"""A study that has waited for so long in the queue is worth a look."""
CERTIFICATE_DAYS: Final = 30


class Level(StrEnum):
    """How a line is meant."""

    GOOD = "ok"
    WARNING = "warn"
    BAD = "FAIL"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the state of a node."""

    level: Level
    what: str
    sentence: str


def status(facts: Facts) -> list[Line]:
    """Return the state of a node in ten lines."""
    return [
        Line(Level.GOOD, "version", facts.version),
        _receiver(facts),
        _workers(facts),
        _studies(facts),
        _received(facts),
        _queue(facts),
        _stopped(facts),
        _deliveries(facts),
        _disk(facts),
        _surroundings(facts),
    ]


def is_ready(facts: Facts) -> bool:
    """Return whether studies can be received now: somebody listens, and the disk takes them."""
    return facts.listening and facts.free_bytes >= facts.reserve_bytes


def down(facts: Facts) -> Iterator[Pulse]:
    """Yield the processes that did not end in order, and are silent."""
    return (pulse for pulse in facts.pulses if not pulse.ended and not pulse.lives(facts.now_s))


def _receiver(facts: Facts) -> Line:
    if facts.listening:
        return Line(Level.GOOD, "receiver", "takes connections")
    silent = any(pulse.process is Process.RECEIVER for pulse in down(facts))
    return Line(Level.BAD, "receiver", "is down: see its log" if silent else "does not run: `dicom-node serve`")


def _workers(facts: Facts) -> Line:
    workers = [pulse for pulse in facts.pulses if pulse.process is Process.WORKER]
    living = [pulse for pulse in workers if pulse.lives(facts.now_s)]
    silent = [pulse.name for pulse in down(facts) if pulse.process is Process.WORKER]
    if silent:
        return Line(Level.BAD, "workers", f"{', '.join(silent)} down: see the log")
    if not living:
        return Line(Level.BAD, "workers", "none runs: `dicom-node serve`")
    said = ", ".join(f"{pulse.name} {'ready' if pulse.ready else 'loads its models'}" for pulse in living)
    return Line(Level.GOOD, "workers", said)


def _studies(facts: Facts) -> Line:
    if facts.studies is None:
        return Line(Level.WARNING, "studies", "the index cannot be read: look at the disk and the database")
    states = ", ".join(f"{count} {state}" for state, count in sorted(facts.studies.states.items()))
    return Line(Level.GOOD, "studies", states or "none yet")


def _received(facts: Facts) -> Line:
    if facts.studies is None:
        return Line(Level.WARNING, "received", "not known")
    last = max(facts.studies.heard_s.items(), key=lambda each: each[1], default=None)
    counts = f"{facts.studies.received.get('1h', 0)} in the last hour, {facts.studies.received.get('1d', 0)} in a day"
    return Line(
        Level.GOOD, "received", f"{counts}; last from {last[0]}, {age(facts.now_s - last[1])} ago" if last else counts
    )


def _queue(facts: Facts) -> Line:
    since_s = facts.studies.queued_since_s if facts.studies else None
    if since_s is None:
        return Line(Level.GOOD, "queue", "empty")
    waits_s = facts.now_s - since_s
    level = Level.GOOD if waits_s < _WAITS_S else Level.WARNING
    return Line(level, "queue", f"the oldest study waits for {age(waits_s)}")


def _stopped(facts: Facts) -> Line:
    reasons = facts.studies.reasons if facts.studies else {}
    if not reasons:
        return Line(Level.GOOD, "held", "no study is held or failed")
    said = ", ".join(f"{count} {code}" for code, count in sorted(reasons.items(), key=lambda each: -each[1]))
    return Line(Level.WARNING, "held", f"{said}: see `dicom-node studies --state held`, `--state failed`")


def _deliveries(facts: Facts) -> Line:
    if facts.deliveries is None:
        return Line(Level.BAD, "deliveries", "the database cannot be read: check node.database_url and the disk")
    owing = {peer: each for peer, each in facts.deliveries.items() if each.waiting or each.set_aside}
    if not owing:
        return Line(Level.GOOD, "deliveries", "nothing waits")
    said = "; ".join(f"{peer}: {each.waiting} wait, {each.set_aside} set aside" for peer, each in owing.items())
    aside = any(each.set_aside for each in owing.values())
    return Line(Level.WARNING if aside else Level.GOOD, "deliveries", said)


def _disk(facts: Facts) -> Line:
    said = f"{facts.free_bytes / _GB:.1f} of {facts.total_bytes / _GB:.0f} GB free"
    if facts.free_bytes < facts.reserve_bytes:
        return Line(Level.BAD, "disk", f"{said}, less than disk_reserve_gb: nothing is received")
    return Line(Level.GOOD, "disk", said)


def _surroundings(facts: Facts) -> Line:
    """Say what comes from outside: certificates that end, callers that were refused."""
    ending = [each for each in facts.certificates if not each.holds or each.days <= CERTIFICATE_DAYS]
    refused = sum(facts.refused.values())
    said = [f"{each.what} ends in {each.days} days" if each.holds else f"{each.what} does not hold" for each in ending]
    said += [f"{refused} calls refused of late: see `dicom-node callers`"] if refused else []
    level = Level.BAD if any(not each.holds for each in ending) else Level.WARNING if said else Level.GOOD
    return Line(level, "outside", "; ".join(said) or "no caller refused, no certificate ends soon")


def age(seconds: float) -> str:
    """Return how long something lasts, as people say it."""
    minutes = int(max(seconds, 0) // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes} minutes"
    hours = minutes // 60
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"
