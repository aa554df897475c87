"""What ``result.json`` says of a study, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from models.contrast import Contrast
from pipeline.brain import MaskFacts, WeightsIdentity
from pipeline.explain import describe, ignored_files
from pipeline.predict import Finding, ModelIdentity
from pipeline.select import Selection


def describe_study(
    selection: Selection, model: ModelIdentity, brain_weights: WeightsIdentity, software: str
) -> dict[str, Any]:
    """Return the part of the result that holds for scored and held studies alike; `state` is still open."""
    return {
        "notice": model.notice,
        "study_uid": selection.study_uid,
        "state": None,
        "reason": None,
        "sentence": None,
        "roles": {role.value: describe(series) for role, series in selection.roles.items()},
        "ignored_files": ignored_files(selection),
        "input_digest": selection.digest,
        "model": {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "intended_use": model.intended_use,
        },
        "brain_weights": asdict(brain_weights),
        "software": software,
    }


def finding_values(finding: Finding, brain: Mapping[Contrast, MaskFacts]) -> dict[str, Any]:
    """Return the part of the result that only a scored study has.

    `spread` is null for a bundle with one network for each sequence, `calibrated` for one without calibration.
    """
    sequences = finding.sequences
    return {
        "sequences_used": [role.value for role in sequences],
        "scores": {role.value: finding.scores[role] for role in sequences},
        "members": {role.value: list(finding.members.get(role, ())) for role in sequences},
        "weights": {role.value: finding.weights[role] for role in sequences},
        "score": finding.score,
        "score_patent": finding.score_patent,
        "threshold": finding.threshold,
        "category": finding.category.value,
        "spread": _spread(finding),
        "calibrated": asdict(finding.calibrated) if finding.calibrated else None,
        "out_of_range": [asdict(doubt) for doubt in finding.out_of_range],
        "flags": [doubt.code for doubt in finding.out_of_range] + ["two_sequences"] * bool(finding.two_sequences),
        "brain": {
            role.value: {"volume_ml": brain[role].volume_ml, "flags": list(brain[role].flags)} for role in sequences
        },
    }


def _spread(finding: Finding) -> dict[str, Any] | None:
    whole = finding.spread()
    if whole is None:
        return None
    parts = {role.value: finding.spread(role) for role in finding.sequences}
    return {"ensemble": asdict(whole)} | {name: asdict(part) for name, part in parts.items() if part}
