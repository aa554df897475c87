"""DICOM files, opened without trusting what they declare, and the image planes in them."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Vector = tuple[float, ...]

DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset({IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED})
ITEM_TAG = b"\xfe\xff\x00\xe0"
"""With which encapsulated pixel data begin (PS3.5 A.4)."""
FIRST_TAG = 0x00010000
"""No data set has elements below; pydicom reads zeros in place of what was never written as millions of them (no
upstream issue known)."""
PIXEL_DATA = 0x7FE00010
UNDEFINED_LENGTH = 0xFFFFFFFF
META_GROUP = 0x0002
"""Of the file meta information, and of nothing behind it (PS3.10 7.1)."""
META_START = 144
"""Preamble, DICM and the group length element of the file meta information (PS3.10 7.1)."""
MAX_INFLATED_BYTES = 2**28
"""Of a deflated file; a head of 512 x 512 x 256 voxels takes half of it."""
MAX_VOXELS = 2**29
"""Of one file and of one volume; twice 512 x 512 x 1024, and 2 GB as numbers that can be computed with."""
_INFLATE_STEP_BYTES = 2**20
_FIRST_PIXEL_TAG = 0x7FE00008
"""Float Pixel Data; Double Float Pixel Data and Pixel Data follow (PS3.3 C.7.6.24 and C.7.6.25)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image plane.

    Attributes
    ----------
    path, index
        File, and number of the frame in it, from 0.
    sop_instance_uid
        Of the file.
    position_mm, orientation
        ImagePositionPatient (x, y, z in LPS millimetres) and ImageOrientationPatient (cosines of a row, then of a
        column; PS3.3 C.7.6.2.1.1), None where absent or not numbers.
    pixel_spacing_mm
        Distance of rows, distance of columns (PS3.3 10.7.1.3), None where absent or not numbers.
    rows, columns
        Matrix in pixels.
    """

    path: Path
    index: int
    sop_instance_uid: str
    position_mm: Vector | None
    orientation: Vector | None
    pixel_spacing_mm: Vector | None
    rows: int
    columns: int


class NotDicomError(Exception):
    """A file does not begin as DICOM files do (PS3.10 7.1)."""


class InflatesTooLargeError(Exception):
    """A deflated file holds more than any image."""


def content_digest(path: Path) -> str:
    """Return the digest of a file's data set, without the file meta information that each receiver rewrites.

    Parameters
    ----------
    path
        A DICOM file; of any other file all bytes count.

    Returns
    -------
    str
        SHA-256, hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(data_set_start(file.read(META_START)))
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_set_start(start: bytes) -> int:
    """Return where the data set of a file begins.

    Parameters
    ----------
    start
        The first `META_START` bytes of the file or more.

    Returns
    -------
    int
        Byte behind the file meta information by its group length (PS3.10 7.1), 0 where that is absent.
    """
    if start[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return 0
    return META_START + int.from_bytes(start[140:144], "little")


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The pixel data of a file as far as they are there.

    Attributes
    ----------
    length
        In bytes; 0 where there are none or they were read.
    encapsulated
        Whether they are fragments, as compressed ones are, whatever the transfer syntax says.
    """

    length: int
    encapsulated: bool


def open_dataset(path: Path, *, pixels: bool) -> tuple[FileDataset, PixelElement]:
    """Return the data set of a file without what follows its pixel data.

    Parameters
    ----------
    path
        In any transfer syntax.
    pixels
        Whether the pixel data are read too; else the data set ends before them.

    Returns
    -------
    tuple of pydicom.FileDataset and PixelElement
        The data set, with the transfer syntax that its bytes show where the file does not say; and what follows it.

    Raises
    ------
    NotDicomError
        If preamble and prefix are missing.
    InflatesTooLargeError
        Before memory is taken, if a deflated file holds more than `MAX_INFLATED_BYTES`.
    Exception
        Whatever pydicom's parser stumbles over.
    """
    with path.open("rb") as file:
        preamble = file.read(128)
        if file.read(4) != b"DICM":
            raise NotDicomError
        # Most files are read without pydicom, which takes longer to load than to read a series.
        from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: PLC0415
        from pydicom.filereader import read_dataset, read_partial  # noqa: PLC0415
        from pydicom.uid import UID  # noqa: PLC0415

        last, at_the_end = PIXEL_DATA if pixels else _FIRST_PIXEL_TAG - 1, False

        def behind(tag: int, _vr: str | None, _length: int) -> bool:
            nonlocal at_the_end
            was_at_the_end, at_the_end = at_the_end, tag == PIXEL_DATA
            return was_at_the_end or tag > last or tag < FIRST_TAG

        meta = read_dataset(
            file,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag >> 16 != META_GROUP,
        )
        source: BinaryIO = file
        if meta.get("TransferSyntaxUID") == DEFLATED:
            source = BytesIO(_inflated(file))
            inflated = read_dataset(source, is_implicit_VR=False, is_little_endian=True, stop_when=behind)
            dataset = FileDataset(path, inflated, preamble, FileMetaDataset(meta), False, True)
        elif file.read(2) == b"\0\0":
            raise ValueError("no data set follows the file meta information")
        else:
            file.seek(0)
            dataset = read_partial(file, behind)
            if not meta.get("TransferSyntaxUID") and dataset.original_encoding[1]:
                dataset.file_meta.TransferSyntaxUID = UID(IMPLICIT if dataset.original_encoding[0] else EXPLICIT)
        return dataset, PixelElement(0, encapsulated=False) if pixels else _pixel_element(source, dataset)


def _inflated(file: BinaryIO) -> bytes:
    """Return the rest of a deflated file, which is first inflated into nothing to see how large it is."""
    start = file.tell()
    inflater, size_bytes, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
    while not inflater.eof:
        rest = rest or file.read(_INFLATE_STEP_BYTES)
        if not rest:
            raise EOFError("the deflated data end too early")
        size_bytes += len(inflater.decompress(rest, _INFLATE_STEP_BYTES))
        rest = inflater.unconsumed_tail
        if size_bytes > MAX_INFLATED_BYTES:
            raise InflatesTooLargeError
    file.seek(start)
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read())


def _pixel_element(source: BinaryIO, dataset: FileDataset) -> PixelElement:
    """Return what is there of the pixel data, which begin where `source` stands."""
    at = source.tell()
    head = source.read(16)
    end = source.seek(0, 2)
    order: Literal["little", "big"] = "little" if dataset.original_encoding[1] else "big"
    group, element = (int.from_bytes(head[place : place + 2], order) for place in (0, 2))
    if not _FIRST_PIXEL_TAG <= (group << 16) + element <= PIXEL_DATA:
        return PixelElement(0, encapsulated=False)
    size = 12 if head[4:6] in (b"OB", b"OW", b"UN", b"OF", b"OD") else 8
    length = int.from_bytes(head[size - 4 : size], order)
    present = max(0, end - at - size)
    encapsulated = length == UNDEFINED_LENGTH or head[size : size + 4] == ITEM_TAG
    return PixelElement(present if length == UNDEFINED_LENGTH else min(length, present), encapsulated)
