"""Made cohorts: the label follows from the tubers alone, and no anatomy is shown twice."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from models.bundle import ModelError
from models.contrast import Contrast
from models.training.cohort import INCLUDED, Case
from models.training.fit.folds import split
from pipeline.cohort.labels import read_labels
from pipeline.patient_age import read_age_years
from pipeline.select import select_study
from pipeline.synthetic import RIGHT_OF_LEFT, Label, render
from pipeline.synthetic.label_rule import achievable_auc, mean_burden_ml, probability, reached_auc
from pipeline.synthetic.made_cohort import base_of, make_head, synthesize_cohort
from pipeline.synthetic.tubers import CORTEX, FEW, MANY, WHITE_MATTER, place_tubers
from pipeline.synthetic.warp import SPACING_MM, BaseAnatomy, base_anatomies, read_base, warp
from tests.support.services import real_data

SEED = 3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Return the folder of four patients of two procedural heads."""
    out = tmp_path_factory.mktemp("sent") / "cohort"
    synthesize_cohort(None, 4, out, seed=SEED)
    return out


@pytest.fixture(scope="module")
def base() -> BaseAnatomy:
    return base_anatomies(None, SEED)[0]


@pytest.fixture(scope="module")
def head(base) -> sitk.Image:
    return make_head(base, 0, SEED)[0]


@pytest.fixture(scope="module")
def many(head):
    return place_tubers(head, MANY, np.random.default_rng(1))


def facts(cohort: Path) -> dict:
    return json.loads((cohort / "synthetic.json").read_text("utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.dcm"))}


def pixels(cohort: Path, patient: str, role: Contrast) -> np.ndarray:
    files = sorted((cohort / "studies" / patient / role).iterdir())
    return np.stack([pydicom.dcmread(file).pixel_array for file in files])


def cortex_dice(one: sitk.Image, other: sitk.Image) -> float:
    """Return how the cortex of two heads agrees where the middles of their brains coincide."""
    here = np.isin(sitk.GetArrayFromImage(one), CORTEX)
    there = np.isin(
        sitk.GetArrayFromImage(sitk.Resample(other, one, sitk.Transform(), sitk.sitkNearestNeighbor)), CORTEX
    )
    return 2 * np.count_nonzero(here & there) / (np.count_nonzero(here) + np.count_nonzero(there))


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("burden_ml", "expected"),
    [(0.0, 0.0), (6.0, 0.5), (24.0, 0.90186), (1.5, 0.09814), (48.0, 0.96535), (0.75, 0.03465)],
)
def test_probability_by_hand(burden_ml, expected):
    """At the midpoint of 6 ml a half; 4 and 8 times it give odds of 4 ** 1.6 = 9.190 and 8 ** 1.6 = 27.858."""
    assert probability(burden_ml) == pytest.approx(expected, abs=1e-5)


def test_negative_burden_is_refused():
    with pytest.raises(ValueError, match="not negative"):
        probability(-1.0)


def test_burden_is_the_mean_over_the_sequences_with_signal():
    burden_ml = {Contrast.T1W: 1.0, Contrast.T2W: 2.0, Contrast.FLAIR: 6.0}
    assert mean_burden_ml(burden_ml, tuple(Contrast)) == 3.0
    assert mean_burden_ml(burden_ml, (Contrast.FLAIR,)) == 6.0


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([0.0, 1.0], 1.0), ([0.5, 0.5, 0.5], 0.5), ([0.9, 0.1], 0.9)],
)
def test_achievable_auc_by_hand(probabilities, expected):
    """For 0.9 and 0.1: right order 0.9 * 0.9 = 0.81, ties 0.9 * 0.1 + 0.1 * 0.9 = 0.18 count half, of a sum of 1."""
    assert achievable_auc(probabilities) == pytest.approx(expected)


def test_reached_auc_by_hand():
    """Of the two pairs, 0.8 before 0.2 is right and 0.8 before 0.9 is wrong."""
    assert reached_auc([0.2, 0.9, 0.8], [0, 0, 1]) == 0.5
    assert reached_auc([0.2, 0.9], [1, 1]) is None


def test_rule_leaves_the_noise_that_was_asked_for(head):
    """Over drawn loads: what a reader who knows the burden could reach is 0.96 to 0.98."""
    random = np.random.default_rng(5)
    loads = [place_tubers(head, load, random) for load in (FEW, MANY) for _ in range(6)]
    burdens_ml = [mean_burden_ml({role: load.burden_ml(role) for role in Contrast}, tuple(Contrast)) for load in loads]
    chances = [probability(burden_ml) for burden_ml in burdens_ml]
    assert max(chances[:6]) < 0.1
    assert min(chances[6:]) > 0.9
    assert 0.955 < achievable_auc(chances) < 0.985


# --- tubers ----------------------------------------------------------------------------------------------------------


def test_tubers_take_cortex_and_white_matter_alone(head, many):
    tissue = np.isin(sitk.GetArrayViewFromImage(head), CORTEX + WHITE_MATTER)
    for image in many.shares.values():
        share = sitk.GetArrayViewFromImage(image)
        assert not share[~tissue].any()
        assert share.min() == 0
        assert 0.7 < share.max() <= 1
    assert {tuber.kind for tuber in many.tubers} == {"cortical", "subcortical"}


def test_burden_is_volume_times_contrast(many):
    for role, image in many.shares.items():
        drawn_ml = float(sitk.GetArrayViewFromImage(image).sum(dtype=float)) * SPACING_MM**3 / 1000
        by_hand_ml = sum(tuber.volume_ml * tuber.contrast[role] for tuber in many.tubers)
        assert many.burden_ml(role) == pytest.approx(by_hand_ml)
        assert drawn_ml == pytest.approx(by_hand_ml, rel=0.03)  # where two touch, the brighter one counts


def test_few_are_fewer_smaller_and_fainter(head, many):
    few = place_tubers(head, FEW, np.random.default_rng(1))
    assert len(few.tubers) < len(many.tubers)
    assert max(t.diameter_mm for t in few.tubers) < min(t.diameter_mm for t in many.tubers)
    assert max(max(t.contrast.values()) for t in few.tubers) < min(min(t.contrast.values()) for t in many.tubers)


@pytest.mark.parametrize("role", Contrast)
def test_tubers_show_in_every_sequence(head, many, role):
    plain, shown = (
        render(head, role, spacing_xyz_mm=(3.0, 3.0, 3.0), seed=1, tubers=share) for share in (None, many.shares[role])
    )
    inside = sitk.Resample(many.shares[role], plain, sitk.Transform(), sitk.sitkLinear)
    tuber_zyx = sitk.GetArrayFromImage(inside) > 0.7
    before, after = (sitk.GetArrayFromImage(image)[tuber_zyx].mean() for image in (plain, shown))
    assert after > 1.25 * before


def test_no_share_is_no_tuber(head):
    nothing = sitk.Image(head.GetSize(), sitk.sitkFloat32)
    nothing.CopyInformation(head)
    plain, same = (
        render(head, Contrast.T2W, spacing_xyz_mm=(4, 4, 4), seed=1, tubers=none) for none in (None, nothing)
    )
    assert np.array_equal(sitk.GetArrayFromImage(plain), sitk.GetArrayFromImage(same))


# --- anatomy ---------------------------------------------------------------------------------------------------------


def test_no_two_patients_of_one_base_share_their_anatomy(base, head):
    other = make_head(base, 1, SEED)[0]
    assert cortex_dice(head, head) == 1
    assert 0.1 < cortex_dice(head, other) < 0.7
    assert 0.1 < cortex_dice(head, read_base(base)) < 0.7


@pytest.mark.parametrize(("seed", "mirrored"), [(0, False), (2, True)])
def test_left_stays_left_whether_mirrored_or_not(base, seed, mirrored):
    assert bool(np.random.default_rng(seed).random() < 0.5) == mirrored
    labels = sitk.GetArrayFromImage(warp(read_base(base), np.random.default_rng(seed)))
    for left, right in RIGHT_OF_LEFT.items():
        if left != Label.LESION:
            counts = [np.count_nonzero(labels == number, axis=(0, 1)) for number in (left, right)]
            x_left, x_right = (np.average(np.arange(count.size), weights=count) for count in counts)
            assert x_left > x_right + 3, left


def test_scale_scales(base):
    small, large = (
        np.isin(sitk.GetArrayFromImage(warp(read_base(base), np.random.default_rng(1), scale)), WHITE_MATTER).sum()
        for scale in (0.8, 1.0)
    )
    assert small / large == pytest.approx(0.8**3, rel=0.1)


def test_drawn_heads_stand_beside_label_maps(tmp_path: Path):
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(tmp_path / "map.nii.gz"))
    groups = [base.group for base in base_anatomies(tmp_path, SEED, 3)]
    assert len(set(groups)) == 4
    assert groups[1:] == [base.group for base in base_anatomies(None, SEED)[:3]]


def test_split_by_group_keeps_base_anatomies_apart():
    bases = base_anatomies(None, SEED)
    cases = [Case(f"{i:012x}", f"P{i}", i % 2, INCLUDED, group=base_of(i, bases).group) for i in range(60)]
    found = split(cases, test_share=0.2, folds=5, seed=1)
    parts = [{case.group for case in part} for part in (found.test, *found.folds)]
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == len(bases)
    assert sum(len(part) for part in (found.test, *found.folds)) == 60


# --- the cohort ------------------------------------------------------------------------------------------------------


def test_cohort_says_that_it_is_synthetic_and_how(cohort):
    labels = read_labels(cohort / "labels.csv")
    assert "Synthetic data, no patient" in labels.synthetic
    assert "6 / burden" in labels.synthetic
    assert {study.excluded for study in labels.studies} == {None}
    assert set(labels.criteria) >= {"resected", "mri_after_asm", "follow_up_months"}
    assert facts(cohort)["seed"] == SEED
    assert facts(cohort)["auc_of_the_rule_without_noise"] == 1
    assert 0.9 < facts(cohort)["auc_achievable"] < 1


def test_every_patient_is_in_both_files(cohort):
    made = facts(cohort)["patients"]
    with (cohort / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["patient"]: row for row in csv.DictReader(stream)}
    assert list(rows) == list(made) == [f"SYNTHETIC-{SEED}-{number:04d}" for number in range(1, 5)]
    for patient, row in rows.items():
        one = made[patient]
        assert (cohort / row["study"]).is_dir()
        assert (int(row["label"]), row["group"]) == (one["label"], one["group"])
        assert one["probability"] == pytest.approx(probability(one["burden_ml"]["patient"]), abs=1e-4)
        assert one["tuber_count"] == len(one["tubers"])


def test_each_base_has_one_patient_with_few_and_one_with_many(cohort):
    pairs = Counter((patient["group"], patient["load"]) for patient in facts(cohort)["patients"].values())
    assert set(pairs.values()) == {1}
    assert len(pairs) == 4


def test_node_finds_the_three_sequences(cohort):
    ages = []
    for patient, made in facts(cohort)["patients"].items():
        files = sorted((cohort / "studies" / patient).rglob("*.dcm"))
        selection = select_study(files)
        assert selection.held is None
        assert set(selection.volumes) == set(Contrast)
        assert selection.study_uid == made["study_uid"]
        header = pydicom.dcmread(files[0], stop_before_pixels=True)
        assert str(header.PatientName).startswith("SYNTHETIC^")
        assert header.MagneticFieldStrength == 3
        assert read_age_years(files[0]) == pytest.approx(made["age_years"], abs=0.02)
        ages.append(made["age_years"])
    assert all(1 <= age <= 17 for age in ages)


def test_same_seed_same_bytes_however_many_patients_and_workers(cohort, tmp_path):
    told: list[str] = []
    synthesize_cohort(None, 2, tmp_path / "sent", seed=SEED, workers=2, tell=told.append)
    again = contents(tmp_path / "sent")
    assert again
    assert again == {name: data for name, data in contents(cohort).items() if name in again}
    assert told == ["1 of 2 synthetic patients", "2 of 2 synthetic patients"]


def test_sequences_without_signal_show_nothing(cohort, tmp_path):
    only = tmp_path / "sent"
    synthesize_cohort(None, 2, only, seed=SEED, signal=(Contrast.FLAIR,))
    (patient,) = (name for name, made in facts(only)["patients"].items() if made["load"] == "many")
    made = facts(only)["patients"][patient]
    assert (made["burden_ml"]["T1W"], made["burden_ml"]["T2W"]) == (0, 0)
    assert made["burden_ml"]["patient"] == made["burden_ml"]["FLAIR"] > 10
    assert np.array_equal(pixels(only, patient, Contrast.FLAIR), pixels(cohort, patient, Contrast.FLAIR))
    index = int(patient[-4:]) - 1
    head = make_head(base_of(index, base_anatomies(None, SEED)), index, SEED)[0]
    bright = place_tubers(head, MANY, np.random.default_rng([SEED, index, 1])).shares[Contrast.T1W]
    for source, lowest, highest in ((only, 0.5, 1.1), (cohort, 1.3, 3.0)):
        volume = sitk.ReadImage([str(file) for file in sorted((source / "studies" / patient / "T1W").iterdir())])
        share = sitk.GetArrayFromImage(sitk.Resample(bright, volume, sitk.Transform(), sitk.sitkLinear))
        white = sitk.Resample(head, volume, sitk.Transform(), sitk.sitkNearestNeighbor)
        healthy = np.isin(sitk.GetArrayFromImage(white), WHITE_MATTER) & (share == 0)
        values = sitk.GetArrayFromImage(volume)
        assert lowest < values[share > 0.7].mean() / values[healthy].mean() < highest


def test_wrong_requests_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").touch()
    (tmp_path / "maps").mkdir()
    for code, arguments in (
        ("cohort_folder_not_empty", (None, 2, tmp_path / "full")),
        ("cohort_request_wrong", (None, 1, tmp_path / "new")),
        ("label_maps_missing", (tmp_path / "maps", 2, tmp_path / "new")),
    ):
        with pytest.raises(ModelError) as error:
            synthesize_cohort(*arguments, seed=1)
        assert error.value.code == code
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("number", "code"), [(999, "label_map_unknown"), (2, "label_map_unknown")])
def test_maps_that_are_none_are_refused(tmp_path, number, code):
    labels = sitk.Image(6, 6, 6, sitk.sitkUInt16)
    labels[2:4, 2:4, 2:4] = number
    sitk.WriteImage(labels, str(tmp_path / "map.nii.gz"))
    (tmp_path / "broken.nii.gz").write_bytes(b"no map")
    broken, wrong = sorted(base_anatomies(tmp_path, 1), key=lambda base: str(base.source))
    for base, expected in ((wrong, code), (broken, "label_map_unreadable")):
        with pytest.raises(ModelError) as error:
            read_base(base)
        assert error.value.code == expected


def test_copies_of_a_map_are_one_anatomy(tmp_path):
    for name in ("one.nii", "two.nii"):
        (tmp_path / name).write_bytes(b"the same")
    assert len(base_anatomies(tmp_path, 1)) == 1


def test_label_maps_make_different_patients():
    bases = base_anatomies(real_data("synthseg-labels"), SEED)
    assert len({base.group for base in bases}) == 15
    one, other = (make_head(bases[0], index, SEED)[0] for index in (0, 1))
    assert not np.isin(sitk.GetArrayViewFromImage(one), (Label.LESION, RIGHT_OF_LEFT[Label.LESION])).any()
    assert 0.1 < cortex_dice(one, other) < 0.7
    assert len(place_tubers(one, MANY, np.random.default_rng(1)).tubers) >= MANY.count[0]
