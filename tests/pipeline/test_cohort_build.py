"""Labelled studies become the very tensors that the node would read, each line once, or a reason why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.brain_extractor import BrainExtractor
from models.brain_weights import EMBEDDED, open_brain_weights
from models.bundle import SHIPPED, ModelError, open_bundle
from models.contrast import Contrast
from models.efficientnet3d import efficientnet3d_b0
from models.training.cohort import Case, Cohort, case_name, open_cohort, tensor_file
from models.wae_net import WaeNet
from pipeline.cohort.build import FULL, PERCENTILES, SMALL, build_cohort, without_copies
from pipeline.cohort.labels import LabelledStudy, read_labels
from pipeline.cohort.record import Record
from pipeline.select import SiteRules, select_study
from pipeline.study import Models, run_study
from tests.support.bundles import change_metadata
from tests.support.services import SEEDED

CPU = torch.device("cpu")
STATEMENT = "made heads; labels mean nothing"


# --- labels.csv -------------------------------------------------------------------------------------------------------


def table(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    file = folder / "labels.csv"
    file.write_text("\n".join(lines) + "\n", encoding)
    return file


def test_a_full_table(tmp_path: Path):
    file = table(
        tmp_path,
        "patient,label,study,group,age_years,tsc,epilepsy,resected,mri_after_asm,follow_up_months",
        'P1, 1 ,"a, b/",site 1,3.5,yes,Yes,no,NO,12',
        "",
        "P1,1,c,,,yes,yes,0,no,24.5",
        "P2,0,/elsewhere/d,,,1,yes,no,no,12",
        encoding="utf-8-sig",
    )
    labels = read_labels(file)
    assert labels.criteria == ("tsc", "epilepsy", "resected", "mri_after_asm", "follow_up_months")
    assert labels.synthetic is None
    first, second, third = labels.studies
    assert (first.patient, first.label, first.group, first.age_years) == ("P1", 1, "site 1", 3.5)
    assert (first.study, first.folder.resolve()) == ("a, b", tmp_path / "a, b")
    assert (second.line, second.group, second.age_years) == (4, "P1", None)
    assert third.folder == Path("/elsewhere/d")
    assert {study.excluded for study in labels.studies} == {None}


@pytest.mark.parametrize(
    ("columns", "cells", "code"),
    [
        ("label", "", "excluded_label"),
        ("label,tsc", "1,no", "excluded_tsc"),
        ("label,epilepsy", "1,no", "excluded_epilepsy"),
        ("label,resected", "0,yes", "excluded_resected"),
        ("label,mri_after_asm", "0,yes", "excluded_medication"),
        ("label,follow_up_months", "0,11.9", "excluded_follow_up"),
        ("label,resected", "1,", "excluded_unknown"),
        ("label,follow_up_months", "1,", "excluded_unknown"),
        ("label,resected,tsc", ",yes,no", "excluded_tsc"),
    ],
)
def test_a_criterion_that_is_not_met_or_not_known(tmp_path: Path, columns: str, cells: str, code: str):
    (study,) = read_labels(table(tmp_path, f"patient,study,{columns}", f"P1,a,{cells}")).studies
    assert study.excluded
    assert study.excluded[0] == code


def test_an_event_before_the_year_is_over_is_the_outcome(tmp_path: Path):
    lines = ["patient,study,label,follow_up_months", "P1,a,1,3", "P2,b,0,3", "P3,c,0,12"]
    excluded = [study.excluded and study.excluded[0] for study in read_labels(table(tmp_path, *lines)).studies]
    assert excluded == [None, "excluded_follow_up", None]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["patient;study;label", "P1;a;1"], "line 1: no column patient or study or label"),
        (["patient,study,label,age", "P1,a,1,3"], "line 1: unknown columns 'age'"),
        (["patient,study,label,label", "P1,a,1,1"], "line 1: a column stands twice"),
        (["patient,study,label"], "line 1: there are no studies"),
        (["patient,study,label", "P1,a"], "line 2: 2 cells where the header has 3"),
        (["patient,study,label", "P1,a,1", "P2,b,2"], "line 3: label is neither"),
        (["patient,study,label", "P1,a,yes"], "line 2: label is neither"),
        (["patient,study,label", ",a,1"], "line 2: patient is empty"),
        (["patient,study,label", "P1,,1"], "line 2: study is empty"),
        (["patient,study,label", '"P\n1",a,1'], "line 3: patient is empty or of more"),
        (["patient,study,label", "P1,a,1", "P2,b,0", "P3,./x/../a,0"], "line 4: the study of line 2 again"),
        (["patient,study,label", "P1,a,1", "P2,b,0", "P1,c,0"], "line 4: another label than line 2"),
        (["patient,study,label,resected", "P1,a,1,maybe"], "line 2: resected is neither yes nor no"),
        (["patient,study,label,tsc,resected", "P1,a,1,no,maybe"], "line 2: resected is neither yes nor no"),
        (['patient,study,label,age_years', 'P1,a,1,"3,5"'], "line 2: age_years is no number"),
        (["patient,study,label,age_years", "P1,a,1,-1"], "line 2: age_years is no number"),
        (["patient,study,label,age_years", "P1,a,1,nan"], "line 2: age_years is no number"),
        (["patient,study,label,follow_up_months", "P1,a,1,inf"], "line 2: follow_up_months is no number"),
        (["patient,study,label", 'P1,"a,1'], "it is no table in UTF-8"),
    ],
)  # fmt: skip
def test_a_table_that_is_refused(tmp_path: Path, lines: list[str], said: str):
    with pytest.raises(ModelError) as caught:
        read_labels(table(tmp_path, *lines))
    assert caught.value.code == "labels_invalid"
    assert said in str(caught.value)
    assert "P1" not in str(caught.value), "a pseudonym has no place in an error"


def test_no_table(tmp_path: Path):
    (tmp_path / "latin.csv").write_bytes("patient,study,label\nMüller,a,1\n".encode("latin-1"))
    for file, code in ((tmp_path / "none.csv", "labels_missing"), (tmp_path / "latin.csv", "labels_invalid")):
        with pytest.raises(ModelError) as caught:
            read_labels(file)
        assert caught.value.code == code


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"statement": " "}', '{"statement": 1}'])
def test_made_studies_say_so_or_are_refused(tmp_path: Path, content: str):
    file = table(tmp_path, "patient,study,label", "P1,a,1")
    (tmp_path / "synthetic.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        read_labels(file)
    assert caught.value.code == "synthetic_invalid"
    (tmp_path / "synthetic.json").write_text(json.dumps({"statement": STATEMENT, "seed": 1}))
    assert read_labels(file).synthetic == STATEMENT


# --- the cohort -------------------------------------------------------------------------------------------------------


class NoExtractor(BrainExtractor):
    """Weights and device of an extractor; a study that is read although it need not be makes it fail."""

    def __init__(self, extractor: BrainExtractor) -> None:
        self.weights, self.device = extractor.weights, extractor.device

    def mask(self, *_: Any) -> np.ndarray:
        raise AssertionError("a study is read")


@dataclass(frozen=True, slots=True)
class Built:
    """A cohort of a whole study, one with a missing series, one without files and one that a criterion excludes."""

    labels: Path
    cohort: Cohort
    extractor: BrainExtractor
    told: tuple[str, ...]

    def again(self, extractor: Any = None, **changes: Any) -> Cohort:
        settings: dict[str, Any] = {"extractor": extractor or NoExtractor(self.extractor), "grid": SMALL} | changes
        return build_cohort(self.labels, settings.pop("out", self.cohort.folder), **settings)


@pytest.fixture(scope="module")
def extractor() -> BrainExtractor:
    return BrainExtractor(open_brain_weights("embedded", EMBEDDED), CPU)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, quick_study: Any, extractor: BrainExtractor) -> Built:
    folder = tmp_path_factory.mktemp("sent") / "sent"
    (folder / "empty").mkdir(parents=True)
    study = Path(quick_study.files[Contrast.T1W][0]).parents[1]
    shutil.copytree(study, folder / "whole")
    shutil.copytree(study, folder / "lacking", ignore=shutil.ignore_patterns("FLAIR"))
    labels = table(
        folder,
        "patient,study,label,resected,age_years",
        "P1,whole,1,no,",
        "P2,lacking,0,no,4",
        "P3,empty,0,no,",
        "P4,whole/T1W,1,yes,",
    )
    (folder / "synthetic.json").write_text(json.dumps({"statement": STATEMENT}))
    out = tmp_path_factory.mktemp("cohorts") / "cohort"
    told: list[str] = []
    cohort = build_cohort(labels, out, extractor=extractor, grid=SMALL, tell=told.append)
    return Built(labels, cohort, extractor, tuple(told))


def test_every_line_is_in_the_cohort_with_its_reason(built: Built):
    found = {case.patient: (case.status, case.label) for case in built.cohort.cases}
    assert found == {
        "P1": ("included", 1),
        "P2": ("missing_role", 0),
        "P3": ("study_missing", 0),
        "P4": ("excluded_resected", 1),
    }
    whole, lacking, _, resected = built.cohort.cases
    assert "FLAIR" in lacking.sentence
    assert "operated" in resected.sentence
    assert whole.sentence == ""
    assert (whole.field_strength_t, whole.contrast_agent) == (3.0, False)
    assert whole.age_years == pytest.approx(26.0, abs=0.1), "born 1999-01-02, scanned 2025-01-01"
    assert lacking.age_years == 4


def test_the_cohort_says_how_it_was_made(built: Built, extractor: BrainExtractor):
    description = built.cohort.description
    assert (description.grid, description.intensity, description.synthetic) == (SMALL, PERCENTILES, STATEMENT)
    assert description.brain_weights == {"name": "embedded", "digest": extractor.weights.digest}
    assert description.criteria == ("resected",)
    assert built.told[0] == "0 of 3 studies read, 1 of 4 left out"
    assert built.told[-1] == "3 of 3 studies read, 3 of 4 left out"


def test_nothing_but_the_cohort_is_left_and_no_name_in_it(built: Built):
    folder = built.cohort.folder
    case = case_name("P1", "whole")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    records = {f"records/{case_name(*of)}.json" for of in (("P1", "whole"), ("P2", "lacking"))}
    images = {f"images/{case}/{what}_{role}.nrrd" for what in ("volume", "mask") for role in Contrast}
    assert names == {"cohort.json", "cases.csv", f"tensors/{case}.safetensors", *records, *images}
    for file in (folder / name for name in names):
        assert not any(value.encode() in file.read_bytes() for value in SEEDED.values()), file


def test_training_and_inference_read_the_same_tensors(built: Built, quick_study: Any, tmp_path: Path):
    seen: dict[str, np.ndarray] = {}

    class Recording(WaeNet):
        def read(self, sequence: Any, tensor_zyx: np.ndarray) -> Any:
            seen[sequence] = tensor_zyx.copy()
            return super().read(sequence, tensor_zyx)

    models = Models(Recording(open_bundle(small_bundle(tmp_path / "bundle")), CPU), built.extractor)
    result = run_study(select_study(quick_study.all_files), tmp_path / "sent", models)
    assert result.finding is not None
    (case,) = built.cohort.included
    assert seen.keys() == set(Contrast)
    for sequence in Contrast:
        learnt = built.cohort.tensor(case, sequence)
        assert learnt.dtype == seen[sequence].dtype == np.float32
        assert learnt.shape == (64, 128, 128)
        np.testing.assert_array_equal(learnt.view(np.uint32), seen[sequence].view(np.uint32), sequence)
        assert learnt.std() > 0.1
        assert 0 < result.finding.scores[sequence] < 1


def small_bundle(folder: Path) -> Path:
    """Write and return a bundle of random networks on the small grid."""
    shutil.copytree(SHIPPED / "untrained-demo", folder)
    (folder / "models").mkdir()
    for seed, sequence in enumerate(tuple(Contrast)):
        save_file(efficientnet3d_b0(2, seed=seed).state_dict(), folder / "models" / f"{sequence}.safetensors")
    (folder / "configs" / "inference.json").write_text("{}")
    files = {s: [f"models/{s}.safetensors"] for s in Contrast}
    change_metadata(folder, seed=None, grid=SMALL.model_dump(), network_files=files)
    return folder


def test_what_is_done_is_not_done_again(built: Built):
    before = tensor_file(built.cohort.folder, built.cohort.included[0].case).stat()
    again = built.again()
    assert again.cases == built.cohort.cases
    assert again.digest == built.cohort.digest
    after = tensor_file(built.cohort.folder, built.cohort.included[0].case).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_what_a_killed_build_had_begun_is_removed(built: Built, tmp_path: Path):
    out = shutil.copytree(built.cohort.folder, tmp_path / "cohort")
    left = [tensor_file(out, "ab").with_name("ab.safetensors.1-2.part"), out / "cases.csv.1-2.part"]
    for file in left:
        file.write_bytes(b"cut")
    built.again(out=out)
    assert not any(file.exists() for file in left)


@pytest.mark.parametrize("lost", ["tensors", "record", "cut"])
def test_what_is_lost_is_done_again(built: Built, tmp_path: Path, lost: str):
    out = shutil.copytree(built.cohort.folder, tmp_path / "cohort")
    case = built.cohort.included[0].case
    file = out / "records" / f"{case}.json" if lost == "record" else tensor_file(out, case)
    if lost == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(AssertionError, match="a study is read"):
        built.again(out=out)
    with pytest.raises(ModelError) as caught:
        open_cohort(out)
    assert caught.value.code == "cohort_missing", "what is not finished is no cohort"


def test_a_study_that_changed_is_done_again(built: Built, tmp_path: Path):
    out = shutil.copytree(built.cohort.folder, tmp_path / "cohort")
    studies = shutil.copytree(built.labels.parent, tmp_path / "sent")
    again = replace(built, labels=studies / "labels.csv").again
    assert again(out=out).cases == built.cohort.cases
    file = next((studies / "whole" / "T2W").iterdir())
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(AssertionError, match="a study is read"):
        again(out=out)


def test_a_study_is_judged_anew_by_other_rules(built: Built, tmp_path: Path):
    out = shutil.copytree(built.cohort.folder, tmp_path / "cohort")
    cohort = built.again(out=out, rules=SiteRules(never=("flair",)))
    assert [case.status for case in cohort.cases[:2]] == ["missing_role", "missing_role"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": FULL}, "grid"),
        ({"intensity": PERCENTILES.model_copy(update={"clip_percentiles": (1.0, 99.0)})}, "intensity"),
    ],
)
def test_a_cohort_of_another_making_is_left_alone(built: Built, changes: dict[str, Any], said: str):
    with pytest.raises(ModelError, match=said) as caught:
        built.again(**changes)
    assert caught.value.code == "cohort_differs"
    assert open_cohort(built.cohort.folder).digest == built.cohort.digest


def test_made_studies_cannot_pass_for_scanned_ones(built: Built, tmp_path: Path):
    labels = table(tmp_path, "patient,study,label", f"P1,{built.labels.parent / 'whole'},1")
    with pytest.raises(ModelError, match="synthetic") as caught:
        build_cohort(labels, built.cohort.folder, extractor=NoExtractor(built.extractor), grid=SMALL)
    assert caught.value.code == "cohort_differs"
    cohort = build_cohort(labels, tmp_path / "cohort", extractor=NoExtractor(built.extractor), grid=SMALL)
    assert [case.status for case in cohort.cases] == ["study_synthetic"]


def test_a_folder_of_something_else_is_left_alone(built: Built, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ModelError) as caught:
            built.again(out=out)
        assert caught.value.code == "cohort_folder_taken"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_processes_judge_the_same(built: Built, tmp_path: Path):
    labels = table(tmp_path, "patient,study,label", f"P2,{built.labels.parent / 'lacking'},0")
    shutil.copy(built.labels.parent / "synthetic.json", tmp_path)
    told: list[str] = []
    cohort = build_cohort(
        labels, tmp_path / "cohort", extractor=built.extractor, grid=SMALL, workers=2, tell=told.append
    )
    assert [(c.status, c.sentence) for c in cohort.cases] == [(c.status, c.sentence) for c in built.cohort.cases[1:2]]
    assert told[-1] == "1 of 1 studies read, 1 of 1 left out"


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Callable[..., list[tuple[str, str]]]:
    """Return a function from patients and contents to the statuses that they get."""

    def statuses(*of: tuple[str, str]) -> list[tuple[str, str]]:
        studies = [
            LabelledStudy(number + 2, patient, str(number), Path(), 1, patient, None, None)
            for number, (patient, _) in enumerate(of)
        ]
        cases = [Case(case_name(s.patient, s.study), s.patient, 1, "included") for s in studies]
        records = {case.case: Record("", "included", content=of[n][1]) for n, case in enumerate(cases)}
        return [(case.status, case.sentence) for case in without_copies(cases, studies, records)]

    return statuses


def test_of_one_patients_copies_the_first_stays(lines: Callable[..., list[tuple[str, str]]]):
    found = lines(("P1", "a"), ("P2", "b"), ("P1", "a"), ("P1", "c"))
    assert [status for status, _ in found] == ["included", "included", "excluded_copy", "included"]
    assert "Lines 2 and 4 have the same images" in found[2][1]


def test_of_copies_under_two_patients_none_stays(lines: Callable[..., list[tuple[str, str]]]):
    found = lines(("P1", "a"), ("P2", "b"), ("P3", "a"))
    assert [status for status, _ in found] == ["excluded_copy", "included", "excluded_copy"]
