"""What the report and the page say in words and rounded numbers; plain ASCII."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.outcome import NOT_ILAE, UNCONTROLLED
from pipeline.brain import MaskFacts
from pipeline.predict import Calibrated, Category, Finding, ModelIdentity, Spread
from pipeline.report.character_sets import ascii_text
from pipeline.report.provenance import Predecessor
from pipeline.rounding import rounded, shown_score, shown_threshold

SCORE_NAME = "AED-refractory score"
DISEASE = "tuberous sclerosis complex"
CONDITION_DEFINITION = (
    f"Positive class of the training labels: {UNCONTROLLED}, in {DISEASE}. {NOT_ILAE} The score is "
    "not a diagnosis of the patient. It is a score, not a probability."
)
UNVERIFIED = "Not verified by a physician. FOR RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE."
_METHODS = {"temperature": "temperature scaling", "platt": "Platt scaling"}
_SIDES = {Category.AT_OR_ABOVE: "at or above", Category.BELOW: "below"}
CATEGORY_WORDS = {Category.AT_OR_ABOVE: "AT OR ABOVE threshold", Category.BELOW: "BELOW threshold"}


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


def research_notice(model: ModelIdentity) -> str:
    """Return what stands before everything else: the model's notice, and that nobody may rely on the output.

    Parameters
    ----------
    model
        Which made the finding, or would have.
    """
    return f"{notice_line(model)} {UNVERIFIED}".strip()


def result_sentence(finding: Finding) -> str:
    """Return the finding as one sentence to paste into a report of one's own; it says nothing of single sequences.

    Parameters
    ----------
    finding
        May be reported.
    """
    model, notice = finding.model, ascii_text(finding.model.notice).strip().rstrip(".!?")
    made_by = f"{model.name} {model.version}" + (f" ({notice})" if notice else "")
    cautions = len(finding.out_of_range) + sum(
        map(bool, (finding.missing, finding.near_threshold, finding.contradicting))
    )
    told = f", with {cautions} caution{'s' if cautions > 1 else ''} that the full report states" if cautions else ""
    return (
        f"{SCORE_NAME} {shown_score(finding)} on a scale from 0 to 1, {_SIDES[finding.category]} the decision "
        f"threshold of {shown_threshold(finding)}, for {UNCONTROLLED}, in {DISEASE}{told}; computed by {made_by}, a "
        "score and not a probability, for research use only, not for diagnostic use, not verified by a physician."
    )


def replaced_words(earlier: Iterable[Predecessor]) -> list[str]:
    """Return what a report says of those that it replaces, one sentence for each kind.

    Parameters
    ----------
    earlier
        Reports of the same study.
    """
    kinds = {True: "which gave a score; that score is no longer valid", False: "which gave no score"}
    return [f"This report replaces an earlier one of this study, {kinds[each]}." for each in _kinds(earlier)]


def _kinds(earlier: Iterable[Predecessor]) -> list[bool]:
    return list(dict.fromkeys(each.scored for each in earlier))


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
        f"The study has no {' and no '.join(finding.missing)} series: it was scored by {listed(finding.sequences)}, "
        f"with weights and threshold that were tested for these alone{shown}."
    )


def repeatability_words(finding: Finding) -> str:
    """Return how far scores of one head lie apart; empty where that is not known.

    Parameters
    ----------
    finding
        Of a bundle that states it, or not.
    """
    known = finding.repeatability
    if known is None:
        return ""
    return (
        f"repeatability: +-{known.sd:.3f} (SD of scores of one head under shifts of the grid, other masks, thicker "
        f"slices and noise; {known.heads} heads, largest difference {known.largest:.2f})"
    )


def near_words(finding: Finding) -> str:
    """Return that the category may be another when the same head is read again; empty where it is not likely.

    Parameters
    ----------
    finding
        With its score and its threshold.
    """
    known = finding.repeatability
    if known is None or not finding.near_threshold:
        return ""
    return (
        f"The score is nearer to the threshold than twice its repeatability ({known.sd:.3f}): the same head, read "
        "again, might get the other category."
    )


def contradicting_words(finding: Finding) -> str:
    """Return which sequences alone would give the other category; empty where they agree.

    Parameters
    ----------
    finding
        With its scores.
    """
    others = finding.contradicting
    if not others:
        return ""
    side = _SIDES[Category.BELOW if finding.category is Category.AT_OR_ABOVE else Category.AT_OR_ABOVE]
    scores = [f"{role} ({rounded(finding.scores[role])})" for role in others]
    lie = "lies" if len(others) == 1 else "lie"
    return f"The sequences disagree: alone, {listed(scores)} {lie} {side} the threshold, the ensemble does not."


def no_doubts_words(facts: MaskFacts) -> str:
    """Return that nothing is odd of a mask, as far as that was checked.

    Parameters
    ----------
    facts
        Of a mask without flags.
    """
    return "no doubts" if facts.age_known else "no doubts; volume not compared, age unknown"


def sequences_words(finding: Finding) -> str:
    """Return the sequences of the ensemble, for example ``T1W, T2W and FLAIR``.

    Parameters
    ----------
    finding
        Of two sequences or more.
    """
    return listed(finding.sequences)


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


def listed(words: Sequence[str]) -> str:
    """Return words as an enumeration, for example ``T1W, T2W and FLAIR``.

    Parameters
    ----------
    words
        One at least.
    """
    *first, last = words
    if not first:
        return last
    return f"{', '.join(first)} and {last}"
