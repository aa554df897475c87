"""The series x role table of a selection: records, until it is written or read as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any, Self

from models.contrast import Contrast
from pipeline.errors import HoldReason
from pipeline.headers import Problem, ProblemCode
from pipeline.select import Candidate, SelectedSeries, Selection, Verdict


class SelectionState(StrEnum):
    """What a selection came to."""

    READY = "ready"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class NamedSeries:
    """What a series is known by; the number may be absent, the description empty."""

    series_uid: str
    series_number: int | None
    description: str

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {
            "series_uid": self.series_uid,
            "series_number": self.series_number,
            "description": self.description,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return a series of what `as_json` wrote; other keys are left alone.

        Parameters
        ----------
        stored
            Read from JSON.

        Raises
        ------
        KeyError
            If a field is missing.
        """
        return cls(stored["series_uid"], stored["series_number"], stored["description"])


@dataclass(frozen=True, slots=True)
class ChosenSeries:
    """The series of a role, with the sentences that say why it and no other."""

    series: NamedSeries
    evidence: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the series, and its evidence beside."""
        return {**self.series.as_json(), "evidence": list(self.evidence)}


@dataclass(frozen=True, slots=True)
class JudgedVolume:
    """What a human needs to choose one volume by hand.

    Attributes
    ----------
    argument
        What ``release --role ROLE=`` takes for it.
    verdict
        As in :class:`pipeline.select.Candidate`.
    slices, time
        How many planes, and when the first was acquired, as ``hh:mm:ss``; None where unknown.
    tr_ms, te_ms, ti_ms, image_type
        As in the headers.
    """

    argument: str
    verdict: Verdict
    slices: int
    time: str | None
    tr_ms: float | None
    te_ms: float | None
    ti_ms: float | None
    image_type: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {
            "release": self.argument,
            "verdict": self.verdict.value,
            "slices": self.slices,
            "time": self.time,
            "tr_ms": self.tr_ms,
            "te_ms": self.te_ms,
            "ti_ms": self.ti_ms,
            "image_type": list(self.image_type),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the volume that `as_json` wrote.

        Parameters
        ----------
        stored
            Read from JSON.

        Raises
        ------
        KeyError, ValueError
            If a field is missing or names a verdict that does not exist.
        """
        times = (stored["tr_ms"], stored["te_ms"], stored["ti_ms"])
        verdict = Verdict(stored["verdict"])
        return cls(stored["release"], verdict, stored["slices"], stored["time"], *times, tuple(stored["image_type"]))


@dataclass(frozen=True, slots=True)
class JudgedSeries:
    """One row of the table.

    Attributes
    ----------
    series
        What is judged.
    volumes
        How many it has; the one that fits best speaks for it in what follows.
    verdict, scores, evidence
        As in :class:`pipeline.select.Candidate`.
    by_volume
        Each of its volumes; empty in tables that were stored before it was.
    """

    series: NamedSeries
    volumes: int
    verdict: Verdict
    scores: Mapping[Contrast, float]
    evidence: tuple[str, ...]
    by_volume: tuple[JudgedVolume, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the row."""
        return {
            **self.series.as_json(),
            "volumes": self.volumes,
            "verdict": self.verdict.value,
            "scores": {role.value: self.scores[role] for role in Contrast},
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True, slots=True)
class UnusedFile:
    """A file that was not used: its name, a code and a sentence."""

    file: str
    code: ProblemCode
    sentence: str

    def as_json(self) -> dict[str, str]:
        """Return the fields by name."""
        return {"file": self.file, "code": self.code.value, "sentence": self.sentence}


@dataclass(frozen=True, slots=True)
class SelectionTable:
    """What was selected and why.

    Attributes
    ----------
    study_uid
        Empty if the files name none, or several.
    reason, sentence
        Why the study is held; None where it is ready.
    roles
        The series that play one; empty if the study is held.
    series
        Every series of the study.
    ignored_files
        What was not used.
    """

    study_uid: str
    reason: HoldReason | None
    sentence: str | None
    roles: Mapping[Contrast, ChosenSeries]
    series: tuple[JudgedSeries, ...]
    ignored_files: tuple[UnusedFile, ...]

    @property
    def state(self) -> SelectionState:
        """Whether the study can be scored."""
        return SelectionState.READY if self.reason is None else SelectionState.HELD

    def as_json(self) -> dict[str, Any]:
        """Return the table as ``explain --json`` prints it and as it is stored; made of JSON types only."""
        return {
            "study_uid": self.study_uid,
            "state": self.state.value,
            "reason": self.reason.value if self.reason else None,
            "sentence": self.sentence,
            "roles": {role.value: chosen.as_json() for role, chosen in self.roles.items()},
            "series": [row.as_json() for row in self.series],
            "ignored_files": [file.as_json() for file in self.ignored_files],
            "volumes": [
                {"series_uid": row.series.series_uid, **volume.as_json()}
                for row in self.series
                for volume in row.by_volume
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the table that `as_json` wrote.

        Parameters
        ----------
        stored
            Read from JSON.

        Raises
        ------
        KeyError, ValueError
            If a field is missing, or names a role, a verdict or a reason that does not exist.
        """
        return cls(
            stored["study_uid"],
            HoldReason(stored["reason"]) if stored["reason"] else None,
            stored["sentence"],
            {Contrast(name): _stored_choice(series) for name, series in stored["roles"].items()},
            tuple(_stored_row(row, stored.get("volumes", ())) for row in stored["series"]),
            tuple(
                UnusedFile(file["file"], ProblemCode(file["code"]), file["sentence"])
                for file in stored["ignored_files"]
            ),
        )


def explain(selection: Selection) -> SelectionTable:
    """Return what was selected and why, every series with its evidence.

    Parameters
    ----------
    selection
        Of a study, held or not.

    Returns
    -------
    SelectionTable
        A series of several volumes is one row.
    """
    held = selection.held
    by_series = groupby(selection.candidates, lambda candidate: candidate.volume.series_uid)
    return SelectionTable(
        selection.study_uid,
        held.code if held else None,
        held.sentence if held else None,
        {role: chosen_series(series) for role, series in selection.roles.items()},
        tuple(_judged_series(list(candidates)) for _, candidates in by_series),
        tuple(unused_file(problem) for problem in selection.problems),
    )


def chosen_series(selected: SelectedSeries) -> ChosenSeries:
    """Return what is said of the series of a role.

    Parameters
    ----------
    selected
        Its files are left out.
    """
    series = NamedSeries(selected.series_uid, selected.series_number, selected.description)
    return ChosenSeries(series, selected.evidence)


def unused_file(problem: Problem) -> UnusedFile:
    """Return what is said of a file that was not used.

    Parameters
    ----------
    problem
        Its folder is left out: the names of folders may be those of patients.
    """
    return UnusedFile(problem.path.name, problem.code, problem.sentence)


def _judged_series(candidates: list[Candidate]) -> JudgedSeries:
    """Return one row; of several volumes the one that fits best speaks for the series."""
    best = max(candidates, key=lambda c: (c.verdict is not Verdict.NONE, max(c.scores.values())))
    series = NamedSeries(best.volume.series_uid, best.volume.series_number, best.volume.description)
    by_volume = tuple(map(_judged_volume, candidates))
    return JudgedSeries(series, len(candidates), best.verdict, best.scores, best.evidence, by_volume)


def _judged_volume(candidate: Candidate) -> JudgedVolume:
    volume = candidate.volume
    clock = (volume.acquired or "")[8:14]
    time = ":".join((clock[:2], clock[2:4], clock[4:])).rstrip(":") if clock else None
    times = (volume.tr_ms, volume.te_ms, volume.ti_ms)
    return JudgedVolume(candidate.argument, candidate.verdict, len(volume.frames), time, *times, volume.image_type)


def _stored_choice(stored: Mapping[str, Any]) -> ChosenSeries:
    return ChosenSeries(NamedSeries.from_json(stored), tuple(stored["evidence"]))


def _stored_row(stored: Mapping[str, Any], volumes: Iterable[Mapping[str, Any]]) -> JudgedSeries:
    return JudgedSeries(
        NamedSeries.from_json(stored),
        stored["volumes"],
        Verdict(stored["verdict"]),
        {Contrast(name): score for name, score in stored["scores"].items()},
        tuple(stored["evidence"]),
        tuple(JudgedVolume.from_json(each) for each in volumes if each["series_uid"] == stored["series_uid"]),
    )
