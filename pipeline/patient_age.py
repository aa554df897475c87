"""The age of a patient as the header of an image has it, for the plausibility of the brain's volume.

The age is used where it is read and goes nowhere else: not into results, not into the log.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.dicom_file import open_dataset

_AGE = re.compile(r"(\d{3})([DWMY])")
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_OLDEST_YEARS = 120.0
_DOUBT_YEARS = 1.5
"""PatientAge and the dates may differ by rounding; by more only where one was made up to hide the patient."""


def read_age_years(path: Path) -> float | None:
    """Return the patient's age at the study; nothing is raised.

    Parameters
    ----------
    path
        A DICOM file.

    Returns
    -------
    float or None
        In years; None where the header does not say it credibly.

    Notes
    -----
    PatientAge is AS (PS3.5 6.2), for example ``003M``. Real files hold ``***``, ``000Y`` and ``122Y``, and dates of
    birth in 1900: such values count as absent, and so do two sources that contradict each other.
    """
    try:
        dataset, _ = open_dataset(path, pixels=False)
        return age_years(dataset)
    except Exception:  # any malformed header: an age is never worth a study
        return None


def age_years(dataset: Dataset) -> float | None:
    """Return the age that a header states, as `read_age_years` does.

    Parameters
    ----------
    dataset
        As `pipeline.dicom_file.open_dataset` returns it.
    """
    stated = _stated_years(_text(dataset, "PatientAge"))
    dated = _dated_years(_text(dataset, "PatientBirthDate"), _text(dataset, "StudyDate"))
    if stated is not None and dated is not None and abs(stated - dated) > _DOUBT_YEARS:
        return None
    return stated if dated is None else dated


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a value as it is stored: a warning of pydicom may quote an illegal one."""
    element = dataset.get_item(keyword)
    value = element.value if element is not None else None
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else str(value or "").strip()


def _stated_years(text: str) -> float | None:
    match = _AGE.fullmatch(text)
    years = int(match[1]) * _YEARS[match[2]] if match else 0.0
    return years if 0 < years <= _OLDEST_YEARS else None


def _dated_years(birth: str, study: str) -> float | None:
    matches = [_DATE.fullmatch(text) for text in (birth, study)]
    if not all(matches):
        return None
    try:
        born, seen = (date(*(int(part) for part in match.groups())) for match in matches if match)
    except ValueError:
        return None
    years = (seen - born).days / 365.25
    return years if 0 <= years <= _OLDEST_YEARS else None
