"""The table of a labelled cohort: which study has which label, and who meets the inclusion criteria.

``labels.csv`` has one line per study, separated by commas, in UTF-8. It is checked whole before anything is read of the
studies, and every refusal names the line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from models.bounded_json import read_json
from models.bundle import ModelError
from models.outcome import MONTHS

SYNTHETIC = "synthetic.json"
"""Beside ``labels.csv`` where the studies are made; `statement` in it says how the labels came about."""
REQUIRED = ("patient", "study", "label")
_OLDEST_YEARS: Final = 120.0
"""A greater age is a mistake."""
_SUBGROUP_MAX: Final = 40
"""Characters: it heads a row of a table."""
_YES_NO = {"yes": True, "no": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Criterion:
    """An inclusion criterion of CN114170162A [0056] that is a yes or a no.

    Attributes
    ----------
    wanted
        The answer that a study needs to take part.
    code, sentence
        Of the exclusion where the answer is the other one.
    """

    wanted: bool
    code: str
    sentence: str


CRITERIA: Mapping[str, Criterion] = {
    "tsc": Criterion(True, "excluded_tsc", "The patient has no diagnosis of tuberous sclerosis complex."),
    "epilepsy": Criterion(True, "excluded_epilepsy", "The patient has no diagnosis of epilepsy."),
    "resected": Criterion(
        False, "excluded_resected", "The brain was operated on before the MRI or within the year of the outcome."
    ),
    "mri_after_asm": Criterion(
        False, "excluded_medication", "The MRI was made after the start of anti-seizure medication."
    ),
}
FOLLOW_UP = "follow_up_months"
CRITERIA_COLUMNS = (*CRITERIA, FOLLOW_UP)
OPTIONAL = ("group", "subgroup", "age_years", *CRITERIA_COLUMNS)


@dataclass(frozen=True, slots=True)
class LabelledStudy:
    """One line of ``labels.csv``.

    Attributes
    ----------
    line
        Its number in the file, from 1.
    patient, group
        Pseudonyms of the research group; the group is the patient where none is given.
    subgroup
        What figures are reported apart for; empty where nothing is given.
    study
        Folder as it stands in the file; names the case.
    folder
        The same as a path.
    label
        1 or 0, as :mod:`models.outcome` says; None: not known.
    age_years
        At the examination; None where the file does not state it.
    excluded
        Code and sentence of the criterion that is not met; None where all that are given are met.
    """

    line: int
    patient: str = field(repr=False)
    study: str = field(repr=False)
    folder: Path = field(repr=False)
    label: int | None
    group: str = field(repr=False)
    age_years: float | None
    excluded: tuple[str, str] | None
    subgroup: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """A checked ``labels.csv``.

    Attributes
    ----------
    studies
        Its lines, in order.
    criteria
        Columns of inclusion criteria that the file has, hence that were checked.
    synthetic
        What ``synthetic.json`` says; None for scanned studies.
    """

    studies: tuple[LabelledStudy, ...]
    criteria: tuple[str, ...]
    synthetic: str | None


def read_labels(file: Path) -> Labels:
    """Return the content of a ``labels.csv``.

    Parameters
    ----------
    file
        Columns ``patient``, ``study`` (folder, relative to the file) and ``label`` (0, 1, or empty: not known).
        Optional: ``group``, ``subgroup``, ``age_years``, and the criteria ``tsc``, ``epilepsy``, ``resected``,
        ``mri_after_asm`` (yes or no) and ``follow_up_months`` on medication, which is too short only where there was no
        event. A criterion whose column is there and whose cell is empty counts as not met.

    Raises
    ------
    ModelError
        ``labels_missing``, ``labels_invalid`` (with the line and the remedy), or ``synthetic_invalid``.
    """
    header, rows = _read(file)
    _check_header(file, header)
    studies = tuple(_study(file, line, row) for line, row in rows)
    if not studies:
        raise _invalid(file, 1, "there are no studies below the header; add a line for each")
    _check_together(file, studies)
    criteria = tuple(name for name in CRITERIA_COLUMNS if name in header)
    return Labels(studies, criteria, _synthetic(file.parent / SYNTHETIC))


def _read(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and each line that is not empty with its number."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(table, [])]
            rows = [(table.line_num, _row(file, table.line_num, header, cells)) for cells in table if any(cells)]
    except OSError as error:
        raise ModelError("labels_missing", f"{file} cannot be read ({error.strerror}): name a labels.csv.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise _invalid(file, None, f"it is no table in UTF-8 separated by commas ({type(error).__name__})") from None
    return header, rows


def _row(file: Path, line: int, header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise _invalid(
            file, line, f'{len(cells)} cells where the header has {len(header)}; put texts with commas in ""'
        )
    return {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _check_header(file: Path, header: list[str]) -> None:
    known = ", ".join((*REQUIRED, *OPTIONAL))
    if missing := [name for name in REQUIRED if name not in header]:
        raise _invalid(file, 1, f"no column {' or '.join(missing)}; columns are {known}, separated by commas")
    if unknown := [name for name in header if name not in (*REQUIRED, *OPTIONAL)]:
        raise _invalid(file, 1, f"unknown columns {', '.join(map(repr, unknown))}; columns are {known}")
    if len(set(header)) != len(header):
        raise _invalid(file, 1, "a column stands twice; remove one")


def _study(file: Path, line: int, row: Mapping[str, str]) -> LabelledStudy:
    for name in ("patient", "study"):
        if not row[name] or not row[name].isprintable():
            raise _invalid(file, line, f"{name} is empty or of more than one line; give it")
    if row["label"] not in ("0", "1", ""):
        raise _invalid(file, line, "label is neither 0 (controlled) nor 1 (not controlled) nor empty (not known)")
    return LabelledStudy(
        line=line,
        patient=row["patient"],
        study=Path(row["study"]).as_posix(),
        folder=file.parent / row["study"],
        label=int(row["label"]) if row["label"] else None,
        group=row.get("group") or row["patient"],
        age_years=_number(file, line, row, "age_years", _OLDEST_YEARS),
        excluded=_excluded(file, line, row),
        subgroup=_subgroup(file, line, row),
    )


def _subgroup(file: Path, line: int, row: Mapping[str, str]) -> str:
    name = row.get("subgroup", "")
    if len(name) > _SUBGROUP_MAX or not name.isprintable():
        raise _invalid(file, line, f"subgroup is longer than {_SUBGROUP_MAX} characters or a line; shorten it")
    return name


def _excluded(file: Path, line: int, row: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first criterion that a line does not meet; all cells are checked, whichever it is."""
    reasons = [*_unmet(file, line, row)]
    if not row["label"]:
        reasons.append(("excluded_label", "The outcome is not known."))
    return next(iter(reasons), None)


def _unmet(file: Path, line: int, row: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, criterion in CRITERIA.items():
        answer = row.get(name, "no criterion").lower()
        if answer == "":
            yield _unknown(name)
        elif name in row and answer not in _YES_NO:
            raise _invalid(file, line, f"{name} is neither yes nor no")
        elif name in row and _YES_NO[answer] is not criterion.wanted:
            yield criterion.code, criterion.sentence
    months = _number(file, line, row, FOLLOW_UP, math.inf)
    if months is None and FOLLOW_UP in row:
        yield _unknown(FOLLOW_UP)
    elif months is not None and months < MONTHS and row["label"] != "1":
        # A seizure, or death, before the year is over is the outcome; only the absence of one takes the whole year.
        yield "excluded_follow_up", f"The follow-up is {months:g} months without an event; {MONTHS:g} are needed."


def _unknown(name: str) -> tuple[str, str]:
    return "excluded_unknown", f"{name} is not known, so whether the criterion is met is not known either."


def _number(file: Path, line: int, row: Mapping[str, str], name: str, largest: float) -> float | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= largest or math.isinf(number):
        raise _invalid(file, line, f"{name} is no number that can be right; write it with a point, or leave it empty")
    return number


def _check_together(file: Path, studies: Iterable[LabelledStudy]) -> None:
    """Refuse a folder that stands twice, and a patient with two labels."""
    folders: dict[Path, int] = {}
    labels: dict[str, tuple[int, int]] = {}
    for study in studies:
        first = folders.setdefault(study.folder.resolve(), study.line)
        if first != study.line:
            raise _invalid(file, study.line, f"the study of line {first} again; remove one of the two")
        if study.label is None:
            continue
        label, first = labels.setdefault(study.patient, (study.label, study.line))
        if label != study.label:
            raise _invalid(file, study.line, f"another label than line {first} for the same patient; correct one")


def _synthetic(file: Path) -> str | None:
    if not file.exists():
        return None
    try:
        statement = read_json(file)["statement"]
    except (OSError, ValueError, KeyError, TypeError):
        statement = None
    if not isinstance(statement, str) or not statement.strip():
        raise ModelError(
            "synthetic_invalid", f"{file} has no `statement` of how the labels were made; make the studies again."
        )
    return statement


def _invalid(file: Path, line: int | None, what: str) -> ModelError:
    where = f"{file.name}, line {line}" if line else file.name
    return ModelError("labels_invalid", f"{where}: {what}.")
