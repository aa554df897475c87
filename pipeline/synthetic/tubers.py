"""Cortical and subcortical tubers of a made patient: where they lie, how large they are, how they show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.synthetic.canvas import RIGHT_OF_LEFT, Label
from pipeline.synthetic.shapes import Field

CORTEX = (Label.CORTEX, RIGHT_OF_LEFT[Label.CORTEX])
WHITE_MATTER = (Label.WHITE_MATTER, RIGHT_OF_LEFT[Label.WHITE_MATTER])
SUBCORTICAL_SHARE = 0.3
"""Of the tubers; the others lie at the border of cortex and white matter."""
BORDER_MM = 2.0
SUBCORTICAL_MM = 5.0, 12.0
"""Distance of the middles of subcortical tubers to the cortex."""
EDGE_MM = 2.0
"""Over so much the share of tuber tissue falls from 1 to 0."""
_TRIES = 60


class TuberKind(StrEnum):
    """Where a tuber lies."""

    CORTICAL = "cortical"
    SUBCORTICAL = "subcortical"


@dataclass(frozen=True, slots=True)
class Load:
    """How many tubers a patient has, and of what kind: ranges, equally likely throughout.

    Attributes
    ----------
    name
        ``few`` or ``many``.
    count
        Fewest and most tubers.
    diameter_mm
        Mean of the three axes of a tuber.
    contrast
        Share of the full difference between tuber and healthy tissue.
    """

    name: str
    count: tuple[int, int]
    diameter_mm: tuple[float, float]
    contrast: tuple[float, float]


FEW = Load("few", (2, 5), (8.0, 13.0), (0.20, 0.50))
MANY = Load("many", (15, 25), (14.0, 24.0), (0.75, 1.00))


@dataclass(frozen=True, slots=True)
class Tuber:
    """One tuber.

    Attributes
    ----------
    kind
        Where it lies.
    diameter_mm
        Mean of its axes as drawn.
    volume_ml
        Of cortex and white matter that it took.
    contrast
        By sequence: share of the full difference between tuber and healthy tissue.
    """

    kind: TuberKind
    diameter_mm: float
    volume_ml: float
    contrast: dict[Contrast, float]


@dataclass(frozen=True, slots=True)
class TuberLoad:
    """All tubers of a patient.

    Attributes
    ----------
    tubers
        In the order in which they were placed.
    shares
        By sequence, float32 on the voxels of the head: share of tuber tissue times contrast, 0 to 1.
    """

    tubers: tuple[Tuber, ...]
    shares: dict[Contrast, sitk.Image]

    def burden_ml(self, role: Contrast) -> float:
        """Return the burden that a sequence shows.

        Parameters
        ----------
        role
            The sequence.

        Returns
        -------
        float
            Sum of volume times contrast over all tubers, in millilitres.
        """
        return sum(tuber.volume_ml * tuber.contrast[role] for tuber in self.tubers)


def place_tubers(head: sitk.Image, load: Load, random: np.random.Generator) -> TuberLoad:
    """Return tubers placed in a head, whose labels stay as they are.

    Parameters
    ----------
    head
        Labels on isotropic voxels.
    load
        Ranges to draw from.
    random
        Source of numbers, places, sizes and contrasts.

    Returns
    -------
    TuberLoad
        Fewer tubers than drawn where no more fit; they do not overlap by much, take cortex and white matter alone,
        and leave the fluid between the gyri.
    """
    label_zyx = sitk.GetArrayViewFromImage(head)
    step_mm = float(head.GetSpacing()[0])
    tissue = np.isin(label_zyx, CORTEX + WHITE_MATTER)
    seats = _seats(head)
    shares = {role: np.zeros(label_zyx.shape, np.float32) for role in Contrast}
    placed: list[tuple[np.ndarray, float]] = []
    tubers: list[Tuber] = []
    for _ in range(int(random.integers(load.count[0], load.count[1] + 1))):
        deep = random.random() < SUBCORTICAL_SHARE and len(seats[TuberKind.SUBCORTICAL]) > 0
        kind = TuberKind.SUBCORTICAL if deep else TuberKind.CORTICAL
        radii_mm = random.uniform(*load.diameter_mm) / 2 * _stretch(random)
        contrast = _contrast(load, random)
        seat = _free_seat(seats[kind], float(radii_mm.mean()) / step_mm, placed, random)
        if seat is None:
            continue
        placed.append((seat, float(radii_mm.mean()) / step_mm))
        cut, share = ellipsoid(label_zyx.shape, seat, radii_mm, step_mm)
        share *= tissue[cut]
        for role, shown in contrast.items():
            np.maximum(shares[role][cut], np.float32(shown) * share, out=shares[role][cut])
        volume_ml = float(share.sum(dtype=np.float64)) * step_mm**3 / 1000
        tubers.append(Tuber(kind, round(2 * float(radii_mm.mean()), 2), round(volume_ml, 4), contrast))
    return TuberLoad(tuple(tubers), {role: _image(share, head) for role, share in shares.items()})


def _seats(head: sitk.Image) -> dict[TuberKind, np.ndarray]:
    """Return the voxels in which tubers of each kind may have their middle, as z-y-x indices."""
    label_zyx = sitk.GetArrayViewFromImage(head)
    cortex = _image(np.isin(label_zyx, CORTEX).astype(np.uint8), head)
    depth_mm = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(cortex, False, False, True))
    white = np.isin(label_zyx, WHITE_MATTER)
    low_mm, high_mm = SUBCORTICAL_MM
    return {
        TuberKind.CORTICAL: np.argwhere(white & (depth_mm <= BORDER_MM)),
        TuberKind.SUBCORTICAL: np.argwhere(white & (depth_mm >= low_mm) & (depth_mm <= high_mm)),
    }


def _stretch(random: np.random.Generator) -> np.ndarray:
    """Return the three axes of a tuber as shares of their mean."""
    axes = random.uniform(0.8, 1.2, 3)
    return np.asarray(axes / axes.mean())


def _contrast(load: Load, random: np.random.Generator) -> dict[Contrast, float]:
    return {role: round(float(random.uniform(*load.contrast)), 4) for role in Contrast}


def _free_seat(
    seats: np.ndarray, radius: float, placed: list[tuple[np.ndarray, float]], random: np.random.Generator
) -> np.ndarray | None:
    """Return a seat that keeps off the tubers placed before, None where none was found; lengths in voxels."""
    if not len(seats):
        return None
    for index in random.integers(len(seats), size=_TRIES):
        seat = np.asarray(seats[index])
        if all(np.linalg.norm(seat - other) >= 0.9 * (radius + size) for other, size in placed):
            return seat
    return None


def ellipsoid(
    shape: tuple[int, ...], seat: np.ndarray, radii_mm: np.ndarray, step_mm: float
) -> tuple[tuple[slice, ...], Field]:
    """Return a window around a seat, and the share of every voxel of it that lies in the ellipsoid.

    Parameters
    ----------
    shape
        Of the whole, in voxels.
    seat
        Middle of the ellipsoid, z-y-x in voxels.
    radii_mm, step_mm
        Along z, y and x, and the edge of a voxel.
    """
    reach = np.ceil((radii_mm + EDGE_MM) / step_mm).astype(int)
    cut = tuple(
        slice(max(0, at - far), min(size, at + far + 1)) for at, far, size in zip(seat, reach, shape, strict=True)
    )
    axes = [
        ((np.arange(part.start, part.stop) - at) * step_mm / radius).astype(np.float32)
        for part, at, radius in zip(cut, seat, radii_mm, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside_mm = (1 - np.sqrt(z**2 + y**2 + x**2)) * np.float32(radii_mm.mean())
    return cut, np.clip(0.5 + inside_mm / EDGE_MM, 0, 1).astype(np.float32)


def _image(array_zyx: np.ndarray, like: sitk.Image) -> sitk.Image:
    image: sitk.Image = sitk.GetImageFromArray(array_zyx)
    image.CopyInformation(like)
    return image
