"""Which cases of a cohort a bundle may be tested on: never those of a patient it was developed on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from models.bundle import TRAINING, Bundle, ModelError
from models.training.cohort import Case, Cohort


class Basis(StrEnum):
    """How the cases of an evaluation stand to those of the training.

    ``held_out``: set aside before training on this cohort; ``not_in_development``: no patient of theirs took part in
    training; ``development_unknown``: the bundle does not say whom it was trained on.
    """

    HELD_OUT = "held_out"
    NOT_IN_DEVELOPMENT = "not_in_development"
    DEVELOPMENT_UNKNOWN = "development_unknown"


_PSEUDONYM_DIGITS: Final = 16
"""Hexadecimal digits of a pseudonym's digest: 64 bits, so that a cohort of thousands holds no two alike."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Cases to test on.

    Attributes
    ----------
    cases
        Labelled and included.
    basis
        How they stand to the cases of the training.
    left_out
        Cases that were asked for and refused because their patient or group took part in training.
    """

    cases: tuple[Case, ...]
    basis: Basis
    left_out: int


class TrainedOn(BaseModel):
    """Whom a bundle was developed and tested on, as its ``configs/training.json`` says; empty where it does not.

    Attributes
    ----------
    cohort_digest, test_cases
        Of the cohort of the training, and of its cases those that were set aside.
    development_cases, development_patients, development_groups
        Names of the cases that took part, and digests of the pseudonyms of their patients and groups.
    development_contents
        Digests of what the networks were shown, by which images are known again under another pseudonym.
    salt
        Goes before a pseudonym into its digest; empty in older records.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cohort_digest: str | None = None
    test_cases: frozenset[str] = frozenset()
    development_cases: frozenset[str] = frozenset()
    development_patients: frozenset[str] = frozenset()
    development_groups: frozenset[str] = frozenset()
    development_contents: frozenset[str] = frozenset()
    salt: str = ""

    def includes(self, case: Case) -> bool:
        """Return whether a case, or another one of its patient or group, took part.

        Parameters
        ----------
        case
            Of any cohort.
        """
        return (
            case.case in self.development_cases
            or case.content in self.development_contents - {""}
            or _digest(self.salt + case.patient) in self.development_patients
            or _digest(self.salt + (case.group or case.patient)) in self.development_groups
        )


def trained_on(bundle: Bundle) -> TrainedOn:
    """Return whom a bundle was developed and tested on.

    Parameters
    ----------
    bundle
        Verified bundle; one without a record of its training says nothing.

    Raises
    ------
    ModelError
        ``bundle_invalid`` if the record cannot be read.
    """
    file = bundle.folder / TRAINING
    if not file.is_file():
        return TrainedOn()
    try:
        return TrainedOn.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ModelError("bundle_invalid", f"{TRAINING} of bundle '{bundle.folder.name}' cannot be read.") from None


def development_record(development: Iterable[Case], salt: str) -> dict[str, str | list[str]]:
    """Return the entries of the training record by which patients are known again in another cohort.

    Pseudonyms do not travel in a bundle; their digests do, salted, since pseudonyms are short and could be tried.

    Parameters
    ----------
    development
        The cases that trained or chose.
    salt
        Of this training; any text.

    Returns
    -------
    dict
        ``salt``, ``development_cases``, ``development_patients``, ``development_groups`` and ``development_contents``,
        sorted, as `TrainedOn` reads them.
    """
    cases = tuple(development)
    return {
        "salt": salt,
        "development_cases": sorted(case.case for case in cases),
        "development_patients": sorted({_digest(salt + case.patient) for case in cases}),
        "development_groups": sorted({_digest(salt + (case.group or case.patient)) for case in cases}),
        "development_contents": sorted({case.content for case in cases} - {""}),
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
    known = trained_on(bundle)
    labelled = [c for c in (cohort.included if cases is None else cases) if c.included and c.label is not None]
    allowed = tuple(case for case in labelled if not known.includes(case))
    held_out = known.test_cases if known.cohort_digest == cohort.digest else frozenset()
    if held_out and cases is None:
        kept = tuple(case for case in allowed if case.case in held_out)
        refused = len(held_out) - len(kept)
    else:
        kept, refused = allowed, len(labelled) - len(allowed)
    _refuse_unfit(kept, refused)
    return EvaluationSet(kept, _basis(bundle, known, held_out, kept), refused)


def _basis(bundle: Bundle, known: TrainedOn, held_out: frozenset[str], kept: tuple[Case, ...]) -> Basis:
    if held_out and all(case.case in held_out for case in kept):
        return Basis.HELD_OUT
    stated = known.development_cases or known.development_patients or bundle.metadata.seed is not None
    return Basis.NOT_IN_DEVELOPMENT if stated else Basis.DEVELOPMENT_UNKNOWN


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
    return hashlib.sha256(pseudonym.encode()).hexdigest()[:_PSEUDONYM_DIGITS]
