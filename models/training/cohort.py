"""The cohort folder: model tensors of labelled studies, and what is known of each.

A cohort is a folder::

    cohort.json              grid, intensity, brain weights and software that made the tensors; whether it is synthetic
    cases.csv                one line per study, included or excluded with the reason
    tensors/<case>.safetensors   T1W, T2W and FLAIR as float32 (z, y, x), exactly what the node gives its networks

Patients, not studies, are the unit of every split and interval; a case names its patient by the pseudonym of the
research group.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from models.bounded_json import read_json
from models.bundle import Grid, Intensity, ModelError
from models.contrast import Contrast
from models.whole_files import make_folder, write_whole

DESCRIPTION: Final = "cohort.json"
CASES: Final = "cases.csv"
TENSORS: Final = "tensors"
INCLUDED: Final = "included"
_NAME_DIGITS: Final = 12
"""Hexadecimal: 48 bits, so that a cohort of thousands has no two equal names."""
_ANSWERS: Final = {"True": True, "False": False, "": None}


class CohortDescription(BaseModel):
    """Content of ``cohort.json``: how the tensors were made.

    Attributes
    ----------
    grid, intensity
        As a bundle states them; a bundle that is trained on the cohort adopts them.
    brain_weights
        Name and digest of the weights that drew the brain masks.
    software
        Version that built the cohort.
    synthetic
        None for patients; for made data the sentence that says how the labels came about.
    criteria
        Inclusion criteria of CN114170162A [0056] that were checked, as the columns of the labels file name them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: Grid
    intensity: Intensity
    brain_weights: dict[str, str]
    software: str
    synthetic: str | None = None
    criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled study.

    Attributes
    ----------
    case
        Twelve hexadecimal digits that name its files; see `case_name`.
    patient
        Pseudonym given by the research group; all studies of a patient share it.
    label
        1 or 0, as :mod:`models.outcome` says; None: not known.
    status
        ``included``, or the code of the reason for which the study is left out.
    sentence
        What the code means for this study; empty if included.
    group
        What must not be split besides patients (a site, an anatomy); the patient where nothing is given.
    age_years, field_strength_t
        At the examination; None where not known.
    contrast_agent
        Whether one was given before the T1W series, as far as the headers say; None where not known.
    content
        SHA-256 of its tensors, by which a copy under another pseudonym is known; empty where not known.
    subgroup
        What figures are reported apart for (a scanner, a sex, a difficulty); empty where nothing is given.
    """

    case: str
    patient: str
    label: int | None
    status: str
    sentence: str = ""
    group: str = ""
    age_years: float | None = None
    field_strength_t: float | None = None
    contrast_agent: bool | None = None
    content: str = ""
    subgroup: str = ""

    @property
    def included(self) -> bool:
        """Whether the study has tensors and takes part."""
        return self.status == INCLUDED


@dataclass(frozen=True, slots=True)
class Cohort:
    """An opened cohort.

    Attributes
    ----------
    folder
        Where it lies.
    description
        How its tensors were made.
    cases
        All lines of ``cases.csv``, in its order.
    """

    folder: Path
    description: CohortDescription
    cases: tuple[Case, ...]

    @property
    def included(self) -> tuple[Case, ...]:
        """The cases that have tensors."""
        return tuple(case for case in self.cases if case.included)

    @property
    def digest(self) -> str:
        """SHA-256 of the description and of the included cases with their labels."""
        lines = [self.description.model_dump_json(), *(f"{c.case} {c.patient} {c.label}" for c in self.included)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def tensor(self, case: Case, contrast: Contrast) -> np.ndarray:
        """Return the network input of one contrast.

        Parameters
        ----------
        case
            Included in the cohort.
        contrast
            Which of its images.

        Returns
        -------
        numpy.ndarray
            float32 (z, y, x) on the cohort's grid; z-scored inside the brain, 0 outside.

        Raises
        ------
        ModelError
            ``cohort_damaged`` if the file is missing, cut, or not of the cohort's grid.
        """
        file = tensor_file(self.folder, case.case)
        try:
            with safe_open(file, framework="numpy") as tensors:
                fits = tuple(tensors.get_slice(contrast).get_shape()) == self.description.grid.size_xyz[::-1]
                tensor_zyx: np.ndarray = tensors.get_tensor(contrast) if fits else np.empty(0)
        except (OSError, SafetensorError) as error:
            raise _damaged(f"{file.name} cannot be read ({type(error).__name__})") from None
        if not fits or tensor_zyx.dtype != np.float32:
            raise _damaged(f"{file.name} does not contain float32 tensors on the cohort's grid")
        return tensor_zyx


def open_cohort(folder: Path) -> Cohort:
    """Return the cohort of a folder.

    Parameters
    ----------
    folder
        As ``dicom-node cohort build`` writes it; tensors are not read yet.

    Raises
    ------
    ModelError
        ``cohort_missing`` if the folder does not contain one, ``cohort_damaged`` if its files cannot be right.
    """
    if not (folder / DESCRIPTION).is_file() or not (folder / CASES).is_file():
        raise ModelError("cohort_missing", f"{folder} is not a cohort: build one with `dicom-node cohort build`.")
    try:
        description = CohortDescription.model_validate(read_json(folder / DESCRIPTION))
        cases = tuple(read_cases(folder / CASES))
    except (ValidationError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise _damaged(f"its description or its list of cases cannot be read ({type(error).__name__})") from None
    if len({case.case for case in cases}) != len(cases) or any(case.label is None for case in cases if case.included):
        raise _damaged("a case stands twice, or is included without a label")
    return Cohort(folder, description, cases)


def read_cases(file: Path) -> list[Case]:
    """Return the lines of a ``cases.csv``.

    Parameters
    ----------
    file
        In UTF-8, with the columns of `Case`.

    Raises
    ------
    KeyError, ValueError, csv.Error
        If it is another table.
    """
    with file.open(newline="", encoding="utf-8") as stream:
        return [_case(row) for row in csv.DictReader(stream)]


def write_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Write ``cases.csv`` whole or not at all.

    Parameters
    ----------
    folder
        Of the cohort.
    cases
        A line for each; None becomes an empty cell.
    """
    names = [field.name for field in fields(Case)]
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(names)
    table.writerows([["" if (v := getattr(case, name)) is None else v for name in names] for case in cases])
    write_whole(folder / CASES, stream.getvalue().encode())


def write_description(folder: Path, description: CohortDescription) -> None:
    """Write ``cohort.json`` whole or not at all.

    Parameters
    ----------
    folder
        Of the cohort.
    description
        How its tensors are made.
    """
    write_whole(folder / DESCRIPTION, (json.dumps(description.model_dump(), indent=2) + "\n").encode())


def write_tensors(folder: Path, case: str, tensors_zyx: Mapping[Contrast, np.ndarray]) -> None:
    """Write the tensors of a case whole or not at all.

    Parameters
    ----------
    folder
        Of the cohort.
    case
        Names the file; see `case_name`.
    tensors_zyx
        float32 (z, y, x) of every contrast, on the cohort's grid.

    Raises
    ------
    ValueError
        If a contrast is missing.
    """
    if set(tensors_zyx) != set(Contrast):
        raise ValueError(f"a case has {tuple(Contrast)}, not {sorted(tensors_zyx)}")
    file = tensor_file(folder, case)
    make_folder(file.parent)
    write_whole(file, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors_zyx.items()}))


def tensor_file(folder: Path, case: str) -> Path:
    """Return where the tensors of a case lie.

    Parameters
    ----------
    folder
        Of the cohort.
    case
        Twelve hexadecimal digits.
    """
    return folder / TENSORS / f"{case}.safetensors"


def has_tensors(folder: Path, case: str) -> bool:
    """Return whether the tensors of a case are there, of every contrast and not cut; their values are not read.

    Parameters
    ----------
    folder
        Of the cohort.
    case
        Twelve hexadecimal digits.
    """
    try:
        with safe_open(tensor_file(folder, case), framework="numpy") as tensors:
            return set(tensors.keys()) == set(Contrast)
    except (OSError, SafetensorError):
        return False


def case_name(patient: str, study: str) -> str:
    """Return the name of a case's files: a digest, since patients' pseudonyms are not file names.

    Parameters
    ----------
    patient
        Pseudonym.
    study
        Folder as the table of the labels writes it.

    Returns
    -------
    str
        Twelve hexadecimal digits.
    """
    return hashlib.sha256(f"{patient}\n{study}".encode()).hexdigest()[:_NAME_DIGITS]


def _case(row: Mapping[str, str]) -> Case:
    return Case(
        case=row["case"],
        patient=row["patient"],
        label=int(row["label"]) if row["label"] else None,
        status=row["status"],
        sentence=row["sentence"],
        group=row["group"] or row["patient"],
        age_years=float(row["age_years"]) if row["age_years"] else None,
        field_strength_t=float(row["field_strength_t"]) if row["field_strength_t"] else None,
        contrast_agent=_ANSWERS[row["contrast_agent"]],
        content=row.get("content", ""),
        subgroup=row.get("subgroup", ""),
    )


def _damaged(what: str) -> ModelError:
    return ModelError("cohort_damaged", f"The cohort is damaged: {what}. Build it again.")
