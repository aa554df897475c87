"""What a reader must know before the figures of an evaluation or of a model card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.figures import BASES
from models.training.evaluation.held_out import Basis
from models.training.evaluation.intervals import BLOCKS_MIN

SMALLER_CLASS_MIN: Final = 100
"""Events, and studies without: fewer do not validate a model (Vergouwe et al., J Clin Epidemiol 2005;58:475)."""


class CautionKind(StrEnum):
    """Why a reader is cautioned."""

    SYNTHETIC = "synthetic"
    OPTIMISTIC = "optimistic"
    DEVELOPMENT_UNKNOWN = "development_unknown"
    OTHER_BRAIN_WEIGHTS = "other_brain_weights"
    FEW_STUDIES = "few_studies"
    GROUPS = "groups"
    CONTROL_RUN = "control_run"


@dataclass(frozen=True, slots=True)
class Caution:
    """A caution and the sentence that says it."""

    kind: CautionKind
    sentence: str


def cautions(evaluation: Evaluation) -> tuple[Caution, ...]:
    """Return what a reader must know before the figures of an evaluation, the gravest first.

    Parameters
    ----------
    evaluation
        Of a bundle on labelled studies.
    """
    return tuple(_found(evaluation))


def synthetic_caution(statement: str) -> Caution:
    """Return the caution about made data.

    Parameters
    ----------
    statement
        How the labels came about.
    """
    return Caution(CautionKind.SYNTHETIC, f"SYNTHETIC DATA, NO EVIDENCE ABOUT PATIENTS: {statement}")


def _found(evaluation: Evaluation) -> Iterator[Caution]:
    if evaluation.synthetic is not None:
        yield synthetic_caution(evaluation.synthetic)
    if evaluation.weights_chosen_on == "test":
        yield Caution(
            CautionKind.OPTIMISTIC,
            "OPTIMISTIC BIAS: the weights of the ensemble were chosen on the test patients of its training, as the "
            "patent does it; figures on those patients are too good.",
        )
    if evaluation.basis is Basis.DEVELOPMENT_UNKNOWN:
        yield Caution(CautionKind.DEVELOPMENT_UNKNOWN, BASES[evaluation.basis])
    if evaluation.other_brain_weights:
        yield Caution(
            CautionKind.OTHER_BRAIN_WEIGHTS,
            "The brain masks of these studies were drawn with other weights than those of the bundle's training; the "
            "figures of a node that uses the latter may differ.",
        )
    if evaluation.groups < evaluation.ensemble.patients:
        yield Caution(CautionKind.GROUPS, _groups_sentence(evaluation.groups, evaluation.ensemble.patients))
    smaller = min(evaluation.ensemble.events, evaluation.ensemble.studies - evaluation.ensemble.events)
    if smaller < SMALLER_CLASS_MIN:
        yield Caution(
            CautionKind.FEW_STUDIES,
            f"The smaller class has {smaller} studies; below about {SMALLER_CLASS_MIN} the figures, above all those of "
            "calibration, are uncertain: read the intervals.",
        )


def _groups_sentence(groups: int, patients: int) -> str:
    few = (
        f" With fewer than {BLOCKS_MIN} groups only those of AUC and shares are determined, and they are wide."
        if groups < BLOCKS_MIN
        else ""
    )
    return (
        f"The {patients} patients are of {groups} groups, within which they are alike: intervals take each group as a "
        f"whole and hold for other groups of this kind.{few}"
    )
