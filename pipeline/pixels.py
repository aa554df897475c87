"""Frames -> the grey values that they stand for, whatever the encoding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from pipeline.codestream import Codestream, read_codestream
from pipeline.dicom_file import MAX_VOXELS, Frame, open_dataset
from pipeline.errors import HoldReason, StudyHeld


class PixelsError(ValueError):
    """Pixel data are not what the header says."""


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
        ``pixel_size_implausible`` where all frames together are larger than any head.
    """
    rows, columns = frames[0].rows, frames[0].columns
    if len(frames) * rows * columns > MAX_VOXELS:
        raise StudyHeld(
            HoldReason.PIXEL_SIZE_IMPLAUSIBLE,
            f"{len(frames)} slices of {rows} x {columns} pixels are more than a head has. Send the original series.",
        )
    array_zyx = np.empty((len(frames), rows, columns), np.float32)
    places = sorted(range(len(frames)), key=lambda place: (frames[place].path, frames[place].index))
    for path, group in groupby(places, key=lambda place: frames[place].path):
        in_file = list(group)
        try:
            values = _rescaled(path, [frames[place].index for place in in_file], (rows, columns))
            for place, values_yx in zip(in_file, values, strict=True):
                array_zyx[place] = values_yx
        except Exception as error:  # any malformed file: pydicom and the codecs raise what they stumbled over
            raise StudyHeld(
                HoldReason.PIXEL_DATA_DAMAGED,
                f"A slice cannot be decoded ({type(error).__name__}). Send the series again, uncompressed.",
            ) from None
    if not np.isfinite(array_zyx).all():
        raise StudyHeld(HoldReason.PIXEL_DATA_DAMAGED, "Pixel values are not finite numbers. Send the original series.")
    return array_zyx


def _rescaled(path: Path, indices: list[int], shape: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """Yield frames of one file as the values that they stand for."""
    dataset, _ = open_dataset(path, pixels=True)
    if (dataset.Rows, dataset.Columns) != shape:
        raise PixelsError("the file holds another matrix than its header said before")
    for index, stored_yx in zip(indices, decode(dataset, indices), strict=True):
        slope, intercept = _rescale(dataset, index)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by the caller
            yield stored_yx.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def decode(dataset: FileDataset, indices: list[int]) -> Iterator[NDArray[np.generic]]:
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
        (rows, columns), of the type that BitsAllocated and PixelRepresentation name; not yet rescaled.

    Raises
    ------
    PixelsError
        Before anything is decoded, if a compressed frame declares another image than the header, however large.
    Exception
        Whatever pydicom and the codecs stumble over.
    """
    expected = Codestream(int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    if expected.samples != 1:
        raise PixelsError("colour images are not MR images")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax != RLELossless:  # run lengths cannot grow beyond a multiple of the file
        count = int(dataset.get("NumberOfFrames") or 1)
        for frame in generate_frames(dataset.PixelData, number_of_frames=count):
            if read_codestream(frame) != expected:
                raise PixelsError("a compressed frame declares another image than the header")
    yield from iter_pixels(dataset, indices=indices)


def _rescale(dataset: FileDataset, index: int) -> tuple[float, float]:
    """Return slope and intercept of a frame: its functional groups, the shared ones, or the data set."""
    source = dataset
    for groups, item in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        members = dataset.get(groups)
        transform = members[item].get("PixelValueTransformationSequence") if members else None
        if transform:
            source = transform[0]
            break
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    slope, intercept = float(1 if slope is None else slope), float(intercept or 0)
    if slope == 0 or not math.isfinite(slope * intercept):
        raise PixelsError(f"a rescale of {slope} and {intercept} leaves no image")
    return slope, intercept
