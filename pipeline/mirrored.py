"""How alike an image inside a mask is to its mirror images: a brain is alike left and right, and in no other way.

Phantoms, fruit and limbs are round or drawn out: mirrored front to back or upside down they look as they did, or they
are not alike in any way. The numbers are of the method and were chosen here; `pipeline.plausibility` names what heads
and other things measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

_STEP_MM = 4.0
"""Of the grid that is compared: gyri differ from side to side, lobes and ventricles do not."""
_SHADING_MM, _SMOOTH_MM = 25.0, 3.0
"""Slower changes are the coil's, faster ones are noise."""
_DARKEST, _BRIGHTEST = -1.0, 1.5
"""Of the intensities relative to their surroundings, so that one bright vessel does not decide."""
_MOST_POINTS = 6_000
_TILTS_DEGREES, _FINER_DEGREES = (-30, -20, -10, 0, 10, 20, 30), (-5, 0, 5)
"""Of the plane of the mirror, in two ways: patients lie askew."""
_SHIFTS_MM = (-8, -4, 0, 4, 8)
"""Of the plane from the middle of the mask, which need not be that of the brain."""
_FEWEST_PAIRS = 0.7
"""Share of the points whose mirror image must lie in the mask too."""
_REGION_MM, _FEWEST_POINTS = 40.0, 30
"""Edge of the cubes that are compared one by one, and what is left out: a lesion spoils those that it lies in alone."""
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Likeness:
    """Correlations of an image with its mirror images, -1 to 1.

    Attributes
    ----------
    sides
        Left and right exchanged.
    other
        Front and back, or above and below: the larger one.
    """

    sides: float
    other: float


@dataclass(frozen=True, slots=True)
class _Plane:
    """A plane near the middle of the mask: the axis that it is across, its tilts in degrees and its shift in mm."""

    axis: int
    tilts: tuple[float, float]
    shift_mm: float = 0.0

    def mirror(self, points_zyx_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points, relative to the middle of the mask, on the other side."""
        normal = np.insert(np.tan(np.deg2rad(self.tilts)), self.axis, 1.0)
        normal /= np.linalg.norm(normal)
        mirrored: NDArray[np.float64] = points_zyx_mm - 2 * np.outer(points_zyx_mm @ normal - self.shift_mm, normal)
        return mirrored


def mirror_likeness(blocks: sitk.Image, inside: sitk.Image) -> Likeness:
    """Return how alike an image is to its mirror images.

    Parameters
    ----------
    blocks
        Float, on canonical axes, voxels of a few millimetres.
    inside
        Share of each voxel that is mask, 0 to 1.

    Returns
    -------
    Likeness
        0 where nothing can be compared.
    """
    image_zyx, mask_zyx = _even(blocks), _even(inside) > _HALF
    points = np.argwhere(mask_zyx)
    if not len(points):
        return Likeness(0.0, 0.0)
    detail_zyx = _detail(image_zyx, mask_zyx)
    points = points[:: -(-len(points) // _MOST_POINTS)]
    z, y, x = (_best(detail_zyx, mask_zyx, points, axis) for axis in range(3))
    return Likeness(x, max(y, z))


def _even(image: sitk.Image) -> NDArray[np.float32]:
    """Return an image on cubes of `_STEP_MM`."""
    size = [
        max(1, int(np.ceil(n * step / _STEP_MM))) for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    even = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [_STEP_MM] * 3, image.GetDirection()
    )
    return np.asarray(sitk.GetArrayFromImage(even), np.float32)


def _detail(image_zyx: NDArray[np.float32], mask_zyx: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return intensities relative to those around, 0 outside the mask."""
    total, count = (
        gaussian_filter(part.astype(np.float32), _SHADING_MM / _STEP_MM) for part in (image_zyx * mask_zyx, mask_zyx)
    )
    around = np.where(mask_zyx & (total > 0), total, 1) / np.where(mask_zyx, count, 1)
    relative = np.where(mask_zyx & (total > 0), image_zyx / around - 1, 0)
    return np.asarray(gaussian_filter(relative.clip(_DARKEST, _BRIGHTEST), _SMOOTH_MM / _STEP_MM))


def _best(
    detail_zyx: NDArray[np.float32], mask_zyx: NDArray[np.bool_], points_zyx: NDArray[np.int64], axis: int
) -> float:
    """Return the correlation at the plane, across an axis, at which it is highest."""
    middle = np.argwhere(mask_zyx).mean(axis=0)
    here, points_mm = detail_zyx[tuple(points_zyx.T)], (points_zyx - middle) * _STEP_MM
    inside, regions = mask_zyx.astype(np.uint8), _regions(points_zyx)

    def correlation(plane: _Plane) -> float:
        at = (plane.mirror(points_mm) / _STEP_MM + middle).T
        pairs = map_coordinates(inside, at, order=0) > 0
        if pairs.mean() < _FEWEST_PAIRS:
            return 0.0
        return _typical_correlation(here[pairs], map_coordinates(detail_zyx, at[:, pairs], order=1), regions[pairs])

    def highest(planes: Iterable[_Plane]) -> tuple[float, _Plane]:
        return max(((correlation(plane), plane) for plane in planes), key=lambda found: found[0])

    _, rough = highest(_Plane(axis, (a, b)) for a, b in product(_TILTS_DEGREES, repeat=2))
    finer = [(a + rough.tilts[0], b + rough.tilts[1]) for a, b in product(_FINER_DEGREES, repeat=2)]
    best, _ = highest(_Plane(axis, tilts, shift_mm) for tilts, shift_mm in product(finer, _SHIFTS_MM))
    return best


def _regions(points_zyx: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for every point the number of the cube of `_REGION_MM` that it lies in."""
    cubes = (points_zyx * _STEP_MM / _REGION_MM).astype(np.int64)
    return np.asarray(np.ravel_multi_index(tuple(cubes.T), tuple(cubes.max(axis=0) + 1)))


def _typical_correlation(one: NDArray[np.float32], other: NDArray[np.float32], regions: NDArray[np.int64]) -> float:
    """Return the median over regions of the correlation."""

    def mean(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.bincount(regions, values) / np.maximum(count, 1)

    count = np.bincount(regions)
    means = mean(one), mean(other)
    covariance = mean(one * other) - means[0] * means[1]
    spread = (mean(one * one) - means[0] ** 2) * (mean(other * other) - means[1] ** 2)
    enough = (count >= _FEWEST_POINTS) & (spread > 0)
    return float(np.median(covariance[enough] / np.sqrt(spread[enough]))) if enough.any() else 0.0
