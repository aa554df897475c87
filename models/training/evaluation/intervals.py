"""Estimates with intervals over blocks: a patient with all of its studies, a group with all of its patients.

An interval that the data do not determine is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student

RESAMPLES: Final = 2000
"""Enough for the ends of an interval of 95 % (Efron and Tibshirani 1993 ask for 1000 or more)."""
_UNDEFINED_SHARE_MAX: Final = 0.05
"""Resamples without the statistic, beyond which those that have it no longer stand for all."""
BLOCKS_MIN: Final = 10
"""Fewer, drawn again and again, are too alike (Cameron, Gelbach and Miller, Rev Econ Stat 2008;90:414)."""
Statistic = Callable[[np.ndarray, np.ndarray], float | None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the bounds of its 95 % interval; None where the data do not determine it.

    Attributes
    ----------
    value, low, high
        Point estimate and bounds.
    method
        How the bounds were found; empty without bounds.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""


def resamples(
    labels: ArrayLike, blocks: ArrayLike, seed: int, count: int = RESAMPLES, *, stratified: bool = True
) -> Iterator[np.ndarray]:
    """Yield index sets that draw blocks with replacement, each with all its studies; both classes are in every set.

    Parameters
    ----------
    labels, blocks
        (n,) of the studies; those of a patient, or of a group, are one block.
    seed, count
        Of the draws.
    stratified
        Whether blocks with and without an event are drawn separately, each as many as there are. Statistics that
        depend on how frequent events are need False; a set of one class is then drawn again.
    """
    labels, blocks = np.asarray(labels), np.asarray(blocks)
    studies = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    strata = [[rows for rows in studies if bool(labels[rows].max()) is event] for event in (False, True)]
    groups = [stratum for stratum in strata if stratum] if stratified else [studies]
    generator = np.random.default_rng(seed)
    yielded = 0
    while yielded < count:
        drawn = [group[i] for group in groups for i in generator.integers(len(group), size=len(group))]
        rows = np.concatenate(drawn)
        if 0 < labels[rows].sum() < len(rows):
            yielded += 1
            yield rows


def bootstrap_interval(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    blocks: ArrayLike,
    seed: int,
    *,
    level: float = 0.95,
    count: int = RESAMPLES,
    stratified: bool = True,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic over resampled blocks.

    Parameters
    ----------
    statistic
        Of labels and scores; None where it is not defined.
    labels, blocks
        (n,) label and block of each study.
    scores
        (n,) or (n, k), for statistics that compare scores of the same studies.
    seed
        Of the resampling.
    level, count, stratified
        Coverage, number of resamples and whether they keep the share of events; see `resamples`.

    Returns
    -------
    tuple or None
        None where more than 5 % of the resamples leave the statistic undefined.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    draws = resamples(labels, blocks, seed, count, stratified=stratified)
    found = [statistic(labels[rows], scores[rows]) for rows in draws]
    defined = [value for value in found if value is not None]
    if len(found) - len(defined) > _UNDEFINED_SHARE_MAX * len(found):
        return None
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def bootstrap_estimate(
    statistic: Statistic,
    labels: ArrayLike,
    scores: ArrayLike,
    blocks: ArrayLike,
    seed: int,
    *,
    count: int = RESAMPLES,
    stratified: bool = True,
) -> Estimate:
    """Return a statistic with its `bootstrap_interval` of 95 %.

    Parameters
    ----------
    statistic
        Of labels and scores; None where it is not defined.
    labels, blocks
        (n,) label and block of each study.
    scores
        (n,) or (n, k).
    seed, count, stratified
        Of the resampling; see `resamples`.

    Returns
    -------
    Estimate
        Without bounds where there are fewer than `BLOCKS_MIN` blocks, and where `bootstrap_interval` gives none, or
        none that differ.
    """
    value = statistic(np.asarray(labels), np.asarray(scores))
    if value is None or len(np.unique(np.asarray(blocks))) < BLOCKS_MIN:
        return Estimate(value)
    found = bootstrap_interval(statistic, labels, scores, blocks, seed, count=count, stratified=stratified)
    # An interval without width says that nothing could be otherwise; the resamples alone are too alike.
    return Estimate(value, *found, "bootstrap by block") if found and found[0] < found[1] else Estimate(value)


def share_estimate(right: np.ndarray, among: np.ndarray, blocks: np.ndarray) -> Estimate:
    """Return the share of `right` among `among` with Wilson's interval, over as many studies as they are worth.

    Studies of a block are alike: their number is divided by the design effect, and the quantile is that of as few
    blocks (Korn and Graubard, Surv Methodol 1998;24:193). Where all are right, or none, each block counts once.

    Parameters
    ----------
    right, among
        bool (n,): which studies count, and among which.
    blocks
        (n,) of the studies.
    """
    total, hits = int(among.sum()), int((right & among).sum())
    if total == 0:
        return Estimate(None)
    units = len(np.unique(blocks[among]))
    if units == total:
        return Estimate(hits / total, *wilson_interval(hits / total, total), "Wilson")
    if units == 1:
        return Estimate(hits / total)
    worth = _worth(right[among].astype(float), blocks[among], units)
    return Estimate(hits / total, *wilson_interval(hits / total, worth), "Wilson over blocks")


def wilson_interval(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share (J Am Stat Assoc 1927;22:209).

    Parameters
    ----------
    share
        In [0, 1].
    count
        Of how many; need not be whole.
    level
        Coverage.
    """
    z = float(norm.ppf((1 + level) / 2))
    middle = share + z * z / (2 * count)
    half = z * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def block_variance(influence: np.ndarray, blocks: np.ndarray) -> float:
    """Return the variance of a statistic from what each study adds to it, summed over blocks; nan for one block.

    Parameters
    ----------
    influence
        float64 (n,): by how much each study moves the statistic; they sum to 0.
    blocks
        (n,) of the studies.
    """
    sums = np.bincount(np.unique(blocks, return_inverse=True)[1], influence)
    return float((sums**2).sum()) * len(sums) / (len(sums) - 1) if len(sums) > 1 else float("nan")


def block_quantile(blocks: np.ndarray, level: float = 0.95) -> float:
    """Return Student's quantile for as many blocks as there are, two at least.

    Parameters
    ----------
    blocks
        (n,) of the studies.
    level
        Coverage.
    """
    return float(student.ppf((1 + level) / 2, len(np.unique(blocks)) - 1))


def _worth(right: np.ndarray, blocks: np.ndarray, units: int) -> float:
    """Return of how many independent studies a share is worth; a block at least counts once, a study at most."""
    share = float(right.mean())
    variance = block_variance((right - share) / len(right), blocks)
    if share in (0.0, 1.0) or variance == 0:
        return units
    few = (float(norm.ppf(0.975)) / block_quantile(blocks)) ** 2
    return min(len(right), share * (1 - share) / variance) * few
