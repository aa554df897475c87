"""The model card of a bundle: what TRIPOD+AI (BMJ 2024;385:e078378) and CLAIM ask, filled from the run.

What the run cannot know is said to be not stated; it is for the authors of a study to add.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from models.bundle import Metadata
from models.contrast import Contrast
from models.outcome import CONTROLLED, NOT_ILAE, UNCONTROLLED
from models.training.bundling.card_methods import NOT_STATED, Row, methods, participants
from models.training.bundling.training_record import TrainingRecord
from models.training.evaluation.cautions import Caution, CautionKind, cautions, synthetic_caution
from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.figures import (
    BASES,
    MEASURES,
    counts_text,
    estimate_text,
    looks_text,
    measure_rows,
    repeatability_rows,
    subgroup_rows,
)
from models.training.evaluation.held_out import Basis
from models.training.evaluation.simulated_coverage import DRAWS, coverage_rows

OUTCOME: Final = f"Label 1: {UNCONTROLLED}; label 0: {CONTROLLED}. {NOT_ILAE}"
_CLAIM_ALONE: Final = 100
"""Place of what CLAIM alone asks, behind the items of TRIPOD+AI."""


def model_card(metadata: Metadata, training: TrainingRecord, evaluation: Evaluation | None) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    metadata, training
        Of the bundle; what is absent is said to be not stated.
    evaluation
        On patients that took no part in training; None if there was no evaluation.
    """
    rows = sorted(_rows(metadata, training, evaluation), key=_place)
    parts = [
        f"# {metadata.name} {metadata.version}",
        f"**{_plain(metadata.notice)}**",
        *(f"**{_plain(caution.sentence)}**" for caution in _cautions(metadata, training, evaluation)),
        _plain(metadata.intended_use),
        "## Performance",
        *_performance(metadata, evaluation),
        f"## How often intervals hold the truth, in {DRAWS} simulations",
        _table(("Design", "AUC", "Sensitivity"), coverage_rows()),
        "## What TRIPOD+AI and CLAIM ask",
        "Items are those of TRIPOD+AI; those of CLAIM without a counterpart there bear its name.",
        _table(("Item", "Subject", "This model"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def _cautions(metadata: Metadata, training: TrainingRecord, evaluation: Evaluation | None) -> Iterator[Caution]:
    """Yield the cautions of the evaluation, and those that bundle and training state beyond it."""
    said = cautions(evaluation) if evaluation else ()
    kinds = {caution.kind for caution in said}
    made, evidence = training.synthetic, metadata.evidence
    if CautionKind.SYNTHETIC not in kinds and (made is not None or (evidence is not None and evidence.synthetic)):
        yield synthetic_caution(made or "the cohort was made, not scanned")
    yield from said
    if CautionKind.OPTIMISTIC not in kinds and evidence is not None and evidence.weights_chosen_on == "test":
        yield Caution(
            CautionKind.OPTIMISTIC,
            "OPTIMISTIC BIAS: the weights of the ensemble were chosen on the test patients, as the patent does it; "
            "figures on those patients are too good.",
        )
    if training.recipe and training.recipe.shuffle_labels:
        yield Caution(
            CautionKind.CONTROL_RUN,
            "CONTROL RUN: the labels were shuffled before training; the score has no meaning.",
        )


def _performance(metadata: Metadata, evaluation: Evaluation | None) -> Iterator[str]:
    if evaluation is None:
        yield f"Not available: this bundle came without an evaluation.{_evidence(metadata)}"
        return
    columns = evaluation.summaries()
    yield f"{counts_text(evaluation.ensemble)}. {BASES[evaluation.basis]}"
    yield _table(("Measure (95 % interval)", *columns), measure_rows(columns.values()))
    yield (
        f"AUC with equal weights: {estimate_text(evaluation.equal_weights_auc)}; change by the bundle's weights: "
        f"{estimate_text(evaluation.gain_over_equal_weights)}. Threshold {metadata.threshold:.4g} on the "
        "score, fixed before the evaluation. Figures are over studies, intervals over patients, or over groups where "
        "patients share one."
    )
    yield looks_text(evaluation.looks)
    if rows := subgroup_rows(evaluation):
        yield _table(("Subgroup", "Studies", "With the event", "AUC (95 % interval)"), rows)
    if evaluation.repeatability:
        heads = f"SD of the scores of one head / largest difference, {evaluation.repeatability.heads} heads of the test"
        yield _table((heads, *tuple(Contrast), "Ensemble"), repeatability_rows(evaluation.repeatability))


def _evidence(metadata: Metadata) -> str:
    evidence = metadata.evidence
    if evidence is None or evidence.auc is None:
        return ""
    bounds = evidence.auc_interval
    interval = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else " (interval not stated)"
    return f" The bundle states an AUC of {evidence.auc:.3f}{interval} on {evidence.test_patients} test patients."


def _rows(metadata: Metadata, training: TrainingRecord, evaluation: Evaluation | None) -> Iterator[Row]:
    yield "1", "Title", f"{metadata.name} {metadata.version}: prediction by an ensemble of 3-D convolutional networks"
    yield "3a", "Healthcare context", "Epilepsy in tuberous sclerosis complex; method of patent CN114170162A"
    yield "3b", "Target population and intended use", metadata.intended_use
    yield "3c", "Known health inequalities", NOT_STATED
    yield "4", "Objectives", "Development" if evaluation is None else "Development and evaluation"
    yield from participants(training)
    yield "8a", "Outcome", OUTCOME
    yield "8b, 8c", "Who assessed the outcome; blinding", NOT_STATED
    yield from methods(metadata, training)
    yield from _results(metadata, training, evaluation)


def _results(metadata: Metadata, training: TrainingRecord, evaluation: Evaluation | None) -> Iterator[Row]:
    tested = "not available" if evaluation is None else "see Performance"
    made = training.synthetic is not None
    yield (
        "12e",
        "Performance measures",
        "; ".join(MEASURES.values()) + "; all with 95 % intervals by patient, or by group",
    )
    yield "14", "Fairness", _fairness(evaluation)
    yield "15", "Output", f"Score in [0, 1]; positive at or above {metadata.threshold:.4g}{_probability(metadata)}"
    yield "16", "Differences between training and evaluation data", _difference(evaluation)
    yield "17", "Ethical approval", "Not applicable: made data" if made else NOT_STATED
    yield "18a-18f", "Funding, conflicts, protocol, registration, data and code sharing", NOT_STATED
    yield "19", "Patient and public involvement", NOT_STATED
    yield "22", "Specification of the model", "Weights and pipeline settings are in this bundle, under SHA256SUMS"
    yield "23a", "Performance with intervals", tested
    yield "23b", "Heterogeneity between sites", "Not examined"
    yield "25, 26", "Interpretation and limitations", _limitations(metadata, evaluation)
    yield "27a", "Poor or missing input", f"The node withholds the score unless it can use {_needed(metadata)}"
    yield "27b, 27c", "Use and next steps", "A physician reads the score beside clinical findings; external validation"
    yield "CLAIM", "Robustness, failure analysis", _repeatability(metadata)
    yield "CLAIM", "Explainability", "Saliency maps (Grad-CAM) of each sequence on demand; not validated"
    yield "CLAIM", "External test", _difference(evaluation)


def _fairness(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.subgroups:
        return "Not examined: no subgroup was analysed"
    return (
        f"AUC by subgroup under Performance ({', '.join(evaluation.subgroups)}); of sex and ethnicity nothing is known"
    )


def _repeatability(metadata: Metadata) -> str:
    found = metadata.repeatability
    if found is None:
        return "Not examined"
    sequences = ", ".join(f"{contrast} {sd:.3f}" for contrast, sd in found.sequences.items())
    return (
        f"Repeatability: SD {found.sd:.3f} of scores of one head ({sequences}), largest difference "
        f"{found.largest:.3f}, over shifts of the grid, other masks, thicker slices and noise; where the images stay "
        f"as they are, mean SD {found.place_sd:.3f}, worst head {found.place_worst_sd:.3f}; {found.heads} heads of the "
        f"test. Each score is the mean over {max(1, len(metadata.averaged_shifts))} shifts of the grid. Failures not "
        "examined"
    )


def _probability(metadata: Metadata) -> str:
    found = metadata.calibration
    if found is None:
        return "; not calibrated, hence no probability"
    figures = f"slope {found.slope:.3g}, intercept {found.intercept:.3g}"
    return f"; {found.method} calibration fitted on {found.patients} patients ({figures})"


def _difference(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "not available"
    if evaluation.basis is Basis.HELD_OUT:
        return "None by design: held-out patients of the same cohort; no external data"
    return "Another cohort than that of the training; differences not examined"


def _needed(metadata: Metadata) -> str:
    pairs = [" + ".join(mode.weights) for mode in metadata.two_sequences]
    return ", or ".join([" + ".join(tuple(Contrast)), *pairs])


def _limitations(metadata: Metadata, evaluation: Evaluation | None) -> str:
    said = [] if evaluation is None else [caution.sentence.rstrip(".") for caution in cautions(evaluation)]
    said.append("The score does not replace clinical predictors; whether it adds to them was not examined")
    if metadata.range.age_years is None:
        said.append("no age range is enforced")
    if metadata.range.features is None:
        said.append("studies unlike those of the cohort are not recognised by their features")
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in said)


def _place(row: Row) -> int:
    """Return the place of a row: items in their order, then what CLAIM alone asks."""
    first = re.match(r"\d+", row[0])
    return int(first[0]) if first else _CLAIM_ALONE


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return text that stays one cell and one line of Markdown."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
