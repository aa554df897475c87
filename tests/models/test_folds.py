"""No patient and no group on two sides, both outcomes on each, the same split for the same seed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import ModelError
from models.training.cohort import INCLUDED, Case
from models.training.fit.folds import split


def made(patients: int, *, studies: int = 1, group_of: int = 1) -> list[Case]:
    return [
        Case(f"{n * studies + s:012x}", f"P{n}", n // group_of % 2, INCLUDED, group=f"G{n // group_of}")
        for n in range(patients)
        for s in range(studies)
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2]), st.sampled_from([1, 2, 3]), st.sampled_from([2, 5]))
def test_every_case_once_and_nothing_shared(seed: int, studies: int, group_of: int, folds: int):
    cases = made(72, studies=studies, group_of=group_of)
    parts = split(cases, test_share=0.2, folds=folds, seed=seed)
    sides = [parts.test, *parts.folds]
    assert sorted(case.case for side in sides for case in side) == sorted(case.case for case in cases)
    for key in ("patient", "group"):
        seen = [{getattr(case, key) for case in side} for side in sides]
        assert sum(len(names) for names in seen) == len(set.union(*seen))
    assert all({case.label for case in side} == {0, 1} for side in sides)
    assert 0.1 <= len(parts.test) / len(cases) <= 0.3
    assert {case.case for case in parts.training(0)} == {case.case for fold in parts.folds[1:] for case in fold}


def test_a_patient_links_the_groups_it_stands_in():
    cases = [*made(40), Case("f" * 12, "P3", 1, INCLUDED, group="G20"), Case("e" * 12, "P20", 1, INCLUDED, group="G8")]
    for seed in range(10):
        parts = split(cases, test_share=0.25, folds=3, seed=seed)
        for side in (parts.test, *parts.folds):
            names = {case.patient for case in side}
            assert len(names & {"P3", "P20", "P8"}) in (0, 3)


def test_the_share_of_events_is_kept():
    cases = [Case(f"{n:012x}", f"P{n}", int(n < 30), INCLUDED) for n in range(100)]
    parts = split(cases, test_share=0.2, folds=5, seed=1)
    assert [sum(case.label for case in side) for side in (parts.test, *parts.folds)] == [6, 5, 5, 5, 5, 4]


def test_the_order_of_the_cases_does_not_matter_and_the_seed_does():
    cases = made(40)
    mixed = random.Random(1).sample(cases, len(cases))
    first = split(cases, test_share=0.2, folds=5, seed=1)
    assert split(mixed, test_share=0.2, folds=5, seed=1) == first
    assert split(cases, test_share=0.2, folds=5, seed=2) != first


def test_excluded_and_unlabelled_cases_take_no_part():
    cases = [*made(20), Case("f" * 12, "X", 1, "series_missing"), Case("e" * 12, "Y", None, INCLUDED)]
    parts = split(cases, test_share=0.5, folds=2, seed=0)
    assert {case.patient for case in (*parts.test, *parts.development)} == {f"P{n}" for n in range(20)}


@pytest.mark.parametrize(
    ("cases", "code"),
    [
        ([], "cohort_one_class"),
        ([case for case in made(40) if case.label], "cohort_one_class"),
        (made(8), "cohort_too_small"),
        (made(60, group_of=20), "cohort_too_small"),
    ],
)
def test_a_cohort_that_does_not_suffice_is_refused(cases: list[Case], code: str):
    with pytest.raises(ModelError) as refused:
        split(cases, test_share=0.2, folds=5, seed=0)
    assert refused.value.code == code
