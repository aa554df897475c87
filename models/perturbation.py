"""What must not change a score, and the words for it: the same head on another grid, with another mask, with noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.contrast import Contrast


class Perturbation(StrEnum):
    """What is done to a head before it is scored again."""

    HALF_VOXEL = "half_voxel"
    WHOLE_VOXEL = "whole_voxel"
    MASK_TIPS = "mask_tips"
    MASK_BORDER = "mask_border"
    SLICE_THICKNESS = "slice_thickness"
    NOISE = "noise"


PLACE = frozenset({Perturbation.HALF_VOXEL, Perturbation.WHOLE_VOXEL, Perturbation.MASK_TIPS})
"""Those that leave the images as they are: a study that is sent twice must get the same score."""

SENTENCES = {
    Perturbation.HALF_VOXEL: "the grid moved by half a voxel",
    Perturbation.WHOLE_VOXEL: "the grid moved by a voxel",
    Perturbation.MASK_TIPS: "three voxels more at an end of the mask",
    Perturbation.MASK_BORDER: "border of the mask moved smoothly by up to 3 mm",
    Perturbation.SLICE_THICKNESS: "slices 1.25 and 1.5 times as thick",
    Perturbation.NOISE: "noise of 3 % of the brightest tissue",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One network input of a perturbed head.

    Attributes
    ----------
    number
        Of the variant, from 0 for the head as it is; all sequences of a variant are perturbed alike.
    perturbation
        What was done; None for the head as it is.
    contrast
        Of the image.
    tensor_zyx
        float32 on the model grid.
    """

    number: int
    perturbation: Perturbation | None
    contrast: Contrast
    tensor_zyx: np.ndarray


Variants = Callable[[str], Iterator[Variant]]
"""Yields the variants of a case by its name; none where its images were not kept."""
