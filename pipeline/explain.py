"""The series x role table of a selection, as plain values for people and machines."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from models.contrast import Contrast
from pipeline.select import Candidate, SelectedSeries, Selection, Verdict


def explain(selection: Selection) -> dict[str, Any]:
    """Return what was selected and why, every series with its evidence.

    Returns
    -------
    dict
        ``study_uid``, ``state`` (``ready`` or ``held``), ``reason``, ``sentence``, ``roles``, ``series`` and
        ``ignored_files``; made of JSON types only.
    """
    held = selection.held
    return {
        "study_uid": selection.study_uid,
        "state": "held" if held else "ready",
        "reason": held.code if held else None,
        "sentence": held.sentence if held else None,
        "roles": {role.value: describe(series) for role, series in selection.roles.items()},
        "series": [_series(list(group)) for _, group in groupby(selection.candidates, lambda c: c.volume.series_uid)],
        "ignored_files": ignored_files(selection),
    }


def describe(series: SelectedSeries) -> dict[str, Any]:
    """Return the series chosen for a role, without its files."""
    return {
        "series_uid": series.series_uid,
        "series_number": series.series_number,
        "description": series.description,
        "evidence": list(series.evidence),
    }


def ignored_files(selection: Selection) -> list[dict[str, str]]:
    """Return the files that were not used, each with a code and a sentence."""
    return [{"file": p.path.name, "code": p.code, "sentence": p.sentence} for p in selection.problems]


def _series(candidates: list[Candidate]) -> dict[str, Any]:
    """Return one row; of several volumes the most telling one speaks for the series."""
    spoken = max(candidates, key=lambda c: (c.verdict is not Verdict.NONE, max(c.scores.values())))
    return {
        "series_uid": spoken.volume.series_uid,
        "series_number": spoken.volume.series_number,
        "description": spoken.volume.description,
        "volumes": len(candidates),
        "verdict": spoken.verdict.value,
        "scores": {role.value: spoken.scores[role] for role in Contrast},
        "evidence": list(spoken.evidence),
    }
