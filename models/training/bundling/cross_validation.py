"""What the cross-validation found, beside which the figure of the test is to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.contrast import Contrast
from models.training.evaluation.predictions import Predictions
from models.training.evaluation.roc_area import auc
from models.training.fit.folds import Split

ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """AUC on development patients, each scored by the network that has not seen them.

    Attributes
    ----------
    auc_by_fold
        Of each sequence and the ensemble, fold by fold.
    ensemble_auc
        Over pairs of patients of one fold: scores of two folds come from two networks and have no common scale.
    """

    auc_by_fold: Mapping[str, tuple[float, ...]]
    ensemble_auc: float

    def sentence(self) -> str:
        """Return the figures in words."""
        found = "; ".join(f"{name} {', '.join(f'{area:.3f}' for area in by)}" for name, by in self.auc_by_fold.items())
        return f"AUC fold by fold: {found}; ensemble within folds {self.ensemble_auc:.3f}"


def cross_validation(predictions: Predictions, weights: Mapping[Contrast, float], parts: Split) -> CrossValidation:
    """Return what out-of-fold scores say.

    Parameters
    ----------
    predictions
        Of the development cases.
    weights
        Of the ensemble, which were chosen on these scores.
    parts
        Folds with both outcomes each.
    """
    places = {case.case: place for place, case in enumerate(predictions.cases)}
    folds = [np.array([places[case.case] for case in fold]) for fold in parts.folds]
    scores = {str(contrast): predictions.scores[contrast] for contrast in Contrast}
    scores[ENSEMBLE] = predictions.ensemble(weights)
    labels = predictions.labels
    by_fold = {name: tuple(auc(labels[rows], found[rows]) for rows in folds) for name, found in scores.items()}
    pairs = [int(labels[rows].sum()) * int((1 - labels[rows]).sum()) for rows in folds]
    return CrossValidation(by_fold, float(np.average(by_fold[ENSEMBLE], weights=pairs)))
