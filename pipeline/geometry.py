"""The gate: frames that make a regular stack, in the order of the slices, or the reason why they do not.

Positions come from ImagePositionPatient and ImageOrientationPatient alone: slice thickness, spacing between slices and
instance numbers are known to be wrong in real files. Neither pixels nor NumPy are needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pipeline.errors import HoldReason, StudyHeld
from pipeline.headers import Frame, Vector

MIN_SLICES = 15
"""Fewer planes than this cannot hold a head at 7.5 mm between them."""
MAX_STEP_MM = 7.5
"""Chosen here: clinical series of a head have up to 5 mm slices with a gap of up to half of that."""
MIN_COVERAGE_MM = 110.0
"""Chosen here: the brain masks of ten heads are 117 to 148 mm high (`pipeline.plausibility`), and slices may be cut."""
_STEP_TOLERANCE, _STEP_TOLERANCE_MM = 0.05, 0.02
"""Share of the slice distance by which distances may differ, and the least: stored positions are rounded. Chosen here;
a missing slice doubles a distance."""
_SAME_PLACE_MM = 0.01
"""Closer planes are one place, chosen here: no scanner makes slices of 10 micrometres."""
_SHEAR_TOLERANCE_MM = 1.0
"""In-plane drift of any slice against the lowest above which the stack leans (gantry tilt). Chosen here, one pixel."""
_COSINE_TOLERANCE = 1e-2
"""Error of direction cosines that counts as rounding, chosen here: half a degree."""
_FARTHEST_MM = 10_000.0
"""No patient lies farther from the isocentre of a scanner."""
_PIXEL_SPACING_MM = 0.1, 10.0
"""Chosen here: heads are imaged with 0.2 to 4 mm; what lies outside is an export's, or has another unit."""
_SPACING_TOLERANCE = 1e-3
"""Share of the smaller pixel spacing by which spacings of one series may differ: decimal strings are rounded."""
_MIN_STACK = 2
"""One plane has no distance to a neighbour."""


def ordered_frames(frames: Sequence[Frame]) -> tuple[list[Frame], float]:
    """Return the frames of a head sorted along their normal, and the distance of neighbours in millimetres.

    Parameters
    ----------
    frames
        Of one volume, in any order.

    Returns
    -------
    tuple of list and float
        The normal is the cross product of row and column direction; the distance is the mean of all.

    Raises
    ------
    StudyHeld
        As `stacked_frames` does, and ``geometry_too_few``, ``geometry_thick`` or ``geometry_coverage`` where the stack
        cannot hold a head.
    """
    stacked, step_mm = stacked_frames(frames)
    slices = len(stacked)
    if slices < MIN_SLICES:
        raise StudyHeld(
            HoldReason.GEOMETRY_TOO_FEW, f"{slices} slices; a head needs at least {MIN_SLICES}. Send all slices."
        )
    if step_mm > MAX_STEP_MM:
        raise StudyHeld(
            HoldReason.GEOMETRY_THICK,
            f"Slices are {step_mm:.1f} mm apart; at most {MAX_STEP_MM} mm is allowed. Acquire thinner slices.",
        )
    if step_mm * slices < MIN_COVERAGE_MM:
        raise StudyHeld(
            HoldReason.GEOMETRY_COVERAGE,
            f"The slices cover {step_mm * slices:.0f} mm; a head needs {MIN_COVERAGE_MM:.0f} mm. "
            "Send or acquire the whole head.",
        )
    return stacked, step_mm


def stacked_frames(frames: Sequence[Frame]) -> tuple[list[Frame], float]:
    """Return frames of anything sorted along their normal, and the distance of neighbours in millimetres.

    Parameters
    ----------
    frames
        Of one volume, in any order.

    Returns
    -------
    tuple of list and float
        As `ordered_frames`.

    Raises
    ------
    StudyHeld
        ``geometry_position``, ``geometry_orientation``, ``geometry_spacing``, ``geometry_matrix``,
        ``geometry_too_few`` for a single frame, ``geometry_duplicate``, ``geometry_gap`` or ``geometry_tilt``.
    """
    for frame in frames:
        _refuse_unplaced(frame)
    _refuse_mixed(frames)
    if len(frames) < _MIN_STACK:
        raise StudyHeld(HoldReason.GEOMETRY_TOO_FEW, f"{len(frames)} slice is no volume. Send all slices.")
    normal = _normal(frames[0])
    placed = sorted(((_dot(_position(frame), normal), frame) for frame in frames), key=lambda pair: pair[0])
    _refuse_irregular([upper - lower for (lower, _), (upper, _) in pairwise(placed)])
    low_mm, lowest = placed[0]
    for height_mm, frame in placed:
        if _drift_mm(_position(frame), _position(lowest), normal, height_mm - low_mm) > _SHEAR_TOLERANCE_MM:
            raise StudyHeld(
                HoldReason.GEOMETRY_TILT,
                "The slices do not stack along their normal (tilted or sheared). Acquire the series without tilt.",
            )
    return [frame for _, frame in placed], (placed[-1][0] - low_mm) / (len(placed) - 1)


def axes_of(frame: Frame) -> tuple[Vector, Vector, Vector]:
    """Return the directions in which columns, rows and slices of a frame follow each other.

    Parameters
    ----------
    frame
        With an orientation (PS3.3 C.7.6.2.1.1); its two directions are made exactly perpendicular.

    Returns
    -------
    tuple of three vectors
        Perpendicular unit vectors in LPS.
    """
    assert frame.orientation is not None
    across = _unit(frame.orientation[:3])
    down = frame.orientation[3:]
    along = _dot(down, across)
    down = _unit(tuple(d - along * a for d, a in zip(down, across, strict=True)))
    return across, down, _cross(across, down)


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refuse_unplaced(frame: Frame) -> None:
    position_mm, orientation, spacing_mm = frame.position_mm, frame.orientation, frame.pixel_spacing_mm
    if position_mm is None or orientation is None or max(map(abs, position_mm)) > _FARTHEST_MM:
        raise StudyHeld(
            HoldReason.GEOMETRY_POSITION,
            "Slices lack a plausible ImagePositionPatient or ImageOrientationPatient. "
            "Send the original series, not an export.",
        )
    across, down = orientation[:3], orientation[3:]
    lengths = _dot(across, across), _dot(down, down)
    if any(abs(length - 1) > 2 * _COSINE_TOLERANCE for length in lengths) or (
        abs(_dot(across, down)) > 2 * _COSINE_TOLERANCE
    ):
        raise StudyHeld(
            HoldReason.GEOMETRY_ORIENTATION,
            "ImageOrientationPatient holds no two perpendicular directions. Send the original series, not an export.",
        )
    smallest_mm, largest_mm = _PIXEL_SPACING_MM
    if spacing_mm is None or not all(smallest_mm <= side <= largest_mm for side in spacing_mm):
        raise StudyHeld(
            HoldReason.GEOMETRY_SPACING,
            "PixelSpacing is missing or implausible. Send the original series, not an export.",
        )


def _refuse_mixed(frames: Sequence[Frame]) -> None:
    first = frames[0]
    for frame in frames:
        if not _close(frame.orientation, first.orientation, _COSINE_TOLERANCE):
            raise StudyHeld(
                HoldReason.GEOMETRY_ORIENTATION,
                "The slices are oriented differently. Send each orientation as a series of its own.",
            )
        spacing_mm = first.pixel_spacing_mm or (0.0,)
        if not _close(frame.pixel_spacing_mm, first.pixel_spacing_mm, _SPACING_TOLERANCE * min(spacing_mm)):
            raise StudyHeld(
                HoldReason.GEOMETRY_SPACING,
                "The slices have different PixelSpacing. Send each field of view as a series of its own.",
            )
        if (frame.rows, frame.columns) != (first.rows, first.columns):
            raise StudyHeld(
                HoldReason.GEOMETRY_MATRIX,
                "The slices have different numbers of rows or columns. Send each matrix as a series of its own.",
            )


def _refuse_irregular(steps_mm: list[float]) -> None:
    ordered_mm = sorted(steps_mm)
    least_mm, step_mm, most_mm = ordered_mm[0], ordered_mm[len(ordered_mm) // 2], ordered_mm[-1]
    if least_mm < _SAME_PLACE_MM:
        raise StudyHeld(
            HoldReason.GEOMETRY_DUPLICATE,
            "Several slices lie at the same position. If it was acquired twice, send each acquisition as a series.",
        )
    if max(step_mm - least_mm, most_mm - step_mm) > max(_STEP_TOLERANCE * step_mm, _STEP_TOLERANCE_MM):
        raise StudyHeld(
            HoldReason.GEOMETRY_GAP,
            f"Slice distances run from {least_mm:.2f} to {most_mm:.2f} mm: a gap. Send all slices of the series again.",
        )


# --- vectors ----------------------------------------------------------------------------------------------------------


def _position(frame: Frame) -> Vector:
    assert frame.position_mm is not None
    return frame.position_mm


def _normal(frame: Frame) -> Vector:
    return axes_of(frame)[2]


def _drift_mm(position: Vector, lowest: Vector, normal: Vector, height_mm: float) -> float:
    """Return how far a slice lies aside of where the lowest one would come along the normal."""
    return math.dist(position, [low + height_mm * part for low, part in zip(lowest, normal, strict=True)])


def _dot(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _cross(one: Vector, other: Vector) -> Vector:
    return (
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    )


def _unit(vector: Vector) -> Vector:
    length = math.hypot(*vector)
    return tuple(part / length for part in vector)


def _close(one: Vector | None, other: Vector | None, tolerance: float) -> bool:
    return (
        one is not None and other is not None and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))
    )
