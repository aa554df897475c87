"""Brain mask of a volume, and whether it can be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from pipeline.errors import HoldReason, StudyHeld
from pipeline.mask_measures import measure_mask
from pipeline.plausibility import MaskFlag, doubts


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What is reported of a brain mask: its volume in ml, doubts, and whether there was an age to compare it with."""

    volume_ml: float
    flags: tuple[MaskFlag, ...] = ()
    age_known: bool = True


@dataclass(frozen=True, slots=True)
class WeightsIdentity:
    """Which weights drew the mask: their name (``embedded`` or ``hd-bet``) and SHA-256."""

    name: str
    digest: str


class Extractor(Protocol):
    """Anything that finds a brain in an array of canonical axes."""

    def mask(self, volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
        """Return the brain mask of a volume.

        Parameters
        ----------
        volume_zyx
            Grey values, z from inferior to superior, y from posterior to anterior, x from left to right.
        spacing_zyx_mm
            Of its voxels.

        Returns
        -------
        numpy.ndarray
            uint8 of the same shape, 1 inside the brain.
        """
        ...


def extract_brain(
    volume: sitk.Image, extractor: Extractor, age_years: float | None = None
) -> tuple[sitk.Image, MaskFacts]:
    """Return the brain mask of a volume and what is to be said about it.

    Parameters
    ----------
    volume
        On canonical axes.
    extractor
        Loaded weights.
    age_years
        Of the patient, for the volume that is to be expected; None where it is not known.

    Returns
    -------
    tuple of SimpleITK.Image and MaskFacts
        uint8 mask on the voxels of `volume`: its largest component with holes filled.

    Raises
    ------
    StudyHeld
        ``brain_mask_empty`` or ``brain_mask_implausible``.
    """
    array_zyx = sitk.GetArrayViewFromImage(volume)
    if array_zyx.min() == array_zyx.max():
        raise StudyHeld(HoldReason.BRAIN_MASK_EMPTY, "The volume is empty: every voxel has the same value.")
    raw = raw_mask(volume, extractor)
    if not sitk.GetArrayViewFromImage(raw).any():
        raise StudyHeld(HoldReason.BRAIN_MASK_EMPTY, "No brain was found in the volume.")
    mask, main_share = main_piece(raw)
    measures = measure_mask(volume, mask, main_share)
    return mask, MaskFacts(round(measures.volume_ml, 1), doubts(measures, age_years), age_years is not None)


def raw_mask(volume: sitk.Image, extractor: Extractor) -> sitk.Image:
    """Return what the network calls brain, in all its pieces.

    Parameters
    ----------
    volume
        On canonical axes.
    extractor
        Loaded weights.

    Returns
    -------
    SimpleITK.Image
        uint8 on the voxels of `volume`, 1 inside the brain; may be empty.
    """
    spacing_x, spacing_y, spacing_z = volume.GetSpacing()
    mask = sitk.GetImageFromArray(extractor.mask(sitk.GetArrayViewFromImage(volume), (spacing_z, spacing_y, spacing_x)))
    mask.CopyInformation(volume)
    return mask


def main_piece(raw: sitk.Image) -> tuple[sitk.Image, float]:
    """Return the largest piece of a mask, its holes filled, and its share of the mask's voxels.

    Parameters
    ----------
    raw
        uint8, not empty.

    Returns
    -------
    tuple of SimpleITK.Image and float
        uint8 on the same voxels; the share before the holes are filled, in (0, 1].
    """
    main = sitk.RelabelComponent(sitk.ConnectedComponent(raw), sortByObjectSize=True) == 1
    main_voxels, raw_voxels = (float(sitk.GetArrayViewFromImage(mask).sum()) for mask in (main, raw))
    return sitk.BinaryFillhole(main), main_voxels / raw_voxels
