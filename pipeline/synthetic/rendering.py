"""Label map to T1W, T2W or FLAIR: signal equations of the sequences, then what a scanner does to the image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from models.contrast import Contrast
from pipeline.synthetic.canvas import FIRST_HEAD_LABEL, Label
from pipeline.synthetic.noise import smooth_field
from pipeline.synthetic.shapes import Field

FULL_SCALE = 1000.0
"""Intensity of the 99.5th percentile inside the head."""
FAT_DEPTH_MM = 6.0
"""Soft tissue that lies nearer to the air is fat, deeper tissue is muscle with streaks of fat."""
FAT_STREAKS = 1.1
"""Standard deviations of the texture of muscle above which it is fat: about one voxel in seven."""
BIAS = 0.12
"""Standard deviation of the logarithm of a coil's sensitivity."""
GHOST_STEP = 4
"""Ghosts lie a fourth of the field of view away, on both sides."""
DARKEST_TISSUE = 0.02
"""Share of the signal that water can give; the scale of an image is set by what is brighter."""


class Plane(StrEnum):
    """The plane of the slices."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"


ORIENTATION = {Plane.AXIAL: "LPS", Plane.SAGITTAL: "PIR", Plane.CORONAL: "LIP"}
"""Where columns, rows and slices lead, as radiologists look at them."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a sequence in milliseconds; no inversion where `ti_ms` is None."""

    tr_ms: float
    te_ms: float
    ti_ms: float | None


TIMING = {
    Contrast.T1W: Timing(2000.0, 2.9, 1000.0),
    Contrast.T2W: Timing(5000.0, 100.0, None),
    Contrast.FLAIR: Timing(9000.0, 120.0, 2500.0),
}


@dataclass(frozen=True, slots=True)
class Tissue:
    """Relaxation times at 3 T, rounded from the literature, relative proton density, and spread of the signal."""

    t1_ms: float
    t2_ms: float
    density: float
    spread: float = 0.03

    def signal(self, timing: Timing) -> float:
        """Return the signal of a spin echo or inversion recovery sequence.

        Parameters
        ----------
        timing
            Of the sequence.

        Returns
        -------
        float
            Magnitude, 0 to 1: 1 is fully relaxed water without decay.
        """
        decay = float(np.exp(-timing.te_ms / self.t2_ms))
        recovery = 1 - float(np.exp(-timing.tr_ms / self.t1_ms))
        if timing.ti_ms is not None:
            recovery += 2 * (float(np.exp(-timing.tr_ms / self.t1_ms)) - float(np.exp(-timing.ti_ms / self.t1_ms)))
        return abs(self.density * recovery * decay)


WHITE_MATTER = Tissue(850, 70, 0.70)
GREY_MATTER = Tissue(1350, 95, 0.82)
DEEP_GREY_MATTER = Tissue(1150, 80, 0.78)
FLUID = Tissue(4300, 1600, 1.0, 0.02)
FAT = Tissue(380, 120, 0.52, 0.1)
MUSCLE = Tissue(1420, 36, 0.72, 0.08)

TISSUE_OF_LABEL: dict[Tissue, tuple[int, ...]] = {
    WHITE_MATTER: (2, 41, 7, 46),
    Tissue(930, 74, 0.72): (16, 28, 60, 85, 512, 530),
    GREY_MATTER: (3, 42, 8, 47),
    DEEP_GREY_MATTER: (10, 11, 12, 17, 18, 26, 49, 50, 51, 53, 54, 58),
    Tissue(950, 58, 0.74): (13, 52),
    FLUID: (4, 5, 14, 15, 24, 43, 44, 72),
    Tissue(1900, 160, 0.85, 0.1): (136, 137, 163, 164),
    Tissue(1500, 165, 0.88, 0.06): (25, 57),
    Tissue(1700, 35, 0.6, 0.1): (30, 62, 502, 514),
    Tissue(3900, 900, 1.0, 0.02): (506,),
    MUSCLE: (507, 508),
    Tissue(1300, 100, 0.8, 0.1): (509,),
    Tissue(900, 45, 0.55, 0.1): (511,),
    Tissue(1000, 20, 0.06, 0.2): (515,),
    Tissue(450, 80, 0.36, 0.15): (516,),
}
"""Label numbers (FreeSurfer's, head tissue from 500) by tissue; what is not named is air."""

TUBER_SIGNAL = {Contrast.T1W: 0.48, Contrast.T2W: 1.0, Contrast.FLAIR: 0.27}
"""Of a tuber that is given as a share of a voxel: in each sequence brighter than all of the brain, fluid included.

Chosen, not computed from relaxation times: in T2W the most that water can give, in T1W as calcified tubers. The usual
tubers, dark in T1W, resemble cortex on a coarse grid; a small network needs far more patients to tell them from it."""


def render(
    labels: sitk.Image,
    role: Contrast,
    *,
    spacing_xyz_mm: tuple[float, float, float],
    seed: int,
    plane: Plane | str = Plane.AXIAL,
    brain_slices: bool = False,
    noise: float = 0.02,
    bias: float = BIAS,
    motion: float = 0.0,
    tubers: sitk.Image | None = None,
) -> sitk.Image:
    """Return a head image in the contrast of a role.

    Parameters
    ----------
    labels
        Label map with numbers as in `Label`, any axis-aligned orientation, voxels about as fine as the image's
        or finer: the share of each tissue in a voxel is averaged from them.
    role
        T1W, T2W or FLAIR.
    spacing_xyz_mm
        Distance of columns, rows and slices of the image; slices are as thick as they are apart.
    seed
        The same seed gives the same image.
    plane
        Of the slices. Axial slices run upwards, sagittal ones to the right, coronal ones backwards.
    brain_slices
        Slices over the brain and 8 mm beyond, instead of over the whole head.
    noise
        Standard deviation of the noise in either channel, as a share of full scale.
    bias
        Standard deviation of the logarithm of the coil's sensitivity.
    motion
        Share of the signal that stands in ghosts along the rows; every second slice is also moved by a voxel.
    tubers
        On the voxels of `labels`: how far a voxel goes from its tissue's signal to `TUBER_SIGNAL`, 0 to 1.

    Returns
    -------
    SimpleITK.Image
        int16, 0 to about 1500; axes x, y, z are columns, rows and slices, the direction says where they lead.

    Raises
    ------
    ValueError
        If a spacing is not positive or the map holds nothing but air.
    """
    if min(spacing_xyz_mm) <= 0:
        raise ValueError(f"spacing must be positive, not {spacing_xyz_mm}")
    random = np.random.default_rng([seed, tuple(Contrast).index(role)])
    oriented = sitk.DICOMOrient(labels, ORIENTATION[Plane(plane)])
    cut = _field_of_view(oriented, brain_slices)
    oriented = oriented[cut]
    label_zyx = sitk.GetArrayViewFromImage(oriented)
    spacing_zyx_mm = np.array(oriented.GetSpacing()[::-1])
    fine = _paint(label_zyx, spacing_zyx_mm, TIMING[role], random)
    if tubers is not None:
        share_zyx = sitk.GetArrayFromImage(sitk.DICOMOrient(tubers, ORIENTATION[Plane(plane)])[cut])
        fine += share_zyx * (np.float32(TUBER_SIGNAL[role]) - fine)
    image, first_zyx = _average(fine, spacing_zyx_mm, np.array(spacing_xyz_mm[::-1]))
    cell = [min(90.0 / step, 1e6) for step in spacing_xyz_mm[::-1]]
    image *= np.exp(np.float32(bias) * smooth_field(random, image.shape, (cell[0], cell[1], cell[2])))
    image *= np.float32(FULL_SCALE / max(float(np.percentile(image[image > DARKEST_TISSUE], 99.5)), 1e-3))
    if motion:
        image = _with_motion(image, np.float32(motion))
    image = _receive(image, np.float32(noise * FULL_SCALE), random)
    volume: sitk.Image = sitk.GetImageFromArray(np.rint(np.clip(image, 0, 4095)).astype(np.int16))
    volume.SetSpacing(spacing_xyz_mm)
    volume.SetDirection(oriented.GetDirection())
    volume.SetOrigin(oriented.TransformContinuousIndexToPhysicalPoint([float(at) for at in first_zyx[::-1]]))
    return volume


def _field_of_view(labels: sitk.Image, brain_slices: bool) -> tuple[slice, ...]:
    """Return the x-y-z slices of the head with a rim of air, or of the slices that show the brain."""
    label_zyx = sitk.GetArrayViewFromImage(labels)
    head = label_zyx > 0
    if not head.any():
        raise ValueError("the label map holds nothing but air")
    brain = head & (label_zyx < FIRST_HEAD_LABEL) & (label_zyx != Label.OUTER_CSF)
    cut = []
    for axis, step_mm in zip((2, 1, 0), labels.GetSpacing(), strict=True):
        margin = round(8 / step_mm)
        shown = brain if brain_slices and axis == 0 else head
        there = np.flatnonzero(shown.any(axis=tuple(other for other in range(3) if other != axis)))
        lower, upper = int(there[0]) - margin, int(there[-1]) + 1 + margin
        cut.append(slice(max(0, lower), min(label_zyx.shape[axis], upper)))
    return tuple(cut)


def _paint(
    label_zyx: NDArray[np.integer], spacing_zyx_mm: NDArray[np.float64], timing: Timing, random: np.random.Generator
) -> Field:
    """Return the signal of every label voxel, with texture."""
    signal = np.zeros(int(label_zyx.max()) + 1, np.float32)
    spread = np.zeros_like(signal)
    for tissue, numbers in TISSUE_OF_LABEL.items():
        for number in numbers:
            if number < signal.size:
                signal[number] = tissue.signal(timing)
                spread[number] = tissue.spread
    shape = label_zyx.shape
    cells = [3.0 / step for step in spacing_zyx_mm]
    texture = smooth_field(random, (shape[0], shape[1], shape[2]), (cells[0], cells[1], cells[2]))
    image: Field = signal[label_zyx]
    soft = label_zyx == Label.SOFT_TISSUE
    below_the_skin = _depth_mm(label_zyx, spacing_zyx_mm) < FAT_DEPTH_MM
    fat = soft & (below_the_skin | (_streaks(shape, cells, random) > FAT_STREAKS))
    image[fat] = FAT.signal(timing)
    return np.asarray(image * (1 + spread[label_zyx] * texture))


def _streaks(shape: tuple[int, ...], cells: list[float], random: np.random.Generator) -> Field:
    """Return the field whose peaks are fat between the muscles: long along the body, thin across."""
    return smooth_field(random, (shape[0], shape[1], shape[2]), (4 * cells[0], 2 * cells[1], 2 * cells[2]))


def _depth_mm(label_zyx: NDArray[np.integer], spacing_zyx_mm: NDArray[np.float64]) -> Field:
    """Return the approximate distance of every voxel to the outside of the head."""
    step = max(1, round(3 / float(min(spacing_zyx_mm))))
    air = sitk.GetImageFromArray((label_zyx[::step, ::step, ::step] == Label.AIR).astype(np.uint8))
    air.SetSpacing([float(mm) * step for mm in spacing_zyx_mm[::-1]])
    # Air that does not reach a corner of the image lies inside the head: sinuses and throat.
    corners = list(product(*[(0, size - 1) for size in air.GetSize()]))
    outside = sitk.ConnectedThreshold(air, corners, lower=1)
    depth = sitk.SignedMaurerDistanceMap(outside, squaredDistance=False, useImageSpacing=True)
    grid = sitk.Image(list(label_zyx.shape[::-1]), sitk.sitkUInt8)
    grid.SetSpacing([float(mm) for mm in spacing_zyx_mm[::-1]])
    fine = sitk.Resample(depth, grid, sitk.Transform(), sitk.sitkLinear, 2 * FAT_DEPTH_MM, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(fine), np.float32)


def _average(
    fine: Field, from_zyx_mm: NDArray[np.float64], to_zyx_mm: NDArray[np.float64]
) -> tuple[Field, NDArray[np.float64]]:
    """Return means over the image's voxels, and where the first one has its centre in voxels of `fine`."""
    first = []
    for axis in range(3):
        weights, start = _box_weights(fine.shape[axis], from_zyx_mm[axis], to_zyx_mm[axis])
        fine = np.moveaxis(np.tensordot(fine, weights, axes=(axis, 1)), -1, axis)
        first.append(start)
    return np.ascontiguousarray(fine), np.array(first)


def _box_weights(size: int, from_mm: float, to_mm: float) -> tuple[Field, float]:
    """Return the share (coarse, fine) of every fine voxel in every coarse one, whose row is centred on the fine one."""
    count = max(1, int(np.floor(size * from_mm / to_mm)))
    start_mm = (size * from_mm - count * to_mm) / 2
    low = start_mm + np.arange(count)[:, None] * to_mm
    edge = np.arange(size)[None, :] * from_mm
    overlap = np.minimum(low + to_mm, edge + from_mm) - np.maximum(low, edge)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), (start_mm + to_mm / 2) / from_mm - 0.5


def _with_motion(image: Field, share: np.float32) -> Field:
    """Return the image of a head that moved: ghosts in each slice, and slices that do not fit together."""
    step = image.shape[1] // GHOST_STEP
    ghosts = (np.roll(image, step, axis=1) + np.roll(image, -step, axis=1)) / 2
    moved = (1 - share) * image + share * ghosts
    moved[1::2] = np.roll(moved[1::2], 1, axis=2)
    return np.asarray(moved, np.float32)


def _receive(image: Field, deviation: np.float32, random: np.random.Generator) -> Field:
    """Return the magnitude of the image with noise in both channels."""
    real = image + deviation * random.standard_normal(image.shape, dtype=np.float32)
    imaginary = deviation * random.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary))
