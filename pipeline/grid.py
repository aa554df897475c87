"""Canonical axes, and the one interpolation that puts a volume onto the model grid.

Canonical axes run from left to right, from posterior to anterior and from inferior to superior. Bringing a volume onto
them only permutes and flips voxels; nothing is interpolated before the model grid.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from models.bundle import Grid
from pipeline.errors import HoldReason, StudyHeld

CANONICAL_AXES = "RAS"


def canonical(image: sitk.Image) -> sitk.Image:
    """Return an image with its axes in canonical order.

    Parameters
    ----------
    image
        In LPS millimetres; any oblique orientation.

    Returns
    -------
    SimpleITK.Image
        The same voxels in the same places, permuted and flipped to the nearest canonical axes.
    """
    oriented: sitk.Image = sitk.DICOMOrient(image, CANONICAL_AXES)
    return oriented


def brain_centred(mask: sitk.Image, grid: Grid) -> sitk.Image:
    """Return an empty image on the model grid whose centre is the middle of the brain's extent.

    Parameters
    ----------
    mask
        Brain mask in patient space, not empty.
    grid
        Of the model bundle.

    Returns
    -------
    SimpleITK.Image
        uint8, all 0, its axes exactly canonical.

    Raises
    ------
    StudyHeld
        ``geometry_brain_outside_grid`` if the brain does not fit.
    """
    low_mm, high_mm = _extent_mm(mask)
    size_mm = np.array(grid.size_xyz) * np.array(grid.spacing_xyz_mm)
    if (high_mm - low_mm > size_mm).any():
        raise StudyHeld(
            HoldReason.GEOMETRY_BRAIN_OUTSIDE_GRID,
            f"The brain mask measures {' x '.join(f'{side:.0f}' for side in high_mm - low_mm)} mm and does not fit the "
            f"model grid of {' x '.join(f'{side:.0f}' for side in size_mm)} mm.",
        )
    empty = sitk.Image(grid.size_xyz, sitk.sitkUInt8)
    empty.SetSpacing(grid.spacing_xyz_mm)
    direction = np.diag([-1.0, -1.0, 1.0])
    empty.SetDirection(direction.ravel().tolist())
    to_first_voxel = direction @ (np.array(grid.spacing_xyz_mm) * (np.array(grid.size_xyz) - 1) / 2)
    empty.SetOrigin(((low_mm + high_mm) / 2 - to_first_voxel).tolist())
    return empty


def resample(image: sitk.Image, grid: sitk.Image, *, nearest: bool = False) -> sitk.Image:
    """Return `image` on the voxels of `grid`; 0 outside.

    Parameters
    ----------
    image
        Any orientation.
    grid
        Size, spacing, origin and direction are adopted.
    nearest
        For masks; intensities are interpolated linearly, which cannot ring between thick slices.

    Returns
    -------
    SimpleITK.Image
        Of the pixel type of `image`.
    """
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    return sitk.Resample(image, grid, sitk.Transform(), interpolator, 0.0, image.GetPixelID())


def _extent_mm(mask: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest LPS coordinates of the mask's voxels, however oblique they lie."""
    inside_zyx = sitk.GetArrayViewFromImage(mask) > 0
    zy = np.argwhere(inside_zyx.any(2))
    rows = inside_zyx[zy[:, 0], zy[:, 1]]
    first, last = rows.argmax(1), rows.shape[1] - 1 - rows[:, ::-1].argmax(1)
    # No coordinate is larger or smaller within a row of voxels than at its ends.
    ends_xyz = np.concatenate([np.column_stack([ends, zy[:, ::-1]]) for ends in (first, last)])
    matrix = np.reshape(mask.GetDirection(), (3, 3)) * np.array(mask.GetSpacing())
    points_mm = ends_xyz @ matrix.T + np.array(mask.GetOrigin())
    return points_mm.min(0), points_mm.max(0)
