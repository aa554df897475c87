"""Canonical axes, and the one interpolation that puts a volume onto the model grid.

Canonical axes run from left to right, from posterior to anterior and from inferior to superior. Bringing a volume onto
them only permutes and flips voxels; nothing is interpolated before the model grid.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from models.bundle import Grid
from pipeline.errors import HoldReason, StudyHeld

CANONICAL_AXES = "RAS"
_AXES: Final = np.diag([-1.0, -1.0, 1.0])
"""Of the grid in LPS."""
_REACH: Final = 3.0
"""Of the Gaussian, in standard deviations: 0.3 % of it lie beyond."""


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


def brain_centred(
    mask: sitk.Image, grid: Grid, shift_voxels: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> sitk.Image:
    """Return an empty image on the model grid, in the middle of which the brain lies.

    Parameters
    ----------
    mask
        Brain mask in patient space, not empty.
    grid
        Of the model bundle; says what the middle of a brain is. One about the centre of mass moves as far as the whole
        brain needs to lie inside.
    shift_voxels
        By how much of its own voxels the grid is moved besides, along its axes; may push the brain out.

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
    middle_mm = (low_mm + high_mm) / 2
    if grid.centre == "brain_mass":
        middle_mm = np.clip(_centre_of_mass_mm(mask), high_mm - size_mm / 2, low_mm + size_mm / 2)
    empty = sitk.Image(grid.size_xyz, sitk.sitkUInt8)
    empty.SetSpacing(grid.spacing_xyz_mm)
    empty.SetDirection(_AXES.ravel().tolist())
    to_first_voxel = np.array(grid.spacing_xyz_mm) * ((np.array(grid.size_xyz) - 1) / 2 - np.array(shift_voxels))
    empty.SetOrigin((middle_mm - _AXES @ to_first_voxel).tolist())
    return empty


def low_passed(image: sitk.Image, grid: Grid) -> sitk.Image:
    """Return an image without what the grid's voxels cannot hold, as float32; the image itself if the grid asks none.

    Parameters
    ----------
    image
        Grey values, or a mask, whose shares come out.
    grid
        Of the model bundle.
    """
    if not grid.low_pass_voxels:
        return image
    axes = np.reshape(image.GetDirection(), (3, 3))
    sigma_xyz_mm = np.sqrt((axes**2).T @ (grid.low_pass_voxels * np.array(grid.spacing_xyz_mm)) ** 2)
    sigma_xyz = sigma_xyz_mm / np.array(image.GetSpacing())
    array_zyx = sitk.GetArrayViewFromImage(image).astype(np.float32)
    smooth: sitk.Image = sitk.GetImageFromArray(
        gaussian_filter(array_zyx, sigma_xyz[::-1], mode="nearest", truncate=_REACH)
    )
    smooth.CopyInformation(image)
    return smooth


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


def _centre_of_mass_mm(mask: sitk.Image) -> np.ndarray:
    """Return the LPS coordinates of the centre of mass, however oblique the voxels lie."""
    inside_zyx = sitk.GetArrayViewFromImage(mask) > 0
    profiles = [inside_zyx.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
    index_xyz = [float(np.average(np.arange(len(profile)), weights=profile)) for profile in profiles]
    return np.array(mask.TransformContinuousIndexToPhysicalPoint(index_xyz))


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
