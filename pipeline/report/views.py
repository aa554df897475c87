"""What the models looked at: three planes through the brain of each input, with the outline of its mask.

Planes are shown as radiologists read them: the patient's right on the left of axial and coronal planes, the face on the
left of sagittal ones, the front or the vertex on top. Nothing but grey values, outline and letters is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from models.contrast import Contrast
from pipeline.report.pen import BANNER, MARGIN, MUTED, SIDE, SMALLEST, TRACK, Pen, Sheet

OUTLINE: Final = (255, 202, 58)
"""Colour of the mask's outline; no grey value looks like it."""
RAISES: Final = (243, 156, 70)
LOWERS: Final = (96, 150, 232)
"""Colours over an image; colour-blind readers distinguish them, and neither is the green of an all-clear."""

_MARGIN_MM = 15.0
_DARKEST, _BRIGHTEST = 1.0, 99.8
"""Percentiles of the grey values that become black and white."""
_DENSEST = 0.65
"""Share of the colour where a map is greatest: the image stays visible."""
_GAP: Final = 8
"""What lies between planes, in points."""
_TILE: Final = (SIDE - BANNER - 16) // len(Contrast) - 36
_HEADING, _AFTER_ROW = 26, 10
"""Side of a plane on the overlay, height of a row's heading and what lies below its planes, in points."""
_LARGE = 400
"""Pixels from which on an outline is two pixels wide, so that it is seen on a page that is shown smaller."""
_HALF = 128
"""From here on a grey value is white."""
_DARK = 1e-6
"""Smallest window of grey values: a volume without contrast is drawn as it is."""
_NOTHING = 1e-12
"""Smallest value that a map is drawn relative to."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane through the middle of a brain.

    Attributes
    ----------
    name
        ``axial``, ``coronal`` or ``sagittal``.
    grey, mask
        uint8 of one shape (rows downwards, columns to the right); the mask is 1 inside the brain.
    size_mm
        Height and width of the plane.
    field_mm
        Side of the square that all planes of one volume fit into, so that they can be drawn to one scale.
    left
        Which side of the patient is on the left: ``R`` or ``A``.
    heat
        float32 of the shape of `grey`, -1 to 1: what lowers and what raises a score; None where there is no map.
    """

    name: str
    grey: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    size_mm: tuple[float, float]
    field_mm: float
    left: str
    heat: npt.NDArray[np.float32] | None = None


Views = Mapping[Contrast, tuple[Plane, ...]]


def tri_planar(
    volume: sitk.Image, mask: sitk.Image, activation: sitk.Image | None = None
) -> tuple[Plane, Plane, Plane]:
    """Return the axial, coronal and sagittal plane through the middle of the brain.

    Parameters
    ----------
    volume
        Scalar, on canonical axes (:func:`pipeline.grid.canonical`); any spacing in millimetres.
    mask
        On the voxels of `volume`, above 0 inside the brain, not empty.
    activation
        A map in patient space, of any size; interpolated, and shown inside of the brain, relative to its greatest
        absolute value there.

    Raises
    ------
    ValueError
        If the mask is empty or of another size.
    """
    inside_zyx = sitk.GetArrayViewFromImage(mask) > 0
    if mask.GetSize() != volume.GetSize() or not inside_zyx.any():
        raise ValueError(
            f"a mask of {mask.GetSize()} voxels, empty or not, does not fit a volume of {volume.GetSize()}"
        )
    spacing_zyx_mm = np.array(volume.GetSpacing()[::-1])
    box, middle = _box(inside_zyx, spacing_zyx_mm)
    grey_zyx = _windowed(sitk.GetArrayViewFromImage(volume)[box], inside_zyx[box])
    mask_zyx = inside_zyx[box].astype(np.uint8)
    # What lies outside of the brain is 0 in the network's input: no score depends on it.
    heat_zyx = None if activation is None else _relative(activation, volume, inside_zyx)[box]
    field_mm = float(max(np.array(grey_zyx.shape) * spacing_zyx_mm))

    def plane(name: str, axis: int, left: str) -> Plane:
        # Canonical axes run to the right, to the front and upwards: both axes of every plane are shown reversed.
        grey, inside = (np.take(array, middle[axis], axis)[::-1, ::-1] for array in (grey_zyx, mask_zyx))
        heat = None if heat_zyx is None else np.take(heat_zyx, middle[axis], axis)[::-1, ::-1]
        height_mm, width_mm = np.array(grey.shape) * np.delete(spacing_zyx_mm, axis)
        return Plane(name, grey, inside, (float(height_mm), float(width_mm)), field_mm, left, heat)

    return plane("axial", 0, "R"), plane("coronal", 1, "R"), plane("sagittal", 2, "A")


def draw_plane(plane: Plane, side: int, letter: int = 0) -> Image.Image:
    """Return a plane as an RGB square of `side` pixels, black around it, with the mask's outline and a letter.

    Parameters
    ----------
    plane
        Drawn to the scale of its `field_mm`.
    side
        Width and height in pixels.
    letter
        Height of the type of the letter in pixels; 0: for a square that is shown as it is.
    """
    scale = side / plane.field_mm
    height, width = (max(1, min(side, round(length * scale))) for length in plane.size_mm)
    grey = Image.fromarray(np.ascontiguousarray(plane.grey)).resize((width, height), Image.Resampling.BICUBIC)
    picture = grey.convert("RGB")
    if plane.heat is not None:
        for color, sign in ((RAISES, 1), (LOWERS, -1)):
            share = np.clip(255 * _DENSEST * sign * plane.heat, 0, 255).astype(np.uint8)
            picture.paste(color, (0, 0), Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR))
    picture.paste(OUTLINE, (0, 0), _outline(plane, (width, height)))
    square = Image.new("RGB", (side, side))
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    draw = ImageDraw.Draw(square)
    draw.text((6, 4), plane.left, fill=MUTED, font=ImageFont.load_default(size=letter or max(SMALLEST, side // 14)))
    draw.rectangle((0, 0, side - 1, side - 1), outline=TRACK)
    return square


def draw_overlay(views: Views, notice: str, scale: int = 1, *, lettered: bool = True) -> Sheet:
    """Return all planes of all inputs on one square picture, a row for each role, for a closer look at the images.

    Parameters
    ----------
    views
        As :func:`tri_planar` returns them; roles may be missing.
    notice
        The model's notice, drawn on top together with the research banner.
    scale, lettered
        As for :class:`~pipeline.report.pen.Pen`.
    """
    pen = Pen(scale=scale, lettered=lettered)
    pen.banner(notice)
    for row, role in enumerate(role for role in Contrast if role in views):
        top = BANNER + 12 + row * (_HEADING + _TILE + _AFTER_ROW)
        pen.text(MARGIN, top, f"{role}: axial, coronal, sagittal; the outline lies around the brain mask", 18, MUTED)
        for column, plane in enumerate(views[role]):
            paste_plane(pen, plane, (MARGIN + column * (_TILE + _GAP), top + _HEADING), _TILE)
    return pen.sheet


def paste_plane(pen: Pen, plane: Plane, corner: tuple[int, int], side: int) -> None:
    """Draw a plane.

    Parameters
    ----------
    pen
        Of the picture.
    plane
        Drawn as a square.
    corner
        Its left and its top in points.
    side
        Width and height in points.
    """
    pen.paste(draw_plane(plane, side * pen.scale, pen.scale * max(SMALLEST, side // 14)), *corner)


def _box(inside_zyx: npt.NDArray[np.bool_], spacing_zyx_mm: np.ndarray) -> tuple[tuple[slice, ...], list[int]]:
    """Return the mask's extent with a margin, and its middle inside of that."""
    slices, middle = [], []
    for axis, spacing_mm in enumerate(spacing_zyx_mm):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(inside_zyx.any(axis=others))
        margin = round(_MARGIN_MM / spacing_mm)
        low, high = max(0, found[0] - margin), min(inside_zyx.shape[axis], found[-1] + 1 + margin)
        slices.append(slice(low, high))
        middle.append(int(found[0] + found[-1]) // 2 - low)
    return tuple(slices), middle


def _relative(activation: sitk.Image, volume: sitk.Image, inside_zyx: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return a map on the voxels of `volume`, from -1 to 1, 0 outside of the brain; its outermost values go on."""
    interpolated = (sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    image = sitk.Resample(activation, volume, *interpolated, useNearestNeighborExtrapolator=True)
    values_zyx = sitk.GetArrayFromImage(image) * inside_zyx
    return np.asarray(values_zyx / max(float(np.abs(values_zyx).max()), _NOTHING), dtype=np.float32)


def _windowed(values_zyx: np.ndarray, inside_zyx: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return uint8; the window is set by the brain, so that bright fat does not make it dark."""
    low = float(np.percentile(values_zyx, _DARKEST))
    high = float(np.percentile(values_zyx[inside_zyx], _BRIGHTEST))
    share = (values_zyx.astype(np.float32) - low) / max(high - low, _DARK)
    return np.asarray(np.clip(255 * share, 0, 255).round().astype(np.uint8))


def _outline(plane: Plane, size: tuple[int, int]) -> Image.Image:
    """Return a picture in which the pixels around the mask are white: its cortex stays visible."""
    inside = Image.fromarray(np.ascontiguousarray(255 * plane.mask)).resize(size, Image.Resampling.BILINEAR)
    inside = inside.point(lambda value: 255 if value >= _HALF else 0)
    thick = 3 if max(size) < _LARGE else 5
    return ImageChops.subtract(inside.filter(ImageFilter.MaxFilter(thick)), inside)
