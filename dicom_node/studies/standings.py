"""Where every delivery of a study stands, and what that makes of the study: answers that its timeline gives.

::

    queued --> sent --> verified            accepted: taken, where no proof is asked for
      |  ^       |
      v  |       v
     waiting <---+ --> refused, failed      set aside, until somebody retries
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from dicom_node.studies.timeline import Delivery, Entry, Event, Kind, State, Timeline


class Progress(StrEnum):
    """Where a delivery stands."""

    QUEUED = "queued"
    """Nothing was tried yet, or somebody woke it."""
    WAITING = "waiting"
    """The last attempt failed; there will be another."""
    SENT = "sent"
    """The peer took the object; the proof is outstanding."""
    ACCEPTED = "accepted"
    """The peer took the object, and no proof is asked for."""
    VERIFIED = "verified"
    """The peer proved that it holds the object."""
    REFUSED = "refused"
    """The peer refuses the object itself: set aside."""
    FAILED = "failed"
    """Time is over: set aside."""
    WITHDRAWN = "withdrawn"
    """A newer result took its place, or the peer is no destination any more."""


DONE = frozenset({Progress.ACCEPTED, Progress.VERIFIED})
SET_ASIDE = frozenset({Progress.REFUSED, Progress.FAILED})
OPEN = frozenset({Progress.QUEUED, Progress.WAITING, Progress.SENT})

_DELIVERING = frozenset({State.SCORED, State.SENDING, State.DELIVERED, State.DELIVERY_FAILED})
_NO_PROOF = "none"


class Overcome(Exception):
    """What failed was proved before the failure was noted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one delivery stands.

    Attributes
    ----------
    delivery
        What to whom.
    progress
        Of it.
    code, sentence
        Of the last failure that nothing has overcome yet.
    next_attempt
        When it is tried again at the latest; None where that is open, or nothing waits.
    taken
        SOP Instance UID of the object that the peer took last.
    proved
        SOP Instance UIDs of the objects that it proved, or that no proof is asked for.
    denials
        How often the peer said since then that it does not hold the object.
    asked
        Transaction UID of the storage commitment that is outstanding.
    """

    delivery: Delivery
    progress: Progress = Progress.QUEUED
    code: str = ""
    sentence: str = ""
    next_attempt: datetime | None = None
    taken: str = ""
    proved: frozenset[str] = field(default_factory=frozenset)
    denials: int = 0
    asked: str = ""

    def as_json(self) -> dict[str, str]:
        """Return what an operator wants to know of it."""
        return {
            "peer": self.delivery.peer,
            "kind": self.delivery.kind,
            "progress": self.progress,
            "code": self.code,
            "sentence": self.sentence,
            "next_attempt": self.next_attempt.isoformat() if self.next_attempt else "",
        }


def standings(timeline: Timeline, input_digest: str | None = None) -> Mapping[Delivery, Standing]:
    """Return where each delivery of a result stands.

    Parameters
    ----------
    timeline
        Of a study.
    input_digest
        Of the run that left the result; default the last one.
    """
    digest = input_digest or timeline.read_digest
    found: dict[Delivery, Standing] = {}
    for entry in timeline:
        # Versions before noted no run beside a failure.
        if entry.input_digest in (digest, ""):
            for delivery in _deliveries(entry):
                found[delivery] = _after(found.get(delivery) or Standing(delivery), entry)
    return found


def state_of(timeline: Timeline) -> State | None:
    """Return what its deliveries make of a study; None if they change nothing.

    What was given up is not painted over by what goes on elsewhere, and only the last proof makes a study delivered.
    """
    if timeline.state not in _DELIVERING:
        return None
    found = {one.progress for one in standings(timeline).values() if one.delivery.kind != Kind.HELD}
    state = _state(found) if found else None
    return None if state == timeline.state else state


def state_after_failure(timeline: Timeline) -> State | None:
    """Return what the failure of a delivery, the last entry, makes of a study; None if it changes nothing.

    Raises
    ------
    Overcome
        If the object was proved before: then nothing failed that anybody has to know of.
    """
    failure, before = timeline.entries[-1], Timeline(timeline.entries[:-1])
    standing = standings(before, failure.input_digest).get(failure.delivery)
    if standing is not None and standing.progress in DONE:
        raise Overcome
    return state_of(timeline)


def trouble(timeline: Timeline) -> Standing | None:
    """Return the delivery that an operator should look at: one that was set aside, else one that waits."""
    found = standings(timeline).values()
    return next(
        (one for group in (SET_ASIDE, OPEN) for one in found if one.progress in group and one.code),
        None,
    )


def _state(found: set[Progress]) -> State:
    if found & SET_ASIDE:
        return State.DELIVERY_FAILED
    if found & OPEN:
        return State.SCORED if found == {Progress.QUEUED} else State.SENDING
    return State.DELIVERED if found & DONE else State.SCORED


def _deliveries(entry: Entry) -> Iterable[Delivery]:
    if entry.event == Event.ADDRESSED:
        pairs = entry.facts.get("deliveries")
        return [Delivery(str(peer), _kind(kind)) for peer, kind in pairs] if isinstance(pairs, list | tuple) else []
    named = entry.text("peer") and entry.text("kind")
    return [Delivery(entry.text("peer"), _kind(entry.text("kind")))] if named else []


def _kind(word: str) -> Kind | str:
    return Kind(word) if word in set(Kind) else word


def _after(before: Standing, entry: Entry) -> Standing:
    """Return where a delivery stands after an event."""
    match entry.event:
        case Event.ADDRESSED | Event.WOKEN:
            rests = before.progress not in (Progress.SENT, Progress.QUEUED)
            return replace(before, progress=Progress.QUEUED, next_attempt=None) if rests else before
        case Event.SENT:
            return _taken(before, entry)
        case Event.ASKED:
            return replace(before, asked=entry.text("transaction_uid"))
        case Event.VERIFIED:
            return _proved(before, entry)
        case Event.SEND_FAILED | Event.VERIFY_FAILED | Event.PUT_OFF:
            return _failed(before, entry)
        case Event.GAVE_UP:
            refused = entry.facts.get("refused") is True
            progress = Progress.REFUSED if refused else Progress.FAILED
            return before if before.progress in DONE else replace(_failed(before, entry), progress=progress)
        case Event.WITHDRAWN:
            return replace(before, progress=Progress.WITHDRAWN, next_attempt=None)
    return before


def _taken(before: Standing, entry: Entry) -> Standing:
    uid = entry.text("sop_instance_uid")
    progress = Progress.VERIFIED if uid in before.proved else Progress.SENT
    return Standing(before.delivery, progress, taken=uid, proved=before.proved)


def _proved(before: Standing, entry: Entry) -> Standing:
    # Versions before did not say which object: the one that was taken last.
    uid = entry.text("sop_instance_uid") or before.taken
    progress = Progress.ACCEPTED if entry.text("proof") == _NO_PROOF else Progress.VERIFIED
    return Standing(before.delivery, progress, taken=uid, proved=before.proved | {uid})


def _failed(before: Standing, entry: Entry) -> Standing:
    if before.progress in DONE:
        return before
    then = entry.text("next_attempt")
    return replace(
        before,
        progress=Progress.WAITING,
        code=entry.code or before.code,
        sentence=entry.sentence or before.sentence,
        next_attempt=datetime.fromisoformat(then) if then else None,
        denials=before.denials + (entry.facts.get("denied") is True),
        asked="",
    )
