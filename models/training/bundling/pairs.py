"""Pairs of sequences, for studies that lack the third: their weights, and which of them are worth a score."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Final

from sklearn.metrics import log_loss

from models.bundle import TwoSequences
from models.contrast import Contrast
from models.training.bundling.ensemble_weights import STEPS
from models.training.bundling.training_record import DroppedPair
from models.training.evaluation.intervals import Estimate
from models.training.evaluation.predictions import Predictions
from models.training.evaluation.roc_area import auc_estimate, youden_threshold

_CHANCE: Final = 0.5
"""AUC of a score that says nothing."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What became of the three pairs.

    Attributes
    ----------
    kept
        Weights and threshold, chosen as those of the three contrasts are.
    dropped
        By name those that a node must not score by.
    """

    kept: tuple[TwoSequences, ...]
    dropped: dict[str, DroppedPair]


def choose_pairs(predictions: Predictions) -> Pairs:
    """Return the pairs that tell development patients apart better than chance, and the others; the test has no say.

    Parameters
    ----------
    predictions
        Out-of-fold scores of development patients, of both classes.
    """
    kept, dropped = [], {}
    for first, second in combinations(tuple(Contrast), 2):
        pair = _pair(predictions, first, second)
        found = _estimate(predictions, pair.weights)
        if found.low is not None and found.low > _CHANCE:
            kept.append(pair)
        else:
            dropped[pair_name(pair)] = DroppedPair(found.value, found.low)
    return Pairs(tuple(kept), dropped)


def pair_name(pair: TwoSequences) -> str:
    """Return the name of a pair in records and results, for example ``T1W + FLAIR``.

    Parameters
    ----------
    pair
        Its contrasts are named in the order of its weights.
    """
    return " + ".join(pair.weights)


def _pair(predictions: Predictions, first: Contrast, second: Contrast) -> TwoSequences:
    labels = predictions.labels

    def rank(tenths: int) -> tuple[float, float, int, int]:
        weights = _weights(first, second, tenths)
        loss = float(log_loss(labels, predictions.ensemble(weights)))
        return -_area(predictions, weights), loss, abs(2 * tenths - STEPS), tenths

    weights = _weights(first, second, min(range(1, STEPS), key=rank))
    return TwoSequences(
        weights=weights,
        threshold=youden_threshold(labels, predictions.ensemble(weights)),
        patients=len(set(predictions.patients)),
        auc=_area(predictions, weights),
    )


def _estimate(predictions: Predictions, weights: dict[Contrast, float]) -> Estimate:
    return auc_estimate(predictions.labels, predictions.ensemble(weights), predictions.blocks, predictions.strata)


def _area(predictions: Predictions, weights: dict[Contrast, float]) -> float:
    found = _estimate(predictions, weights).value
    assert found is not None
    return found


def _weights(first: Contrast, second: Contrast, tenths: int) -> dict[Contrast, float]:
    return {first: tenths / STEPS, second: (STEPS - tenths) / STEPS}
