"""What the headers of a study say of where it comes from, and of whom: as far as that is certain.

Of an attribute that a file does not have, or that stands for no value, nothing is known; of one that is there and
cannot be read neither, and the two are told apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from pydicom.dataset import Dataset

from pipeline.dicom_file import open_dataset
from pipeline.headers.texts import Text, read_plain_text, read_text
from pipeline.headers.unknown import is_unknown
from pipeline.patient_age import age_years

_TEXTS: Final = ("StudyDescription", "BodyPartExamined", "InstitutionName")
_AGES: Final = ("PatientAge", "PatientBirthDate")
Value = TypeVar("Value", str, float)


@dataclass(frozen=True, slots=True)
class Stated(Generic[Value]):
    """What all files of a study state of one attribute.

    Attributes
    ----------
    values
        Each that occurs, with all that it may read as, the likeliest first; with none where it cannot be read.
    missing
        Whether it is missing in a file.
    """

    values: frozenset[tuple[Value, ...]] = frozenset()
    missing: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a study comes from, by its MR images; by all of its files where none is one.

    Attributes
    ----------
    study_description, body_part, institution
        As texts.
    age_years
        Of the patient at the study.
    """

    study_description: Stated[str]
    body_part: Stated[str]
    institution: Stated[str]
    age_years: Stated[float]


@dataclass(frozen=True, slots=True)
class _File:
    """What one file states: the readings of each attribute, None where it is missing."""

    is_mr: bool
    texts: dict[str, tuple[str, ...] | None]
    age: tuple[float, ...] | None


def read_origin(files: Iterable[Path]) -> Origin:
    """Return where a study comes from; nothing is raised.

    Parameters
    ----------
    files
        Of one study. A file that cannot be read states everything, unreadably.
    """
    read = [_read(path) for path in files]
    counted = [file for file in read if file.is_mr] or read
    description, body_part, institution = (_stated(file.texts[keyword] for file in counted) for keyword in _TEXTS)
    return Origin(description, body_part, institution, _stated(file.age for file in counted))


def _stated(values: Iterable[tuple[Value, ...] | None]) -> Stated[Value]:
    found = frozenset(values)
    return Stated(frozenset(each for each in found if each is not None), None in found or not found)


def _read(path: Path) -> _File:
    try:
        dataset, _ = open_dataset(path, pixels=False)
        texts = {keyword: _text(dataset, keyword) for keyword in _TEXTS}
        return _File(_plain(dataset, "Modality") in ("MR", ""), texts, _age(dataset))
    except Exception:  # any malformed file
        return _File(True, dict.fromkeys(_TEXTS, ()), ())


def _text(dataset: Dataset, keyword: str) -> tuple[str, ...] | None:
    raw = _raw(dataset, keyword)
    declared = tuple(_plain(dataset, "SpecificCharacterSet").split("\\"))
    text: Text = read_text(raw, declared) if isinstance(raw, bytes) else read_plain_text(raw)
    return None if is_unknown(text.shown) and not _lost(raw, text) else text.readings


def _lost(raw: bytes | str, text: Text) -> bool:
    """Return whether something stands there that nobody can read, and not nothing."""
    return not text.readings and bool(raw.strip() if isinstance(raw, str) else raw.strip(b" \t\r\n\0"))


def _age(dataset: Dataset) -> tuple[float, ...] | None:
    if all(is_unknown(_plain(dataset, keyword)) for keyword in _AGES):
        return None
    age = age_years(dataset)
    return () if age is None else (age,)


def _plain(dataset: Dataset, keyword: str) -> str:
    raw = _raw(dataset, keyword)
    return (raw.decode("ascii", "replace") if isinstance(raw, bytes) else raw).strip(" \0")


def _raw(dataset: Dataset, keyword: str) -> bytes | str:
    """Return a value as it is stored: a warning of pydicom may quote an illegal one."""
    element = dataset.get_item(keyword)
    value = element.value if element is not None else None
    return value if isinstance(value, bytes) else str(value or "")
