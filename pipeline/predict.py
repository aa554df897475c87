"""Model tensors -> Finding: scores, weights, and which model said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from pipeline.grid import ModelGrid, brain_centred, resample
from pipeline.intensity import standardise
from pipeline.select import Role


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
    """

    name: str
    version: str
    digest: str
    notice: str
    intended_use: str
    architecture: str
    network_digests: dict[Role, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the ensemble says of one study.

    Attributes
    ----------
    scores
        Output of each sequence's network, in [0, 1].
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
    """

    scores: dict[Role, float]
    weights: dict[Role, float]
    score: float
    score_patent: float
    threshold: float
    category: Category
    model: ModelIdentity


class Ensemble(Protocol):
    """One network per sequence, loaded."""

    def score(self, sequence: str, tensor_zyx: np.ndarray) -> float:
        """Return one sequence's score in [0, 1]."""
        ...


def model_tensor(
    volume: sitk.Image, mask: sitk.Image, grid: ModelGrid, clip_percentiles: tuple[float, float]
) -> np.ndarray:
    """Return the network input of a volume; training and inference both come through here.

    Parameters
    ----------
    volume, mask
        Image and brain mask on the same voxels, any orientation.
    grid, clip_percentiles
        Of the model bundle.

    Returns
    -------
    numpy.ndarray
        float32 (z, y, x) on the model grid; z-scored inside the brain, 0 outside.

    Raises
    ------
    StudyHeld
        If the brain does not fit the grid or has no contrast.
    """
    target = brain_centred(mask, grid)
    image_zyx = sitk.GetArrayFromImage(resample(volume, target))
    mask_zyx = sitk.GetArrayFromImage(resample(mask, target, nearest=True))
    return standardise(image_zyx, mask_zyx, clip_percentiles)


def combine(
    scores: Mapping[Role, float], weights: Mapping[Role, float], threshold: float, model: ModelIdentity
) -> Finding:
    """Return the finding of three single-sequence scores.

    Raises
    ------
    ValueError
        If a sequence is missing: weights are never renormalised.

    Notes
    -----
    The category is read off the headline score; the twin threshold on `score_patent` is a third of `threshold`, so both
    decide alike.
    """
    if not set(scores) == set(weights) == set(Role):
        raise ValueError(f"scores of {sorted(scores)} cannot be combined with weights of {sorted(weights)}")
    score = min(1.0, sum(weights[role] * scores[role] for role in Role))  # weights sum to 1 but for rounding
    return Finding(
        scores=dict(scores),
        weights=dict(weights),
        score=score,
        score_patent=score / 3,
        threshold=threshold,
        category=Category.AT_OR_ABOVE if score >= threshold else Category.BELOW,
        model=model,
    )
