"""Brain mask of a volume, and whether it can be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from pipeline.errors import StudyHeld

SMALLEST_ML, LARGEST_ML = 350.0, 1_900.0
"""From infants to large adults; a mask outside is no brain."""
_MAIN_COMPONENT_SHARE = 0.98
_BORDER_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What is reported of a brain mask: its volume in millilitres and named doubts about it."""

    volume_ml: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightsIdentity:
    """Which weights drew the mask: their name (``embedded`` or ``hd-bet``) and SHA-256."""

    name: str
    digest: str


class Extractor(Protocol):
    """Anything that finds a brain in an array of canonical axes."""

    def mask(self, volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
        """Return uint8 of the same shape, 1 inside the brain."""
        ...


def extract_brain(volume: sitk.Image, extractor: Extractor) -> tuple[sitk.Image, MaskFacts]:
    """Return the brain mask of a volume and what is to be said about it.

    Parameters
    ----------
    volume
        On canonical axes.
    extractor
        Loaded weights.

    Returns
    -------
    tuple of SimpleITK.Image and MaskFacts
        uint8 mask on the voxels of `volume`: its largest component with holes filled.

    Raises
    ------
    StudyHeld
        ``brain_mask_empty`` or ``brain_mask_implausible``.
    """
    spacing_x, spacing_y, spacing_z = volume.GetSpacing()
    raw = extractor.mask(sitk.GetArrayViewFromImage(volume), (spacing_z, spacing_y, spacing_x))
    if not raw.any():
        raise StudyHeld("brain_mask_empty", "No brain was found in the volume.")
    mask = sitk.GetImageFromArray(raw)
    mask.CopyInformation(volume)
    main = sitk.RelabelComponent(sitk.ConnectedComponent(mask), sortByObjectSize=True) == 1
    filled = sitk.BinaryFillhole(main)
    return filled, _facts(filled, float(raw.sum()), main)


def _facts(mask: sitk.Image, raw_voxels: float, main: sitk.Image) -> MaskFacts:
    voxel_ml = float(np.prod(mask.GetSpacing())) / 1000
    array_zyx = sitk.GetArrayViewFromImage(mask)
    volume_ml = float(array_zyx.sum()) * voxel_ml
    if not SMALLEST_ML <= volume_ml <= LARGEST_ML:
        raise StudyHeld(
            "brain_mask_implausible",
            f"The brain mask holds {volume_ml:.0f} ml; a brain has {SMALLEST_ML:.0f} to {LARGEST_ML:.0f} ml.",
        )
    flags = []
    if float(sitk.GetArrayViewFromImage(main).sum()) < _MAIN_COMPONENT_SHARE * raw_voxels:
        flags.append("fragmented")
    # The lower border is left out: slices often end below the cerebellum.
    faces = [array_zyx[-1], array_zyx[:, 0], array_zyx[:, -1], array_zyx[:, :, 0], array_zyx[:, :, -1]]
    if any(face.mean() > _BORDER_SHARE for face in faces):
        flags.append("touches_border")
    return MaskFacts(round(volume_ml, 1), tuple(flags))
