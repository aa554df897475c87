"""Figures of an evaluation as words, for its page and for the model card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from models.perturbation import SENTENCES
from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.held_out import Basis
from models.training.evaluation.intervals import Estimate
from models.training.evaluation.metrics import Summary
from models.training.evaluation.repeatability import Measured

MEASURES: Final[Mapping[str, str]] = {
    "auc": "AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "brier": "Brier score",
    "calibration_intercept": "Calibration in the large",
    "calibration_slope": "Calibration slope",
}
"""Fields of a `Summary` and what they are called."""

_DIGITS_MAX: Final = 9
"""Of a figure: as many as it takes to show that an interval has a width."""

BASES: Final[Mapping[Basis, str]] = {
    Basis.HELD_OUT: "The cases are those set aside before training; no patient of theirs took part in it.",
    Basis.NOT_IN_DEVELOPMENT: "No patient of these cases took part in the training of the bundle.",
    Basis.DEVELOPMENT_UNKNOWN: "The bundle does not say whom it was trained on: patients of these cases may have taken "
    "part, and the figures may then be far too good.",
}


def estimate_text(estimate: Estimate) -> str:
    """Return an estimate with its interval, for example ``0.83 (0.65 to 1.00)``.

    Parameters
    ----------
    estimate
        With or without value and bounds.
    """
    if estimate.value is None:
        return "not determined by these data"
    if estimate.low is None:
        return f"{estimate.value:.3f} (interval not determined)"
    assert estimate.high is not None
    digits = next((n for n in range(3, _DIGITS_MAX) if round(estimate.low, n) < round(estimate.high, n)), _DIGITS_MAX)
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def subgroup_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a row for each subgroup: its name, studies, events, and the AUC of the ensemble.

    Parameters
    ----------
    evaluation
        Of a bundle on labelled studies.
    """
    return [
        [name, str(found.studies), str(found.events), estimate_text(found.auc)]
        for name, found in evaluation.subgroups.items()
    ]


def looks_text(looks: int | None) -> str:
    """Return how often the test patients were looked at.

    Parameters
    ----------
    looks
        By how many bundles, this one included; None where not known.
    """
    if looks is None:
        return "How often these patients were looked at before is not known."
    before = "no other bundle was" if looks == 1 else f"{looks - 1} other bundle{'s were' if looks > 2 else ' was'}"
    return f"Look number {looks} at these patients: {before} judged on any of them in this cohort's folder."


def repeatability_rows(found: Measured) -> list[list[str]]:
    """Return a row for each perturbation: SD within a head and largest difference, by sequence and ensemble.

    Parameters
    ----------
    found
        Over some heads.
    """
    named = {str(kind): words for kind, words in SENTENCES.items()} | {
        "place": "grid and ends of the mask",
        "all": "all",
    }
    return [
        [named[row], *(f"{one.sd:.3f} / {one.largest:.3f}" for one in by_score.values())]
        for row, by_score in found.table.items()
    ]


def counts_text(summary: Summary) -> str:
    """Return how many were tested.

    Parameters
    ----------
    summary
        Of any score of the studies.
    """
    return f"{summary.studies} studies of {summary.patients} patients, {summary.events} with the event"


def measure_rows(summaries: Iterable[Summary]) -> list[list[str]]:
    """Return a row for each of `MEASURES`: its name, and its estimate in each summary.

    Parameters
    ----------
    summaries
        The columns, in their order.
    """
    columns = tuple(summaries)
    return [[label, *(estimate_text(getattr(column, name)) for column in columns)] for name, label in MEASURES.items()]
