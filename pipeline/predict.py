"""Model tensors -> Finding: scores, weights, and which model said so."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import SimpleITK as sitk

from models.bundle import Calibration, Check, Evidence, Grid, Repeatability, TwoSequences
from models.calibration import calibrated
from models.contrast import Contrast
from pipeline.grid import brain_centred, low_passed, resample
from pipeline.intensity import standardise
from pipeline.out_of_range import OutOfRange

_NEAR_SD: Final = 2.0
"""Standard deviations: one head in twenty of such a score would lie beyond."""
_FEWEST_FOLDS: Final = 2
"""One fold has no spread."""


class Category(StrEnum):
    """On which side of the decision threshold a score lies."""

    AT_OR_ABOVE = "at_or_above_threshold"
    BELOW = "below_threshold"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which ensemble produced a finding.

    Attributes
    ----------
    name, version, digest
        Of the bundle; the digest is a SHA-256 over all of its files.
    notice
        First line of every output, for example ``UNTRAINED DEMONSTRATION MODEL``; plain ASCII.
    intended_use
        For whom the output is meant, in ASCII sentences.
    architecture
        For example ``EfficientNet3D-B0, first-block stride 2``.
    network_digests
        SHA-256 of each sequence's weights.
    evidence
        What is known of its performance; None if it was never evaluated.
    repeatability
        How far scores of one head lie apart; None where the bundle does not state it.
    checks
        What of a study was compared with the cohort that the model was made with.
    """

    name: str
    version: str
    digest: str
    notice: str
    intended_use: str
    architecture: str
    network_digests: dict[Contrast, str]
    evidence: Evidence | None = None
    repeatability: Repeatability | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the networks of several folds are apart on one study.

    Attributes
    ----------
    folds
        How many there are, at least 2.
    sd
        Standard deviation of their scores (of a sample, n - 1).
    low, high
        Lowest and highest score, in [0, 1].
    """

    folds: int
    sd: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibrated probability, by which method, fitted on how many patients."""

    probability: float
    method: str
    patients: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What the ensemble says of one study.

    Attributes
    ----------
    scores
        Of each sequence, in [0, 1]; the mean over its networks.
    weights
        Of the ensemble; they sum to 1.
    score
        Weighted sum of `scores`, in [0, 1].
    score_patent
        A third of it, the literal value of CN114170162A [0078].
    threshold
        Decision threshold on `score`.
    category
        Side of the threshold.
    model
        Which ensemble.
    members
        Scores of each sequence's networks in the order of the folds, in [0, 1]; empty where they are not known.
    calibrated
        Only where the bundle carries a calibration.
    out_of_range
        In what the study lies outside of the model's range, or may lie.
    two_sequences
        By what a study without the third sequence was scored; None where all three were there.
    """

    scores: dict[Contrast, float]
    weights: dict[Contrast, float]
    score: float
    score_patent: float
    threshold: float
    category: Category
    model: ModelIdentity
    members: dict[Contrast, tuple[float, ...]] = field(default_factory=dict)
    calibrated: Calibrated | None = None
    out_of_range: tuple[OutOfRange, ...] = ()
    two_sequences: TwoSequences | None = None

    @property
    def sequences(self) -> tuple[Contrast, ...]:
        """The sequences that were scored, in their usual order."""
        return tuple(role for role in Contrast if role in self.scores)

    @property
    def missing(self) -> tuple[Contrast, ...]:
        """The sequences that the study lacked; none but for a bundle that was tested on two."""
        return tuple(role for role in Contrast if role not in self.scores)

    @property
    def repeatability(self) -> Repeatability | None:
        """How far scores like this one lie apart for one head; None where that was not measured."""
        return None if self.two_sequences else self.model.repeatability

    @property
    def near_threshold(self) -> bool:
        """Whether the same head might get a score on the other side: nearer than twice the SD; False if not known."""
        known = self.repeatability
        return known is not None and abs(self.score - self.threshold) < _NEAR_SD * known.sd

    @property
    def contradicting(self) -> tuple[Contrast, ...]:
        """The sequences whose score alone lies on the other side of the threshold."""
        above = self.score >= self.threshold
        return tuple(role for role in self.sequences if (self.scores[role] >= self.threshold) != above)

    def spread(self, role: Contrast | None = None) -> Spread | None:
        """Return the spread over folds of one score; None where there is one fold.

        Parameters
        ----------
        role
            Whose score; None for that of the ensemble.
        """
        if not self.members:
            return None
        if role is not None:
            return _spread(self.members[role])
        folds = zip(*(self.members[each] for each in self.sequences), strict=True)
        return _spread([_weighted(dict(zip(self.sequences, fold, strict=True)), self.weights) for fold in folds])


def model_tensor(
    volume: sitk.Image,
    mask: sitk.Image,
    grid: Grid,
    clip_percentiles: tuple[float, float],
    shift_voxels: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Return the network input of a volume; training and inference both come through here.

    Parameters
    ----------
    volume, mask
        Image and brain mask on the same voxels, any orientation.
    grid, clip_percentiles
        Of the model bundle.
    shift_voxels
        See :func:`pipeline.grid.brain_centred`; other than 0 to measure what a score owes to the grid's place.

    Returns
    -------
    numpy.ndarray
        float32 (z, y, x) on the model grid; z-scored inside the brain, 0 outside. A grid with a low-pass has a soft
        border: a voxel that holds brain in part keeps that share of its value.

    Raises
    ------
    StudyHeld
        ``geometry_brain_outside_grid`` or ``intensity_constant``.
    """
    target = brain_centred(mask, grid, shift_voxels)
    image_zyx = sitk.GetArrayFromImage(resample(low_passed(volume, grid), target))
    nearest = not grid.low_pass_voxels
    share_zyx = sitk.GetArrayFromImage(resample(low_passed(mask, grid), target, nearest=nearest))
    return standardise(image_zyx, share_zyx, clip_percentiles)


def combine(
    scores: Mapping[Contrast, float],
    weights: Mapping[Contrast, float],
    threshold: float,
    model: ModelIdentity,
    *,
    two_sequences: TwoSequences | None = None,
    members: Mapping[Contrast, tuple[float, ...]] | None = None,
    calibration: Calibration | None = None,
    out_of_range: tuple[OutOfRange, ...] = (),
) -> Finding:
    """Return the finding of the single-sequence scores.

    Parameters
    ----------
    scores, weights, threshold, model
        As in `Finding`.
    two_sequences
        Where weights and threshold come from if the study lacks a sequence and the bundle was tested on the others.
    members
        Scores of each sequence's networks in the order of the folds, in [0, 1].
    calibration
        Of the ensemble score, if the bundle carries one.
    out_of_range
        Of the study.

    Returns
    -------
    Finding
        With the weighted sum of `scores` in [0, 1] as its score.

    Raises
    ------
    ValueError
        If scores or weights are of other sequences than these: weights are never renormalised.

    Notes
    -----
    The category is read off the headline score; the twin threshold on `score_patent` is a third of `threshold`, so both
    decide alike.
    """
    wanted = set(two_sequences.weights if two_sequences else Contrast)
    if not set(scores) == set(weights) == wanted:
        raise ValueError(f"scores of {sorted(scores)} cannot be combined with weights of {sorted(weights)}")
    score = _weighted(scores, weights)
    return Finding(
        scores=dict(scores),
        weights=dict(weights),
        score=score,
        score_patent=score / 3,
        threshold=threshold,
        category=Category.AT_OR_ABOVE if score >= threshold else Category.BELOW,
        model=model,
        members=dict(members or {}),
        calibrated=_calibrated(score, calibration),
        out_of_range=out_of_range,
        two_sequences=two_sequences,
    )


def _weighted(scores: Mapping[Contrast, float], weights: Mapping[Contrast, float]) -> float:
    """Return the weighted sum in [0, 1], rounded once: the order of the sequences does not count."""
    return min(1.0, math.fsum(weights[role] * scores[role] for role in weights))


def _calibrated(score: float, calibration: Calibration | None) -> Calibrated | None:
    if calibration is None:
        return None
    return Calibrated(calibrated(calibration, score), calibration.method, calibration.patients)


def _spread(scores: Sequence[float]) -> Spread | None:
    if len(scores) < _FEWEST_FOLDS:
        return None
    return Spread(len(scores), statistics.stdev(scores), min(scores), max(scores))
