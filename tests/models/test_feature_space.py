"""A feature space says how far a study lies from the cohort, inside and outside of its axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.bundle import ModelError
from models.contrast import Contrast
from models.feature_space import Axes, distance, fit_feature_space, load_axes, save_axes

SPREAD = np.array([5.0, 2.0, 1.0, *[0.1] * 7])


def cohort(patients: int = 400, seed: int = 0) -> np.ndarray:
    """Return features of ten channels, the first three of which vary most."""
    return 3 + np.random.default_rng(seed).normal(size=(patients, 10)) * SPREAD


def test_axes_and_variances_are_those_of_the_cohort():
    axes = fit_feature_space(cohort(4000), 3)
    assert axes.mean == pytest.approx(np.full(10, 3), abs=0.3)
    assert np.sqrt(axes.variances) == pytest.approx(SPREAD[:3], rel=0.05)
    assert np.abs(axes.axes) == pytest.approx(np.eye(3, 10), abs=0.1)
    assert axes.axes @ axes.axes.T == pytest.approx(np.eye(3), abs=1e-5)
    assert {part.dtype for part in (axes.mean, axes.axes, axes.variances)} == {np.dtype(np.float32)}


def test_distance_is_mahalanobis_along_and_beyond_the_axes():
    axes = Axes(np.array([1.0, 1, 1]), np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([4.0, 0.25]))
    assert distance(axes, np.array([1.0, 1, 1])) == 0
    assert distance(axes, np.array([5.0, 1, 1])) == pytest.approx(2)
    assert distance(axes, np.array([1.0, 2, 1])) == pytest.approx(2)
    assert distance(axes, np.array([1.0, 1, 2])) == pytest.approx(2), "with the smallest variance"
    assert distance(axes, np.array([5.0, 2, 2])) == pytest.approx(np.sqrt(12))


def test_all_axes_give_the_mahalanobis_distance_of_the_whole_covariance():
    features = cohort() / np.sqrt(SPREAD)
    axes = fit_feature_space(features, 10)
    stranger = features[0] + 1
    away = stranger - features.mean(axis=0)
    expected = np.sqrt(away @ np.linalg.solve(np.cov(features.T), away))
    assert distance(axes, stranger) == pytest.approx(expected, rel=0.02)


def test_one_of_the_cohort_is_near_and_what_leaves_its_span_is_far():
    axes = fit_feature_space(cohort(), 3)
    usual = np.quantile([distance(axes, row) for row in cohort(seed=1)], 0.975)
    beyond = np.zeros(10)
    beyond[9] = 40
    assert distance(axes, 3 + beyond) > 3 * usual
    assert distance(axes, 3 + 8 * SPREAD * np.eye(10)[0]) > usual


def test_fewer_patients_than_features_and_equal_patients():
    wide = np.random.default_rng(0).normal(size=(12, 1280))
    assert fit_feature_space(wide).axes.shape[0] <= 11
    assert fit_feature_space(wide, 500).axes.shape == (11, 1280)
    same = fit_feature_space(np.ones((3, 5)))
    assert distance(same, np.ones(5)) == 0
    assert distance(same, np.zeros(5)) > 1e3
    assert len(fit_feature_space(cohort()).variances) == 2, "90 % of the variance"


@pytest.mark.parametrize("features", [np.ones((1, 4)), np.ones(4), np.full((3, 4), np.nan)])
def test_features_of_no_cohort_are_refused(features: np.ndarray):
    with pytest.raises(ValueError, match="features"):
        fit_feature_space(features)


def test_no_component_is_refused():
    with pytest.raises(ValueError, match="component"):
        fit_feature_space(cohort(), 0)


def test_a_file_holds_the_spaces_of_all_sequences(tmp_path: Path):
    spaces = {sequence: fit_feature_space(cohort(seed=seed), 2) for seed, sequence in enumerate(tuple(Contrast))}
    save_axes(tmp_path / "features.safetensors", spaces)
    read = load_axes(tmp_path / "features.safetensors")
    for sequence in Contrast:
        assert distance(read[sequence], cohort()[0]) == distance(spaces[sequence], cohort()[0])
    assert [path.name for path in tmp_path.iterdir()] == ["features.safetensors"]
    with pytest.raises(ValueError, match="FLAIR"):
        save_axes(tmp_path / "other.safetensors", {Contrast.T1W: spaces[Contrast.T1W]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLAIR.mean", None),
        ("T2W.axes", np.eye(3, 4)),
        ("T1W.variances", np.zeros(2)),
        ("T1W.mean", np.full(10, np.inf)),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(tmp_path: Path, name: str, value: np.ndarray | None):
    file = tmp_path / "features.safetensors"
    save_axes(file, {sequence: fit_feature_space(cohort(), 2) for sequence in Contrast})
    tensors = load_file(file) | {name: value}
    save_file({key: array for key, array in tensors.items() if array is not None}, file)
    with pytest.raises(ModelError) as caught:
        load_axes(file)
    assert caught.value.code == "feature_space_unfit"
    file.write_bytes(b"nothing")
    with pytest.raises(ModelError):
        load_axes(file)
