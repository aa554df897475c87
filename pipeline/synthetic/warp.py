"""Base anatomies, and a new one from each by a smooth random deformation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from models.bundle import ModelError
from pipeline.synthetic.anatomy import procedural_head
from pipeline.synthetic.canvas import FIRST_HEAD_LABEL, RIGHT_OF_LEFT, Label
from pipeline.synthetic.noise import smooth_field
from pipeline.synthetic.rendering import TISSUE_OF_LABEL
from pipeline.synthetic.shapes import Field

SPACING_MM = 1.5
"""Edge of the cubic voxels that patients are drawn on."""
PROCEDURAL_HEADS = 15
BEND_MM, BEND_CELL_MM = 4.0, 40.0
"""Standard deviation of the displacement along each axis, and the distance over which it varies."""
STRETCH = 0.04
"""Each axis is stretched by up to so much besides the scale of the head."""
TILT_DEG = 6.0
MIRRORED_SHARE = 0.5
_RIM_MM = 15.0
_X_AXIS = 2
"""Of z, y and x: the one from side to side."""
_OTHER_SIDE = {5: 44, 26: 58, 28: 60, 30: 62, 136: 163, 137: 164}
"""Paired numbers that only label maps have."""


@dataclass(frozen=True, slots=True)
class BaseAnatomy:
    """A head that patients are made from.

    Attributes
    ----------
    group
        Its name in ``labels.csv``; a label map's is a digest of the file, so that copies of a map are one anatomy.
    source
        The label map, or the seed of a procedural head.
    """

    group: str
    source: Path | int

    @property
    def origin(self) -> str:
        """What it is, in words."""
        return f"label map {self.source.name}" if isinstance(self.source, Path) else "procedural head"


def base_anatomies(label_maps: Path | None, seed: int, drawn_heads: int = 0) -> tuple[BaseAnatomy, ...]:
    """Return the anatomies of a folder of label maps, or procedural ones.

    Parameters
    ----------
    label_maps
        Folder with NIfTI files; None for procedural heads.
    seed
        Of the procedural heads.
    drawn_heads
        How many procedural heads besides those of label maps.

    Returns
    -------
    tuple of BaseAnatomy
        In the order of the names of the files, copies of a map once; `PROCEDURAL_HEADS` procedural ones.

    Raises
    ------
    ModelError
        ``label_maps_missing`` if the folder holds none.
    """
    heads = (_drawn(seed, head) for head in range(drawn_heads if label_maps else PROCEDURAL_HEADS))
    if label_maps is None:
        return tuple(heads)
    files = sorted(path for pattern in ("*.nii", "*.nii.gz") for path in label_maps.glob(pattern))
    if not files:
        raise ModelError("label_maps_missing", f"{label_maps} holds no label map: name a folder with *.nii.gz files.")
    by_group = {f"map-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}": file for file in files}
    return (*(BaseAnatomy(group, file) for group, file in by_group.items()), *heads)


def _drawn(seed: int, head: int) -> BaseAnatomy:
    state = np.random.SeedSequence([seed, head]).generate_state(1)
    return BaseAnatomy(f"procedural-{seed}-{head:02d}", int(state[0]))


@lru_cache(maxsize=3)
def read_base(base: BaseAnatomy) -> sitk.Image:
    """Return the labels of a base anatomy without its lesions.

    Parameters
    ----------
    base
        Label map, with numbers as in `Label` in any axis-aligned orientation, or seed of a procedural head.

    Returns
    -------
    SimpleITK.Image
        uint16, axes along LPS, the middle of the brain at the origin of the patient space.

    Raises
    ------
    ModelError
        ``label_map_unreadable``, or ``label_map_unknown`` if it holds numbers without a tissue, or no brain.
    """
    if isinstance(base.source, int):
        labels = procedural_head(base.source, spacing_mm=SPACING_MM, tubers=0)
    else:
        labels = _read_labels(base.source)
    label_zyx = sitk.GetArrayFromImage(labels).astype(np.uint16)
    _refuse_unknown(label_zyx, base)
    # What the map's own person had is neither part of the label's rule nor the same on all bases.
    label_zyx[label_zyx == Label.LESION] = Label.WHITE_MATTER
    label_zyx[label_zyx == RIGHT_OF_LEFT[Label.LESION]] = RIGHT_OF_LEFT[Label.WHITE_MATTER]
    healthy: sitk.Image = sitk.GetImageFromArray(label_zyx)
    healthy.SetSpacing(labels.GetSpacing())
    brain = (label_zyx > 0) & (label_zyx < FIRST_HEAD_LABEL) & (label_zyx != Label.OUTER_CSF)
    middle_zyx = [(there[0] + there[-1]) / 2 for there in _extents(brain)]
    healthy.SetOrigin([-at * step for at, step in zip(middle_zyx[::-1], labels.GetSpacing(), strict=True)])
    return healthy


def warp(base: sitk.Image, random: np.random.Generator, scale: float = 1.0) -> sitk.Image:
    """Return a new head: bent, stretched, tilted, scaled, and mirrored half of the time.

    Parameters
    ----------
    base
        Labels as `read_base` returns them.
    random
        Source of the deformation.
    scale
        Size against the base.

    Returns
    -------
    SimpleITK.Image
        uint16, axes along LPS, voxels of `SPACING_MM`, with a rim of air.
    """
    mirrored = bool(random.random() < MIRRORED_SHARE)
    stretch_zyx = scale * random.uniform(1 - STRETCH, 1 + STRETCH, 3)
    tilt = sitk.Euler3DTransform((0.0, 0.0, 0.0), *np.deg2rad(random.uniform(-TILT_DEG, TILT_DEG, 3)).tolist())
    to_base = np.reshape(tilt.GetMatrix(), (3, 3))[::-1, ::-1] / stretch_zyx[:, None]
    if mirrored:
        to_base[_X_AXIS] *= -1
    label_zyx = np.pad(sitk.GetArrayViewFromImage(base), 1)
    step_zyx_mm = np.array(base.GetSpacing()[::-1])
    first_zyx_mm = np.array(base.GetOrigin()[::-1]) - step_zyx_mm
    axes = _axes(label_zyx > 0, first_zyx_mm, step_zyx_mm, scale, mirrored)
    shape = (axes[0].size, axes[1].size, axes[2].size)
    flat = np.zeros(shape, np.int64)
    for axis in range(3):
        bend = smooth_field(random, shape, (BEND_CELL_MM / SPACING_MM,) * 3)
        at_mm = np.float32(BEND_MM) * bend + _plane(axes, to_base[axis])
        index = np.rint((at_mm - first_zyx_mm[axis]) / step_zyx_mm[axis]).astype(np.int64)
        flat = flat * label_zyx.shape[axis] + np.clip(index, 0, label_zyx.shape[axis] - 1)
    warped = label_zyx.ravel()[flat]
    head: sitk.Image = sitk.GetImageFromArray(_sides_swapped(warped) if mirrored else warped)
    head.SetSpacing([SPACING_MM] * 3)
    head.SetOrigin([float(axis[0]) for axis in axes[::-1]])
    return head


def _read_labels(file: Path) -> sitk.Image:
    try:
        labels: sitk.Image = sitk.DICOMOrient(sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkInt32), "LPS")
    except RuntimeError:
        raise ModelError("label_map_unreadable", f"{file.name} cannot be read as a label map.") from None
    return labels


def _refuse_unknown(label_zyx: np.ndarray, base: BaseAnatomy) -> None:
    known = {int(Label.AIR), *(number for numbers in TISSUE_OF_LABEL.values() for number in numbers)}
    unknown = sorted(set(np.unique(label_zyx).tolist()) - known)
    if unknown:
        raise ModelError("label_map_unknown", f"The {base.origin} holds numbers without a tissue: {unknown}.")
    if not np.isin(label_zyx, (Label.CORTEX, RIGHT_OF_LEFT[Label.CORTEX])).any():
        raise ModelError("label_map_unknown", f"The {base.origin} shows no cerebral cortex.")


def _extents(inside_zyx: np.ndarray) -> list[np.ndarray]:
    """Return the indices along each axis at which something is inside."""
    return [np.flatnonzero(inside_zyx.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]


def _axes(
    head_zyx: np.ndarray, first_zyx_mm: np.ndarray, step_zyx_mm: np.ndarray, scale: float, mirrored: bool
) -> tuple[Field, Field, Field]:
    """Return the coordinates along z, y and x of a grid over the scaled head."""
    axes = []
    for axis, there in enumerate(_extents(head_zyx)):
        ends_mm = scale * (first_zyx_mm[axis] + step_zyx_mm[axis] * there[[0, -1]])
        low_mm, high_mm = sorted(-ends_mm if mirrored and axis == _X_AXIS else ends_mm)
        axes.append(np.arange(low_mm - _RIM_MM, high_mm + _RIM_MM, SPACING_MM, dtype=np.float32))
    return axes[0], axes[1], axes[2]


def _plane(axes: tuple[Field, Field, Field], slopes_zyx: np.ndarray) -> Field:
    """Return the linear function of the coordinates with these slopes, on the grid of the axes."""
    z, y, x = (np.float32(slope) * axis for slope, axis in zip(slopes_zyx, axes, strict=True))
    return np.asarray(z[:, None, None] + y[None, :, None] + x[None, None, :])


def _sides_swapped(label_zyx: np.ndarray) -> np.ndarray:
    numbers = np.arange(int(label_zyx.max()) + 65, dtype=np.uint16)
    for left, right in (RIGHT_OF_LEFT | _OTHER_SIDE).items():
        numbers[left], numbers[right] = right, left
    return np.asarray(numbers[label_zyx])
