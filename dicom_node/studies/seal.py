"""The seal of a received file: whose it is and that it is whole, so that a start can put it in place.

It stands in the File Meta Information as Private Information (0002,0102), which readers pass over (PS3.10 7.1), and is
written last, before the file is fsynced: of a file that was cut off by a power failure, size or checksum differ.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.uid import is_uid

_CREATOR = b"2.25.322441647177361725151877664620110866348"
_SEAL = struct.Struct("<QI64s64s")
_HEAD = struct.pack("<HH2sH", 2, 0x0100, b"UI", len(_CREATOR)) + _CREATOR
_HEAD += struct.pack("<HH2sHI", 2, 0x0102, b"OB", 0, _SEAL.size)
ROOM: Final = _HEAD + bytes(_SEAL.size)
"""The elements, at the end of a File Meta Information, before anything is sealed."""
SEAL_BYTES: Final = _SEAL.size
"""Of the room, at its end."""
META_START: Final = 144
"""Preamble, DICM and the group length element of the File Meta Information (PS3.10 7.1)."""
_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Seal:
    """What a whole file says of itself.

    Attributes
    ----------
    study_uid, sop_instance_uid
        Under which it is kept.
    size_bytes, checksum
        Of its data set; CRC-32.
    """

    study_uid: str
    sop_instance_uid: str
    size_bytes: int
    checksum: int

    def encode(self) -> bytes:
        """Return it as it stands in the file."""
        uids = self.study_uid.encode("ascii"), self.sop_instance_uid.encode("ascii")
        return _SEAL.pack(self.size_bytes, self.checksum, *uids)


def data_set_start(start: bytes) -> int:
    """Return where the data set begins behind the File Meta Information, whose group length stands first.

    Parameters
    ----------
    start
        The first `META_START` bytes of a file.
    """
    if start[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return 0
    return META_START + int.from_bytes(start[140:144], "little")


def read_seal(file: Path) -> Seal | None:
    """Return the seal of a file that is whole; None of any other.

    Parameters
    ----------
    file
        Of any content.
    """
    with file.open("rb") as content:
        start = data_set_start(content.read(META_START))
        content.seek(max(0, start - len(ROOM)))
        elements = content.read(len(ROOM))
        if not start or len(elements) < len(ROOM) or not elements.startswith(_HEAD):
            return None
        size_bytes, checksum, *uids = _SEAL.unpack(elements[len(_HEAD) :])
        study_uid, sop_instance_uid = (uid.rstrip(b"\0").decode("ascii", "replace") for uid in uids)
        if file.stat().st_size != start + size_bytes or not (is_uid(study_uid) and is_uid(sop_instance_uid)):
            return None
        found = 0
        while piece := content.read(_PIECE_BYTES):
            found = zlib.crc32(piece, found)
    return Seal(study_uid, sop_instance_uid, size_bytes, checksum) if found == checksum else None
