"""Hard cases: a pair of patients shares its difficulty, which changes the images and not the label."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from models.bundle import ModelError
from models.contrast import Contrast
from pipeline.cohort.labels import read_labels
from pipeline.synthetic import render
from pipeline.synthetic.hard_cases import HARD, ISOINTENSE_SHARE, Difficulty, difficulty_of, made_hard
from pipeline.synthetic.made_cohort import make_head, synthesize_cohort
from pipeline.synthetic.tubers import FEW, MANY, TuberLoad, place_tubers
from pipeline.synthetic.warp import base_anatomies

SEED = 3


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    return make_head(base_anatomies(None, SEED)[0], 0, SEED)[0]


@pytest.fixture(scope="module")
def load(head: sitk.Image) -> TuberLoad:
    return place_tubers(head, FEW, np.random.default_rng(1))


def shares(load: TuberLoad, role: Contrast) -> np.ndarray:
    return sitk.GetArrayViewFromImage(load.shares[role])


def test_about_the_wanted_share_of_pairs_is_hard_in_every_way():
    drawn = Counter(difficulty_of(pair, 1, 0.5) for pair in range(1000))
    assert 450 < drawn[Difficulty.PLAIN] < 550
    assert min(drawn[kind] for kind in HARD) > 60
    assert {difficulty_of(pair, 1, 0.0) for pair in range(100)} == {Difficulty.PLAIN}


def test_isointense_tubers_are_faint_in_t1w_alone(head: sitk.Image, load: TuberLoad):
    _, faint = made_hard(Difficulty.ISOINTENSE, head, load, np.random.default_rng(0))
    assert np.allclose(shares(faint, Contrast.T1W), ISOINTENSE_SHARE * shares(load, Contrast.T1W))
    assert np.array_equal(shares(faint, Contrast.FLAIR), shares(load, Contrast.FLAIR))
    assert faint.burden_ml(Contrast.T1W) == pytest.approx(ISOINTENSE_SHARE * load.burden_ml(Contrast.T1W), rel=0.01)
    assert faint.burden_ml(Contrast.T2W) == load.burden_ml(Contrast.T2W)


def test_lines_are_seen_in_t2w_and_flair_and_are_no_burden(head: sitk.Image, load: TuberLoad):
    same, lined = made_hard(Difficulty.LINES, head, load, np.random.default_rng(0))
    assert same is head
    assert lined.tubers == load.tubers
    for role, seen in ((Contrast.T1W, False), (Contrast.T2W, True), (Contrast.FLAIR, True)):
        assert ((shares(lined, role) > shares(load, role)).sum() > 50) == seen, role
        assert (shares(lined, role) >= shares(load, role)).all()


def test_cysts_are_fluid_in_the_white_matter(head: sitk.Image, load: TuberLoad):
    changed, same = made_hard(Difficulty.CYSTS, head, load, np.random.default_rng(0))
    before, after = (sitk.GetArrayViewFromImage(image) for image in (head, changed))
    assert same is load
    assert 300 < (before != after).sum() < 5000
    assert set(np.unique(before[before != after])) <= {2, 41}
    assert set(np.unique(after[before != after])) <= {4, 43}


def test_motion_makes_ghosts_and_slices_that_do_not_fit(head: sitk.Image):
    still, moved = (
        sitk.GetArrayFromImage(render(head, Contrast.FLAIR, spacing_xyz_mm=(2.0, 2.0, 4.0), seed=1, motion=share))
        for share in (0.0, 0.15)
    )
    air = still < np.percentile(still, 20)
    assert moved[air].mean() > 1.5 * still[air].mean()
    assert not np.array_equal(still, moved)


def test_a_cohort_with_hard_cases_names_them_and_goes_on_where_it_was_cut_off(tmp_path: Path):
    whole = synthesize_cohort(None, 4, tmp_path / "whole", seed=SEED, hard_share=1.0).parent
    cut = tmp_path / "cut"
    told: list[str] = []

    def stop(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize_cohort(None, 4, cut, seed=SEED, hard_share=1.0, tell=stop)
    assert not (cut / "labels.csv").exists()
    with pytest.raises(ModelError, match="not empty"):
        synthesize_cohort(None, 4, cut, seed=SEED)
    done = sorted((cut / "studies").iterdir())[0]
    kept = {file: file.stat().st_mtime_ns for file in done.rglob("*.dcm")}
    synthesize_cohort(None, 4, cut, seed=SEED, hard_share=1.0)
    assert {file: file.stat().st_mtime_ns for file in done.rglob("*.dcm")} == kept
    contents = [
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (whole, cut)
    ]
    assert contents[0] == contents[1]
    patients = json.loads((cut / "synthetic.json").read_text())["patients"]
    subgroups = {study.patient: study.subgroup for study in read_labels(cut / "labels.csv").studies}
    assert subgroups == {name: one["difficulty"] for name, one in patients.items()}
    with (cut / "labels.csv").open() as stream:
        first, second, *_ = [row["subgroup"] for row in csv.DictReader(stream)]
    assert first == second != Difficulty.PLAIN
    shutil.rmtree(cut)


def test_a_pair_of_hard_patients_still_differs_by_its_tubers(head: sitk.Image):
    many = place_tubers(head, MANY, np.random.default_rng(2))
    few = place_tubers(head, FEW, np.random.default_rng(2))
    for kind in HARD:
        loads = [made_hard(kind, head, load, np.random.default_rng(0))[1] for load in (few, many)]
        assert loads[1].burden_ml(Contrast.FLAIR) > 4 * loads[0].burden_ml(Contrast.FLAIR)
