"""Estimates with intervals over patients: a patient is drawn with all of its studies.

An interval that the data do not determine is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

RESAMPLES: Final = 2000
"""Enough for the ends of an interval of 95 % (Efron and Tibshirani 1993 ask for 1000 or more)."""
_UNDEFINED_SHARE_MAX: Final = 0.05
"""Resamples without the statistic, beyond which those that have it no longer stand for all."""
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
    labels: ArrayLike, patients: ArrayLike, seed: int, count: int = RESAMPLES, *, stratified: bool = True
) -> Iterator[np.ndarray]:
    """Yield index sets that draw patients with replacement, each with all its studies; both classes are in every set.

    Parameters
    ----------
    labels, patients
        (n,) of the studies.
    seed, count
        Of the draws.
    stratified
        Whether patients with and without an event are drawn separately, each as many as there are. Statistics that
        depend on how frequent events are need False; a set of one class is then drawn again.
    """
    labels, patients = np.asarray(labels), np.asarray(patients)
    studies = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
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
    patients: ArrayLike,
    seed: int,
    *,
    level: float = 0.95,
    count: int = RESAMPLES,
    stratified: bool = True,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic over resampled patients.

    Parameters
    ----------
    statistic
        Of labels and scores; None where it is not defined.
    labels, patients
        (n,) label and patient of each study.
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
    draws = resamples(labels, patients, seed, count, stratified=stratified)
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
    patients: ArrayLike,
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
    labels, patients
        (n,) label and patient of each study.
    scores
        (n,) or (n, k).
    seed, count, stratified
        Of the resampling; see `resamples`.

    Returns
    -------
    Estimate
        Without bounds where `bootstrap_interval` gives none, or none that differ.
    """
    value = statistic(np.asarray(labels), np.asarray(scores))
    if value is None:
        return Estimate(None)
    found = bootstrap_interval(statistic, labels, scores, patients, seed, count=count, stratified=stratified)
    # An interval without width says that nothing could be otherwise; the resamples alone are too alike.
    return Estimate(value, *found, "bootstrap by patient") if found and found[0] < found[1] else Estimate(value)


def share_estimate(
    right: np.ndarray, among: np.ndarray, patients: np.ndarray, positive: np.ndarray, seed: int, count: int
) -> Estimate:
    """Return the share of `right` among `among`; Wilson's interval if each patient has one study there.

    Parameters
    ----------
    right, among
        bool (n,): which studies count, and among which.
    patients, positive
        (n,) patient of each study, and whether it had the event.
    seed, count
        Of the bootstrap.
    """
    total, hits = int(among.sum()), int((right & among).sum())
    if total == 0:
        return Estimate(None)
    if len(np.unique(patients[among])) == total:
        wilson = binomtest(hits, total).proportion_ci(method="wilson")
        return Estimate(hits / total, float(wilson.low), float(wilson.high), "Wilson")

    def statistic(_: np.ndarray, flags: np.ndarray) -> float | None:
        chosen = flags[:, 1]
        return float(flags[chosen, 0].mean()) if chosen.any() else None

    flags = np.stack([right, among], axis=1)
    return bootstrap_estimate(statistic, positive, flags, patients, seed, count=count, stratified=False)
