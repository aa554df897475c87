"""Reasons to doubt a score, in plain words, and what was not even checked."""

from __future__ import annotations

from typing import Final, get_args

from models.bundle import Check
from pipeline.predict import ModelIdentity
from pipeline.report.run import ScoredRun
from pipeline.report.wording import contradicting_words, listed, missing_words, near_words

_CHECKS: Final[dict[Check, str]] = {
    "age": "age",
    "contrast": "contrast agent",
    "field_strength": "field strength",
    "features": "looks of images",
    "brain_weights": "brain masks",
}


def doubts_of(run: ScoredRun) -> list[str]:
    """Return every reason to doubt a score as a sentence, the gravest first.

    Parameters
    ----------
    run
        With a score.
    """
    finding = run.finding
    sentences = [doubt.sentence for doubt in finding.out_of_range]
    sentences += [missing_words(finding)] if finding.missing else []
    sentences += [near_words(finding), contradicting_words(finding)]
    sentences += [
        f"Brain mask of {role}: {flag.meaning}." for role in finding.sequences for flag in run.brain[role].flags
    ]
    return [sentence for sentence in sentences if sentence]


def checked_words(model: ModelIdentity) -> str:
    """Return in what the study was compared with those that the model was made with; empty if in nothing.

    Parameters
    ----------
    model
        Which made the finding.
    """
    checked = [_CHECKS[check] for check in model.checks]
    return f"Compared with the patients of the model: {listed(checked)}." if checked else ""


def unchecked_words(model: ModelIdentity) -> str:
    """Return in what it was not, because the model states no range; empty if it states all.

    Parameters
    ----------
    model
        Which made the finding.
    """
    unchecked = [_CHECKS[check] for check in get_args(Check) if check not in model.checks]
    return f"NOT checked, as the model states no range: {listed(unchecked)}." if unchecked else ""
