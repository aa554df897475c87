"""What a report copies from the header of an instance, as values that can be compared.

Two copies of an image are the same only if a report of either would be the same. Encodings of one text and spellings
of one date or time are no differences.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.dicom_file import open_dataset
from pipeline.headers.identity import date_of, readings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TEXTS: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyID",
    "StudyDescription", "ReferringPhysicianName", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest", "PatientIdentityRemoved", "SyntheticData", "DeidentificationMethod",
    "Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber",
    "SoftwareVersions", "TimezoneOffsetFromUTC", "FrameOfReferenceUID",
)  # fmt: skip
_NAMES: Final = ("PatientName", "ReferringPhysicianName")
DATES: Final = ("PatientBirthDate", "StudyDate")
TIMES: Final = ("StudyTime",)
SEQUENCES: Final = (
    "IssuerOfPatientIDQualifiersSequence", "IssuerOfAccessionNumberSequence", "ProcedureCodeSequence",
    "DeidentificationMethodCodeSequence", "RequestAttributesSequence",
)  # fmt: skip
_MEMBERS: Final = (
    "CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning", "LocalNamespaceEntityID",
    "UniversalEntityID", "UniversalEntityIDType", "RequestedProcedureID", "RequestedProcedureDescription",
)  # fmt: skip
_MEMBER_SEQUENCES: Final = ("RequestedProcedureCodeSequence",)

Copied = dict[str, Hashable]
"""By keyword; a text is the set of what it may read as."""


def read_copied(path: Path) -> Copied:
    """Return what a report would copy from a file.

    Parameters
    ----------
    path
        A DICOM file whose header can be read.

    Returns
    -------
    dict
        Every keyword of `TEXTS`, `DATES`, `TIMES` and `SEQUENCES`, with an empty value where the file has none.
    """
    dataset, _ = open_dataset(path, pixels=False)
    label = _bytes(dataset, "SpecificCharacterSet")
    values: Copied = {keyword: _text(dataset, keyword, label) for keyword in TEXTS}
    values |= {keyword: _date(_bytes(dataset, keyword)) for keyword in DATES}
    values |= {keyword: time_of(_bytes(dataset, keyword).decode("latin-1")) for keyword in TIMES}
    return values | {keyword: _items(dataset, keyword, label) for keyword in SEQUENCES}


def differences(one: Copied, other: Copied) -> frozenset[str]:
    """Return the keywords of what a report would copy otherwise.

    Parameters
    ----------
    one, other
        Of two copies of an instance.
    """
    return frozenset(keyword for keyword in one if not _same(one[keyword], other[keyword]))


def time_of(text: str) -> str:
    """Return a time without colons and an empty fraction; empty where it is.

    Parameters
    ----------
    text
        As it stands in a file (PS3.5 6.2, TM).
    """
    clock, _, fraction = text.strip().replace(":", "").partition(".")
    return f"{clock.ljust(6, '0')}.{fraction.rstrip('0')}" if clock else ""


def _same(one: Hashable, other: Hashable) -> bool:
    if isinstance(one, frozenset) and isinstance(other, frozenset):
        return one == other or not one.isdisjoint(other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _text(dataset: Dataset, keyword: str, label: bytes) -> Hashable:
    texts = readings(_bytes(dataset, keyword), label)
    return frozenset(map(_without_empty_parts, texts)) if keyword in _NAMES else texts


def _without_empty_parts(name: str) -> str:
    """Return a name without empty components at the ends of its groups (PS3.5 6.2.1)."""
    return "=".join(group.rstrip("^ ") for group in name.split("=")).rstrip("=")


def _date(value: bytes) -> str:
    return date_of(value) or value.decode("latin-1")


def _items(dataset: Dataset, keyword: str, label: bytes) -> tuple[Hashable, ...]:
    value = dataset.get(keyword)
    items = value if value is not None and dataset[keyword].VR == "SQ" else ()
    return tuple(
        tuple(_text(item, member, label) for member in _MEMBERS)
        + tuple(_items(item, member, label) for member in _MEMBER_SEQUENCES)
        for item in items
    )


def _bytes(dataset: Dataset, keyword: str) -> bytes:
    """Return the bytes of an attribute without padding."""
    element = dataset.get_item(keyword)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        return value.strip(b" \0")
    parts = [value] if value is None or isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return "\\".join("" if part is None else str(part) for part in parts).encode("utf-8").strip(b" \0")
