"""Where the values of a whole volume lie: padding and wrapped signs show in their range, not in one slice."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.grey_values import PixelFormat, Transform, unclear

_BINS, _GAP_BINS = 16, 4
"""Of what the stored bits can hold, and how many empty ones in a row make a gap; chosen here. Real images fill their
range from below without gaps, and negative values of magnitudes are small."""

_NEARLY_ALL = 0.8
"""Share of slices that have one rescale, from which on another one is a stray; chosen here."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the values of one frame lie.

    Attributes
    ----------
    image, padded
        Lowest and highest value that is image, and that is padding; None where there is none.
    filled
        Which parts of what their bits can hold the stored values fill, from the lowest on.
    signed
        Whether they are signed, and no intercept lifts them.
    mean
        Of the stored values.
    """

    image: tuple[float, float] | None
    padded: tuple[float, float] | None
    filled: tuple[bool, ...]
    signed: bool
    mean: float


def spread_of(
    stored_yx: NDArray[Any], pixels: PixelFormat, transform: Transform, padding_yx: NDArray[np.bool_] | None
) -> Spread:
    """Return where the values of a frame lie.

    Parameters
    ----------
    stored_yx
        Not yet rescaled.
    pixels, transform
        Of the frame.
    padding_yx
        Which pixels are no image; None where all are.
    """
    lowest = -(2 ** (pixels.bits_stored - 1)) if pixels.signed else 0
    bins_yx = ((stored_yx.astype(np.float64) - lowest) * (_BINS / 2**pixels.bits_stored)).astype(np.int64)
    return Spread(
        _ends(stored_yx if padding_yx is None else stored_yx[~padding_yx], transform),
        None if padding_yx is None else _ends(stored_yx[padding_yx], transform),
        filled=tuple((np.bincount(bins_yx.ravel(), minlength=_BINS) > 0).tolist()),
        signed=pixels.signed and transform.intercept == 0,
        mean=float(stored_yx.mean()),
    )


def check_spread(spreads: Sequence[Spread]) -> None:
    """Refuse a volume whose range shows that not all values are signal.

    Parameters
    ----------
    spreads
        Of all frames.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear`` where padding lies far from the image, or values jump from one end of their range to
        the other, as those do whose sign or number of bits is not what the header says.
    """
    _check_padding(spreads)
    filled = [any(parts) for parts in zip(*(each.filled for each in spreads), strict=True)]
    signed = any(each.signed for each in spreads)
    gap = any(not any(filled[at : at + _GAP_BINS]) for at in range(_BINS - _GAP_BINS))
    if filled[0] and filled[-1] and (signed or gap):
        raise unclear("Pixel values lie at both ends of their range: PixelRepresentation or BitsStored is not theirs.")


def check_strays(scaled: Sequence[tuple[Transform, float]]) -> None:
    """Refuse a volume of which single slices have a rescale of their own that sets them apart from their neighbours.

    Scanners that choose the rescale slice by slice use all bits of each slice: it makes neighbours alike.

    Parameters
    ----------
    scaled
        Transformation and mean stored value of each frame, in the order of the slices.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear`` where a slice would fit its neighbours better with the rescale of nearly all others.
    """
    scales = [(transform.slope, transform.intercept) for transform, _ in scaled]
    (slope, intercept), count = Counter(scales).most_common(1)[0]
    if count == len(scales) or count < _NEARLY_ALL * len(scales):
        return
    common = [mean * slope + intercept for _, mean in scaled]
    usual = [place for place, scale in enumerate(scales) if scale == (slope, intercept)]
    for place in sorted(set(range(len(scales))) - set(usual)):
        transform, mean = scaled[place]
        at = bisect(usual, place)
        neighbours = [common[near] for near in usual[max(0, at - 1) : at + 1]]
        expected = sum(neighbours) / len(neighbours)
        if abs(mean * transform.slope + transform.intercept - expected) > abs(common[place] - expected):
            raise unclear("Single slices have a RescaleSlope or RescaleIntercept that sets them apart from the others.")


def _check_padding(spreads: Sequence[Spread]) -> None:
    image = [end for each in spreads for end in each.image or ()]
    padded = [end for each in spreads for end in each.padded or ()]
    if not (image and padded):
        return
    darkest, brightest = min(image), max(image)
    if max(padded) > brightest or min(padded) < darkest - (brightest - darkest):
        raise unclear("PixelPaddingValue marks pixels far darker or brighter than the image: they are not signal.")


def _ends(stored: NDArray[Any], transform: Transform) -> tuple[float, float] | None:
    if stored.size == 0:
        return None
    darkest, brightest = (float(end) * transform.slope + transform.intercept for end in (stored.min(), stored.max()))
    return darkest, brightest
