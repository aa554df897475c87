"""What the report and the page say in words and rounded numbers; plain ASCII."""

from __future__ import annotations

import math

from pipeline.predict import Category, Finding
from pipeline.report.character_sets import ascii_text
from pipeline.select import Role

SCORE_NAME = "AED-refractory score"
CONDITION_DEFINITION = (
    "Positive class of the training labels: seizures not controlled at one year of anti-seizure medication, in "
    "tuberous sclerosis complex. This is not the ILAE (2010) definition of drug resistance, and the score is not a "
    "diagnosis of the patient. It is a score, not a probability."
)
UNVERIFIED = "Not verified by a physician. FOR RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE."
CATEGORY_WORDS = {Category.AT_OR_ABOVE: "AT OR ABOVE threshold", Category.BELOW: "BELOW threshold"}

_TOLERANCE = 1e-6
_WEIGHT_SUM_TOLERANCE = 1e-3
_DECIMALS, _MOST_DECIMALS = 4, 8


def check_finding(finding: Finding) -> None:
    """Refuse a finding that must not be reported.

    Raises
    ------
    ValueError
        If a role is missing, a number is not finite or out of its range, the weights do not sum to 1, or the category
        is not the side of the threshold on which the score lies.
    """
    for name, values in (("score", finding.scores), ("weight", finding.weights)):
        for role in Role:
            if role not in values:
                msg = f"finding has no {name} for {role}"
                raise ValueError(msg)
            _check_range(f"{name} of {role}", values[role], 1.0)
    _check_range("ensemble score", finding.score, 1.0)
    _check_range("patent score", finding.score_patent, 1 / 3)
    _check_range("decision threshold", finding.threshold, 1.0)
    total = sum(finding.weights[role] for role in Role)
    if abs(total - 1) > _WEIGHT_SUM_TOLERANCE:
        msg = f"ensemble weights sum to {total}, not 1"
        raise ValueError(msg)
    if (finding.category is Category.AT_OR_ABOVE) != (finding.score >= finding.threshold):
        msg = f"category {finding.category} contradicts score {finding.score} and threshold {finding.threshold}"
        raise ValueError(msg)


def decimals_of(finding: Finding) -> int:
    """Return with how many decimals score and threshold are shown: 4, or more where rounding would hide the side."""
    above = finding.score >= finding.threshold
    for decimals in range(_DECIMALS, _MOST_DECIMALS):
        if (round(finding.score, decimals) >= round(finding.threshold, decimals)) == above:
            return decimals
    return _MOST_DECIMALS


def notice_line(finding: Finding) -> str:
    """Return the model's notice as one sentence on one line; empty if it has none."""
    return ended(finding.model.notice)


def ended(words: str) -> str:
    """Return ASCII text that ends like a sentence; empty if there is none."""
    sentence = ascii_text(words).strip()
    return sentence if not sentence or sentence[-1] in ".!?" else f"{sentence}."


def summary_text(finding: Finding) -> str:
    """Return the report in two lines: the model's notice, then score, range, threshold and category."""
    places = decimals_of(finding)
    model = finding.model
    sentence = (
        f"{model.name} {model.version} ensemble {SCORE_NAME} {finding.score:.{places}f} "
        f"(range 0 to 1, decision threshold {finding.threshold:.{places}f}): {CATEGORY_WORDS[finding.category]}. "
    )
    return "\n".join(line for line in (notice_line(finding), sentence + UNVERIFIED) if line)


def _check_range(name: str, value: float, upper: float) -> None:
    if not math.isfinite(value) or not -_TOLERANCE <= value <= upper + _TOLERANCE:
        msg = f"{name} is {value}, expected a number from 0 to {upper:.4g}"
        raise ValueError(msg)
