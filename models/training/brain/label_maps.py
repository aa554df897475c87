"""Label maps of heads: tissues by their numbers, and the mask of the brain that they define.

The mask is the brain with its ventricles and the fluid in its sulci: label maps mark the tissue alone, brain extractors
such as HD-BET keep the fluid between the gyri. `brain_mask` makes the one from the other by a closing and a rim of
fluid, and that is the definition used everywhere. The closing is wide enough for fissures: where a narrower one ends
inside the fluid, nothing in an image shows the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

AIR, CSF_OUTER, OPTIC_CHIASM = 0, 24, 85
ARTERY, VEIN = 502, 514
FIRST_HEAD_LABEL = 500
"""Labels from here on are head tissue outside the brain (skin, bone, vessels, eyes)."""

TISSUES: dict[str, tuple[int, ...]] = {
    "white matter": (2, 41, 7, 46),
    "brain stem": (16, 28, 60),
    "cortex": (3, 42, 8, 47),
    "deep grey matter": (10, 11, 12, 17, 18, 26, 49, 50, 51, 53, 54, 58),
    "pallidum": (13, 52),
    "ventricles": (4, 5, 14, 15, 43, 44, 72),
    "outer fluid": (24,),
    "choroid plexus": (136, 137, 163, 164),
    "lesion": (25, 57),
    "brain vessel": (30, 62),
    "optic nerve": (85, 530),
    "artery": (502,),
    "vein": (514,),
    "eyeball": (506,),
    "soft tissue": (507, 508),
    "mucosa": (509,),
    "skin": (511,),
    "spinal cord": (512,),
    "cortical bone": (515,),
    "cancellous bone": (516,),
}
"""FreeSurfer numbers (the 5xx ones are head tissue) by tissues that share one intensity."""

TISSUE_NAMES = ("air", *TISSUES)

_UNNAMED = 255
"""Stands for a label without a tissue; there are far fewer tissues."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """One head: tissue indices and the brain mask on canonical axes.

    Attributes
    ----------
    tissue_zyx
        uint8 indices into `TISSUE_NAMES`; axes inferior to superior, posterior to anterior, left to right.
    brain_zyx
        uint8, 1 inside the brain mask.
    spacing_zyx_mm
        Voxel size.
    """

    tissue_zyx: Tensor
    brain_zyx: Tensor
    spacing_zyx_mm: tuple[float, float, float]


def brain_mask(labels: sitk.Image, closing_mm: float = 10.0, rim_mm: float = 1.5) -> sitk.Image:
    """Return the brain with ventricles and sulcal fluid of a label map, as uint8.

    Parameters
    ----------
    labels
        FreeSurfer numbers on any grid; those of 500 and more are outside the brain.
    closing_mm
        Radius of the closing that fills the sulci. Only outer fluid and vessels are ever filled in.
    rim_mm
        Width of the fluid on the surface of the brain that belongs to it, as HD-BET draws it.

    Returns
    -------
    SimpleITK.Image
        uint8 on the voxels of `labels`, 1 inside the brain, without holes.
    """
    tissue = (labels > 0) & (labels < FIRST_HEAD_LABEL) & (labels != CSF_OUTER) & (labels != OPTIC_CHIASM)
    radius = [max(1, round(closing_mm / step)) for step in labels.GetSpacing()]
    pad = [2 * r for r in radius]
    closed = sitk.BinaryMorphologicalClosing(sitk.ConstantPad(tissue, pad, pad), radius, sitk.sitkBall)
    closed = sitk.Crop(closed, pad, pad)
    fillable = tissue | (labels == CSF_OUTER) | (labels == OPTIC_CHIASM) | (labels == ARTERY) | (labels == VEIN)
    filled = sitk.BinaryFillhole(closed & fillable)
    near = sitk.SignedMaurerDistanceMap(filled, squaredDistance=False, useImageSpacing=True) <= rim_mm
    brain: sitk.Image = sitk.Cast(sitk.BinaryFillhole(filled | (near & fillable)), sitk.sitkUInt8)
    return brain


def read_label_map(path: Path) -> LabelMap:
    """Return the label map of a NIfTI file on canonical axes.

    Parameters
    ----------
    path
        FreeSurfer numbers, in any orientation.

    Returns
    -------
    LabelMap
        Tissues and brain on the file's own voxels.

    Raises
    ------
    ValueError
        If the file holds a label that `TISSUES` does not name.
    """
    labels = sitk.DICOMOrient(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkInt32), "RAS")
    numbers = sitk.GetArrayFromImage(labels)
    lookup = np.full(int(numbers.max()) + 1, _UNNAMED, np.uint8)
    lookup[AIR] = 0
    for index, members in enumerate(TISSUES.values(), start=1):
        for number in members:
            if number < lookup.size:
                lookup[number] = index
    tissue = lookup[numbers]
    unnamed = tissue == _UNNAMED
    if unnamed.any():
        raise ValueError(f"{path.name} holds labels without a tissue: {sorted(set(numbers[unnamed]))}")
    spacing_x, spacing_y, spacing_z = labels.GetSpacing()
    brain = sitk.GetArrayFromImage(brain_mask(labels))
    return LabelMap(torch.from_numpy(tissue), torch.from_numpy(brain), (spacing_z, spacing_y, spacing_x))
