"""A bundle is tested on patients it has not seen, and the result says what it is worth."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from safetensors.torch import save_file

from models.bundle import SHIPPED, Bundle, ModelError, open_bundle, write_checksums
from models.calibration import calibrated
from models.contrast import Contrast
from models.efficientnet3d import efficientnet3d_b0
from models.training.cohort import INCLUDED, Case, Cohort
from models.training.evaluation.cautions import CautionKind, cautions
from models.training.evaluation.evaluate import evaluate, judge
from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.figures import estimate_text
from models.training.evaluation.held_out import (
    Basis,
    EvaluationSet,
    TrainedOn,
    choose_evaluation_set,
    development_record,
)
from models.training.evaluation.looks import count_look
from models.training.evaluation.page import evaluation_page
from models.training.evaluation.plots import reliability_plot
from models.training.evaluation.predictions import Predictions
from tests.support.cohorts import made_cohort

PATIENTS = 6


def write_bundle(folder: Path, cohort: Cohort, record: dict[str, object] | None = None, **facts: object) -> Bundle:
    """Write a bundle of random weights, one network for all sequences, on the cohort's grid."""
    for part in ("configs", "docs", "models"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    network = folder / "models" / "all.safetensors"
    if not network.exists():
        save_file(efficientnet3d_b0(2, seed=1).state_dict(), network)
    (folder / "LICENSE").write_bytes((SHIPPED / "untrained-demo" / "LICENSE").read_bytes())
    (folder / "docs" / "README.md").write_text("# made for a test\n")
    metadata = {
        "name": "made<b>",
        "version": "1",
        "notice": "MADE FOR A TEST - <no> meaning & no $use$",
        "intended_use": "None.",
        "architecture": {"name": "EfficientNet3D-B0", "first_block_stride": 2},
        "grid": cohort.description.grid.model_dump(),
        "intensity": cohort.description.intensity.model_dump(),
        "weights": {"T1W": 0.2, "T2W": 0.3, "FLAIR": 0.5},
        "threshold": 0.5,
        "network_files": {sequence: ["models/all.safetensors"] for sequence in Contrast},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata | facts))
    # Like every bundle with networks: how MONAI would run one.
    (folder / "configs" / "inference.json").write_text("{}")
    if record is not None:
        (folder / "configs" / "training.json").write_text(json.dumps(record))
    write_checksums(folder)
    return open_bundle(folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return made_cohort(tmp_path_factory.mktemp("cohort"), patients=PATIENTS)


def record_of(cohort: Cohort, development: int) -> dict[str, object]:
    """Return the record of a training on the first cases of a cohort that held out the others."""
    held_out = [case.case for case in cohort.included[development:]]
    return {
        "cohort_digest": cohort.digest,
        "test_cases": held_out,
        **development_record(cohort.included[:development], "salt"),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort) -> Bundle:
    return write_bundle(
        tmp_path_factory.mktemp("bundle") / "trained",
        cohort,
        record_of(cohort, 4),
        calibration={"method": "platt", "slope": 2.0, "intercept": 0.3, "patients": 4},
        two_sequences=[{"weights": {"T2W": 0.4, "FLAIR": 0.6}, "threshold": 0.4, "patients": 4, "auc": 0.7}],
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, trained: Bundle, cohort: Cohort):
    out = tmp_path_factory.mktemp("out") / "result"
    told: list[str] = []
    return evaluate(trained, cohort, out, told.append, resamples=40), out, told


def shadow(cohort: Cohort, folder: Path, cases: list[Case]) -> Cohort:
    """Return a cohort of other cases with the same description and no tensors."""
    return Cohort(folder, cohort.description, tuple(cases))


def test_only_held_out_patients_are_tested(evaluated, cohort: Cohort):
    evaluation, out, _ = evaluated
    with (out / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == [case.case for case in cohort.included[4:]]
    assert {row["data"] for row in rows} == {"synthetic"}
    assert (evaluation.basis, evaluation.left_out) == ("held_out", 0)
    assert (evaluation.ensemble.studies, evaluation.ensemble.events) == (2, 1)
    for row in rows:
        weighted = 0.2 * float(row["T1W"]) + 0.3 * float(row["T2W"]) + 0.5 * float(row["FLAIR"])
        assert float(row["score"]) == pytest.approx(weighted, abs=1e-12)


def test_the_files_say_the_same(evaluated, trained: Bundle):
    evaluation, out, told = evaluated
    content = json.loads((out / "evaluation.json").read_text())
    assert content["ensemble"]["auc"]["value"] == evaluation.ensemble.auc.value
    assert content["digest"] == trained.digest
    assert set(content["sequences"]) == set(Contrast)
    assert list(content["two_sequences"]) == ["T2W + FLAIR"]
    assert content["two_sequences"]["T2W + FLAIR"]["threshold"] == 0.4
    page = (out / "evaluation.html").read_text()
    assert estimate_text(evaluation.ensemble.auc) in page
    assert not list(out.glob("*.part"))
    assert told[0].startswith("reading study 1 of 2")


def test_the_page_is_one_file_that_says_the_notice_first_and_escapes(evaluated):
    _, out, _ = evaluated
    page = (out / "evaluation.html").read_text()
    body = page[page.index("<body>") :]
    assert body.index("MADE FOR A TEST - &lt;no&gt; meaning &amp; no") < body.index("<h1>")
    assert "made&lt;b&gt;" in page
    assert "made<b>" not in page
    assert "<script" not in page
    assert re.findall(r"(?:src|href)='(?!data:image/png;base64,)", page) == []
    assert page.count("data:image/png;base64,") == 2
    assert "SYNTHETIC DATA, NO EVIDENCE ABOUT PATIENTS" in page


def test_the_plots_are_pictures_with_curves(evaluated):
    _, out, _ = evaluated
    for name in ("roc.png", "reliability.png"):
        picture = matplotlib.image.imread(out / name)
        assert picture.shape[0] > 500
        blue = (picture[..., 2] > 0.6) & (picture[..., 0] < 0.2)
        assert blue.sum() > 100, name


def test_the_calibrated_scores_decide_alike(evaluated, trained: Bundle):
    evaluation, _, _ = evaluated
    assert evaluation.calibrated.threshold == pytest.approx(calibrated(trained.metadata.calibration, 0.5))
    assert evaluation.calibrated.sensitivity == evaluation.ensemble.sensitivity
    assert evaluation.calibrated.auc.value == evaluation.ensemble.auc.value
    assert evaluation.calibrated.brier.value != evaluation.ensemble.brier.value


def test_a_patient_of_the_training_is_refused_in_another_cohort(trained: Bundle, cohort: Cohort, tmp_path: Path):
    known, fresh = cohort.included[0], cohort.included[4:]
    again = replace(known, case="0" * 12, group="other site")  # another study of the same patient
    sibling = replace(fresh[0], case="1" * 12, patient="new", group=known.group)
    other = shadow(cohort, tmp_path / "other", [known, again, sibling, *fresh])
    chosen = choose_evaluation_set(trained, other)
    assert chosen == EvaluationSet(fresh, Basis.NOT_IN_DEVELOPMENT, 3)


def test_copies_of_training_images_are_known_under_another_pseudonym():
    trained, other = (Case(f"{n:012x}", f"P{n}", n % 2, INCLUDED, content=f"{n:064x}") for n in (1, 2))
    known = TrainedOn.model_validate(development_record([trained], "salt"))
    assert known.includes(replace(other, content=trained.content))
    assert not known.includes(other)
    assert not known.includes(replace(other, content=""))
    unsalted = TrainedOn.model_validate(development_record([trained], ""))
    assert known.development_patients.isdisjoint(unsalted.development_patients)


def test_an_older_record_without_salt_still_bars_its_patients():
    old = development_record([Case("1" * 12, "P1", 1, INCLUDED)], "")
    known = TrainedOn.model_validate({k: v for k, v in old.items() if k not in ("salt", "development_contents")})
    assert known.includes(Case("2" * 12, "P1", 1, INCLUDED))


def test_patients_of_few_groups_are_a_caution(evaluated):
    kinds = [caution.kind for caution in cautions(replace(evaluated[0], groups=1))]
    assert CautionKind.GROUPS in kinds
    assert CautionKind.GROUPS not in [caution.kind for caution in cautions(evaluated[0])]


def test_named_cases_do_not_get_around_that(trained: Bundle, cohort: Cohort):
    assert choose_evaluation_set(trained, cohort, cohort.included).cases == cohort.included[4:]
    with pytest.raises(ModelError, match=r"4 took part in its training") as caught:
        choose_evaluation_set(trained, cohort, cohort.included[:4])
    assert caught.value.code == "evaluation_no_cases"


def test_excluded_and_unlabelled_cases_are_not_tested(trained: Bundle, cohort: Cohort, tmp_path: Path):
    fresh = cohort.included[4:]
    excluded = replace(fresh[0], case="2" * 12, patient="x", group="x", status="no_label")
    unlabelled = replace(fresh[0], case="3" * 12, patient="y", group="y", label=None)
    other = shadow(cohort, tmp_path / "other", [*fresh, excluded, unlabelled])
    assert choose_evaluation_set(trained, other).cases == fresh


def test_one_class_is_refused(trained: Bundle, cohort: Cohort):
    with pytest.raises(ModelError, match="same label") as caught:
        choose_evaluation_set(trained, cohort, cohort.included[4:5])
    assert caught.value.code == "evaluation_one_class"


def test_a_bundle_that_names_no_training_is_doubted(cohort: Cohort, tmp_path: Path, trained: Bundle):
    (tmp_path / "models").mkdir()
    silent = write_bundle(tmp_path, cohort)
    chosen = choose_evaluation_set(silent, cohort)
    assert (chosen.cases, chosen.basis) == (cohort.included, "development_unknown")
    assert choose_evaluation_set(open_bundle("untrained-demo"), cohort).basis == "not_in_development"


def test_a_training_record_that_cannot_be_read(cohort: Cohort, tmp_path: Path):
    bundle = write_bundle(tmp_path, cohort)
    (tmp_path / "configs" / "training.json").write_text("[1")
    with pytest.raises(ModelError) as caught:
        choose_evaluation_set(bundle, cohort)
    assert caught.value.code == "bundle_invalid"


@pytest.mark.parametrize(
    "facts",
    [
        {"grid": {"size_xyz": [64, 64, 64], "spacing_xyz_mm": [4, 4, 3], "centre": "brain"}},
        {"intensity": {"clip_percentiles": [1, 99]}},
    ],
)
def test_other_tensors_are_refused(cohort: Cohort, tmp_path: Path, facts: dict[str, Any]):
    bundle = write_bundle(tmp_path / "bundle", cohort, **facts)
    with pytest.raises(ModelError) as caught:
        evaluate(bundle, cohort, tmp_path / "out", lambda _: None)
    assert caught.value.code == "grid_unfit"
    assert not (tmp_path / "out").exists()


def drawn(cohort: Cohort, studies: int = 60) -> Predictions:
    """Return made scores in which FLAIR alone follows the label."""
    random = np.random.default_rng(0)
    template = cohort.included[0]
    cases = tuple(
        replace(template, case=f"{i:012x}", patient=f"T{i}", group=f"T{i}", label=i % 2) for i in range(studies)
    )
    labels = np.array([case.label for case in cases])
    logit = {s: random.normal(size=studies) + (2.5 * labels if s == "FLAIR" else 0) for s in Contrast}
    return Predictions(cases, {s: 1 / (1 + np.exp(-z)) for s, z in logit.items()})


def test_every_bundle_that_was_judged_on_a_patient_is_a_look(tmp_path: Path):
    few = shadow(made_cohort(tmp_path / "cohort", patients=2, size_xyz=(32, 32, 32)), tmp_path / "cohort", [])
    cases = [Case(f"{n:012x}", f"P{n}", n % 2, INCLUDED) for n in range(6)]
    assert count_look(few, cases[:4], "one") == 1
    assert count_look(few, cases[:4], "one") == 1  # the same again
    assert count_look(few, cases[3:], "two") == 2
    assert count_look(few, cases[4:], "three") == 2
    assert count_look(shadow(few, tmp_path / "cohort" / "cohort.json", []), cases, "four") is None
    (tmp_path / "cohort" / "looks" / "cut.json").write_text("[1")
    assert count_look(few, cases, "five") is None


def test_subgroups_are_reported_apart(trained: Bundle, cohort: Cohort):
    given = drawn(cohort)
    names = ["plain", "plain", "motion", "", "", ""]
    cases = tuple(replace(case, subgroup=names[n % 6]) for n, case in enumerate(given.cases))
    chosen = EvaluationSet(cases, Basis.NOT_IN_DEVELOPMENT, 0)
    found = judge(trained, cohort, chosen, replace(given, cases=cases), seed=0, resamples=20)
    assert list(found.subgroups) == ["motion", "plain"]
    assert (found.subgroups["plain"].studies, found.subgroups["plain"].events) == (20, 10)
    assert found.subgroups["plain"].auc.low < found.subgroups["plain"].auc.value
    assert found.subgroups["motion"].auc.value is None  # no events there
    page = evaluation_page(found, {})
    assert "<h2>Subgroups</h2>" in page
    assert "looked at before is not known" in page


def test_better_weights_show_in_the_paired_difference(trained: Bundle, cohort: Cohort):
    predictions = drawn(cohort)
    chosen = EvaluationSet(predictions.cases, Basis.NOT_IN_DEVELOPMENT, 0)
    found = judge(trained, cohort, chosen, predictions, seed=0, resamples=200)
    gain = found.gain_over_equal_weights
    assert gain.value == pytest.approx(found.ensemble.auc.value - found.equal_weights_auc.value)
    assert gain.low > 0
    assert gain.high - gain.low < found.ensemble.auc.high - found.ensemble.auc.low  # paired
    assert found.sequences[Contrast.FLAIR].auc.value > found.sequences[Contrast.T1W].auc.value + 0.2


def test_the_gravest_caution_comes_first(evaluated):
    found: Evaluation = replace(evaluated[0], weights_chosen_on="test", basis=Basis.DEVELOPMENT_UNKNOWN)
    said = cautions(found)
    assert [caution.kind for caution in said] == [
        CautionKind.SYNTHETIC, CautionKind.OPTIMISTIC, CautionKind.DEVELOPMENT_UNKNOWN, CautionKind.FEW_STUDIES,
    ]  # fmt: skip
    assert [caution.sentence.split()[0] for caution in said] == ["SYNTHETIC", "OPTIMISTIC", "The", "The"]
    page = evaluation_page(found, {})
    assert page.index("OPTIMISTIC BIAS") < page.index("<h2>Performance</h2>")
    plain = replace(found, synthetic=None, weights_chosen_on="out_of_fold", basis=Basis.HELD_OUT)
    assert cautions(plain) == said[3:]
    assert "other weights" in cautions(replace(found, other_brain_weights=True))[-2].sentence


def test_what_is_not_determined_is_said(evaluated):
    assert evaluated[0].ensemble.calibration_slope.value is None  # two studies always separate
    assert json.loads((evaluated[1] / "evaluation.json").read_text())["ensemble"]["calibration_slope"]["value"] is None
    assert "not determined by these data" in (evaluated[1] / "evaluation.html").read_text()


def test_a_reliability_plot_of_few_and_equal_scores():
    assert reliability_plot(np.array([0, 1]), {"Score": np.array([0.5, 0.5])}, "n").startswith(b"\x89PNG")
