"""The result of an evaluation, typed until it is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from models.bundle import ChosenOn
from models.contrast import Contrast
from models.training.evaluation.held_out import Basis
from models.training.evaluation.intervals import Estimate
from models.training.evaluation.metrics import Summary
from models.training.evaluation.repeatability import Measured


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The ensemble on studies that the table of the cohort names apart.

    Attributes
    ----------
    studies, events
        How many, and how many of them with the event.
    auc
        Without a value where one outcome is missing.
    """

    studies: int
    events: int
    auc: Estimate


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Content of ``evaluation.json``.

    Attributes
    ----------
    bundle, version, digest, notice, intended_use
        Of the bundle that was tested.
    cohort_digest, synthetic
        Of the cohort; for made data the sentence that says so.
    basis, left_out
        Which cases were taken and how many were refused; see `models.training.evaluation.held_out.EvaluationSet`.
    groups
        Of how many groups (sites, families, anatomies) the patients are.
    other_brain_weights
        Whether other weights drew the cohort's brain masks than those of the training; None where that is not known.
    weights, weights_chosen_on
        Of the ensemble, and on whom they were chosen; None where the bundle does not say.
    ensemble, sequences
        At the bundle's threshold.
    calibrated
        Of the calibrated ensemble; None without a calibration.
    two_sequences
        Of the modes with two sequences that the bundle has, at their own thresholds.
    equal_weights_auc, gain_over_equal_weights
        AUC with a third each, and by how much the bundle's weights differ from it, paired by patient.
    subgroups
        By name; empty where the table of the cohort names none.
    looks
        How many bundles were judged on any of these cases, this one included; None where that is not known.
    repeatability
        How far scores of one head lie apart; None where it was not measured.
    resamples, seed
        Of the bootstrap.
    software
        Versions.
    """

    bundle: str
    version: str
    digest: str
    notice: str
    intended_use: str
    cohort_digest: str
    synthetic: str | None
    basis: Basis
    left_out: int
    groups: int
    other_brain_weights: bool | None
    weights: dict[Contrast, float]
    weights_chosen_on: ChosenOn | None
    ensemble: Summary
    sequences: dict[Contrast, Summary]
    calibrated: Summary | None
    two_sequences: dict[str, Summary]
    equal_weights_auc: Estimate
    gain_over_equal_weights: Estimate
    subgroups: dict[str, Subgroup]
    looks: int | None
    repeatability: Measured | None
    resamples: int
    seed: int
    software: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def summaries(self, calibrated: str = "Calibrated") -> dict[str, Summary]:
        """Return every performance by its heading: ensemble, calibrated ensemble, single contrasts, pairs.

        Parameters
        ----------
        calibrated
            Heading of the calibrated ensemble, which is absent without a calibration.
        """
        second = {} if self.calibrated is None else {calibrated: self.calibrated}
        single = {str(contrast): performance for contrast, performance in self.sequences.items()}
        return {"Ensemble": self.ensemble, **second, **single, **self.two_sequences}
