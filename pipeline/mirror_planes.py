"""Which planes an image below a mask is symmetrical about: a brain's halves are alike left and right, and nowhere else.

The plane is looked for among tilted ones near the mask's middle, for the head seldom lies straight.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from pipeline.mask_measures import average_blocks, coil_shading

_SCALE_MM = 3.0
"""Halves are alike down to about this size; folds are not."""
_MIN_WEIGHT = 0.1
_HALF = 0.5
_POINTS = 2000
_FEWEST = 700
"""Fewest pairs of points from which a plane is judged: a third of all."""
_TILTS_DEG = (-20.0, -10.0, 0.0, 10.0, 20.0)
_OFFSETS_MM = (-4.0, 0.0, 4.0)
_REFINEMENTS = ((5.0, 2.0), (2.5, 1.0))
"""Degrees and millimetres to either side of the best plane so far."""

_Plane = tuple[float, float, float]
"""Tilts towards the two other axes in degrees, and the distance from the mask's middle in millimetres."""


@dataclass(frozen=True, slots=True)
class Symmetries:
    """Correlations of the image below a mask with its mirror image in the best plane of each kind, -1 to 1.

    Attributes
    ----------
    left_right, front_back, top_bottom
        What is exchanged.
    """

    left_right: float
    front_back: float
    top_bottom: float


def measure_symmetries(volume: sitk.Image, mask: sitk.Image) -> Symmetries:
    """Return how alike the image below a mask is to its mirror images.

    Parameters
    ----------
    volume
        Float, on canonical axes: left to right, posterior to anterior, inferior to superior.
    mask
        On the voxels of `volume`, not empty.

    Returns
    -------
    Symmetries
        All finite.
    """
    structure = _Structure(volume, mask)
    top, front, left = (structure.best_correlation(axis) for axis in range(3))
    return Symmetries(left, front, top)


class _Structure:
    """The image below a mask without the coil's shading, and points to compare it at."""

    def __init__(self, volume: sitk.Image, mask: sitk.Image) -> None:
        blocks = average_blocks(volume)
        self.inside_zyx = sitk.GetArrayFromImage(average_blocks(sitk.Cast(mask, sitk.sitkFloat32))) > _HALF
        self.step_zyx_mm = np.array(blocks.GetSpacing()[::-1])
        self.detail_zyx = self._detail(blocks)
        inside = np.argwhere(self.inside_zyx)
        self.middle = inside.mean(axis=0) if len(inside) else np.zeros(3)
        self.at = inside[:: max(1, len(inside) // _POINTS)]
        self.values = self.detail_zyx[tuple(self.at.T)]

    def _detail(self, blocks: sitk.Image) -> NDArray[np.float32]:
        detail_zyx = (sitk.GetArrayFromImage(blocks) - coil_shading(blocks, self.inside_zyx)) * self.inside_zyx
        sigma = _SCALE_MM / self.step_zyx_mm
        weight = gaussian_filter(self.inside_zyx.astype(np.float32), sigma)
        return np.asarray(gaussian_filter(detail_zyx.astype(np.float32), sigma) / np.maximum(weight, _MIN_WEIGHT))

    def best_correlation(self, axis: int) -> float:
        """Return the correlation with the mirror image in the best plane across an axis."""
        planes: list[_Plane] = list(product(_TILTS_DEG, _TILTS_DEG, _OFFSETS_MM))
        found = max((self._correlation(axis, plane), plane) for plane in planes)
        for tilt, offset in _REFINEMENTS:
            first, second, away = found[1]
            near = product(*[(x - d, x, x + d) for x, d in ((first, tilt), (second, tilt), (away, offset))])
            found = max(found, *((self._correlation(axis, (a, b, c)), (a, b, c)) for a, b, c in near))
        return found[0]

    def _correlation(self, axis: int, plane: _Plane) -> float:
        normal = np.insert(np.tan(np.radians(plane[:2])), axis, 1.0)
        normal /= np.linalg.norm(normal)
        points_mm = (self.at - self.middle) * self.step_zyx_mm
        mirrored_mm = points_mm - 2 * np.outer(points_mm @ normal - plane[2], normal)
        at = (mirrored_mm / self.step_zyx_mm + self.middle).T
        there = map_coordinates(self.inside_zyx.view(np.uint8), at, order=0) > 0
        if np.count_nonzero(there) < min(_FEWEST, len(self.at) // 2 + 1):
            return -1.0
        pair = self.values[there], map_coordinates(self.detail_zyx, at[:, there], order=1)
        if min(float(np.ptp(values)) for values in pair) == 0:
            return 0.0
        return float(np.corrcoef(*pair)[0, 1])
