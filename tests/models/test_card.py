"""The model card says what was done, what is not known, and what a reader must not overlook."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle, Metadata, open_bundle, sha256
from models.contrast import Contrast
from models.training.bundling.card import model_card
from models.training.bundling.cohort_facts import CRITERIA, cohort_facts
from models.training.bundling.feature_limits import FeatureCounts
from models.training.bundling.training_record import DroppedPair, TrainingRecord
from models.training.cohort import INCLUDED, Case, Cohort, CohortDescription
from models.training.evaluation.evaluate import judge
from models.training.evaluation.evaluated import Evaluation, Subgroup
from models.training.evaluation.held_out import Basis, EvaluationSet
from models.training.evaluation.predictions import Predictions
from models.training.fit.recipe import Recipe
from pipeline.cohort.labels import CRITERIA_COLUMNS

BASE = open_bundle("untrained-demo").metadata


def metadata(**facts: object) -> Metadata:
    content = BASE.model_dump() | {"name": "trained", "notice": "RESEARCH ONLY", "seed": None, **facts}
    content.setdefault("network_files", None)
    if content["network_files"] is None:
        content["network_files"] = {s: [f"models/{s}-{fold}.safetensors" for fold in range(5)] for s in Contrast}
    return Metadata.model_validate(content)


def case(number: int, **facts: Any) -> Case:
    return replace(
        Case(f"{number:012x}", f"P{number}", number % 2, INCLUDED, age_years=float(number), field_strength_t=3.0),
        **facts,
    )


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    description = CohortDescription(
        grid=BASE.grid, intensity=BASE.intensity, brain_weights={"name": "HD-BET"}, software="0.1.0"
    )
    cases = [case(n) for n in range(1, 13)]
    cases[3] = case(4, age_years=None, field_strength_t=1.5)
    cases += [case(20, status="flair_missing"), case(21, status="flair_missing"), case(22, status="after_resection")]
    return Cohort(tmp_path, description, tuple(cases))


@pytest.fixture
def training(cohort: Cohort) -> TrainingRecord:
    return TrainingRecord(
        recipe=Recipe(epochs=100, test_share=0.2, folds=5, seed=7),
        cohort_digest=cohort.digest,
        cohort=cohort_facts(cohort, cohort.included[:8], cohort.included[8:]),
        software={"torch": "2.13.0"},
    )


@pytest.fixture
def evaluation(cohort: Cohort, tmp_path: Path) -> Evaluation:
    cases = cohort.included
    scores = {s: np.random.default_rng(n).random(len(cases)) for n, s in enumerate(tuple(Contrast))}
    bundle = Bundle(tmp_path, metadata(), "0" * 64)
    chosen = EvaluationSet(cases, Basis.HELD_OUT, 0)
    return judge(bundle, cohort, chosen, Predictions(cases, scores), seed=0, resamples=20)


def cell(card: str, subject: str) -> str:
    """Return what the card's table says of a subject."""
    found = re.findall(rf"^\| [^|]+ \| {re.escape(subject)} \| (.*) \|$", card, re.MULTILINE)
    assert len(found) == 1, subject
    return found[0]


def test_counts_come_from_the_cohort(training, evaluation):
    card = model_card(metadata(), training, evaluation)
    assert cell(card, "Exclusions, studies by reason") == "after_resection: 1, flair_missing: 2"
    assert cell(card, "Sample size: development") == "8 patients (4 with the event), 8 studies (4 with the event)"
    assert cell(card, "Sample size: test").startswith("4 patients (2 with the event)")
    ages = cell(card, "Ages, field strengths, contrast: development")
    assert (
        ages
        == "age 1 to 8 years, median 5 (unknown in 1); field strength: 1 x 1.5 T, 7 x 3 T; contrast agent: 8 unknown"
    )


def test_the_share_that_was_set_aside_is_stated_beside_the_one_asked_for(training):
    said = cell(model_card(metadata(), training, None), "Partition")
    assert "4 of 12 patients (33.3%) set aside first (a share of 0.2 was asked for)" in said


def test_criteria_are_named_whether_checked_or_not(training, cohort):
    subject = "Inclusion criteria of CN114170162A [0056]"
    assert CRITERIA == CRITERIA_COLUMNS
    assert cell(model_card(metadata(), training, None), subject) == f"Checked: none; not checked: {', '.join(CRITERIA)}"
    described = cohort.description.model_copy(update={"criteria": ("tsc", "resected")})
    facts = cohort_facts(replace(cohort, description=described), cohort.included, ())
    said = cell(model_card(metadata(), replace(training, cohort=facts), None), subject)
    assert said == "Checked: tsc, resected; not checked: epilepsy, mri_after_asm, follow_up_months"


def test_what_was_fixed_on_single_networks_is_said(training):
    subject = "What was fixed on which scores"
    assert cell(model_card(metadata(), replace(training, recipe=None), None), subject) == "not stated"
    for members, said in (("folds", "averages 5 networks"), ("refit", "uses one network, trained anew")):
        given = replace(training, recipe=replace(training.recipe, members=members))
        found = cell(model_card(metadata(), given, None), subject)
        assert found.startswith("Threshold, weights and calibration come from out-of-fold scores")
        assert said in found
    evidence = {"synthetic": False, "development_patients": 8, "test_patients": 4, "weights_chosen_on": "test"}
    found = cell(model_card(metadata(evidence=evidence), training, None), subject)
    assert found.startswith("Threshold and calibration come")


def test_dropped_pairs_and_the_limits_of_the_feature_space_are_named(training):
    dropped = {"T1W + T2W": DroppedPair(0.55, 0.312), "T1W + FLAIR": DroppedPair(0.5, None)}
    pair = {"weights": {"T2W": 0.5, "FLAIR": 0.5}, "threshold": 0.5, "patients": 76, "auc": 0.8}
    space = {"file": "models/features.safetensors", "limits": dict.fromkeys(tuple(Contrast), 3.0)}
    counts = FeatureCounts(0.975, 4, {Contrast.T1W: 0, Contrast.T2W: 1, Contrast.FLAIR: 1}, 2)
    given = replace(training, two_sequences_dropped=dropped, feature_space=counts)
    card = model_card(metadata(two_sequences=[pair], range={"features": space}), given, None)
    said = cell(card, "Pairs of sequences")
    assert said.startswith("Kept: T2W + FLAIR; dropped, as the lower bound")
    assert said.endswith("T1W + T2W (AUC 0.550, lower bound 0.312); T1W + FLAIR (no interval)")
    assert "of 4 test studies lie beyond: T1W 0, T2W 1, FLAIR 1, any 2" in cell(card, "Limits of the feature space")
    plain = model_card(metadata(), replace(given, two_sequences_dropped={}), None)
    assert cell(plain, "Pairs of sequences") == cell(plain, "Limits of the feature space") == "none"


def test_performance_comes_from_the_evaluation(training, evaluation):
    card = model_card(metadata(), training, evaluation)
    found = evaluation.ensemble.auc
    assert f"| AUC | {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) |" in card
    assert "12 studies of 12 patients, 6 with the event" in card
    assert "no patient of theirs took part" in card


def test_what_nobody_stated_is_said_to_be_not_stated():
    card = model_card(metadata(), TrainingRecord(), None)
    for subject in ("Dates", "Ethical approval", "Sample size: test", "Partition", "Training", "Software"):
        assert cell(card, subject) == "not stated", subject
    assert cell(card, "Choice of the ensemble's weights").endswith("not stated")
    assert "Not available: this bundle came without an evaluation." in card
    assert cell(card, "Performance with intervals") == "not available"
    assert "None" not in card.replace("None by design", "")


def test_the_evidence_of_the_bundle_stands_in_where_the_evaluation_is_absent(training):
    evidence = {
        "synthetic": False, "development_patients": 8, "test_patients": 4, "weights_chosen_on": "out_of_fold",
        "auc": 0.8, "auc_interval": [0.4, 0.95],
    }  # fmt: skip
    card = model_card(metadata(evidence=evidence), training, None)
    assert "an AUC of 0.800 (0.400 to 0.950) on 4 test patients" in card
    assert "OPTIMISTIC" not in card
    assert "SYNTHETIC" not in card


@pytest.mark.parametrize("with_evaluation", [True, False])
def test_warnings_stand_before_everything_else(training, evaluation, with_evaluation: bool):
    said = "labels follow the number of tubers | by a rule"
    training = replace(
        training,
        cohort=replace(training.cohort, synthetic=said),
        recipe=replace(training.recipe, shuffle_labels=True),
    )
    evidence = {"synthetic": True, "development_patients": 8, "test_patients": 4, "weights_chosen_on": "test"}
    given = replace(evaluation, synthetic=said, weights_chosen_on="test") if with_evaluation else None
    lines = [line for line in model_card(metadata(evidence=evidence), training, given).splitlines() if line]
    assert lines[1] == "**RESEARCH ONLY**"
    assert lines[2].startswith("**SYNTHETIC DATA, NO EVIDENCE ABOUT PATIENTS: labels follow")
    assert lines[3].startswith("**OPTIMISTIC BIAS")
    warnings = lines[2 : lines.index("## Performance")]
    assert sum("SYNTHETIC" in line for line in warnings) == sum("OPTIMISTIC" in line for line in warnings) == 1
    assert any("CONTROL RUN: the labels were shuffled" in line for line in warnings)


def test_a_sentence_with_a_bar_stays_in_its_cell(training):
    made = replace(training.cohort, synthetic="a | b\nc <script>")
    card = model_card(metadata(), replace(training, cohort=made), None)
    assert cell(card, "Source of data") == r"Made, not scanned: a \| b c &lt;script>"


def test_every_row_of_a_table_has_its_columns(training, evaluation):
    width = None
    for line in model_card(metadata(), training, evaluation).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        bars = len(re.findall(r"(?<!\\)\|", line))
        width = width or bars
        assert bars == width, line


def test_items_stand_in_their_order(training):
    asked = model_card(metadata(), training, None).partition("## What TRIPOD+AI and CLAIM ask")[2]
    items = re.findall(r"^\| (\d+|CLAIM)", asked, re.MULTILINE)
    numbers = [int(item) for item in items if item != "CLAIM"]
    assert numbers == sorted(numbers)
    assert set(items[len(numbers) :]) == {"CLAIM"}


def test_controls_looks_subgroups_and_coverage_are_in_the_card(training, evaluation):
    area = evaluation.ensemble.auc
    said = replace(evaluation, looks=3, subgroups={"motion": Subgroup(4, 2, area)})
    card = model_card(metadata(), replace(training, controls="No sign of a leak", test_looks=3), said)
    assert cell(card, "Controls with exchanged labels") == "No sign of a leak"
    assert cell(card, "Looks at the test patients").startswith("3: ")
    assert "Look number 3 at these patients: 2 other bundles were judged" in card
    assert f"| motion | 4 | 2 | {area.value:.3f} (" in card
    assert cell(card, "Fairness").startswith("AUC by subgroup under Performance (motion)")
    assert "| 60 patients of 3 groups | 95.4 % | 99.6 % |" in card
    plain = model_card(metadata(), training, None)
    assert cell(plain, "Controls with exchanged labels") == cell(plain, "Looks at the test patients") == "not stated"


def test_the_start_is_named_without_its_folder(training, tmp_path: Path):
    start = tmp_path / "b0.safetensors"
    start.write_bytes(b"made for a test")
    given = replace(training, recipe=replace(training.recipe, start=start))
    card = model_card(metadata(), given, None)
    assert cell(card, "Initialisation") == f"Inflated 2-D weights: b0.safetensors (SHA-256 {sha256(start)})"
    assert str(tmp_path) not in card


def test_early_stopping_is_owned_up_to(training):
    subject = "Choice of the epoch"
    assert cell(model_card(metadata(), replace(training, recipe=None), None), subject) == "not stated"
    for patience, said in ((None, "The last"), (10, "slightly optimistic")):
        given = replace(training, recipe=replace(training.recipe, patience=patience))
        assert said in cell(model_card(metadata(), given, None), subject)


def test_networks_calibration_and_modes_are_described(training):
    given = metadata(
        network_files={sequence: ["models/all.safetensors"] for sequence in Contrast},
        calibration={"method": "platt", "slope": 1.5, "intercept": -0.2, "patients": 76},
        two_sequences=[{"weights": {"T2W": 0.5, "FLAIR": 0.5}, "threshold": 0.5, "patients": 76, "auc": 0.8}],
    )
    card = model_card(given, training, None)
    assert "networks shared by all sequences; the score" in cell(card, "Model")
    assert "each the mean of 5" in cell(model_card(metadata(), training, None), "Model")
    assert "platt calibration fitted on 76 patients (slope 1.5, intercept -0.2)" in cell(card, "Output")
    assert "T1W + T2W + FLAIR, or T2W + FLAIR" in cell(card, "Poor or missing input")
