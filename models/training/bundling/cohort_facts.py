"""What a cohort consists of, in counts, for the training record and the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from models.training.cohort import Case, Cohort

CRITERIA: Final = ("tsc", "epilepsy", "resected", "mri_after_asm", "follow_up_months")
"""Columns of the inclusion criteria of CN114170162A [0056] that a cohort may have checked."""
_ANSWERS: Final = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True, slots=True)
class PartFacts:
    """Counts of some cases.

    Attributes
    ----------
    studies, patients, groups
        How many.
    events, patients_with_event
        Studies and patients with label 1.
    age_years
        Youngest, median and oldest; None where no age is known.
    age_unknown
        Studies without an age.
    field_strength_t, contrast_agent
        Studies by field strength in tesla, and by whether an agent was given before the T1W series.
    """

    studies: int
    patients: int
    events: int
    patients_with_event: int
    groups: int
    age_years: tuple[float, float, float] | None
    age_unknown: int
    field_strength_t: dict[str, int]
    contrast_agent: dict[str, int]


@dataclass(frozen=True, slots=True)
class CohortFacts:
    """Counts of a cohort and of its two parts; they name no patient and no case.

    Attributes
    ----------
    synthetic, software, brain_weights
        As `models.training.cohort.CohortDescription` has them.
    excluded
        Studies by the code of the reason for which they are left out.
    criteria, criteria_not_checked
        Of inclusion, by whether the cohort has checked them.
    development, test
        Of the cases that trained or chose, and of those set aside.
    """

    synthetic: str | None
    software: str
    brain_weights: dict[str, str]
    excluded: dict[str, int]
    criteria: tuple[str, ...]
    criteria_not_checked: tuple[str, ...]
    development: PartFacts
    test: PartFacts


def cohort_facts(cohort: Cohort, development: Sequence[Case], test: Sequence[Case]) -> CohortFacts:
    """Return counts of a cohort and of its two parts.

    Parameters
    ----------
    cohort
        As it was built; left-out studies are counted by reason.
    development, test
        Included cases of it.
    """
    description = cohort.description
    return CohortFacts(
        synthetic=description.synthetic,
        software=description.software,
        brain_weights=description.brain_weights,
        excluded=dict(sorted(Counter(case.status for case in cohort.cases if not case.included).items())),
        criteria=description.criteria,
        criteria_not_checked=tuple(name for name in CRITERIA if name not in description.criteria),
        development=part_facts(development),
        test=part_facts(test),
    )


def part_facts(cases: Sequence[Case]) -> PartFacts:
    """Return counts of some cases.

    Parameters
    ----------
    cases
        Included in a cohort; none is allowed.
    """
    ages = [case.age_years for case in cases if case.age_years is not None]
    fields = Counter("unknown" if case.field_strength_t is None else f"{case.field_strength_t:g}" for case in cases)
    return PartFacts(
        studies=len(cases),
        patients=len({case.patient for case in cases}),
        events=sum(case.label == 1 for case in cases),
        patients_with_event=len({case.patient for case in cases if case.label == 1}),
        groups=len({case.group or case.patient for case in cases}),
        age_years=(round(min(ages), 2), round(median(ages), 2), round(max(ages), 2)) if ages else None,
        age_unknown=len(cases) - len(ages),
        field_strength_t=dict(sorted(fields.items())),
        contrast_agent=dict(sorted(Counter(_ANSWERS[case.contrast_agent] for case in cases).items())),
    )
