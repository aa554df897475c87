"""By which words a picture names a series, without those that name the patient."""

from __future__ import annotations

import re
from typing import Final

from models.contrast import Contrast
from pipeline.report.character_sets import text_of
from pipeline.report.run import ScoredRun
from pipeline.select import Clue, ClueKind

_NAMING: Final = ("PatientName", "PatientID", "OtherPatientNames")
_SHORTEST: Final = 3
"""Letters: a shorter part of a name stands in many a word."""


def series_named(run: ScoredRun, role: Contrast) -> str:
    """Return number and description of the series that plays a role, and whether a human chose it.

    Parameters
    ----------
    run
        Whose header tells the patient's name: a picture cannot be cleaned of it, so no such description is drawn.
    role
        Of a sequence that was scored.
    """
    series = run.inputs[role]
    number = "series without number" if series.series_number is None else f"series {series.series_number}"
    description = series.description.strip() or "no description"
    if _names_patient(run, description):
        description = "(description names the patient)"
    return f"{number}, {description}{', chosen by hand' if _by_hand(series.clues) else ''}"


def _by_hand(clues: tuple[Clue, ...]) -> bool:
    return any(clue.kind is ClueKind.BY_HAND for clue in clues)


def _names_patient(run: ScoredRun, description: str) -> bool:
    names = " ".join(text_of(run.header, keyword) for keyword in _NAMING).casefold()
    parts = {part for part in re.split(r"[\W_]+", names) if len(part) >= _SHORTEST}
    return any(part in description.casefold() for part in parts)
