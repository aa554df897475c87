"""Which cases of a cohort a bundle may be tested on: never those of a patient it was developed on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from models.bundle import Bundle, ModelError
from models.training.cohort import Case, Cohort

TRAINING_RECORD = "configs/training.json"
Basis = Literal["held_out", "not_in_development", "development_unknown"]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Cases to test on.

    Attributes
    ----------
    cases
        Labelled and included.
    basis
        ``held_out``: set aside before training on this cohort; ``not_in_development``: no patient of theirs took
        part in training; ``development_unknown``: the bundle does not say whom it was trained on.
    left_out
        Cases that were asked for and refused because their patient or group took part in training.
    """

    cases: tuple[Case, ...]
    basis: Basis
    left_out: int


def training_record(bundle: Bundle) -> dict[str, Any]:
    """Return what a bundle says of its training; empty if it says nothing.

    Raises
    ------
    ModelError
        ``bundle_invalid`` if the record cannot be read.
    """
    file = bundle.folder / TRAINING_RECORD
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text("utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ModelError("bundle_invalid", f"{TRAINING_RECORD} of bundle '{bundle.folder.name}' cannot be read.")
    return record


def development_record(development: Iterable[Case]) -> dict[str, list[str]]:
    """Return the entries of the training record by which patients are known again in another cohort.

    Pseudonyms do not travel in a bundle; their digests do.
    """
    cases = tuple(development)
    return {
        "development_cases": sorted(case.case for case in cases),
        "development_patients": sorted({_digest(case.patient) for case in cases}),
        "development_groups": sorted({_digest(case.group or case.patient) for case in cases}),
    }


def choose_evaluation_set(bundle: Bundle, cohort: Cohort, cases: Iterable[Case] | None = None) -> EvaluationSet:
    """Return the cases of a cohort that a bundle may be tested on.

    Parameters
    ----------
    bundle, cohort
        The bundle's training record says which patients are barred.
    cases
        Choose among these; None means the held-out cases of the cohort that trained the bundle, and all of another.

    Raises
    ------
    ModelError
        ``evaluation_no_cases`` if none is left, ``evaluation_one_class`` if all have the same label.
    """
    record = training_record(bundle)
    labelled = [c for c in (cohort.included if cases is None else cases) if c.included and c.label is not None]
    allowed = tuple(case for case in labelled if not _took_part(case, record))
    held_out = set(record.get("test_cases", ())) if record.get("cohort_digest") == cohort.digest else set()
    if held_out and cases is None:
        kept = tuple(case for case in allowed if case.case in held_out)
        refused = len(held_out) - len(kept)
    else:
        kept, refused = allowed, len(labelled) - len(allowed)
    _refuse_unfit(kept, refused)
    return EvaluationSet(kept, _basis(bundle, record, held_out, kept), refused)


def _basis(bundle: Bundle, record: dict[str, Any], held_out: set[str], kept: tuple[Case, ...]) -> Basis:
    if held_out and all(case.case in held_out for case in kept):
        return "held_out"
    known = record.get("development_cases") or record.get("development_patients") or bundle.metadata.seed is not None
    return "not_in_development" if known else "development_unknown"


def _took_part(case: Case, record: dict[str, Any]) -> bool:
    return (
        case.case in record.get("development_cases", ())
        or _digest(case.patient) in record.get("development_patients", ())
        or _digest(case.group or case.patient) in record.get("development_groups", ())
    )


def _refuse_unfit(cases: tuple[Case, ...], barred: int) -> None:
    if not cases:
        why = f" ({barred} took part in its training)" if barred else ""
        raise ModelError(
            "evaluation_no_cases", f"No case is left to test the bundle on{why}: give a cohort of other patients."
        )
    if len({case.label for case in cases}) == 1:
        raise ModelError(
            "evaluation_one_class",
            f"All {len(cases)} cases to test on have the same label: give a cohort with both outcomes.",
        )


def _digest(pseudonym: str) -> str:
    return hashlib.sha256(pseudonym.encode()).hexdigest()[:16]
