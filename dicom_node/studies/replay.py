"""What would be filtered and selected today: the last studies of the spool judged again, beside what was done then.

A rehearsal of changed rules; nothing in the node changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dicom_node.config import Config
from dicom_node.studies.inputs import last_table, pinned
from dicom_node.studies.routing import Filtered, judge
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.statements import select_as_stated
from dicom_node.studies.timeline import Entry, Event
from models.contrast import Contrast
from pipeline.explain import NamedSeries, SelectionTable, explain
from pipeline.select import SiteRules

_JUDGED = (Event.SELECTED, Event.FILTERED)
_NO_TABLE = "No table is stored with it: an older version selected it."


class Judgement(StrEnum):
    """What judging a study again came to."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True, slots=True)
class Change:
    """What was, and what would be now: a series, a word, or None where there is none."""

    old: NamedSeries | str | None
    new: NamedSeries | str | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A study judged again.

    Attributes
    ----------
    study_uid
        Which study.
    selected
        When the stored selection was made, or the study filtered.
    outcome
        What it came to.
    sentence
        Why the study would be held or could not be judged.
    changes
        By role, and by ``routing``, ``state``, ``reason`` or ``images``.
    """

    study_uid: str
    selected: datetime
    outcome: Judgement
    sentence: str | None
    changes: Mapping[str, Change] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether the study could be judged again."""
        return self.outcome is not Judgement.NOT_JUDGED

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is printed for machines."""
        return asdict(self) | {"selected": self.selected.isoformat()}


def replay(spool: Spool, config: Config, last: int, among: Iterable[Study] | None = None) -> Iterator[Replayed]:
    """Yield, newest first, whether the last studies would be filtered now, and what their selections would be.

    Parameters
    ----------
    spool
        The received studies; those that were selected or filtered at least once are judged.
    config
        With the rules to judge by; choices of a human hold as they are stored now.
    last
        How many studies.
    among
        Those that are looked at; default all.
    """
    everything = spool.studies() if among is None else among
    judged = [(entry, study) for study in everything if (entry := study.timeline().last(*_JUDGED))]
    for entry, study in sorted(judged, key=lambda pair: pair[0].time, reverse=True)[:last]:
        yield _judged(study, entry, config)


def summary(rows: Iterable[Replayed]) -> dict[str, int]:
    """Return how many studies came to each outcome."""
    outcomes = [row.outcome for row in rows]
    return {judgement: outcomes.count(judgement) for judgement in Judgement}


def _judged(study: Study, entry: Entry, config: Config) -> Replayed:
    if entry.event == Event.FILTERED:
        return _routed(study, entry, judge(study, config))
    old = last_table(study)
    if old is None:
        return Replayed(study.uid, entry.time, Judgement.NOT_JUDGED, _NO_TABLE)
    then = pinned(study, entry.input_digest).files
    gone = sum(not path.exists() for path in then)
    if gone:
        sentence = f"{gone} of its {len(then)} files are no longer there."
        return Replayed(study.uid, entry.time, Judgement.NOT_JUDGED, sentence)
    if found := judge(study, config):
        return _routed(study, entry, found)
    return _selected(study, entry, old, config.selection.rules())


def _routed(study: Study, entry: Entry, found: Filtered | None) -> Replayed:
    """Say of a study that was filtered, or would be now, what that changes."""
    old, new = entry.code or None, found.reason if found else None
    if old == new:
        return Replayed(study.uid, entry.time, Judgement.UNCHANGED, None)
    sentence = f"By routing.{found.key}." if found else None
    return Replayed(study.uid, entry.time, Judgement.CHANGED, sentence, {"routing": Change(old, new)})


def _selected(study: Study, entry: Entry, old: SelectionTable, rules: SiteRules) -> Replayed:
    selection = select_as_stated(study, rules)
    if selection.without is not None and old.roles.keys() == selection.without.roles.keys():
        # The study was selected for a model of two sequences.
        selection = selection.without
    new = explain(selection)
    changes = _changes(old, new)
    if not changes and selection.held is None and selection.digest != entry.input_digest:
        # Another volume of the same series, or a slice that came late.
        changes = {"images": Change(entry.input_digest, selection.digest)}
    outcome = Judgement.CHANGED if changes else Judgement.UNCHANGED
    return Replayed(study.uid, entry.time, outcome, new.sentence, changes)


def _changes(old: SelectionTable, new: SelectionTable) -> dict[str, Change]:
    """Return every role that another series would play, and state and reason where they would be others."""
    changes = {role.value: Change(_series(old, role), _series(new, role)) for role in Contrast}
    changes |= {"state": Change(old.state, new.state), "reason": Change(old.reason, new.reason)}
    return {what: change for what, change in changes.items() if change.old != change.new}


def _series(table: SelectionTable, role: Contrast) -> NamedSeries | None:
    chosen = table.roles.get(role)
    return chosen.series if chosen else None
