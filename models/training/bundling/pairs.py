"""Pairs of sequences, for studies that lack the third: their weights, and which of them are worth a score."""

from __future__ import annotations

from itertools import combinations
from typing import Final

from sklearn.metrics import log_loss

from models.bundle import Metadata, TwoSequences
from models.contrast import Contrast
from models.training.bundling.ensemble_weights import STEPS
from models.training.bundling.training_record import DroppedPair
from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.intervals import Estimate
from models.training.evaluation.metrics import auc, youden_threshold
from models.training.evaluation.predictions import Predictions

_CHANCE: Final = 0.5
"""AUC of a score that says nothing."""


def choose_pairs(predictions: Predictions) -> tuple[TwoSequences, ...]:
    """Return weights and threshold of every pair, chosen as those of the three contrasts are.

    Parameters
    ----------
    predictions
        Out-of-fold scores of development patients, of both classes.
    """
    return tuple(_pair(predictions, first, second) for first, second in combinations(tuple(Contrast), 2))


def tested_pairs(metadata: Metadata, evaluation: Evaluation) -> tuple[TwoSequences, ...]:
    """Return the pairs that tell the test patients apart better than chance, with what was found on these.

    Parameters
    ----------
    metadata
        Of a bundle with pairs.
    evaluation
        Of that bundle on the test patients.
    """
    return tuple(
        pair.model_copy(update={"auc": _auc(evaluation, pair).value, "patients": evaluation.ensemble.patients})
        for pair in metadata.two_sequences
        if _informs(_auc(evaluation, pair))
    )


def dropped_pairs(metadata: Metadata, evaluation: Evaluation) -> dict[str, DroppedPair]:
    """Return the other pairs, which a node must not score by, by name.

    Parameters
    ----------
    metadata
        Of a bundle with pairs.
    evaluation
        Of that bundle on the test patients.
    """
    found = {pair_name(pair): _auc(evaluation, pair) for pair in metadata.two_sequences}
    return {name: DroppedPair(auc.value, auc.low) for name, auc in found.items() if not _informs(auc)}


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
        scores = predictions.ensemble(_weights(first, second, tenths))
        return -auc(labels, scores), float(log_loss(labels, scores)), abs(2 * tenths - STEPS), tenths

    weights = _weights(first, second, min(range(1, STEPS), key=rank))
    scores = predictions.ensemble(weights)
    return TwoSequences(
        weights=weights,
        threshold=youden_threshold(labels, scores),
        patients=len(set(predictions.patients)),
        auc=auc(labels, scores),
    )


def _weights(first: Contrast, second: Contrast, tenths: int) -> dict[Contrast, float]:
    return {first: tenths / STEPS, second: (STEPS - tenths) / STEPS}


def _auc(evaluation: Evaluation, pair: TwoSequences) -> Estimate:
    return evaluation.two_sequences[pair_name(pair)].auc


def _informs(found: Estimate) -> bool:
    """Return whether a pair tells the test patients apart better than chance, as far as their number can show it."""
    return found.low is not None and found.low > _CHANCE
