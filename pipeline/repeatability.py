"""Perturb a head in ways that must not change its score: what repeatability is measured with.

The grid is moved, the mask is changed, slices are made thicker, noise is added: each before the one interpolation, so
that a variant goes the way of a study in the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter1d

from models.bundle import Grid, Intensity
from models.contrast import Contrast
from models.perturbation import Perturbation, Variant, Variants
from models.training.cohort import Cohort
from pipeline.cohort.record import IMAGES
from pipeline.predict import model_tensor
from pipeline.synthetic.noise import smooth_field

Shift = tuple[float, float, float]
HALF_VOXELS: Final[tuple[Shift, ...]] = ((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.5, 0.5, 0.5))
WHOLE_VOXELS: Final[tuple[Shift, ...]] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
THICKER: Final = (1.25, 1.5)
NOISE_SHARE: Final = 0.03
"""Of the 99th percentile of the brain: an SNR of about 30."""
BORDER_MM: Final = 3.0
"""About what two brain extractors differ by."""
_BORDER_CELL_MM: Final = 25.0
_DRAWS: Final = 3
_TIP_VOXELS: Final = 3
_BRIGHT_PERCENT: Final = 99


@dataclass(frozen=True, slots=True)
class Head:
    """One sequence of a head: image and mask on the same voxels, and by how much the model grid is moved."""

    volume: sitk.Image
    mask: sitk.Image
    shift_voxels: Shift = (0.0, 0.0, 0.0)

    def tensor(self, grid: Grid, intensity: Intensity) -> np.ndarray:
        """Return the network input; see :func:`pipeline.predict.model_tensor`."""
        return model_tensor(self.volume, self.mask, grid, intensity.clip_percentiles, self.shift_voxels)


def read_heads(folder: Path, roles: Iterable[Contrast] = tuple(Contrast)) -> dict[Contrast, Head]:
    """Return the sequences of a folder with ``volume_<role>.nrrd`` and ``mask_<role>.nrrd``; empty if one is missing.

    Parameters
    ----------
    folder
        As :func:`pipeline.steps.convert` and `strip` leave it.
    roles
        Which sequences.
    """
    files = {role: (folder / f"volume_{role}.nrrd", folder / f"mask_{role}.nrrd") for role in roles}
    if not all(file.is_file() for pair in files.values() for file in pair):
        return {}
    return {role: Head(sitk.ReadImage(str(v)), sitk.ReadImage(str(m))) for role, (v, m) in files.items()}


def of_cohort(cohort: Cohort) -> Variants:
    """Return what yields the variants of a cohort's case.

    Parameters
    ----------
    cohort
        Built by :mod:`pipeline.cohort.build`; one of an earlier version kept no images, and yields none.
    """
    description = cohort.description

    def of_case(case: str) -> Iterator[Variant]:
        return variants(read_heads(cohort.folder / IMAGES / case), description.grid, description.intensity)

    return of_case


def variants(heads: Mapping[Contrast, Head], grid: Grid, intensity: Intensity) -> Iterator[Variant]:
    """Yield the network inputs of a head as it is, then of every perturbation of it.

    Parameters
    ----------
    heads
        By sequence.
    grid, intensity
        Of the bundle.

    Yields
    ------
    Variant
        Those of one sequence after each other; the same head gives the same variants.
    """
    for contrast, head in heads.items():
        for number, (perturbation, changed) in enumerate(perturbed(head, tuple(Contrast).index(contrast))):
            yield Variant(number, perturbation, contrast, changed.tensor(grid, intensity))


def perturbed(head: Head, seed: int) -> Iterator[tuple[Perturbation | None, Head]]:
    """Yield a sequence as it is (None), then changed in every way.

    Parameters
    ----------
    head
        One sequence.
    seed
        Of noise and borders.
    """
    yield None, head
    yield from ((Perturbation.HALF_VOXEL, replace(head, shift_voxels=shift)) for shift in HALF_VOXELS)
    yield from ((Perturbation.WHOLE_VOXEL, replace(head, shift_voxels=shift)) for shift in WHOLE_VOXELS)
    yield from ((Perturbation.MASK_TIPS, replace(head, mask=_with_tip(head.mask, axis))) for axis in range(3))
    for draw in range(_DRAWS):
        random = np.random.default_rng([seed, draw])
        yield Perturbation.MASK_BORDER, replace(head, mask=_other_border(head.mask, random))
    yield from ((Perturbation.SLICE_THICKNESS, _thicker(head, factor)) for factor in THICKER)
    for draw in range(_DRAWS):
        yield Perturbation.NOISE, replace(head, volume=_noisy(head, np.random.default_rng([seed, draw, 1])))


def _with_tip(mask: sitk.Image, axis: int) -> sitk.Image:
    """Return a mask with three voxels more beyond its end along an axis of the array."""
    mask_zyx = sitk.GetArrayFromImage(mask)
    inside = np.argwhere(mask_zyx)
    tip = inside[inside[:, axis].argmax()]
    for _ in range(_TIP_VOXELS):
        tip[axis] = min(tip[axis] + 1, mask_zyx.shape[axis] - 1)
        mask_zyx[tuple(tip)] = 1
    return _like(mask_zyx, mask)


def _other_border(mask: sitk.Image, random: np.random.Generator) -> sitk.Image:
    outside_mm = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(mask, False, False, True))
    spacing_zyx_mm = mask.GetSpacing()[::-1]
    cell_z, cell_y, cell_x = (_BORDER_CELL_MM / mm for mm in spacing_zyx_mm)
    moved_mm = BORDER_MM * np.tanh(smooth_field(random, outside_mm.shape, (cell_z, cell_y, cell_x)))
    return _like((outside_mm <= moved_mm).astype(np.uint8), mask)


def _thicker(head: Head, factor: float) -> Head:
    """Return a sequence with slices that are thicker and as much farther apart."""
    size, spacing_mm = np.array(head.volume.GetSize()), np.array(head.volume.GetSpacing())
    axis = int(np.argmax(spacing_mm))
    coarse = sitk.Image([int(n) for n in np.where(np.arange(3) == axis, np.floor(size / factor), size)], sitk.sitkUInt8)
    coarse.SetSpacing(np.where(np.arange(3) == axis, spacing_mm * factor, spacing_mm).tolist())
    coarse.SetDirection(head.volume.GetDirection())
    half_slice = np.where(np.arange(3) == axis, (factor - 1) / 2, 0.0).tolist()
    coarse.SetOrigin(head.volume.TransformContinuousIndexToPhysicalPoint(half_slice))
    array_zyx = sitk.GetArrayFromImage(head.volume).astype(np.float32)
    thick = _like(gaussian_filter1d(array_zyx, 0.5 * np.sqrt(factor**2 - 1), axis=2 - axis), head.volume)
    volume = sitk.Resample(thick, coarse, sitk.Transform(), sitk.sitkLinear)
    return replace(
        head, volume=volume, mask=sitk.Resample(head.mask, coarse, sitk.Transform(), sitk.sitkNearestNeighbor)
    )


def _noisy(head: Head, random: np.random.Generator) -> sitk.Image:
    array_zyx = sitk.GetArrayFromImage(head.volume).astype(np.float32)
    bright = float(np.percentile(array_zyx[sitk.GetArrayViewFromImage(head.mask) > 0], _BRIGHT_PERCENT))
    noise = random.standard_normal(array_zyx.shape, np.float32) * np.float32(NOISE_SHARE * bright)
    return _like(array_zyx + noise, head.volume)


def _like(array_zyx: np.ndarray, image: sitk.Image) -> sitk.Image:
    made: sitk.Image = sitk.GetImageFromArray(array_zyx)
    made.CopyInformation(image)
    return made
