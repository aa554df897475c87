"""The record of a training: enough to train again, and to know whom the bundle must not be tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.bundle import ChosenOn
from models.training.bundling.cohort_facts import CohortFacts
from models.training.bundling.cross_validation import CrossValidation
from models.training.bundling.ensemble_weights import Choice
from models.training.bundling.feature_limits import FeatureCounts
from models.training.evaluation.held_out import development_record
from models.training.fit.folds import Split
from models.training.fit.job_result import JobResult
from models.training.fit.recipe import Recipe


@dataclass(frozen=True, slots=True)
class DroppedPair:
    """A pair of sequences that tells development patients apart no better than chance.

    Attributes
    ----------
    auc, low
        Of out-of-fold scores within folds, and the lower bound of its interval; None where it is not determined.
    """

    auc: float | None
    low: float | None


@dataclass(frozen=True, slots=True)
class WeightSearch:
    """How the weights of the ensemble came about.

    Attributes
    ----------
    chosen_on
        Whose scores.
    choice
        The weights, and all that were tried.
    """

    chosen_on: ChosenOn
    choice: Choice

    def as_json(self) -> dict[str, Any]:
        """Return the search as JSON values; the weights themselves stand in the metadata."""
        table = [asdict(candidate) for candidate in self.choice.table]
        return {"chosen_on": self.chosen_on, "auc": self.choice.auc, "log_loss": self.choice.log_loss, "table": table}


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Content of ``configs/training.json``; what is None is not stated.

    Attributes
    ----------
    recipe, cohort_digest, cohort
        How and on what the networks were trained.
    parts
        Development cases, test cases and folds.
    networks
        How each network was trained, by name.
    weight_search
        How the weights of the ensemble came about.
    software
        Versions that the training depends on.
    feature_space
        How many test studies lie beyond its limits.
    cross_validation
        What the folds found.
    two_sequences_dropped
        The pairs that a node must not score by, by name.
    controls
        A sentence on what exchanged labels reached; empty where no control was made.
    test_looks
        How many bundles were judged on any of the test cases, this one included.
    """

    recipe: Recipe | None = None
    cohort_digest: str | None = None
    cohort: CohortFacts | None = None
    parts: Split | None = None
    networks: Mapping[str, JobResult] = field(default_factory=dict)
    weight_search: WeightSearch | None = None
    software: Mapping[str, str] | None = None
    feature_space: FeatureCounts | None = None
    two_sequences_dropped: Mapping[str, DroppedPair] | None = None
    cross_validation: CrossValidation | None = None
    controls: str = ""
    test_looks: int | None = None

    @property
    def synthetic(self) -> str | None:
        """How the labels of a made cohort came about; None for patients, and where nothing is stated."""
        return self.cohort.synthetic if self.cohort else None

    def as_json(self) -> dict[str, Any]:
        """Return what is stated as JSON values; cases by name, patients and groups by digest."""
        stated = {
            "recipe": self.recipe and self.recipe.as_json(),
            "seed": self.recipe and self.recipe.seed,
            "cohort_digest": self.cohort_digest,
            "cohort": self.cohort and asdict(self.cohort),
            **_parts_json(self.parts, self.cohort_digest or ""),
            "networks": {name: result.training_json() for name, result in self.networks.items()},
            "weight_search": self.weight_search and self.weight_search.as_json(),
            "software": self.software,
            "feature_space": self.feature_space and asdict(self.feature_space),
            "two_sequences_dropped": self._dropped_json(),
            "controls": self.controls or None,
            "test_looks": self.test_looks,
            "cross_validation": self.cross_validation and asdict(self.cross_validation),
        }
        return {name: value for name, value in stated.items() if value is not None}

    def _dropped_json(self) -> dict[str, dict[str, float | None]] | None:
        dropped = self.two_sequences_dropped
        return None if dropped is None else {name: asdict(pair) for name, pair in dropped.items()}


def _parts_json(parts: Split | None, salt: str) -> dict[str, Any]:
    if parts is None:
        return {}
    return {
        **development_record(parts.development, salt),
        "test_cases": sorted(case.case for case in parts.test),
        "folds": [sorted(case.case for case in fold) for fold in parts.folds],
    }
