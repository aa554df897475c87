"""What a cohort consists of, in counts, for the training record and the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from models.training.cohort import Case, Cohort

CRITERIA = ("tsc", "epilepsy", "resected", "mri_after_asm", "follow_up_months")
"""Columns of the inclusion criteria of CN114170162A [0056] that a cohort may have checked."""
_ANSWERS = {True: "yes", False: "no", None: "unknown"}


def cohort_facts(cohort: Cohort, development: Sequence[Case], test: Sequence[Case]) -> dict[str, Any]:
    """Return counts of a cohort and of its two parts as JSON values; they name no patient and no case.

    Returns
    -------
    dict
        ``synthetic``, ``software`` and ``brain_weights`` of the cohort; ``excluded``, studies by reason;
        ``criteria`` of inclusion that were checked, and ``criteria_not_checked``;
        ``development`` and ``test``, see `part_facts`.
    """
    return {
        "synthetic": cohort.description.synthetic,
        "software": cohort.description.software,
        "brain_weights": cohort.description.brain_weights,
        "excluded": dict(sorted(Counter(case.status for case in cohort.cases if not case.included).items())),
        "criteria": list(cohort.description.criteria),
        "criteria_not_checked": [name for name in CRITERIA if name not in cohort.description.criteria],
        "development": part_facts(development),
        "test": part_facts(test),
    }


def part_facts(cases: Sequence[Case]) -> dict[str, Any]:
    """Return studies, patients, events, ages (youngest, median, oldest), fields and contrast of cases."""
    ages = [case.age_years for case in cases if case.age_years is not None]
    fields = Counter("unknown" if case.field_strength_t is None else f"{case.field_strength_t:g}" for case in cases)
    return {
        "studies": len(cases),
        "patients": len({case.patient for case in cases}),
        "events": sum(case.label == 1 for case in cases),
        "patients_with_event": len({case.patient for case in cases if case.label == 1}),
        "groups": len({case.group or case.patient for case in cases}),
        "age_years": [round(f(ages), 2) for f in (min, median, max)] if ages else None,
        "age_unknown": len(cases) - len(ages),
        "field_strength_t": dict(sorted(fields.items())),
        "contrast_agent": dict(sorted(Counter(_ANSWERS[case.contrast_agent] for case in cases).items())),
    }
