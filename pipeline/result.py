"""The result of one run: a record until it is written as ``result.json``, and what is read of a stored one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from models.contrast import Contrast
from pipeline.brain import MaskFacts, WeightsIdentity
from pipeline.errors import StudyHeld
from pipeline.explain import ChosenSeries, UnusedFile, chosen_series, unused_file
from pipeline.predict import Finding, ModelIdentity
from pipeline.select import Selection

RESULT_FILE: Final = "result.json"
_OUT_OF_RANGE: Final = "out_of_range_"
TWO_SEQUENCES: Final = "two_sequences"
"""Flag of a score that was made without one of the three sequences."""
NEAR_THRESHOLD: Final = "near_threshold"
"""Flag of a score that might lie on the other side of the threshold if the same head were read again."""


class Outcome(StrEnum):
    """How a run ended."""

    SCORED = "scored"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Scored:
    """What only a study with a score has: its finding, and the facts of the brain masks behind it by sequence."""

    finding: Finding
    brain: Mapping[Contrast, MaskFacts]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run says of a study.

    Attributes
    ----------
    selection
        The series that were scored, or those that were found; the files that were not used.
    model, brain_weights, software
        What scored the study, or would have.
    reading
        The score, or why there is none.
    timings_s
        Seconds of each step that was run, or when it was run.
    """

    selection: Selection
    model: ModelIdentity
    brain_weights: WeightsIdentity
    software: str
    reading: Scored | StudyHeld
    timings_s: Mapping[str, float]

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return Outcome.HELD if self.held else Outcome.SCORED

    @property
    def scored(self) -> Scored | None:
        """The score and what it is made of; None where the study is held."""
        return self.reading if isinstance(self.reading, Scored) else None

    @property
    def held(self) -> StudyHeld | None:
        """Why there is no score; None where there is one."""
        return self.reading if isinstance(self.reading, StudyHeld) else None

    @property
    def roles(self) -> dict[Contrast, ChosenSeries]:
        """The series of each role, and why."""
        return {role: chosen_series(series) for role, series in self.selection.roles.items()}

    @property
    def ignored_files(self) -> tuple[UnusedFile, ...]:
        """What was not used."""
        return tuple(unused_file(problem) for problem in self.selection.problems)

    @property
    def out_of_range(self) -> bool:
        """Whether the study is unlike those that the model was made with, be it held or only flagged."""
        doubts = self.finding.out_of_range if self.finding else ()
        return bool(doubts) or (self.held is not None and self.held.code.value.startswith(_OUT_OF_RANGE))

    @property
    def finding(self) -> Finding | None:
        """What the ensemble says of the study; None where it is held."""
        return self.scored.finding if self.scored else None

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``result.json``; a held study has no numbers at all."""
        return {
            "notice": self.model.notice,
            "study_uid": self.selection.study_uid,
            "state": self.outcome.value,
            "reason": self.held.code.value if self.held else None,
            "sentence": self.held.sentence if self.held else None,
            "roles": {role.value: chosen.as_json() for role, chosen in self.roles.items()},
            "ignored_files": [file.as_json() for file in self.ignored_files],
            "input_digest": self.selection.digest,
            "model": {
                "name": self.model.name,
                "version": self.model.version,
                "digest": self.model.digest,
                "intended_use": self.model.intended_use,
            },
            "brain_weights": asdict(self.brain_weights),
            "software": self.software,
            **(_numbers(self.scored) if self.scored else {}),
            "timings_s": dict(self.timings_s),
        }


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What is asked of an earlier run's ``result.json``.

    Attributes
    ----------
    outcome
        How that run ended; None where the file does not say it.
    sequences
        Those that were scored; all three where the file does not say it.
    model_digest, brain_weights_digest
        SHA-256 of the models of that run; empty where the file does not say it.
    """

    outcome: Outcome | None
    sequences: tuple[Contrast, ...]
    model_digest: str
    brain_weights_digest: str


def read_result(folder: Path) -> StoredResult | None:
    """Return what a run's folder says of its result; None if there is no result.

    Parameters
    ----------
    folder
        Of a run of this version or an earlier one.

    Raises
    ------
    ValueError
        If the file is not JSON, or names an outcome or a sequence that does not exist.
    """
    try:
        told = json.loads((folder / RESULT_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return StoredResult(
        Outcome(told["state"]) if "state" in told else None,
        tuple(map(Contrast, told.get("sequences_used", Contrast))),
        told.get("model", {}).get("digest", ""),
        told.get("brain_weights", {}).get("digest", ""),
    )


def _numbers(scored: Scored) -> dict[str, Any]:
    """Return what only a scored study has.

    `spread` is null for a bundle with one network for each sequence, `calibrated` for one without calibration,
    `repeatability` for one that does not state it, and for two sequences.
    """
    finding, sequences = scored.finding, scored.finding.sequences
    return {
        "sequences_used": [role.value for role in sequences],
        "scores": {role.value: finding.scores[role] for role in sequences},
        "members": {role.value: list(finding.members.get(role, ())) for role in sequences},
        "weights": {role.value: finding.weights[role] for role in sequences},
        "score": finding.score,
        "score_patent": finding.score_patent,
        "threshold": finding.threshold,
        "category": finding.category.value,
        "spread": _spread(finding),
        "calibrated": asdict(finding.calibrated) if finding.calibrated else None,
        "repeatability": _repeatability(finding),
        "out_of_range": [{"code": doubt.code.value, "sentence": doubt.sentence} for doubt in finding.out_of_range],
        "flags": [
            *(doubt.code.value for doubt in finding.out_of_range),
            *[TWO_SEQUENCES] * bool(finding.two_sequences),
            *[NEAR_THRESHOLD] * finding.near_threshold,
        ],
        "brain": {
            role.value: {"volume_ml": facts.volume_ml, "flags": [flag.value for flag in facts.flags]}
            for role, facts in ((role, scored.brain[role]) for role in sequences)
        },
    }


def _repeatability(finding: Finding) -> dict[str, Any] | None:
    known = finding.repeatability
    return {"sd": known.sd, "largest": known.largest, "heads": known.heads} if known else None


def _spread(finding: Finding) -> dict[str, Any] | None:
    whole = finding.spread()
    if whole is None:
        return None
    parts = {role.value: finding.spread(role) for role in finding.sequences}
    return {"ensemble": asdict(whole)} | {name: asdict(part) for name, part in parts.items() if part}
