"""From tubers to the label of a made patient: a stated, noisy rule, and how well it can be learned at best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.contrast import Contrast

MIDPOINT_ML = 6.0
"""Burden at which both labels are equally likely."""
STEEPNESS = 1.6
"""The larger, the less noise: at four times the midpoint one label in 10 is the unlikely one, at eight one in 29."""

RULE = (
    "The burden of a sequence is the sum over all tubers of volume (ml) times contrast in that sequence; the burden of "
    "a patient is the mean over the sequences with signal. The label is 1 with probability "
    f"1 / (1 + ({MIDPOINT_ML:g} / burden) ** {STEEPNESS:g}), drawn once for each patient."
)


def mean_burden_ml(burden_ml: Mapping[Contrast, float], signal: Sequence[Contrast]) -> float:
    """Return the burden of a patient: the mean over the sequences with signal.

    Parameters
    ----------
    burden_ml
        Volume times contrast by sequence.
    signal
        At least one sequence.

    Returns
    -------
    float
        Millilitres.
    """
    return sum(burden_ml[role] for role in signal) / len(signal)


def probability(burden_ml: float) -> float:
    """Return the probability that the label is 1: a logistic function of the logarithm of the burden.

    Parameters
    ----------
    burden_ml
        Of a patient, 0 or more.

    Returns
    -------
    float
        0 without burden, 0.5 at `MIDPOINT_ML`.

    Raises
    ------
    ValueError
        If the burden is negative.
    """
    if burden_ml < 0:
        raise ValueError(f"a burden is not negative, {burden_ml} is")
    share = float(burden_ml**STEEPNESS)
    return share / (share + float(MIDPOINT_ML**STEEPNESS))


def achievable_auc(probabilities: Sequence[float]) -> float:
    """Return the AUC that a reader who knows the burden has, in expectation over the draws of the labels.

    Parameters
    ----------
    probabilities
        Of label 1, one for each patient; not all 0 and not all 1.

    Returns
    -------
    float
        0.5 to 1.

    Notes
    -----
    Each patient counts as a positive one with its probability and as a negative one with the rest. That counts a
    patient against itself too, as a tie, which no longer matters at a few dozen patients.
    """
    return _auc(probabilities, probabilities)


def reached_auc(probabilities: Sequence[float], labels: Sequence[int]) -> float | None:
    """Return the AUC of the probabilities for the labels that were drawn.

    Parameters
    ----------
    probabilities
        Of label 1, one for each patient.
    labels
        0 or 1, in the same order.

    Returns
    -------
    float or None
        0 to 1; None where all labels are the same.
    """
    return _auc(probabilities, labels) if len(set(labels)) > 1 else None


def _auc(scores: Sequence[float], positive: Sequence[float]) -> float:
    """Return the AUC where each patient counts as a positive one by the given share, as a negative one by the rest."""
    score, pro = np.asarray(scores, np.float64), np.asarray(positive, np.float64)
    in_order = (np.sign(score[:, None] - score[None, :]) + 1) / 2
    return float(pro @ in_order @ (1 - pro) / (pro.sum() * (1 - pro).sum()))
