"""Scores of labelled studies, one per contrast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.contrast import Contrast
from models.training.blocks import independent_blocks
from models.training.cohort import Case


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the networks say of cases.

    Attributes
    ----------
    cases
        Labelled studies.
    scores
        float64 (n,) in [0, 1] for each contrast, in the order of `cases`.
    folds
        int (n,): which fold the network of each case had left out; None where the same networks scored all.
    """

    cases: tuple[Case, ...]
    scores: dict[Contrast, np.ndarray]
    folds: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """Return the labels, int (n,)."""
        return np.array([case.label for case in self.cases], int)

    @property
    def patients(self) -> np.ndarray:
        """Return the patients' pseudonyms, str (n,)."""
        return np.array([case.patient for case in self.cases], str)

    @property
    def blocks(self) -> np.ndarray:
        """Return which cases are not independent, int (n,): those linked by patients or groups."""
        return independent_blocks(self.cases)

    @property
    def strata(self) -> tuple[np.ndarray, ...]:
        """Return the rows whose scores have a common scale, int: those of a fold, or all."""
        folds = np.zeros(len(self.cases), int) if self.folds is None else self.folds
        return tuple(np.flatnonzero(folds == fold) for fold in np.unique(folds))

    def ensemble(self, weights: Mapping[Contrast, float]) -> np.ndarray:
        """Return the weighted sums of the scores, float64 (n,), at most 1; weights are never renormalised.

        Parameters
        ----------
        weights
            Of two contrasts or three; they sum to 1.
        """
        return np.minimum(1.0, sum(weight * self.scores[contrast] for contrast, weight in weights.items()))
