"""A volume -> SimpleITK image in patient space, through the gate."""

from __future__ import annotations

import SimpleITK as sitk

from pipeline.errors import HoldReason, StudyHeld
from pipeline.geometry import axes_of, ordered_frames
from pipeline.headers import Frame, Volume
from pipeline.pixels import read_pixels

_TILED = frozenset({"MOSAIC", "VFRAME"})
"""How Siemens and United Imaging call images in which all slices lie side by side."""


def read_volume(volume: Volume) -> sitk.Image:
    """Return the image of a volume that may hold a head.

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
        ``geometry_*`` where the planes do not make a regular stack of a head's size, ``pixel_*`` where they cannot be
        decoded.
    """
    if _TILED.intersection(volume.image_type):
        raise StudyHeld(
            HoldReason.GEOMETRY_MOSAIC,
            "All slices lie side by side in one image (a mosaic). Send the series with an image for each slice.",
        )
    return image_of(*ordered_frames(volume.frames))


def image_of(frames: list[Frame], step_mm: float) -> sitk.Image:
    """Return the image of ordered frames.

    Parameters
    ----------
    frames
        In the order of :func:`pipeline.geometry.stacked_frames`.
    step_mm
        Distance of neighbours.

    Returns
    -------
    SimpleITK.Image
        As of `read_volume`.

    Raises
    ------
    StudyHeld
        ``pixel_*``, as :func:`pipeline.pixels.read_pixels`.
    """
    first = frames[0]
    assert first.position_mm is not None
    assert first.pixel_spacing_mm is not None
    row_spacing_mm, column_spacing_mm = first.pixel_spacing_mm
    image = sitk.GetImageFromArray(read_pixels(frames))
    image.SetSpacing((column_spacing_mm, row_spacing_mm, step_mm))
    image.SetOrigin(first.position_mm)
    across, down, along = axes_of(first)
    # ITK cannot invert cosines like 1e-310 (no upstream issue known).
    image.SetDirection([round(cosine, 12) for axes in zip(across, down, along, strict=True) for cosine in axes])
    return image
