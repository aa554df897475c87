"""The cohort folder: what is written comes back, and what is damaged is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.bundle import ModelError
from models.contrast import Contrast
from models.training.cohort import (
    Case,
    Cohort,
    case_name,
    has_tensors,
    open_cohort,
    tensor_file,
    write_cases,
    write_description,
    write_tensors,
)
from tests.support.cohorts import made_cohort


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return made_cohort(tmp_path / "cohort", patients=2, size_xyz=(16, 12, 8))


def read(folder: Path) -> None:
    cohort = open_cohort(folder)
    for case in cohort.included:
        for sequence in Contrast:
            cohort.tensor(case, sequence)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read(folder)
    return caught.value.code


def test_what_is_written_comes_back(cohort: Cohort):
    tensors = {
        s: np.random.default_rng(i).normal(size=(8, 12, 16)).astype(np.float32) for i, s in enumerate(tuple(Contrast))
    }
    case = Case("0123456789ab", 'P, "one"\nline', 1, "included", "", "site", 3.25, 1.5, contrast_agent=False)
    out = Case("ba9876543210", "P2", None, "missing_role", "No series is FLAIR; acquire or send it.", "P2")
    write_tensors(cohort.folder, case.case, tensors)
    write_cases(cohort.folder, [case, out])
    again = open_cohort(cohort.folder)
    assert again.cases == (case, out)
    assert again.included == (case,)
    assert again.description == cohort.description
    for sequence in Contrast:
        np.testing.assert_array_equal(again.tensor(case, sequence), tensors[sequence])


def test_a_case_without_a_group_is_its_patients(cohort: Cohort):
    write_cases(cohort.folder, [replace(cohort.cases[0], group="")])
    assert open_cohort(cohort.folder).cases[0].group == cohort.cases[0].patient


def test_the_digest_names_the_making_and_the_labels(cohort: Cohort):
    first, second = cohort.cases
    digests = {cohort.digest}
    for cases in ([first], [first, replace(second, label=0)], [first, replace(second, patient="P9")]):
        write_cases(cohort.folder, cases)
        digests.add(open_cohort(cohort.folder).digest)
    write_cases(cohort.folder, [first, second])
    write_description(cohort.folder, cohort.description.model_copy(update={"software": "later"}))
    digests.add(open_cohort(cohort.folder).digest)
    assert len(digests) == 5
    write_description(cohort.folder, cohort.description)
    left_out = Case("0" * 12, "P3", 1, "missing_role", "why")
    write_cases(cohort.folder, [first, second, left_out])
    assert open_cohort(cohort.folder).digest == cohort.digest, "a case that is left out changes nothing"


@pytest.mark.parametrize("missing", ["cohort.json", "cases.csv"])
def test_a_folder_that_is_no_cohort(cohort: Cohort, missing: str):
    (cohort.folder / missing).unlink()
    assert refusal(cohort.folder) == "cohort_missing"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("cohort.json", "{"),
        ("cohort.json", "{}"),
        ("cohort.json", '{"surprise": 1}'),
        ("cases.csv", "case,patient\n1,2\n"),
        ("cases.csv", b"\xff\xfe"),
        ("cases.csv", "case,patient,label,status,sentence,group,age_years,field_strength_t,contrast_agent\na,b\n"),
        ("cases.csv", "case,patient,label,status,sentence,group,age_years,field_strength_t,contrast_agent\n"
                      "a,b,,included,,b,,,\n"),
        ("cases.csv", "case,patient,label,status,sentence,group,age_years,field_strength_t,contrast_agent\n"
                      "a,b,1,held,,b,,,maybe\n"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_read(cohort: Cohort, file: str, content: str | bytes):
    (cohort.folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    assert refusal(cohort.folder) == "cohort_damaged"


def test_a_case_that_stands_twice(cohort: Cohort):
    write_cases(cohort.folder, [cohort.cases[0], cohort.cases[0]])
    assert refusal(cohort.folder) == "cohort_damaged"


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "shape", "type", "sequence"])
def test_tensors_that_are_not_what_they_should_be(cohort: Cohort, damage: str):
    from safetensors.numpy import save_file

    file = tensor_file(cohort.folder, cohort.cases[1].case)
    tensors = {s: np.zeros((8, 12, 16), np.float32) for s in Contrast}
    if damage == "missing":
        file.unlink()
    elif damage in ("cut", "empty"):
        content = file.read_bytes()
        file.write_bytes(content[:-4] if damage == "cut" else b"")
    elif damage == "sequence":
        save_file({s: tensors[s] for s in tuple(Contrast)[:2]}, file)
    else:
        changed = np.zeros((8, 12, 17), np.float32) if damage == "shape" else np.zeros((8, 12, 16), np.float64)
        save_file(tensors | {"FLAIR": changed}, file)
    assert refusal(cohort.folder) == "cohort_damaged"
    assert has_tensors(cohort.folder, cohort.cases[0].case)
    assert has_tensors(cohort.folder, cohort.cases[1].case) == (damage in ("shape", "type"))


def test_a_case_needs_all_sequences(cohort: Cohort):
    with pytest.raises(ValueError, match="FLAIR"):
        write_tensors(cohort.folder, "0" * 12, {Contrast.T1W: np.zeros((8, 12, 16), np.float32)})
    assert not tensor_file(cohort.folder, "0" * 12).exists()


def test_case_names_tell_nothing_and_differ():
    names = {case_name(patient, study) for patient in ("P1", "P2", "P") for study in ("a", "b", "1a")}
    assert len(names) == 9
    assert all(len(name) == 12 and set(name) <= set("0123456789abcdef") for name in names)
