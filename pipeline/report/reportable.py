"""What must hold of a finding before anything of it is reported: completeness, ranges, agreement of its parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from models.contrast import Contrast
from pipeline.brain import MaskFacts
from pipeline.predict import Category, Finding

_TOLERANCE: Final = 1e-6
"""By how much a score may leave its range, and a mean differ from that of its folds: what float32 leaves open."""
_WEIGHT_SUM_TOLERANCE: Final = 1e-3
"""Weights may be written with three decimals."""
_HIGHEST_PATENT_SCORE: Final = 1 / 3
"""CN114170162A [0078] divides the weighted sum of three scores by three."""


def check_finding(finding: Finding) -> None:
    """Refuse a finding that must not be reported.

    Parameters
    ----------
    finding
        Of a study that was scored.

    Raises
    ------
    ValueError
        If scores and weights are not of the three sequences, or of the two that were tested alone, a number is not
        finite or out of its range, the weights do not sum to 1, the folds do not belong to the scores, or the category
        is not the side of the threshold on which the score lies.
    """
    wanted = set(finding.two_sequences.weights if finding.two_sequences else Contrast)
    if not set(finding.scores) == set(finding.weights) == wanted:
        msg = f"finding has scores of {sorted(finding.scores)} and weights of {sorted(finding.weights)}"
        raise ValueError(msg)
    for name, values in (("score", finding.scores), ("weight", finding.weights)):
        for role in finding.sequences:
            _check_range(f"{name} of {role}", values[role], 1.0)
    _check_range("ensemble score", finding.score, 1.0)
    _check_range("patent score", finding.score_patent, _HIGHEST_PATENT_SCORE)
    _check_range("decision threshold", finding.threshold, 1.0)
    if finding.calibrated is not None:
        _check_range("calibrated probability", finding.calibrated.probability, 1.0)
    _check_members(finding)
    total = sum(finding.weights.values())
    if abs(total - 1) > _WEIGHT_SUM_TOLERANCE:
        msg = f"ensemble weights sum to {total}, not 1"
        raise ValueError(msg)
    if (finding.category is Category.AT_OR_ABOVE) != (finding.score >= finding.threshold):
        msg = f"category {finding.category} contradicts score {finding.score} and threshold {finding.threshold}"
        raise ValueError(msg)


def check_masks(brain: Mapping[Contrast, MaskFacts], roles: Iterable[Contrast]) -> None:
    """Refuse brain masks that must not be reported.

    Parameters
    ----------
    brain
        Facts of each mask.
    roles
        The sequences that were scored.

    Raises
    ------
    ValueError
        If a sequence has no mask, or a mask no volume in millilitres of 0 or more.
    """
    for role in roles:
        if role not in brain or not math.isfinite(brain[role].volume_ml) or brain[role].volume_ml < 0:
            msg = f"no brain mask volume for {role}"
            raise ValueError(msg)


def _check_members(finding: Finding) -> None:
    if not finding.members:
        return
    folds = {len(finding.members.get(role, ())) for role in finding.sequences}
    if set(finding.members) != set(finding.sequences) or len(folds) != 1 or 0 in folds:
        msg = f"folds of {sorted(finding.members)} do not belong to scores of {sorted(finding.scores)}"
        raise ValueError(msg)
    for role, scores in finding.members.items():
        for score in scores:
            _check_range(f"score of a fold of {role}", score, 1.0)
        if abs(sum(scores) / len(scores) - finding.scores[role]) > _TOLERANCE:
            msg = f"score of {role} is not the mean of its folds"
            raise ValueError(msg)


def _check_range(name: str, value: float, upper: float) -> None:
    if not math.isfinite(value) or not -_TOLERANCE <= value <= upper + _TOLERANCE:
        msg = f"{name} is {value}, expected a number from 0 to {upper:.4g}"
        raise ValueError(msg)
