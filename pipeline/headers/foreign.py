"""What a file is that is no DICOM file, by its first bytes: the remedy differs."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Self

_HEAD_BYTES = 352
"""Of a NIfTI header with what follows it; enough for every other kind, archives of tar but for their magic."""
_TAR_MAGIC = slice(257, 262)
_NIFTI_MAGIC = slice(344, 348)
_EXPLICIT = re.compile(rb"(\x02\x00\x00\x00|\x08\x00.[\x00-\x20])[A-Z]{2}|\x00\x08[\x00-\x20].[A-Z]{2}", re.DOTALL)
_IMPLICIT = re.compile(rb"\x08\x00.[\x00-\x20].\x00\x00\x00", re.DOTALL)
"""How a data set begins: identification in explicit little, big endian, or implicit (PS3.5 7.1)."""


class Foreign(StrEnum):
    """Kind of a file that is no DICOM file.

    Attributes
    ----------
    one, many
        How one and how several are called.
    sentence
        What is said of one.
    remedy
        What to do with several.
    """

    one: str
    many: str
    sentence: str
    remedy: str

    def __new__(cls, name: str, one: str, many: str, sentence: str, remedy: str) -> Self:
        """Return the member of a name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.one, member.many, member.sentence, member.remedy = one, many, sentence, remedy
        return member

    DATA_SET = (
        "data_set",
        "DICOM data set without preamble and file meta information",
        "DICOM data sets without preamble and file meta information",
        "The file is a DICOM data set without preamble and file meta information (PS3.10 7.1): export it as a file.",
        "Export the study again as DICOM files (PS3.10).",
    )
    COMPRESSED_DICOM = (
        "compressed_dicom",
        "DICOM file compressed by gzip",
        "DICOM files compressed by gzip",
        "The file is a DICOM file compressed by gzip: unpack it.",
        "Unpack them with gunzip.",
    )
    NIFTI = (
        "nifti",
        "NIfTI image",
        "NIfTI images",
        "The file is a NIfTI image, not DICOM.",
        "Export the study as DICOM: NIfTI holds neither patient nor sequence.",
    )
    ARCHIVE = ("archive", "archive", "archives", "The file is an archive: unpack it.", "Unpack the archives.")
    OTHER = (
        "other",
        "file of another kind",
        "files of other kinds",
        "The file is not a DICOM Part 10 file.",
        "Name the folder that holds the study's DICOM files.",
    )


def foreign_kind(path: Path) -> Foreign:
    """Return what a file is that is no DICOM file.

    Parameters
    ----------
    path
        Any file without preamble and prefix of PS3.10.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(b"\x1f\x8b"):
        return _kind(head)
    inside = _unpacked(path)
    return Foreign.COMPRESSED_DICOM if inside[128:132] == b"DICM" else _compressed(_kind(inside))


def describe_foreign(kinds: Iterable[Foreign]) -> str:
    """Return in words how many files are of which kinds, and what to do with them.

    Parameters
    ----------
    kinds
        Of all files.
    """
    found = list(kinds)
    present = [kind for kind in Foreign if kind in found]
    counts = [(found.count(kind), kind) for kind in present]
    counted = " and ".join(f"{count} {kind.one if count == 1 else kind.many}" for count, kind in counts)
    useful = [kind for kind in present if kind is not Foreign.OTHER] or present
    return f"{counted}. {' '.join(kind.remedy for kind in useful)}"


def _kind(head: bytes) -> Foreign:
    if head[_NIFTI_MAGIC] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return Foreign.NIFTI
    if head.startswith(b"PK\x03\x04") or head[_TAR_MAGIC] == b"ustar":
        return Foreign.ARCHIVE
    if head.startswith(b"DICM") or _EXPLICIT.match(head) or _IMPLICIT.match(head):
        return Foreign.DATA_SET
    return Foreign.OTHER


def _compressed(inside: Foreign) -> Foreign:
    return {Foreign.NIFTI: Foreign.NIFTI, Foreign.DATA_SET: Foreign.COMPRESSED_DICOM}.get(inside, Foreign.ARCHIVE)


def _unpacked(path: Path) -> bytes:
    """Return the first bytes of what a gzip file holds, none if it is damaged."""
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return b""
