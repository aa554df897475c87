"""Area under the ROC curve, its intervals, and the threshold read off the curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from models.training.evaluation.intervals import Estimate, block_quantile, block_variance

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
    of_events, of_others = _placements(both_classes(labels), np.asarray(scores, float))
    if min(len(of_events), len(of_others)) < _CLASS_MIN:
        return math.nan
    return float(of_events.var(ddof=1) / len(of_events) + of_others.var(ddof=1) / len(of_others))


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


def area_influence(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Return by how much each study moves the area, float64 (n,); they sum to 0.

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
    of_events, of_others = _placements(positive, scores)
    area, moved = auc(positive, scores), np.empty(len(scores))
    moved[positive] = (of_events - area) / len(of_events)
    moved[~positive] = (1 - of_others - area) / len(of_others)
    return moved


def _placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which share of the other class scores lower, ties by half: of each event, and of each of the others."""
    ranks = rankdata(scores)
    events, others = scores[positive], scores[~positive]
    return (ranks[positive] - rankdata(events)) / len(others), (ranks[~positive] - rankdata(others)) / len(events)


def auc_estimate(
    labels: ArrayLike, scores: ArrayLike, blocks: ArrayLike, strata: Sequence[np.ndarray] | None = None
) -> Estimate:
    """Return the AUC with the interval that fits the data; the method says which.

    Parameters
    ----------
    labels, scores, blocks
        (n,) label (0 or 1), score and block of each study; those of a patient, or of a group, are one block.
    strata
        Rows whose scores have a common scale, each of both classes: pairs are counted within them alone. None: all.

    Returns
    -------
    Estimate
        DeLong's interval for independent studies; for blocks Obuchowski's variance (Biometrics 1997;53:567) on the
        logit scale with Student's quantile; Newcombe's where all pairs agree, with a block of either class for a
        study. A single block determines none.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    positive, scores, blocks = both_classes(labels), np.asarray(scores, float), np.asarray(blocks)
    parts = [np.arange(len(scores))] if strata is None else list(strata)
    areas = [auc(positive[rows], scores[rows]) for rows in parts]
    pairs = [int(positive[rows].sum()) * int((~positive[rows]).sum()) for rows in parts]
    area = areas[0] if len(parts) == 1 else float(np.average(areas, weights=pairs))
    single = len(np.unique(blocks)) == len(blocks)
    if single and len(parts) == 1 and delong_variance(positive, scores) > 0:
        return Estimate(area, *delong_interval(positive, scores), "DeLong on the logit scale")
    moved = np.zeros(len(scores))
    for rows, share in zip(parts, np.array(pairs) / sum(pairs), strict=True):
        moved[rows] = share * area_influence(positive[rows], scores[rows])
    return _by_blocks(area, block_variance(moved, blocks), positive, blocks)


def _by_blocks(area: float, variance: float, positive: np.ndarray, blocks: np.ndarray) -> Estimate:
    if variance > 0 and _EDGE < area < 1 - _EDGE:
        half = block_quantile(blocks) * math.sqrt(variance) / (area * (1 - area))
        bounds = float(expit(logit(area) - half)), float(expit(logit(area) + half))
        return Estimate(area, *bounds, "Obuchowski over blocks, on the logit scale")
    if math.isnan(variance):
        return Estimate(area)
    events, others = (len(np.unique(blocks[rows])) for rows in (positive, ~positive))
    return Estimate(area, *newcombe_interval(area, events, others), "Newcombe's score interval")


def gain_estimate(labels: ArrayLike, scores: ArrayLike, others: ArrayLike, blocks: ArrayLike) -> Estimate:
    """Return by how much the AUC of some scores is greater than that of others, paired by study.

    Parameters
    ----------
    labels, blocks
        (n,) label (0 or 1) and block of each study.
    scores, others
        (n,), of any scale.

    Returns
    -------
    Estimate
        Without bounds where the gain cannot vary: equal scores, or scores that order all studies alike.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    blocks, gain = np.asarray(blocks), auc(labels, scores) - auc(labels, others)
    variance = block_variance(area_influence(labels, scores) - area_influence(labels, others), blocks)
    if not variance > _EDGE**2:
        return Estimate(gain)
    half = block_quantile(blocks) * math.sqrt(variance)
    return Estimate(gain, max(-1.0, gain - half), min(1.0, gain + half), "by blocks, paired")


def least_noticed_area(events: int, others: int, level: float = 0.95) -> float:
    """Return the AUC whose interval excludes 0.5 in half of the tests: what lies below it would mostly go unseen.

    Parameters
    ----------
    events, others
        Independent studies of either class.
    level
        Of the interval, Newcombe's.
    """
    z, spread = float(norm.ppf((1 + level) / 2)), (events + others) / 2 - 1
    return min(1.0, 0.5 + z * math.sqrt(0.25 * (1 + 2 * spread / 3) / (events * others)))


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
