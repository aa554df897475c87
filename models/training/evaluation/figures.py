"""Figures of an evaluation as words, for its page and for the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURES = {
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

BASES = {
    "held_out": "The cases are those set aside before training; no patient of theirs took part in it.",
    "not_in_development": "No patient of these cases took part in the training of the bundle.",
    "development_unknown": "The bundle does not say whom it was trained on: patients of these cases may have taken "
    "part, and the figures may then be far too good.",
}


def estimate_text(estimate: Mapping[str, Any]) -> str:
    """Return an estimate with its interval, for example ``0.83 (0.65 to 1.00)``."""
    if estimate["value"] is None:
        return "not determined by these data"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} (interval not determined)"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def counts_text(summary: Mapping[str, Any]) -> str:
    """Return how many were tested."""
    return f"{summary['studies']} studies of {summary['patients']} patients, {summary['events']} with the event"


def cautions(evaluation: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know before the figures, the gravest first."""
    said = []
    if evaluation["synthetic"] is not None:
        said.append(f"SYNTHETIC DATA, NO EVIDENCE ABOUT PATIENTS: {evaluation['synthetic']}")
    if evaluation["weights_chosen_on"] == "test":
        said.append(
            "OPTIMISTIC BIAS: the weights of the ensemble were chosen on the test patients of its training, as the "
            "patent does it; figures on those patients are too good."
        )
    if evaluation["basis"] == "development_unknown":
        said.append(BASES["development_unknown"])
    if evaluation["other_brain_weights"]:
        said.append(
            "The brain masks of these studies were drawn with other weights than those of the bundle's training; the "
            "figures of a node that uses the latter may differ."
        )
    few = min(evaluation["ensemble"]["events"], evaluation["ensemble"]["studies"] - evaluation["ensemble"]["events"])
    if few < 100:
        said.append(
            f"The smaller class has {few} studies; below about 100 the figures, above all those of calibration, are "
            "uncertain: read the intervals."
        )
    return said
