"""How far the scores of one head are apart that should be one score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.bundle import Repeatability
from models.contrast import Contrast
from models.perturbation import PLACE, Perturbation, Variant, Variants

ENSEMBLE: Final = "ensemble"
HEADS_MAX: Final = 20
"""Heads that are perturbed: each costs as much as seventeen studies."""
Score = Callable[[Contrast, np.ndarray], float]


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Scores of one head, by what was done to it.

    Attributes
    ----------
    perturbations
        Of each variant; None for the head as it is, which is the first.
    scores
        float64 (n,) for each sequence and the ensemble, by name.
    """

    perturbations: tuple[Perturbation | None, ...]
    scores: Mapping[str, np.ndarray]

    def chosen(self, name: str, wanted: Iterable[Perturbation]) -> np.ndarray:
        """Return the scores of the head as it is and of the wanted perturbations.

        Parameters
        ----------
        name
            Of a sequence, or ``ensemble``.
        wanted
            Which perturbations.
        """
        kept = {None, *wanted}
        return np.array([s for s, p in zip(self.scores[name], self.perturbations, strict=True) if p in kept])


@dataclass(frozen=True, slots=True)
class Variation:
    """How far scores of a head lie apart, over some heads.

    Attributes
    ----------
    sd
        Root of the mean variance within a head.
    mean_sd, worst_sd
        Mean and largest standard deviation of a head.
    largest
        Largest difference between two scores of one head.
    """

    sd: float
    mean_sd: float
    worst_sd: float
    largest: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Repeatability over some heads: by what was done, and by sequence and ensemble.

    Attributes
    ----------
    heads
        How many.
    table
        A variation for each perturbation, ``place`` (all that leave the images as they are) and ``all``, by score.
    """

    heads: int
    table: Mapping[str, Mapping[str, Variation]]

    @property
    def stated(self) -> Repeatability:
        """What a bundle states of it."""
        of_all, place = self.table["all"], self.table["place"][ENSEMBLE]
        sequences = {contrast: of_all[contrast].sd for contrast in Contrast}
        return Repeatability(
            heads=self.heads, sd=of_all[ENSEMBLE].sd, largest=of_all[ENSEMBLE].largest, sequences=sequences,
            place_sd=place.mean_sd, place_worst_sd=place.worst_sd,
        )  # fmt: skip


def score_variants(variants: Iterable[Variant], score: Score, weights: Mapping[Contrast, float]) -> HeadScores:
    """Return the scores of a head's variants.

    Parameters
    ----------
    variants
        Of every sequence.
    score
        Of one sequence's tensor, in [0, 1].
    weights
        Of the ensemble.
    """
    found: dict[Contrast, dict[int, float]] = {contrast: {} for contrast in weights}
    perturbations: dict[int, Perturbation | None] = {}
    for variant in variants:
        perturbations[variant.number] = variant.perturbation
        found[variant.contrast][variant.number] = score(variant.contrast, variant.tensor_zyx)
    numbers = sorted(perturbations)
    scores = {str(contrast): np.array([by[number] for number in numbers]) for contrast, by in found.items()}
    ensemble = np.sum([weights[contrast] * scores[str(contrast)] for contrast in weights], axis=0)
    return HeadScores(tuple(perturbations[number] for number in numbers), {**scores, ENSEMBLE: ensemble})


def measured(heads: Iterable[HeadScores]) -> Measured:
    """Return the variation over heads.

    Parameters
    ----------
    heads
        At least one, all perturbed alike.
    """
    known = tuple(heads)
    made = {kind for kind in known[0].perturbations if kind is not None}
    rows: dict[str, Set[Perturbation]] = {str(kind): {kind} for kind in Perturbation if kind in made}
    rows |= {"place": PLACE & made, "all": made}
    names = tuple(known[0].scores)
    table = {
        row: {name: _variation([head.chosen(name, wanted) for head in known]) for name in names}
        for row, wanted in rows.items()
    }
    return Measured(len(known), table)


def measure_cases(
    cases: Iterable[str], variants: Variants, score: Score, weights: Mapping[Contrast, float]
) -> Measured | None:
    """Return the repeatability over cases, at most `HEADS_MAX`; None where the images of none were kept.

    Parameters
    ----------
    cases
        Names, of patients that the networks have not seen.
    variants
        Gives those of a case.
    score, weights
        Of the bundle.
    """
    heads = []
    for case in tuple(cases)[:HEADS_MAX]:
        found = tuple(variants(case))
        if found:
            heads.append(score_variants(found, score, weights))
    return measured(heads) if heads else None


def _variation(heads: list[np.ndarray]) -> Variation:
    deviations = np.array([scores.std(ddof=1) for scores in heads])
    largest = max(float(np.ptp(scores)) for scores in heads)
    return Variation(float(np.sqrt((deviations**2).mean())), float(deviations.mean()), float(deviations.max()), largest)
