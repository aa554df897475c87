"""What lists show of one study: made from its timeline and the names of its files; nothing of a patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from dicom_node.studies.spool import Study
from dicom_node.studies.standings import standings, trouble
from dicom_node.studies.timeline import Entry, Event, State, Timeline


class Order(StrEnum):
    """What a list is sorted by."""

    CHANGED = "changed"
    RECEIVED = "received"
    STATE = "state"
    REASON = "reason"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last failure of a delivery that nothing has overcome yet.

    Attributes
    ----------
    peer, code
        Who it was for, and the stable name of the failure.
    next_attempt
        When it is tried again at the latest; None where that is open, or where it was set aside.
    """

    peer: str
    code: str
    next_attempt: datetime | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """A study as lists show it.

    Attributes
    ----------
    study_uid
        Which study.
    state
        A `State`, or the word of another version.
    code
        Of the reason for the state, where there is one.
    received_first, received_last
        When it began to arrive, and when it was last complete or last began to arrive.
    changed
        When it came into its state.
    instances
        How many were received.
    stored
        How many of them are still in the spool.
    senders, destinations
        AE titles that brought it, and names of peers that it was offered to.
    trouble
        With its deliveries, if there is any.
    """

    study_uid: str
    state: State | str
    code: str
    received_first: datetime
    received_last: datetime
    changed: datetime
    instances: int
    stored: int
    senders: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    trouble: Trouble | None = None


def overview(study: Study) -> Overview:
    """Return what lists show of a study.

    Raises
    ------
    SpoolError
        If its timeline cannot be read (``timeline_unreadable``).
    """
    timeline, stored = study.timeline(), len(study.instances())
    turn, collected = timeline.turn, timeline.last(Event.COLLECTED)
    first = next((entry.time for entry in timeline), None) or _made(study)
    arrived = timeline.last(Event.ASSOCIATION, Event.ASSOCIATION_FAILED, Event.SENT_AGAIN, Event.COLLECTED)
    return Overview(
        study.uid,
        timeline.state,
        turn.code if turn else "",
        first,
        arrived.time if arrived else first,
        turn.time if turn else first,
        max(stored, _count(collected)),
        stored,
        _distinct(entry.text("calling") for entry in timeline if entry.event == Event.ASSOCIATION),
        _distinct(delivery.peer for delivery in standings(timeline)),
        _trouble(timeline),
    )


def unreadable(study: Study, code: str) -> Overview:
    """Return what lists show of a study whose timeline cannot be read."""
    made = _made(study)
    return Overview(study.uid, State.FAILED, code, made, made, made, 0, 0)


def _made(study: Study) -> datetime:
    return datetime.fromtimestamp(study.folder.stat().st_mtime, UTC)


def _count(collected: Entry | None) -> int:
    count = collected.facts.get("instances") if collected else 0
    return count if isinstance(count, int) else 0


def _distinct(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(filter(None, words))))


def _trouble(timeline: Timeline) -> Trouble | None:
    standing = trouble(timeline)
    return Trouble(standing.delivery.peer, standing.code, standing.next_attempt) if standing else None
