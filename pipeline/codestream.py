"""What a compressed frame says of its own size, read before a decoder takes memory for it."""

from __future__ import annotations

from dataclasses import dataclass

_JPEG_START, _JPEG_2000_START, _JP2_BOX = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
_MARKER = 0xFF
"""First byte of every JPEG marker (ITU-T T.81 B.1.1.2)."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers SOF0 to SOF15 without the tables between them (ITU-T T.81 B.1.1.3), and SOF55 of JPEG-LS (T.87 C.2.2)."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size of an image, number of values for each pixel, and their bits.

    Attributes
    ----------
    signed
        None where the codec does not know of signs.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool | None = None


def begins_codestream(fragment: bytes) -> bool:
    """Return whether a JPEG, JPEG-LS or JPEG 2000 codestream begins with a fragment.

    Parameters
    ----------
    fragment
        Of one frame (PS3.5 A.4).
    """
    return fragment.startswith((_JPEG_START + b"\xff", _JPEG_2000_START, _JP2_BOX))


def read_codestream(frame: bytes) -> Codestream:
    """Return what the header of a JPEG, JPEG-LS or JPEG 2000 codestream declares.

    Parameters
    ----------
    frame
        One compressed frame (PS3.5 A.4), its fragments joined.

    Returns
    -------
    Codestream
        As declared, however large; nothing is decoded.

    Raises
    ------
    ValueError
        If it is none of these or has no readable header.
    """
    if frame.startswith(_JP2_BOX):  # a whole JP2 file in place of a codestream: not allowed, but met
        frame = frame[frame.find(_JPEG_2000_START) :]
    if frame.startswith(_JPEG_2000_START):
        return _jpeg_2000(frame)
    if frame.startswith(_JPEG_START):
        return _jpeg(frame)
    raise ValueError("no codestream begins here")


def _jpeg_2000(frame: bytes) -> Codestream:
    """Read the SIZ marker segment (ITU-T T.800 A.5.1): the image begins at an offset in its reference grid."""
    width, height, left, top = (_number(frame, at, 4) for at in (8, 12, 16, 20))
    depth = _number(frame, 42, 1)
    return Codestream(height - top, width - left, _number(frame, 40, 2), (depth & 0x7F) + 1, depth > 0x7F)


def _jpeg(frame: bytes) -> Codestream:
    at = len(_JPEG_START)
    while True:
        while frame[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        marker = _number(frame, at, 2)
        if marker >> 8 != _MARKER:
            raise ValueError("a JPEG marker is missing")
        if marker & 0xFF in _FRAME_HEADERS:
            bits, rows, columns, samples = (
                _number(frame, at + place, length) for place, length in ((4, 1), (5, 2), (7, 2), (9, 1))
            )
            return Codestream(rows, columns, samples, bits)
        at += 2 + _number(frame, at + 2, 2)


def _number(frame: bytes, at: int, length: int) -> int:
    if len(frame) < at + length:
        raise ValueError("the codestream ends in its header")
    return int.from_bytes(frame[at : at + length], "big")
