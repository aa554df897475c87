"""What a header says of the values of its pixels (PS3.3 C.7.6.3, C.7.6.16.2.9, C.11.1), or a refusal.

The network learns from signal. Whatever could turn bright into dark, put something else than signal into a pixel or
scale slices apart ends the study by name, as nothing in the pixels decides which of two readings is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.codestream import Codestream
from pipeline.errors import HoldReason, StudyHeld

_NOT_GREY = {
    "PresentationLUTShape": ("INVERSE",),
    "PixelPresentation": ("COLOR", "MIXED", "TRUE_COLOR"),
    "PixelIntensityRelationship": ("LOG",),
    "PixelIntensityRelationshipSign": ("-1",),
    "BurnedInAnnotation": ("YES",),
}
"""Values that make pixels something else than signal that grows (PS3.3 C.11.6, C.8.13.3.1, C.8.11.3, C.7.6.1)."""
_PALETTES = tuple(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue"))
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_OVERLAY_BIT_POSITION, _OVERLAY_DATA = 0x0102, 0x3000
_PHILIPS, _PHILIPS_FRAME, _SCALE_SLOPE = "Philips MR Imaging DD 001", 0x2005140F, 0x0E
"""Where Philips has the factor between stored values and signal (2005,xx0E), in Enhanced objects frame by frame."""
_SAME_SCALE = 1e-3
"""Relative difference of factors that rounding of decimal strings makes; chosen here."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the values of a file are stored.

    Attributes
    ----------
    bits_allocated, bits_stored
        For one value, and how many of them are its own.
    signed
        Two's complement.
    overlay
        Bits above are declared to hold overlays, as they did before 2004 (PS3.5 8.1.2).
    """

    bits_allocated: int
    bits_stored: int
    signed: bool
    overlay: bool


@dataclass(frozen=True, slots=True)
class Transform:
    """From stored values to those that the file stands for.

    Attributes
    ----------
    slope, intercept
        Of the modality transformation; the slope is above 0.
    other_scales
        Further factors that a header gives, each divided by the slope, by name: of the real world value mapping and of
        Philips.
    """

    slope: float
    intercept: float
    other_scales: dict[str, float]


def unclear(sentence: str) -> StudyHeld:
    """Return the refusal of pixels whose meaning is open.

    Parameters
    ----------
    sentence
        What the header says, without patient data.
    """
    return StudyHeld(HoldReason.PIXEL_VALUES_UNCLEAR, f"{sentence} Send the original series from the scanner.")


def read_format(dataset: Dataset) -> PixelFormat:
    """Return how the values of a file are stored.

    Parameters
    ----------
    dataset
        Of an MR image.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear`` where the pixels are not grey values that grow with the signal, or the bits contradict
        each other.
    """
    for keyword in _FLOATS:
        if keyword in dataset:
            raise unclear(f"The pixels are in {keyword}, which MR images do not have.")
    _check_grey(dataset)
    allocated, stored, high, representation, samples = (
        _whole_number(dataset, keyword)
        for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
    )
    if samples != 1:
        raise unclear(f"SamplesPerPixel is {_said(samples)}, not 1: colour images are not MR images.")
    if allocated not in {8, 16, 32}:
        raise unclear(f"BitsAllocated is {_said(allocated)}, not 8, 16 or 32.")
    if stored is None or not 1 <= stored <= allocated:
        raise unclear(f"BitsStored is {_said(stored)} of {allocated} bits.")
    if high is not None and high != stored - 1:
        raise unclear(f"HighBit is {high} where BitsStored is {stored}: which bits are the value is not certain.")
    if representation not in {0, 1}:
        raise unclear(f"PixelRepresentation is {_said(representation)}, neither 0 nor 1.")
    return PixelFormat(allocated, stored, representation == 1, overlay=_overlay_above(dataset, stored))


def check_length(dataset: Dataset) -> None:
    """Refuse plain pixels that are more than the header describes, as another number of columns leaves them.

    Parameters
    ----------
    dataset
        With pixel data that are not compressed. Too few are left to the decoder.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear``, unless the rest is padding: zeros behind a single frame, whose rows fit each other
        better as described than if all of it were image.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    row_bytes = columns * int(dataset.BitsAllocated) // 8
    count, content = int(dataset.get("NumberOfFrames") or 1), dataset.PixelData
    excess = len(content) - rows * row_bytes * count
    if excess > 1 and (count > 1 or any(content[-excess:]) or _sheared(content, rows, columns, row_bytes)):
        raise unclear(f"PixelData are {excess} bytes more than Rows, Columns and BitsAllocated describe.")


def _sheared(content: bytes, rows: int, columns: int, row_bytes: int) -> bool:
    """Return whether neighbouring rows are more alike where all of the content is divided evenly among them."""
    size = row_bytes // columns
    values = np.frombuffer(content[: len(content) // size * size], f"<u{size}").astype(np.int64)
    steps = (columns, len(values) // rows)
    described, whole = (np.abs(values[step:] - values[:-step]).sum() for step in steps)
    return bool(len(values) % rows == 0 and whole < described)


def own_bits(decoded: NDArray[Any], pixels: PixelFormat, codestream: Codestream | None) -> NDArray[Any]:
    """Return decoded values without the bits that are not theirs (PS3.5 8.1.1).

    Parameters
    ----------
    decoded
        As the codec left them, integers of the type that BitsAllocated and PixelRepresentation name.
    pixels
        Of the header.
    codestream
        Of the compressed frame, None for plain pixels and run lengths.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear`` where bits above differ from pixel to pixel and no overlay is declared to use them, or
        header and codestream contradict each other in bits or sign.
    """
    if codestream is not None:
        _check_codestream(decoded, pixels, codestream)
    unused = decoded.dtype.itemsize * 8 - pixels.bits_stored
    own: NDArray[Any] = (decoded << unused) >> unused
    if pixels.overlay or np.array_equal(own, decoded):
        return own
    above = decoded.view(f"u{decoded.dtype.itemsize}") >> pixels.bits_stored
    if above.min() != above.max():
        raise unclear(f"Pixels have bits set above the {pixels.bits_stored} of BitsStored, and no overlay is declared.")
    return own


def read_transform(dataset: Dataset, index: int) -> Transform:
    """Return the transformation of a frame: of its functional groups, the shared ones, or the data set.

    Parameters
    ----------
    dataset
        Classic or Enhanced.
    index
        Of the frame, from 0.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear`` where it is not a line that rises.
    """
    if dataset.get("ModalityLUTSequence"):
        raise unclear("A Modality LUT Sequence changes the pixel values, which MR images do not have.")
    groups = list(_groups(dataset, index))
    macros = (group.get("PixelValueTransformationSequence") for group in groups)
    source = next((macro[0] for macro in macros if macro), dataset)
    slope, intercept = _number(source, "RescaleSlope", 1.0), _number(source, "RescaleIntercept", 0.0)
    if not (slope > 0 and math.isfinite(slope * intercept)):
        raise unclear(f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g} leave no image, or invert it.")
    scales = {"RealWorldValueSlope": _real_world(groups), "the scale slope of Philips": _philips(groups)}
    return Transform(slope, intercept, {name: scale / slope for name, scale in scales.items() if scale is not None})


def check_one_scale(transforms: Iterable[Transform]) -> None:
    """Refuse a volume whose slices stand in one proportion by their slopes and in another by a further factor.

    Parameters
    ----------
    transforms
        Of all frames.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear``, naming the factor.
    """
    by_name: dict[str, list[float]] = {}
    for transform in transforms:
        for name, scale in transform.other_scales.items():
            by_name.setdefault(name, []).append(scale)
    for name, scales in by_name.items():
        if min(scales) <= 0 or max(scales) > min(scales) * (1 + _SAME_SCALE):
            raise unclear(f"RescaleSlope and {name} scale the slices differently.")


def padding(dataset: Dataset, values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which stored values stand for no image (PS3.3 C.7.5.1.1.2), None where none do.

    Parameters
    ----------
    dataset
        May have PixelPaddingValue and PixelPaddingRangeLimit.
    values
        Stored values of one frame.
    """
    one = _whole_number(dataset, "PixelPaddingValue")
    if one is None:
        return None
    limit = _whole_number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((one, one if limit is None else limit))
    bits = values.dtype.itemsize * 8
    wrapped = (one + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) if values.dtype.kind == "i" else one % 2**bits
    found: NDArray[np.bool_] = ((values >= low) & (values <= high)) | (values == wrapped)
    return found if found.any() else None


# --- the header -------------------------------------------------------------------------------------------------------


def _check_grey(dataset: Dataset) -> None:
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric != "MONOCHROME2":
        raise unclear(
            f"PhotometricInterpretation is {photometric or 'not given'}, not MONOCHROME2: whether bright pixels mean "
            "signal is not certain."
        )
    for source in _with_frame_types(dataset):
        for keyword, refused in _NOT_GREY.items():
            if (value := _text(source, keyword)) in refused:
                raise unclear(f"{keyword} is {value}: the pixels are not signal alone.")
    if any(dataset.get(keyword) is not None for keyword in _PALETTES):
        raise unclear("A palette of colours comes with the pixels: whether they are grey values is not certain.")


def _with_frame_types(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data set and the frame types of Enhanced objects (PS3.3 C.8.13.5.1)."""
    yield dataset
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(name) or ():
            yield from group.get("MRImageFrameTypeSequence") or ()


def _groups(dataset: Dataset, index: int) -> Iterator[Dataset]:
    """Yield the functional groups of a frame, its own first."""
    own, shared = (dataset.get(f"{whose}FunctionalGroupsSequence") for whose in ("PerFrame", "Shared"))
    if own:
        yield own[index]
    if shared:
        yield shared[0]
    yield dataset


def _real_world(groups: Iterable[Dataset]) -> float | None:
    mapping = next((found[0] for group in groups if (found := group.get("RealWorldValueMappingSequence"))), None)
    if mapping is None:
        return None
    if mapping.get("RealWorldValueSlope") is None and mapping.get("RealWorldValueLUTData") is not None:
        raise unclear("A table maps the pixels to real world values: they are not signal in one scale.")
    slope: float | None = _number(mapping, "RealWorldValueSlope", None)
    return slope


def _philips(groups: Iterable[Dataset]) -> float | None:
    """Return the factor from stored values to signal by Philips's own attribute."""
    for group in groups:
        private = group.get(_PHILIPS_FRAME)
        for source in (*(private.value if private is not None and private.VR == "SQ" else ()), group):
            try:
                slope = float(source.private_block(0x2005, _PHILIPS)[_SCALE_SLOPE].value)
            except (KeyError, TypeError, ValueError):
                continue
            if slope > 0 and math.isfinite(slope):
                return 1 / slope
    return None


def _overlay_above(dataset: Dataset, bits_stored: int) -> bool:
    for group in _OVERLAY_GROUPS:
        position = dataset.get((group, _OVERLAY_BIT_POSITION))
        if position is not None and (group, _OVERLAY_DATA) not in dataset and (position.value or 0) >= bits_stored:
            return True
    return False


def _check_codestream(decoded: NDArray[Any], pixels: PixelFormat, codestream: Codestream) -> None:
    if codestream.bits > pixels.bits_allocated:
        raise unclear(f"A compressed frame has {codestream.bits} bits, BitsAllocated is {pixels.bits_allocated}.")
    said_otherwise = codestream.signed is not None and codestream.signed != pixels.signed
    sign_elsewhere = pixels.signed and not codestream.signed and codestream.bits < pixels.bits_stored
    if (said_otherwise or sign_elsewhere) and ((decoded >> (codestream.bits - 1)) & 1).any():
        raise unclear("Compressed frame and header disagree on the sign of the pixels.")


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip().upper()


def _whole_number(dataset: Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    return value if isinstance(value, int) else None


def _number(dataset: Dataset, keyword: str, otherwise: Any) -> Any:
    """Return a number of a header; one that is none is refused by the name of its attribute."""
    try:
        value = dataset.get(keyword)
        return otherwise if value is None or value == "" else float(value)
    except (TypeError, ValueError, OverflowError):
        raise unclear(f"{keyword} is not a number.") from None


def _said(value: int | None) -> str:
    return "not given" if value is None else str(value)
