"""Whether a brain mask lies in a head: whether skull and scalp are around it.

The numbers are of the method and were chosen here; `pipeline.plausibility` names what heads and other things measure.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, map_coordinates, uniform_filter1d

_RAYS = 600
_LOWEST = 0.1
"""Cosine of the angle to the vertical up to which rays are cast: below it lie face, skull base and neck."""
_LONGEST_MM = 160
_INWARDS_MM, _OUTWARDS_MM = 25, 45
"""Part of a ray that is looked at, about the mask's surface; samples are 1 mm apart."""
_RIM_MM = 3
"""Below the surface the brain's own intensity starts behind partial volume and fluid."""
_GAP_FROM_MM, _GAP_TO_MM = -4, 22
"""Where the skull is looked for: masks may be somewhat large, and fluid may lie between."""
_SCALP_FROM_MM, _SCALP_TO_MM = 2, 20
"""Where the scalp is looked for, outwards from the darkest of the skull."""
_AIR_FROM_MM = 30
"""Scalps end nearer to the brain than that."""
_SEEN_MM = 10
"""A ray that leaves the images before that says nothing."""
_FEWEST_RAYS = 90
"""Where fewer end inside the images, no skull is seen."""
_FEWEST_AIR = 200

_SMOOTH_MM = 3
_MIN_SCALP, _MIN_SCALP_TO_AIR = 0.15, 2.5
"""Of the brain's intensity, and of the noise in the air: the scalp is dark in FLAIR without fat, but it is seen."""
_DARKER_THAN_BRAIN, _DARKER_THAN_SCALP = 0.2, 0.4
"""By so much of their intensities the skull is darker: fat on muscle, or a dark rim of a fruit, is not."""


def skull_share(volume: sitk.Image, mask: sitk.Image) -> float:
    """Return the share of rays from the mask's middle, upwards and to all sides, that leave it through skull and scalp.

    Parameters
    ----------
    volume
        Float, on canonical axes: left to right, posterior to anterior, inferior to superior.
    mask
        On the voxels of `volume`, not empty.

    Returns
    -------
    float
        0 to 1. Such a ray comes through something darker (fluid, bone) into something brighter (scalp, fat) before it
        comes to air. 0 where the images end at the mask.
    """
    profiles, seen = _profiles(volume, mask)
    air_at = _INWARDS_MM + _AIR_FROM_MM
    far = profiles[:, air_at:][seen[:, air_at:]]
    air = float(np.median(far)) if far.size >= _FEWEST_AIR else 0.0
    used = seen[:, _INWARDS_MM + _SEEN_MM]
    if np.count_nonzero(used) < _FEWEST_RAYS:
        return 0.0
    smooth = uniform_filter1d(profiles, _SMOOTH_MM, axis=1)
    brain = np.median(smooth[:, _INWARDS_MM - 20 : _INWARDS_MM - _RIM_MM], axis=1)
    crossed = _crosses_skull(np.where(seen, smooth, 0), brain, air)
    return float(crossed[used].mean())


def _crosses_skull(smooth: NDArray[np.float32], brain: NDArray[np.float32], air: float) -> NDArray[np.bool_]:
    visible = max(_MIN_SCALP * float(np.median(brain)), _MIN_SCALP_TO_AIR * air)
    crossed = np.zeros(len(smooth), bool)
    for at in range(_INWARDS_MM + _GAP_FROM_MM, _INWARDS_MM + _GAP_TO_MM + 1):
        gap, scalp = smooth[:, at], smooth[:, at + _SCALP_FROM_MM : at + _SCALP_TO_MM + 1].max(axis=1)
        dark = (gap < (1 - _DARKER_THAN_BRAIN) * brain) & (gap < (1 - _DARKER_THAN_SCALP) * scalp)
        crossed |= dark & (scalp > visible)
    return crossed


def _profiles(volume: sitk.Image, mask: sitk.Image) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return intensities along rays (ray, millimetre), the surface at `_INWARDS_MM`, and what is in the images."""
    image, inside = sitk.GetArrayViewFromImage(volume), sitk.GetArrayViewFromImage(mask)
    step_zyx_mm, radii_mm = np.array(volume.GetSpacing()[::-1]), np.arange(_LONGEST_MM)
    middle = np.array(center_of_mass(inside))
    at = middle[:, None, None] + _directions().T[:, :, None] * radii_mm / step_zyx_mm[:, None, None]
    there = ((at > -0.5) & (at < np.array(image.shape)[:, None, None] - 0.5)).all(axis=0)
    hit = map_coordinates(inside, at, order=0) > 0
    surface = _LONGEST_MM - 1 - np.argmax(hit[:, ::-1], axis=1)
    along = surface[:, None] + np.arange(-_INWARDS_MM, _OUTWARDS_MM + 1)
    known = (along >= 0) & (along < _LONGEST_MM)
    along = np.clip(along, 0, _LONGEST_MM - 1)
    at = np.take_along_axis(at, along[None], axis=2)
    profiles = map_coordinates(image, at, np.float32, order=1, mode="nearest")
    return profiles, known & np.take_along_axis(there, along, axis=1)


def _directions() -> NDArray[np.float64]:
    """Return unit vectors z-y-x, spread evenly over what of a sphere is not below `_LOWEST`."""
    number = np.arange(_RAYS) + 0.5
    z = 1 - (1 - _LOWEST) * number / _RAYS
    turn, level = number * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - z**2)
    return np.stack([z, level * np.sin(turn), level * np.cos(turn)], axis=1)
