"""Frames -> the grey values that they stand for, whatever the encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from pipeline.codestream import Codestream, read_codestream
from pipeline.dicom_file import MAX_VOXELS, Frame, open_dataset
from pipeline.encapsulation import check_encoding, compressed_frames
from pipeline.errors import HoldReason, StudyHeld
from pipeline.grey_values import (
    Transform,
    check_length,
    check_one_scale,
    own_bits,
    padding,
    read_format,
    read_transform,
)
from pipeline.value_range import Spread, check_spread, check_strays, spread_of


class PixelsError(ValueError):
    """Pixel data are not what the header says."""


@dataclass(frozen=True, slots=True)
class _Grey:
    """One frame as the values that it stands for, and what is asked of all frames together."""

    values_yx: NDArray[np.float32]
    transform: Transform
    spread: Spread


def read_pixels(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Return the rescaled values of frames of one matrix, each file opened once.

    Parameters
    ----------
    frames
        In the order wanted.

    Returns
    -------
    numpy.ndarray
        float32 (frames, rows, columns). Each frame has its own RescaleSlope and RescaleIntercept (PS3.3 C.11.1 and
        C.7.6.16.2.9), as scanners choose them slice by slice. Philips's private scale is left alone: within a series
        of one slope it is a factor that the z-score takes out.

    Raises
    ------
    StudyHeld
        ``pixel_data_damaged`` where a frame cannot be decoded or holds values that are not finite,
        ``pixel_values_unclear`` and ``pixel_encoding_unclear`` where headers leave open what the values mean,
        ``pixel_size_implausible`` where all frames together are larger than any head.
    """
    rows, columns = frames[0].rows, frames[0].columns
    if len(frames) * rows * columns > MAX_VOXELS:
        raise StudyHeld(
            HoldReason.PIXEL_SIZE_IMPLAUSIBLE,
            f"{len(frames)} slices of {rows} x {columns} pixels are more than a head has. Send the original series.",
        )
    array_zyx = np.empty((len(frames), rows, columns), np.float32)
    transforms: dict[int, Transform] = {}
    spreads: dict[int, Spread] = {}
    places = sorted(range(len(frames)), key=lambda place: (frames[place].path, frames[place].index))
    for path, group in groupby(places, key=lambda place: frames[place].path):
        in_file = list(group)
        try:
            read = _read_file(path, [frames[place].index for place in in_file], (rows, columns))
            for place, grey in zip(in_file, read, strict=True):
                array_zyx[place] = grey.values_yx
                transforms[place], spreads[place] = grey.transform, grey.spread
        except StudyHeld:
            raise
        except Exception as error:  # any malformed file: pydicom and the codecs raise what they stumbled over
            raise StudyHeld(
                HoldReason.PIXEL_DATA_DAMAGED,
                f"A slice cannot be decoded ({type(error).__name__}). Send the series again, uncompressed.",
            ) from None
    if not np.isfinite(array_zyx).all():
        raise StudyHeld(HoldReason.PIXEL_DATA_DAMAGED, "Pixel values are not finite numbers. Send the original series.")
    check_one_scale(transforms.values())
    check_spread(list(spreads.values()))
    check_strays([(transforms[place], spreads[place].mean) for place in range(len(frames))])
    return array_zyx


def _read_file(path: Path, indices: list[int], shape: tuple[int, int]) -> Iterator[_Grey]:
    """Yield frames of one file as the values that they stand for."""
    dataset, _ = open_dataset(path, pixels=True)
    if (dataset.Rows, dataset.Columns) != shape:
        raise PixelsError("the file holds another matrix than its header said before")
    pixels = read_format(dataset)
    for index, stored_yx in zip(indices, decode(dataset, indices), strict=True):
        transform = read_transform(dataset, index)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by the caller
            values_yx = stored_yx.astype(np.float32) * np.float32(transform.slope) + np.float32(transform.intercept)
        spread = spread_of(stored_yx, pixels, transform, padding(dataset, stored_yx))
        yield _Grey(values_yx, transform, spread)


def decode(dataset: FileDataset, indices: list[int]) -> Iterator[NDArray[Any]]:
    """Yield the stored values of some frames of a data set.

    Parameters
    ----------
    dataset
        With pixel data, in any transfer syntax that pydicom decodes here.
    indices
        Numbers of frames, from 0.

    Yields
    ------
    numpy.ndarray
        (rows, columns), of the type that BitsAllocated and PixelRepresentation name, without the bits above BitsStored;
        not yet rescaled.

    Raises
    ------
    StudyHeld
        ``pixel_values_unclear`` and ``pixel_encoding_unclear``, see :func:`pipeline.grey_values.read_format` and
        :func:`pipeline.encapsulation.check_encoding`.
    PixelsError
        Before anything is decoded, if a compressed frame declares another image than the header, however large.
    Exception
        Whatever pydicom and the codecs stumble over.
    """
    pixels = read_format(dataset)
    codestreams: dict[int, Codestream] = {}
    if check_encoding(dataset):
        codestreams = _codestreams(dataset)
    else:
        check_length(dataset)
    found = _without_panics(iter_pixels(dataset, indices=indices, correct_unused_bits=False))
    for index, decoded in zip(indices, found, strict=True):
        yield own_bits(decoded, pixels, codestreams.get(index))


def _without_panics(frames: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield frames; a codec in Rust that panics (pylibjpeg-rle, at runs beyond the frame) raises no `Exception`.

    No upstream issue is known (pylibjpeg-rle 2.2.0, ``decode_frame``).
    """
    try:
        yield from frames
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise PixelsError("the codec gives up on a frame") from None


def _codestreams(dataset: FileDataset) -> dict[int, Codestream]:
    """Return what every compressed frame declares; run lengths, which declare nothing, are left out."""
    frames = compressed_frames(dataset, int(dataset.get("NumberOfFrames") or 1))
    if dataset.file_meta.TransferSyntaxUID == RLELossless:  # cannot grow beyond a multiple of the file
        return {}
    found = dict(enumerate(map(read_codestream, frames)))
    declared = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    if any((each.rows, each.columns, each.samples) != declared for each in found.values()):
        raise PixelsError("a compressed frame declares another image than the header")
    return found
