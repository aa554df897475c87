"""Area under the ROC curve, its intervals, and the threshold read off the curve."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from models.training.evaluation.intervals import Estimate, bootstrap_interval

_CLASS_MIN: Final = 2
"""A variance needs two studies."""
_EDGE: Final = 1e-12
"""Distance from 0, 1 and the area itself, within which Newcombe's equation is not solved."""


def concordance(labels: ArrayLike, scores: ArrayLike) -> int:
    """Return twice the Mann-Whitney count: pairs in the right order count 2, ties 1; exact, so that it can be compared.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        (n,), of any scale.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive = both_classes(labels)
    events = int(positive.sum())
    doubled_ranks = np.rint(2 * rankdata(np.asarray(scores, float))).astype(int)
    return int(doubled_ranks[positive].sum()) - events * (events + 1)


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve; ties count one half.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        (n,), of any scale.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive = both_classes(labels)
    return concordance(labels, scores) / (2 * int(positive.sum()) * int((~positive).sum()))


def delong_interval(
    labels: ArrayLike, scores: ArrayLike, level: float = 0.95, *, on_logit: bool = True
) -> tuple[float, float]:
    """Return DeLong's interval of the AUC (Biometrics 1988;44:837), clipped to [0, 1].

    Parameters
    ----------
    labels, scores
        One study per patient; see `bootstrap_interval` for several.
    level
        Coverage.
    on_logit
        Whether the interval is symmetric on the logit scale, which suits small samples and high areas better.

    Raises
    ------
    ValueError
        Unless both classes are there, or where the variance is 0 or unknown (perfect or constant scores, a class of
        one): an interval of no width would be wrong; `newcombe_interval` serves there.
    """
    area, variance = auc(labels, scores), delong_variance(labels, scores)
    if not variance > 0:
        raise ValueError("DeLong's variance does not describe these scores")
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    if not on_logit:
        return max(0.0, area - half), min(1.0, area + half)
    half /= area * (1 - area)
    return float(expit(logit(area) - half)), float(expit(logit(area) + half))


def delong_variance(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return DeLong's variance of the AUC by mid-ranks (Sun and Xu 2014); nan where a class has one study.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        (n,), of any scale.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive, scores = both_classes(labels), np.asarray(scores, float)
    ranks, events, others = rankdata(scores), int(positive.sum()), int((~positive).sum())
    if min(events, others) < _CLASS_MIN:
        return math.nan
    of_events = (ranks[positive] - rankdata(scores[positive])) / others
    of_others = (ranks[~positive] - rankdata(scores[~positive])) / events
    return float(of_events.var(ddof=1) / events + of_others.var(ddof=1) / others)


def newcombe_interval(area: float, events: int, others: int, level: float = 0.95) -> tuple[float, float]:
    """Return Newcombe's score interval of an AUC (Stat Med 2006;25:559, method 5), which holds at 0 and 1 as well.

    Parameters
    ----------
    area
        In [0, 1].
    events, others
        Patients of either class.
    level
        Coverage.

    Returns
    -------
    tuple of float
        Bounds in [0, 1].
    """
    spread, z = (events + others) / 2 - 1, float(norm.ppf((1 + level) / 2))

    def excess(true: float) -> float:
        pairs = 1 + spread * (1 - true) / (2 - true) + spread * true / (1 + true)
        return (area - true) ** 2 - z * z * true * (1 - true) * pairs / (events * others)

    low = 0.0 if area <= _EDGE else float(brentq(excess, _EDGE, area - _EDGE))
    high = 1.0 if area >= 1 - _EDGE else float(brentq(excess, area + _EDGE, 1 - _EDGE))
    return low, high


def auc_estimate(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, seed: int, count: int) -> Estimate:
    """Return the AUC with the interval that fits the data; the method says which.

    Parameters
    ----------
    labels, scores, patients
        (n,) label (0 or 1), score and patient of each study.
    seed, count
        Of the bootstrap.

    Returns
    -------
    Estimate
        DeLong's interval for one study per patient, a bootstrap by patient for several, Newcombe's where neither
        holds.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    area, patients = auc(labels, scores), np.asarray(patients)
    single = len(np.unique(patients)) == len(patients)
    if single and delong_variance(labels, scores) > 0:
        return Estimate(area, *delong_interval(labels, scores), "DeLong on the logit scale")
    found = None if single else bootstrap_interval(auc, labels, scores, patients, seed, count=count)
    if found and found[0] < found[1]:
        return Estimate(area, *found, "bootstrap by patient")
    events = len(np.unique(patients[both_classes(labels)]))
    others = max(1, len(np.unique(patients)) - events)
    return Estimate(area, *newcombe_interval(area, events, others), "Newcombe's score interval")


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold of the largest sensitivity + specificity; of several, the one that finds more events.

    It lies midway between two neighbouring scores, so that no study sits on it; if all scores are equal it is theirs.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        (n,), of any scale.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive, scores = both_classes(labels), np.asarray(scores, float)
    distinct = np.unique(scores)
    if len(distinct) == 1:
        return float(distinct[0])
    cuts = (distinct[:-1] + distinct[1:]) / 2
    found = (scores[positive][:, None] >= cuts).sum(axis=0)
    false = (scores[~positive][:, None] >= cuts).sum(axis=0)
    gain = found * int((~positive).sum()) - false * int(positive.sum())
    return float(cuts[int(np.argmax(gain))])


def both_classes(labels: ArrayLike) -> np.ndarray:
    """Return which labels are 1.

    Parameters
    ----------
    labels
        (n,), 0 or 1.

    Returns
    -------
    numpy.ndarray
        bool (n,)

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive: np.ndarray = np.asarray(labels).astype(bool)
    if positive.all() or not positive.any():
        raise ValueError("both classes are needed")
    return positive
