"""How well scores tell labels apart, with intervals that take blocks, not studies, as the unit.

Point estimates are over studies. Where all studies are independent, intervals are DeLong's and Wilson's; studies of a
patient, and patients of a group, are blocks that count as a whole. An interval that the data do not determine is
None, never a guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from models.calibration import SCORE_MARGIN
from models.training.evaluation.intervals import (
    RESAMPLES,
    Estimate,
    Statistic,
    bootstrap_estimate,
    bootstrap_interval,
    share_estimate,
)
from models.training.evaluation.roc_area import auc, auc_estimate, both_classes, delong_interval, youden_threshold

__all__ = [
    "Estimate",
    "Summary",
    "auc",
    "bootstrap_interval",
    "calibration_intercept",
    "calibration_slope",
    "delong_interval",
    "logits",
    "separated",
    "summarise",
    "youden_threshold",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """Performance of one score on one set of studies.

    Attributes
    ----------
    studies, patients, events
        How many; an event is a study labelled 1.
    threshold
        A study is called positive at or above it.
    true_positives, false_positives, true_negatives, false_negatives
        Studies.
    auc, sensitivity, specificity, ppv, npv, brier
        Estimates in [0, 1].
    calibration_intercept
        Calibration in the large: what must be added to the logits to make the mean probability right; 0 is perfect.
    calibration_slope
        Of a logistic regression of the label on the logit of the score; 1 is perfect, None under separation.
    """

    studies: int
    patients: int
    events: int
    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    brier: Estimate
    calibration_intercept: Estimate
    calibration_slope: Estimate


def logits(scores: ArrayLike) -> np.ndarray:
    """Return the logits of scores in [0, 1], float64; `SCORE_MARGIN` keeps them finite.

    Parameters
    ----------
    scores
        Any shape.
    """
    kept: np.ndarray = np.clip(np.asarray(scores, float), SCORE_MARGIN, 1 - SCORE_MARGIN)
    return np.asarray(logit(kept))


def calibration_intercept(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the calibration in the large: the shift of all logits that makes the mean probability the share of events.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        (n,) in [0, 1].

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive, x = both_classes(labels), logits(scores)
    reach = float(np.abs(x).max()) + math.log(len(x)) + 1
    return float(brentq(lambda shift: float(expit(x + shift).sum() - positive.sum()), -reach, reach))


def calibration_slope(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Return the slope of a logistic regression of the label on the logit of the score; None where it has none.

    A threshold that separates the classes (or all but equal scores) leaves the likelihood without a maximum.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        (n,) in [0, 1].

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive, x = both_classes(labels), logits(scores)
    if separated(positive, x):
        return None
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-6).fit(x[:, None], positive)
    return float(fitted.coef_[0, 0])


def separated(positive: np.ndarray, x: np.ndarray) -> bool:
    """Return whether one cut divides the classes but for equal values (Albert and Anderson, Biometrika 1984;71:1).

    Parameters
    ----------
    positive
        bool (n,), of both classes.
    x
        (n,) scores or their logits.
    """
    events, others = x[positive], x[~positive]
    return bool(others.max() <= events.min() or events.max() <= others.min())


def summarise(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    threshold: float,
    seed: int,
    *,
    blocks: ArrayLike | None = None,
    count: int = RESAMPLES,
) -> Summary:
    """Return the performance of scores in [0, 1] at a threshold fixed beforehand.

    Parameters
    ----------
    labels, scores, patients
        (n,) label (0 or 1), score and patient of each study.
    threshold
        At or above it a study is called positive.
    seed, count
        Of the bootstrap.
    blocks
        (n,): which studies are not independent; None: those of a patient.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive, scores, patients = both_classes(labels), np.asarray(scores, float), np.asarray(patients)
    called, units = scores >= threshold, patients if blocks is None else np.asarray(blocks)

    def share(right: np.ndarray, among: np.ndarray) -> Estimate:
        return share_estimate(right, among, units)

    def resampled(statistic: Statistic, times: int) -> Estimate:
        return bootstrap_estimate(statistic, positive, scores, units, seed, count=times, stratified=False)

    return Summary(
        studies=len(scores),
        patients=len(np.unique(patients)),
        events=int(positive.sum()),
        threshold=threshold,
        true_positives=int((called & positive).sum()),
        false_positives=int((called & ~positive).sum()),
        true_negatives=int((~called & ~positive).sum()),
        false_negatives=int((~called & positive).sum()),
        auc=auc_estimate(positive, scores, units),
        sensitivity=share(called, positive),
        specificity=share(~called, ~positive),
        ppv=share(positive, called),
        npv=share(~positive, ~called),
        brier=resampled(lambda y, p: float(np.mean((p - y) ** 2)), count),
        calibration_intercept=resampled(calibration_intercept, count),
        calibration_slope=resampled(calibration_slope, max(1, count // 4)),
    )
