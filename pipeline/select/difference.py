"""Pixels of a volume -> whether it is the difference of two images, which no header need say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StudyHeld
from pipeline.geometry import ordered_frames
from pipeline.headers import Volume
from pipeline.pixels import read_pixels

_PLANES = 0.4, 0.5, 0.6
"""Of the stack, where a head is widest."""
_CORNER = 12
"""Share of an image, one of so many, that lies outside of the head in each corner."""
_BRIGHT_PERCENTILE = 98
_NEAR, _FAR = 0.1, 0.3
"""Shares of the bright end by which a value counts as close to the background, and as clearly above it."""
_BELOW = 0.02
"""Share of voxels below the background: none in five heads, 0.18 and more in differences made of two of them."""
_BELOW_TO_ABOVE = 0.2
_SIGNED = 0.02
"""Share of voxels below zero."""
_QUIET = 0.3
"""Spread of the background in shares of the bright end; 0.01 at most in the five heads."""
_MOSTLY_BACKGROUND, _CLEARLY_ABOVE = 0.6, 0.1
"""Shares of voxels in a difference without its sign; 0.22 and more are clearly above in the five heads."""


def is_difference(volume: Volume) -> bool:
    """Return whether the pixels of a volume are those of a subtraction.

    Parameters
    ----------
    volume
        Went through the gate; three of its planes are decoded.

    Returns
    -------
    bool
        False too where the planes cannot be decoded: what reads the whole volume says so by a name.

    Notes
    -----
    The grey values of MR lie above those of the air around the head. A difference has as much below as above, around
    zero or around a constant that keeps it positive; or, without its sign, next to nothing but background.
    """
    try:
        frames, _ = ordered_frames(volume.frames)
        return shows_difference(read_pixels([frames[int(share * len(frames))] for share in _PLANES]))
    except StudyHeld:
        return False


def shows_difference(array_zyx: NDArray[np.float32]) -> bool:
    """Return whether planes through a head show a difference of two images.

    Parameters
    ----------
    array_zyx
        Of any scale.
    """
    corners = _corners(array_zyx)
    above_background = array_zyx - np.median(corners)
    bright = float(np.percentile(np.abs(above_background), _BRIGHT_PERCENTILE))
    if bright == 0:
        return False  # constant, which is refused by a name of its own
    low, high = np.percentile(corners, (25, 75))
    quiet = bool(high - low < _QUIET * bright)
    below = float(np.mean(above_background < -_NEAR * bright))
    above = float(np.mean(above_background > _NEAR * bright))
    near = float(np.mean(np.abs(above_background) <= _NEAR * bright))
    signed = bool(np.mean(array_zyx < -_NEAR * bright) > _SIGNED)
    if below > _BELOW and below > _BELOW_TO_ABOVE * above and (signed or (quiet and near > _BELOW_TO_ABOVE)):
        return True
    clearly = float(np.mean(above_background > _FAR * bright))
    return quiet and near > _MOSTLY_BACKGROUND and clearly < _CLEARLY_ABOVE


def _corners(array_zyx: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (max(1, side // _CORNER) for side in array_zyx.shape[1:])
    ends = [(slice(0, side), slice(-side, None)) for side in (rows, columns)]
    return np.concatenate([array_zyx[:, y, x].ravel() for y in ends[0] for x in ends[1]])
