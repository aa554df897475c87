"""Choose the weights of the ensemble on the patent's grid (CN114170162A [0078], [0085])."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from sklearn.metrics import log_loss

from models.contrast import Contrast
from models.training.evaluation.predictions import Predictions
from models.training.evaluation.roc_area import both_classes, concordance

STEPS: Final = 10
"""Parts of the sum of the weights: the patent goes in steps of a tenth ([0085])."""
_LOG_LOSS_DIGITS: Final = 12
"""Of the 15 to 17 that a float64 holds, those that the order of a sum does not change."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of the grid.

    Attributes
    ----------
    tenths
        Weights of T1W, T2W and FLAIR in tenths.
    concordance
        Twice the number of pairs in the right order, an integer; it ranks as the AUC does. Pairs are those of one fold:
        scores of two folds come from two networks and have no common scale.
    auc, log_loss
        Of the ensemble with these weights.
    """

    tenths: tuple[int, int, int]
    concordance: int
    auc: float
    log_loss: float

    @property
    def weights(self) -> dict[Contrast, float]:
        """The weights; each is the float nearest to its tenths."""
        return {contrast: tenths / STEPS for contrast, tenths in zip(tuple(Contrast), self.tenths, strict=True)}


@dataclass(frozen=True, slots=True)
class Choice:
    """The weights chosen, and all that were tried.

    Attributes
    ----------
    weights
        They sum to 1.
    auc, log_loss
        Of the ensemble on the predictions it was chosen on: not evidence of performance.
    table
        The whole search, best first.
    """

    weights: dict[Contrast, float]
    auc: float
    log_loss: float
    table: tuple[Candidate, ...]


def weight_triples() -> list[tuple[int, int, int]]:
    """Return the 36 triples of tenths, each 1 to 8, that sum to 10; integers, since tenths are no binary fractions."""
    tenths = range(1, STEPS - 1)
    return [(i, j, STEPS - i - j) for i in tenths for j in tenths if STEPS - i - j >= 1]


def choose_weights(predictions: Predictions) -> Choice:
    """Return the weights of the largest AUC; ties go to the smallest log-loss, then the most equal, then T1W's least.

    Parameters
    ----------
    predictions
        Out-of-fold scores of development patients, with their folds; those of test patients (the patent's literal
        way) make the result optimistic.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    exact = [[Fraction(float(score)) for score in predictions.scores[contrast]] for contrast in Contrast]
    table = sorted((_candidate(predictions, exact, triple) for triple in weight_triples()), key=_rank)
    best = table[0]
    return Choice(best.weights, best.auc, best.log_loss, tuple(table))


def _candidate(predictions: Predictions, exact: list[list[Fraction]], tenths: tuple[int, int, int]) -> Candidate:
    positive = both_classes(predictions.labels)
    sums = [
        sum((t * s for t, s in zip(tenths, scores, strict=True)), Fraction()) for scores in zip(*exact, strict=True)
    ]
    order = {value: place for place, value in enumerate(sorted(set(sums)))}
    ranks = np.array([order[value] for value in sums])
    concordant = sum(concordance(positive[rows], ranks[rows]) for rows in predictions.strata)
    pairs = sum(int(positive[rows].sum()) * int((~positive[rows]).sum()) for rows in predictions.strata)
    ensemble = np.array([float(value / STEPS) for value in sums])
    loss = float(log_loss(positive, ensemble, labels=[False, True]))
    return Candidate(tenths, concordant, concordant / (2 * pairs), loss)


def _rank(candidate: Candidate) -> tuple[int, float, int, tuple[int, int, int]]:
    unequal = sum((len(tuple(Contrast)) * tenths - STEPS) ** 2 for tenths in candidate.tenths)
    # Sums of the same terms in another order differ in the last digits, which must not decide.
    return -candidate.concordance, round(candidate.log_loss, _LOG_LOSS_DIGITS), unequal, candidate.tenths
