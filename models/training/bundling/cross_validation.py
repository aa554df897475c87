"""What the cross-validation found, beside which the figure of the test is to be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from models.contrast import Contrast
from models.training.evaluation.predictions import Predictions
from models.training.evaluation.roc_area import auc, auc_estimate

ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What was found on development patients, each scored by the network that has not seen them.

    Attributes
    ----------
    auc_by_fold
        Of each sequence and the ensemble, fold by fold.
    ensemble_auc
        Over pairs of patients of one fold: scores of two folds come from two networks and have no common scale.
    ensemble_auc_interval
        Of 95 %, over blocks; None where the data do not determine it.
    sensitivity, specificity
        At the bundle's threshold, which was chosen on these scores.
    subgroup_auc
        Of the ensemble within folds, for each subgroup that has both outcomes in a fold.
    """

    auc_by_fold: Mapping[str, tuple[float, ...]]
    ensemble_auc: float
    ensemble_auc_interval: tuple[float, float] | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    subgroup_auc: Mapping[str, float] = field(default_factory=dict)

    def sentence(self) -> str:
        """Return the figures in words."""
        found = "; ".join(f"{name} {', '.join(f'{area:.3f}' for area in by)}" for name, by in self.auc_by_fold.items())
        bounds = self.ensemble_auc_interval
        interval = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
        parts = "".join(f"; {name} {area:.3f}" for name, area in self.subgroup_auc.items())
        return f"AUC fold by fold: {found}; ensemble within folds {self.ensemble_auc:.3f}{interval}{parts}"


def cross_validation(predictions: Predictions, weights: Mapping[Contrast, float], threshold: float) -> CrossValidation:
    """Return what out-of-fold scores say.

    Parameters
    ----------
    predictions
        Of the development cases, with their folds, of both outcomes each.
    weights, threshold
        Of the ensemble, which were chosen on these scores.
    """
    labels, strata = predictions.labels, predictions.strata
    scores = {str(contrast): predictions.scores[contrast] for contrast in Contrast}
    ensemble = scores[ENSEMBLE] = predictions.ensemble(weights)
    by_fold = {name: tuple(auc(labels[rows], found[rows]) for rows in strata) for name, found in scores.items()}
    within = auc_estimate(labels, ensemble, predictions.blocks, strata)
    assert within.value is not None
    return CrossValidation(
        by_fold,
        within.value,
        None if within.low is None or within.high is None else (within.low, within.high),
        float((ensemble[labels == 1] >= threshold).mean()),
        float((ensemble[labels == 0] < threshold).mean()),
        dict(_by_subgroup(predictions, ensemble)),
    )


def _by_subgroup(predictions: Predictions, ensemble: np.ndarray) -> Iterator[tuple[str, float]]:
    labels, names = predictions.labels, np.array([case.subgroup for case in predictions.cases])
    for name in sorted({*names} - {""}):
        parts = [rows[names[rows] == name] for rows in predictions.strata]
        both = [rows for rows in parts if 0 < labels[rows].sum() < len(rows)]
        if both:
            pairs = [int(labels[rows].sum()) * int((1 - labels[rows]).sum()) for rows in both]
            yield str(name), float(np.average([auc(labels[rows], ensemble[rows]) for rows in both], weights=pairs))
