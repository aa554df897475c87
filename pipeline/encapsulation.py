"""How pixel data lie in a file (PS3.5 A.4), compared with what its transfer syntax says."""

from __future__ import annotations

from itertools import pairwise

from pydicom.dataset import FileDataset
from pydicom.encaps import generate_fragments, generate_frames, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from pipeline.codestream import begins_codestream
from pipeline.dicom_file import ITEM_TAG, UNCOMPRESSED
from pipeline.errors import HoldReason, StudyHeld

_DELIMITERS = (b"\xfe\xff\xdd\xe0", b"\xfe\xff\x00\xe0")
_OFFSET_BYTES = 8
"""Of an entry of the Extended Offset Table (PS3.3 C.7.6.3.1.8)."""


def _unclear(sentence: str) -> StudyHeld:
    return StudyHeld(HoldReason.PIXEL_ENCODING_UNCLEAR, sentence)


def check_encoding(dataset: FileDataset) -> bool:
    """Return whether the pixels are compressed, where transfer syntax and pixel data agree on it.

    Parameters
    ----------
    dataset
        With pixel data.

    Raises
    ------
    StudyHeld
        ``pixel_encoding_unclear`` where they do not, where nothing says how the pixels are encoded, or where no decoder
        is there for it.
    """
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID") or ""))
    if not syntax:
        raise _unclear(
            "The files have no TransferSyntaxUID, and their pixels can be read in several ways. "
            "Send them from the archive by C-STORE, which adds it."
        )
    element = dataset["PixelData"]
    encapsulated = element.is_undefined_length or _is_encapsulated(element.value)
    if syntax in UNCOMPRESSED:
        if encapsulated:
            raise _unclear(
                "The pixels are compressed, and TransferSyntaxUID says that they are not. "
                "Send the series again, uncompressed."
            )
        return False
    if not encapsulated:
        raise _unclear(
            "The pixels are not encapsulated, and TransferSyntaxUID says that they are compressed. "
            "Send the series again, uncompressed."
        )
    if not _decodable(syntax):
        raise _unclear(f"No decoder reads the transfer syntax {syntax.name}. Send the series again, uncompressed.")
    return True


def compressed_frames(dataset: FileDataset, count: int) -> list[bytes]:
    """Return the compressed frames of a file, the fragments of each joined.

    Parameters
    ----------
    dataset
        Of which `check_encoding` says that it is compressed.
    count
        How many frames the header declares.

    Raises
    ------
    StudyHeld
        ``pixel_encoding_unclear`` where offset tables are not of these frames, or there are more frames than declared.
    """
    offsets = parse_basic_offsets(dataset.PixelData)
    table = dataset.get("ExtendedOffsetTable") or b""
    extended = [int.from_bytes(table[at : at + _OFFSET_BYTES], "little") for at in range(0, len(table), _OFFSET_BYTES)]
    for found in (offsets, extended):
        if found and (len(found) != count or found[0] != 0 or any(b <= a for a, b in pairwise(found))):
            raise _unclear("The table of frames does not fit the frames. Send the series again, uncompressed.")
    if sum(map(begins_codestream, generate_fragments(dataset.PixelData))) > count:
        raise _unclear(f"There are more compressed frames than the {count} of the header. Send the series again.")
    lengths = dataset.get("ExtendedOffsetTableLengths")
    tables = (table, lengths) if table and lengths else None
    return list(generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=tables))


def _is_encapsulated(pixel_data: bytes) -> bool:
    """Return whether pixel data are a sequence of items, as no image can be by chance."""
    at, items = 0, 0
    while at + 8 <= len(pixel_data) and pixel_data[at : at + 4] == ITEM_TAG:
        at, items = at + 8 + int.from_bytes(pixel_data[at + 4 : at + 8], "little"), items + 1
    return items > 1 and (len(pixel_data) - at <= 1 or pixel_data[at : at + 4] in _DELIMITERS)


def _decodable(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
