"""Frames -> SimpleITK image in patient space, through a gate that refuses what is no regular volume.

Positions come from ImagePositionPatient and ImageOrientationPatient alone: slice thickness, spacing between slices and
instance numbers are known to be wrong in real files.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from pipeline.errors import StudyHeld
from pipeline.headers import Frame, Volume

MIN_SLICES = 15
"""Fewer planes than this cannot hold a head at 7.5 mm between them."""
MAX_STEP_MM = 7.5
MIN_COVERAGE_MM = 110.0
_STEP_TOLERANCE = 0.05
"""Share of the slice distance by which distances may differ: stored positions are rounded."""
_SHEAR_TOLERANCE_MM = 1.0
"""In-plane drift of any slice against the lowest above which the stack leans (gantry tilt)."""
_COSINE_TOLERANCE = 1e-2
"""Error of direction cosines that counts as rounding."""


def read_volume(volume: Volume) -> sitk.Image:
    """Return the image of a volume.

    Parameters
    ----------
    volume
        Frames in any order.

    Returns
    -------
    SimpleITK.Image
        float32, rescaled values, axes columns x rows x slices, in LPS millimetres (PS3.3 C.7.6.2.1.1).

    Raises
    ------
    StudyHeld
        ``geometry_*`` where the planes make no regular stack, ``pixel_data_damaged`` where they cannot be decoded.
    """
    frames, step_mm = ordered_frames(volume.frames)
    array_zyx = _read_pixels(frames)
    first = frames[0]
    assert first.orientation is not None
    assert first.position_mm is not None
    assert first.pixel_spacing_mm is not None
    row_spacing_mm, column_spacing_mm = first.pixel_spacing_mm
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing((column_spacing_mm, row_spacing_mm, step_mm))
    image.SetOrigin(first.position_mm)
    across, down = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    across /= np.linalg.norm(across)
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    direction = np.column_stack([across, down, np.cross(across, down)])
    image.SetDirection(direction.round(12).ravel().tolist())  # ITK cannot invert cosines like 1e-310
    return image


def ordered_frames(frames: tuple[Frame, ...]) -> tuple[list[Frame], float]:
    """Return frames sorted along their normal, and the distance of neighbours in millimetres.

    Raises
    ------
    StudyHeld
        ``geometry_matrix``, ``geometry_spacing``, ``geometry_orientation``, ``geometry_position``,
        ``geometry_duplicate``, ``geometry_gap``, ``geometry_tilt``, ``geometry_too_few``, ``geometry_thick`` or
        ``geometry_coverage``.
    """
    _refuse_mixed(frames)
    if len(frames) < 2:
        raise StudyHeld("geometry_too_few", f"{len(frames)} slice is no volume.")
    orientation = np.array(frames[0].orientation)
    normal = np.cross(orientation[:3], orientation[3:])
    normal /= np.linalg.norm(normal)
    positions = np.array([frame.position_mm for frame in frames])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    _refuse_irregular(steps)
    drift = (positions - positions[order[0]]) - (heights - heights[order[0]])[:, None] * normal
    if np.linalg.norm(drift, axis=1).max() > _SHEAR_TOLERANCE_MM:
        raise StudyHeld("geometry_tilt", "The slices do not stack along their normal (tilted or sheared).")
    step_mm = float((heights[order[-1]] - heights[order[0]]) / (len(frames) - 1))
    _refuse_small(len(frames), step_mm)
    return [frames[index] for index in order], step_mm


def _refuse_mixed(frames: tuple[Frame, ...]) -> None:
    first = frames[0]
    for frame in frames:
        if frame.position_mm is None or frame.orientation is None:
            raise StudyHeld("geometry_position", "Slices lack ImagePositionPatient or ImageOrientationPatient.")
        assert first.orientation is not None
        if not np.allclose(frame.orientation, first.orientation, atol=_COSINE_TOLERANCE):
            raise StudyHeld("geometry_orientation", "The slices are oriented differently.")
        spacing = frame.pixel_spacing_mm
        if spacing is None or not all(0.1 <= side <= 10 for side in spacing):
            raise StudyHeld("geometry_spacing", "PixelSpacing is missing or implausible.")
        assert first.pixel_spacing_mm is not None
        if not np.allclose(spacing, first.pixel_spacing_mm, rtol=1e-3):
            raise StudyHeld("geometry_spacing", "The slices have different PixelSpacing.")
        if (frame.rows, frame.columns) != (first.rows, first.columns):
            raise StudyHeld("geometry_matrix", "The slices have different numbers of rows or columns.")
    axes = np.array(first.orientation).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=2 * _COSINE_TOLERANCE):
        raise StudyHeld("geometry_orientation", "ImageOrientationPatient holds no two perpendicular directions.")


def _refuse_irregular(steps: np.ndarray) -> None:
    step_mm = float(np.median(steps))
    if steps.min() < 0.01:
        raise StudyHeld("geometry_duplicate", "Several slices lie at the same position.")
    if (np.abs(steps - step_mm) > max(_STEP_TOLERANCE * step_mm, 0.02)).any():
        raise StudyHeld("geometry_gap", f"Slice distances run from {steps.min():.2f} to {steps.max():.2f} mm: a gap.")


def _refuse_small(slices: int, step_mm: float) -> None:
    if slices < MIN_SLICES:
        raise StudyHeld("geometry_too_few", f"{slices} slices; a head needs at least {MIN_SLICES}.")
    if step_mm > MAX_STEP_MM:
        raise StudyHeld("geometry_thick", f"Slices are {step_mm:.1f} mm apart; at most {MAX_STEP_MM} mm is allowed.")
    if step_mm * slices < MIN_COVERAGE_MM:
        raise StudyHeld(
            "geometry_coverage", f"The slices cover {step_mm * slices:.0f} mm; a head needs {MIN_COVERAGE_MM:.0f} mm."
        )


# --- pixels -----------------------------------------------------------------------------------------------------------


def _read_pixels(frames: list[Frame]) -> np.ndarray:
    """Return float32 (slices, rows, columns) in the order of `frames`, each file opened once."""
    array_zyx = np.empty((len(frames), frames[0].rows, frames[0].columns), np.float32)
    places = sorted(range(len(frames)), key=lambda place: frames[place].path)
    for path, group in groupby(places, key=lambda place: frames[place].path):
        try:
            dataset, pixels = _decode(path)
            for place in group:
                index = frames[place].index
                slope, intercept = _rescale(dataset, index)
                array_zyx[place] = pixels[index].astype(np.float32) * np.float32(slope) + np.float32(intercept)
        except Exception as error:  # any malformed file: pydicom and the codecs raise what they stumbled over
            raise StudyHeld("pixel_data_damaged", f"A slice cannot be decoded ({type(error).__name__}).") from None
    if not np.isfinite(array_zyx).all():
        raise StudyHeld("pixel_data_damaged", "Pixel values are not finite numbers.")
    return array_zyx


def _decode(path: Path) -> tuple[Dataset, np.ndarray]:
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    return dataset, pixels if pixels.ndim == 3 else pixels[None]


def _rescale(dataset: Dataset, index: int) -> tuple[float, float]:
    """Return slope and intercept of a frame (PS3.3 C.11.1 and, for Enhanced objects, C.7.6.16.2.9)."""
    for groups, item in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        members = dataset.get(groups)
        transform = members[item].get("PixelValueTransformationSequence") if members else None
        if transform:
            return float(transform[0].RescaleSlope), float(transform[0].RescaleIntercept)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(intercept or 0)
