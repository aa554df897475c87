"""What happened to a study, as a file of JSON lines, and the questions that it answers.

::

    receiving --> queued --> running --> scored --> sending --> delivered
        |               |       |                      |
    arriving_late   filtered  held, failed         delivery_failed

A line is an `Entry`: when, which `Event`, the `State` of the study from then on where the event changes it, and the
event's own facts. Lines of other versions of the node stay readable: an event or a state that is unknown here is kept
as it was written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from models.whole_files import append_line, open_own

_COMMON = ("time", "event", "state")
Word = TypeVar("Word", "Event", "State")


class State(StrEnum):
    """Where a study is."""

    RECEIVING = "receiving"
    ARRIVING_LATE = "arriving_late"
    QUEUED = "queued"
    RUNNING = "running"
    SCORED = "scored"
    HELD = "held"
    FILTERED = "filtered"
    SENDING = "sending"
    DELIVERED = "delivered"
    DELIVERY_FAILED = "delivery_failed"
    FAILED = "failed"


NOT_READ_YET = frozenset({State.RECEIVING, State.ARRIVING_LATE, State.HELD, State.FILTERED})
"""A study in one of these states has no result."""
HAS_SCORE = frozenset({State.SCORED, State.SENDING, State.DELIVERED})
"""A study in one of these states has a score that is there for its destinations, or on its way to them."""


class Event(StrEnum):
    """What may happen to a study."""

    ASSOCIATION = "association"
    CONTEXTS_REFUSED = "contexts_refused"
    ASSOCIATION_FAILED = "association_failed"
    SENT_AGAIN = "sent_again"
    DEADLINE = "deadline"
    SHORT = "short"
    QUEUED = "queued"
    COLLECTED = "collected"
    FILTERED = "filtered"
    SELECTED = "selected"
    RUNNING = "running"
    READ = "read"
    RECALLED = "recalled"
    ADDRESSED = "addressed"
    SENT = "sent"
    SEND_FAILED = "send_failed"
    PUT_OFF = "put_off"
    ASKED = "asked"
    VERIFIED = "verified"
    VERIFY_FAILED = "verify_failed"
    GAVE_UP = "gave_up"
    WOKEN = "woken"
    WITHDRAWN = "withdrawn"
    DELIVERED = "delivered"
    RETRIED = "retried"
    RELEASED = "released"
    STATED = "stated"
    CORRECTED = "corrected"
    FAILED = "failed"
    EXPIRED = "expired"


class Ending(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    """By the sender."""
    LOST = "lost"
    """Without a word: its connection, or what carried it."""
    ABORTED_HERE = "aborted_here"
    """By the node: it was idle for too long, broke the protocol, or the node stopped."""


class Kind(StrEnum):
    """What is delivered, each kind as an object of its own."""

    SR = "sr"
    SUMMARY = "summary"
    PDF = "pdf"
    KEY = "key"
    """What points to report and page."""
    SALIENCY = "saliency"
    SALIENCY_T1W = "saliency_T1W"
    SALIENCY_T2W = "saliency_T2W"
    SALIENCY_FLAIR = "saliency_FLAIR"
    HELD = "held"
    FHIR = "fhir"
    HL7 = "hl7"
    """The result as a record, for systems that read no DICOM."""


REPORTS = frozenset({Kind.SR, Kind.HELD})
"""The kinds that a later report of the study names as its predecessor."""


class Delivery(NamedTuple):
    """An object on its way to a peer."""

    peer: str
    kind: Kind | str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline.

    Attributes
    ----------
    time
        When it was noted, in UTC.
    event
        An `Event`, or the word of another version.
    state
        A `State`, or the word of another version; None where the event leaves the state as it was.
    facts
        What else is known of the event, of JSON's types.
    """

    time: datetime
    event: Event | str
    state: State | str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    def text(self, fact: str) -> str:
        """Return a fact that is a text; an empty one where it is not noted."""
        return str(self.facts.get(fact) or "")

    @property
    def code(self) -> str:
        """The stable name of the reason, where there is one."""
        return self.text("code")

    @property
    def sentence(self) -> str:
        """The reason in words, where there is one."""
        return self.text("sentence")

    @property
    def input_digest(self) -> str:
        """The run that the event is about, where it is about one."""
        return self.text("input_digest")

    @property
    def delivery(self) -> Delivery:
        """What of whom the event is about, where it is about a delivery."""
        return Delivery(self.text("peer"), self.text("kind"))

    def as_json(self) -> dict[str, object]:
        """Return the line as it stands in the file."""
        state = {} if self.state is None else {"state": self.state}
        return {"time": self.time.isoformat(), "event": self.event, **state, **self.facts}


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that was noted of a study, oldest first."""

    entries: tuple[Entry, ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def last(self, *events: Event) -> Entry | None:
        """Return the newest entry of some events."""
        return next((entry for entry in reversed(self.entries) if entry.event in events), None)

    @property
    def events(self) -> list[str]:
        """What happened, without when and why."""
        return [entry.event for entry in self.entries]

    @property
    def turn(self) -> Entry | None:
        """The entry that brought the study into its present state; None before there is one."""
        return next((entry for entry in reversed(self.entries) if entry.state is not None), None)

    @property
    def state(self) -> State | str:
        """The last noted state."""
        return (self.turn and self.turn.state) or State.RECEIVING

    @property
    def selected(self) -> Entry | None:
        """The last selection, with its `input_digest`."""
        return self.last(Event.SELECTED)

    def is_superseded(self, input_digest: str) -> bool:
        """Return whether something else than this was selected last: that is read by work of its own."""
        return self.selected is not None and self.selected.input_digest != input_digest

    @property
    def read_digest(self) -> str | None:
        """The input digest of the run whose result the study has."""
        read = self.last(Event.READ, Event.RECALLED)
        return read.input_digest if read else None

    @property
    def collected_digest(self) -> str | None:
        """The digest of the study when it was last found complete."""
        collected = self.last(Event.COLLECTED)
        return collected.text("digest") if collected else None

    @property
    def failing(self) -> frozenset[str]:
        """Senders whose association failed since the study was last complete, and that have not sent it again."""
        senders: set[str] = set()
        for entry in self.entries:
            if entry.event == Event.COLLECTED:
                senders.clear()
            elif entry.event == Event.ASSOCIATION_FAILED:
                senders.add(entry.text("calling"))
            elif entry.event == Event.SENT_AGAIN:
                senders.discard(entry.text("calling"))
        return frozenset(senders)

    @property
    def expired_instances(self) -> int:
        """How many instances were removed since the study was last selected."""
        last = self.last(Event.SELECTED, Event.EXPIRED)
        count = last.facts.get("instances") if last and last.event == Event.EXPIRED else 0
        return count if isinstance(count, int) else 0

    @property
    def attempts(self) -> int:
        """How often the study was queued again by hand."""
        return self.events.count(Event.RETRIED)

    @property
    def reports(self) -> list[Entry]:
        """The deliveries of reports with their UIDs, the last one first: what is read from now on replaces them."""
        sent = (entry for entry in reversed(self.entries) if entry.event == Event.SENT)
        return [entry for entry in sent if entry.delivery.kind in REPORTS]

    @property
    def told_of_hold(self) -> frozenset[str]:
        """The peers that know the last reason to hold the study: the same one is no news to them."""
        peers: set[str] = set()
        reason = None
        for entry in self.entries:
            if entry.event == Event.READ:
                peers = peers if entry.sentence == reason else set()
                reason = entry.sentence
            elif entry.event == Event.SENT and entry.delivery.kind == Kind.HELD:
                peers.add(entry.delivery.peer)
        return frozenset(peers)

    def noted_failed(self, workflow_id: str) -> bool:
        """Return whether a workflow was noted as failed."""
        return any(entry.text("workflow_id") == workflow_id for entry in self.entries)


def append(
    file: Path,
    event: Event,
    state: State | Callable[[Timeline], State | None] | None,
    facts: Mapping[str, object],
) -> Entry:
    """Add an entry of this moment, durably and in one write: processes may do so at the same time.

    Parameters
    ----------
    file
        Made if it is missing, in a folder that exists.
    event
        As in `Entry`.
    state
        As in `Entry`, or what makes it of the timeline with the entry in it. Those who note so wait for each other: no
        state is made from less than what stands before it.
    facts
        What is not of JSON's types is written as text.

    Returns
    -------
    Entry
        As it stands in the file.
    """
    descriptor = open_own(file, os.O_RDWR | os.O_APPEND)
    try:
        if callable(state):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            state = state(Timeline((*read(file).entries, Entry(datetime.now(UTC), event, None, facts))))
        entry = Entry(datetime.now(UTC), event, state, facts)
        append_line(file, json.dumps(entry.as_json(), default=str))
    finally:
        os.close(descriptor)
    return entry


def read(file: Path) -> Timeline:
    """Return the timeline in a file; a line that a power failure cut off is left out."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Timeline()
    return Timeline(tuple(entry for line in lines if (entry := _entry(line)) is not None))


def _entry(line: str) -> Entry | None:
    try:
        noted = json.loads(line)
        time = datetime.fromisoformat(noted["time"]).astimezone(UTC)
        event, state = str(noted["event"]), noted.get("state")
    except (ValueError, KeyError, TypeError):
        return None
    facts = {key: value for key, value in noted.items() if key not in _COMMON}
    return Entry(time, _known(Event, event), None if state is None else _known(State, str(state)), facts)


def _known(kind: Callable[[str], Word], word: str) -> Word | str:
    try:
        return kind(word)
    except ValueError:
        return word
