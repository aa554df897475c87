"""Whether a study is for the node at all: ``[routing]`` asked of its headers and of who sent it.

A rule filters a study only where everything that is stated says so: one series, reading or sender that may be meant
keeps it. What was selected once, or what a human took up, is never filtered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from dicom_node.config import Config, Missing, RoutingSection
from dicom_node.log import say
from dicom_node.studies.spool import Study
from dicom_node.studies.timeline import Event, State, Timeline
from models.site_patterns import search
from pipeline.headers.origin import Origin, Stated, read_origin

logger = logging.getLogger(__name__)

_BY_HAND: Final = (Event.RETRIED, Event.RELEASED, Event.STATED)
_ROUNDING_YEARS: Final = 0.01
"""A third birthday comes after 2.998 years of 365.25 days."""
Value = TypeVar("Value", str, float)


class Filter(StrEnum):
    """Why a study is not for the node; the value is the code that lists and metrics show."""

    STUDY_DESCRIPTION = "filtered_study_description"
    BODY_PART = "filtered_body_part"
    INSTITUTION = "filtered_institution"
    AGE = "filtered_age"
    PEER = "filtered_peer"


@dataclass(frozen=True, slots=True)
class Filtered:
    """The rule that filters a study: why, and its key in ``[routing]``."""

    reason: Filter
    key: str

    @property
    def sentence(self) -> str:
        """What an operator is told; nothing of the study."""
        return f"routing.{self.key} says that it is not for this node: `dicom-node retry` reads it nevertheless."


@dataclass(frozen=True, slots=True)
class _Rule(Generic[Value]):
    """A key, what it is asked of, and which values keep a study; whether it keeps one that does not state any."""

    reason: Filter
    key: str
    stated: Stated[Value]
    keeps: Callable[[Value], bool]
    keeps_missing: bool = True

    @property
    def filters(self) -> bool:
        """Whether the study goes, for certain."""
        values, missing = self.stated.values, self.stated.missing
        if () in values or (missing and self.keeps_missing):
            return False
        return not any(self.keeps(reading) for value in values for reading in value)


def turned_away(study: Study, config: Config) -> bool:
    """Return whether a rule filters a study that is complete; then that is noted.

    Parameters
    ----------
    study
        A received one; what was selected before is never filtered.
    config
        With the rules, and with the peers that they name.
    """
    found = None if study.timeline().selected else judge(study, config)
    if found:
        study.note(Event.FILTERED, State.FILTERED, code=found.reason, sentence=found.sentence)
        say(logger, "study filtered", study=study.uid, reason=found.reason, key=found.key)
    return found is not None


def judge(study: Study, config: Config) -> Filtered | None:
    """Return the rule that would filter a study if it had come now.

    Parameters
    ----------
    study
        A received one.
    config
        With the rules, and with the peers that they name.
    """
    timeline = study.timeline()
    if timeline.last(*_BY_HAND) or not _asks(config.routing):
        return None
    found = _rules(config.routing, read_origin(study.instances()), _senders(timeline, config))
    return next((Filtered(rule.reason, rule.key) for rule in found if rule.filters), None)


def _asks(rules: RoutingSection) -> bool:
    """Return whether there is any rule; else no file is opened."""
    asking = rules.model_dump(exclude={"missing", "keep_days"})
    return any(value not in ((), None) for value in asking.values())


def _rules(rules: RoutingSection, origin: Origin, senders: Stated[str]) -> Iterator[_Rule[str] | _Rule[float]]:
    missing = rules.missing is Missing.READ
    yield from _worded(Filter.STUDY_DESCRIPTION, "study_description", origin.study_description, rules)
    yield from _worded(Filter.BODY_PART, "body_part", origin.body_part, rules)
    yield from _worded(Filter.INSTITUTION, "institution", origin.institution, rules)
    if rules.only_peers:
        yield _Rule(Filter.PEER, "only_peers", senders, lambda name: name in rules.only_peers, missing)
    yield _Rule(Filter.PEER, "never_peers", senders, lambda name: name not in rules.never_peers)
    if (youngest := rules.min_age_years) is not None:
        limit = youngest - _ROUNDING_YEARS
        yield _Rule(Filter.AGE, "min_age_years", origin.age_years, lambda age: age > limit, missing)
    if (oldest := rules.max_age_years) is not None:
        birthday = oldest + 1
        yield _Rule(Filter.AGE, "max_age_years", origin.age_years, lambda age: age < birthday, missing)


def _worded(reason: Filter, name: str, stated: Stated[str], rules: RoutingSection) -> Iterator[_Rule[str]]:
    only, never = getattr(rules, f"only_{name}"), getattr(rules, f"never_{name}")
    if only:
        missing = rules.missing is Missing.READ
        yield _Rule(reason, f"only_{name}", stated, lambda text: _matches(only, text), missing)
    yield _Rule(reason, f"never_{name}", stated, lambda text: not _matches(never, text))


def _matches(patterns: Iterable[str], text: str) -> bool:
    return any(search(pattern, text) is not None for pattern in patterns)


def _senders(timeline: Timeline, config: Config) -> Stated[str]:
    """Return who sent a study: an AE title that several peers have may be each of them."""
    titles = {entry.text("calling") for entry in timeline if entry.event == Event.ASSOCIATION}
    named = (tuple(peer.name for peer in config.sources if peer.ae_title == title) for title in titles)
    return Stated(frozenset(named), missing=not titles)
