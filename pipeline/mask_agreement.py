"""Whether the brain masks of a study's sequences show one brain.

The scans are of one patient in one session, who may have moved between them. A brain that lies elsewhere gets a flag, a
brain of another shape is refused: then at least one mask is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.plausibility import MaskFlag

_GRID_MM = 3.0
"""Voxels of the comparison, chosen here: coarse enough for three pairs in a second, fine enough for a brain's shape."""
_MIN_DICE, _ODD_DICE = 0.75, 0.88
"""After the middles are put together. Brains of two people: 0.85 to 0.93; a brain and half of one: 0.67."""
_MIN_VOLUME_RATIO, _ODD_VOLUME_RATIO = 0.60, 0.85
"""Of the smaller to the larger. One brain in three contrasts: 0.83 to 0.99."""
_ODD_DISTANCE_MM = 15.0
"""Between the middles, in patient space, chosen here: more is a patient who moved, or a table that did."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two masks agree where both fields of view reach.

    Attributes
    ----------
    dice
        Of the masks where they lie, or with their middles put together, whichever is larger.
    distance_mm
        Between the middles, in patient space.
    volume_ratio
        Smaller to larger volume.
    """

    dice: float
    distance_mm: float
    volume_ratio: float

    @property
    def same_brain(self) -> bool:
        """Whether the masks may show one brain."""
        return self.dice >= _MIN_DICE and self.volume_ratio >= _MIN_VOLUME_RATIO

    @property
    def alike(self) -> bool:
        """Whether the masks agree as masks of one brain usually do."""
        return self.dice >= _ODD_DICE and self.volume_ratio >= _ODD_VOLUME_RATIO


def compare_masks(masks: Mapping[Contrast, sitk.Image]) -> dict[Contrast, tuple[MaskFlag, ...]]:
    """Return the flags that each sequence's mask gets from the others.

    Parameters
    ----------
    masks
        uint8 in patient space, none empty, each on a grid of its own.

    Returns
    -------
    dict
        ``unlike_others``: another shape or volume than every other mask; ``apart_from_others``: elsewhere.

    Raises
    ------
    StudyHeld
        ``brain_masks_disagree`` if a mask cannot show the brain of another one.
    """
    pairs = {pair: agreement(masks[pair[0]], masks[pair[1]]) for pair in combinations(masks, 2)}
    for (one, other), found in pairs.items():
        if not found.same_brain:
            raise StudyHeld(
                HoldReason.BRAIN_MASKS_DISAGREE,
                f"The brain masks of {one} and {other} differ in shape or size: look at both series for damage.",
            )
    return {role: _flags([found for pair, found in pairs.items() if role in pair]) for role in masks}


def agreement(one: sitk.Image, other: sitk.Image) -> Agreement:
    """Return how two masks agree.

    Parameters
    ----------
    one, other
        uint8 in patient space, not empty, each on a grid of its own.

    Returns
    -------
    Agreement
        Of the better overlap: where they lie, or with their middles put together.
    """
    shift_mm = _middle_mm(other) - _middle_mm(one)
    in_place, together = (_overlap(one, other, move_mm) for move_mm in (np.zeros(3), shift_mm))
    best = max(in_place, together)
    return Agreement(best[0], float(np.linalg.norm(shift_mm)), best[1])


def _flags(others: list[Agreement]) -> tuple[MaskFlag, ...]:
    """Return the flags of one mask: it is the odd one only if it differs from all others."""
    flags = []
    if others and not any(found.alike for found in others):
        flags.append(MaskFlag.UNLIKE_OTHERS)
    if others and all(found.distance_mm > _ODD_DISTANCE_MM for found in others):
        flags.append(MaskFlag.APART_FROM_OTHERS)
    return tuple(flags)


def _overlap(one: sitk.Image, other: sitk.Image, shift_mm: np.ndarray) -> tuple[float, float]:
    """Return Dice and volume ratio on a common grid, `other` moved back by a shift, where both scans reach."""
    grid = _grid(one)
    move = sitk.TranslationTransform(3, shift_mm.tolist())
    here, there = _on_grid(one, grid, sitk.Transform()), _on_grid(other, grid, move)
    both = (here >= 0) & (there >= 0)
    mine, theirs = (here > 0) & both, (there > 0) & both
    smaller, larger = sorted(int(np.count_nonzero(mask)) for mask in (mine, theirs))
    shared = int(np.count_nonzero(mine & theirs))
    return 2 * shared / max(smaller + larger, 1), smaller / max(larger, 1)


def _grid(image: sitk.Image) -> sitk.Image:
    """Return an empty image of coarse voxels over the field of view of another."""
    size_mm = np.array(image.GetSize()) * image.GetSpacing()
    grid = sitk.Image(np.maximum(1, size_mm // _GRID_MM).astype(int).tolist(), sitk.sitkInt8)
    grid.SetSpacing([_GRID_MM] * 3)
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    return grid


def _on_grid(mask: sitk.Image, grid: sitk.Image, move: sitk.Transform) -> np.ndarray:
    """Return the mask on a grid as 1 and 0, and -1 where its scan does not reach."""
    moved = sitk.Resample(sitk.Cast(mask, sitk.sitkInt8), grid, move, sitk.sitkNearestNeighbor, -1)
    return np.asarray(sitk.GetArrayFromImage(moved))


def _middle_mm(mask: sitk.Image) -> np.ndarray:
    """Return the centre of mass in patient space."""
    zyx = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0).mean(0)
    return np.array(mask.TransformContinuousIndexToPhysicalPoint(zyx[::-1].tolist()))
