"""What the report and the page say in words and rounded numbers; plain ASCII."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from models.contrast import Contrast
from pipeline.errors import HoldReason
from pipeline.out_of_range import NotStated
from pipeline.predict import Calibrated, Category, Finding, ModelIdentity, Spread
from pipeline.report.character_sets import ascii_text

SCORE_NAME = "AED-refractory score"
CONDITION_DEFINITION = (
    "Positive class of the training labels: seizures not controlled at one year of anti-seizure medication, in "
    "tuberous sclerosis complex. This is not the ILAE (2010) definition of drug resistance, and the score is not a "
    "diagnosis of the patient. It is a score, not a probability."
)
UNVERIFIED = "Not verified by a physician. FOR RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE."
_METHODS = {"temperature": "temperature scaling", "platt": "Platt scaling"}
CATEGORY_WORDS = {Category.AT_OR_ABOVE: "AT OR ABOVE threshold", Category.BELOW: "BELOW threshold"}

_TOPICS: Final[Mapping[HoldReason | NotStated, str]] = {
    HoldReason.OUT_OF_RANGE_AGE: "age",
    HoldReason.OUT_OF_RANGE_CONTRAST: "contrast",
    HoldReason.OUT_OF_RANGE_FIELD_STRENGTH: "field strength",
    HoldReason.OUT_OF_RANGE_BRAIN_WEIGHTS: "brain weights",
    HoldReason.OUT_OF_RANGE_FEATURES: "features",
    NotStated.AGE: "age unknown",
    NotStated.FIELD_STRENGTH: "field strength unknown",
}
_DECIMALS, _MOST_DECIMALS = 4, 8


def decimals_of(finding: Finding) -> int:
    """Return with how many decimals score and threshold are shown: 4, or more where rounding would hide the side.

    Parameters
    ----------
    finding
        With score and threshold.
    """
    above = finding.score >= finding.threshold
    for decimals in range(_DECIMALS, _MOST_DECIMALS):
        if (round(finding.score, decimals) >= round(finding.threshold, decimals)) == above:
            return decimals
    return _MOST_DECIMALS


def notice_line(model: ModelIdentity) -> str:
    """Return a model's notice as one sentence on one line; empty if it has none.

    Parameters
    ----------
    model
        Which made the finding.
    """
    return ended(model.notice)


def ended(words: str) -> str:
    """Return ASCII text that ends like a sentence; empty if there is none.

    Parameters
    ----------
    words
        Any characters.
    """
    sentence = ascii_text(words).strip()
    return sentence if not sentence or sentence[-1] in ".!?" else f"{sentence}."


def summary_text(finding: Finding) -> str:
    """Return the report in two lines: the model's notice, then score, range, threshold and category.

    Parameters
    ----------
    finding
        May be reported.
    """
    places = decimals_of(finding)
    model = finding.model
    sentence = (
        f"{model.name} {model.version} ensemble {SCORE_NAME} {finding.score:.{places}f} "
        f"(range 0 to 1, decision threshold {finding.threshold:.{places}f}): {CATEGORY_WORDS[finding.category]}. "
    )
    cautions = [f"CAUTION: {doubt.sentence}" for doubt in finding.out_of_range]
    cautions += [f"CAUTION: {missing_words(finding)}"] if finding.missing else []
    return "\n".join(line for line in (notice_line(model), sentence + UNVERIFIED, *cautions) if line)


def caution_words(finding: Finding) -> str:
    """Return in one short line what the summary says in sentences; empty if there is nothing.

    Parameters
    ----------
    finding
        With doubts, or with a sequence missing.
    """
    topics = [_TOPICS[doubt.code] for doubt in finding.out_of_range]
    lines = [f"NOT SHOWN TO LIE IN THE MODEL'S RANGE: {', '.join(topics)}"] if topics else []
    lines += [f"SCORED WITHOUT {' AND '.join(finding.missing)}"] if finding.missing else []
    return "; ".join(lines)


def missing_words(finding: Finding) -> str:
    """Return which sequence the study lacked, and by what it was scored.

    Parameters
    ----------
    finding
        Of a study that lacked one.
    """
    mode = finding.two_sequences
    shown = f" (AUC {mode.auc:.2f}, {mode.patients} patients)" if mode else ""
    return (
        f"The study has no {' and no '.join(finding.missing)} series: it was scored by {_listed(finding.sequences)}, "
        f"with weights and threshold that were tested for these alone{shown}."
    )


def sequences_words(finding: Finding) -> str:
    """Return the sequences of the ensemble, for example ``T1W, T2W and FLAIR``.

    Parameters
    ----------
    finding
        Of two sequences or more.
    """
    return _listed(finding.sequences)


def spread_words(spread: Spread) -> str:
    """Return how far the folds are apart.

    Parameters
    ----------
    spread
        Of one sequence, or of the ensemble.
    """
    return f"{spread.folds} folds: {spread.low:.2f} to {spread.high:.2f}, SD {spread.sd:.2f}"


def calibration_words(calibrated: Calibrated) -> str:
    """Return where the calibrated value comes from.

    Parameters
    ----------
    calibrated
        Of the ensemble's score.
    """
    return (
        f"Probability by {_METHODS.get(calibrated.method, calibrated.method)} of the ensemble score, fitted on "
        f"{calibrated.patients} development patients."
    )


def evidence_words(model: ModelIdentity) -> str:
    """Return what is known of the model's performance, in one line.

    Parameters
    ----------
    model
        With evidence or without.
    """
    evidence = model.evidence
    if evidence is None:
        return "Performance not evaluated."
    made = "SYNTHETIC patients" if evidence.synthetic else "patients"
    words = f"Developed on {evidence.development_patients}, tested on {evidence.test_patients} {made}: "
    no_patient = " This is no evidence about real patients." if evidence.synthetic else ""
    if evidence.auc is None:
        return f"{words}performance not evaluated.{no_patient}"
    words += f"AUC {evidence.auc:.2f}"
    if evidence.auc_interval is not None:
        words += " (95 % interval {:.2f} to {:.2f})".format(*evidence.auc_interval)
    optimistic = (
        ", too optimistic: weights were chosen on the test patients" if evidence.weights_chosen_on == "test" else ""
    )
    return f"{words}{optimistic}.{no_patient}"


def _listed(sequences: Sequence[Contrast]) -> str:
    *first, last = sequences
    return f"{', '.join(first)} and {last}"
