"""Calibration finds the distortion that was put in, counts patients once, and refuses what it cannot know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from models.bundle import Calibration, ModelError
from models.calibration import calibrated
from models.training.bundling.fit_calibration import fit_calibration
from models.training.evaluation.metrics import calibration_intercept, calibration_slope


def distorted(n: int = 20_000, slope: float = 2.0, shift: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from true logits, and scores whose logits are `slope` times those plus `shift`."""
    random = np.random.default_rng(2)
    true = random.normal(0, 1.5, n)
    return (random.random(n) < expit(true)).astype(int), expit(slope * true + shift)


def test_platt_undoes_a_linear_distortion():
    labels, scores = distorted()
    found = fit_calibration("platt", scores, labels, np.arange(len(labels)))
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(-0.4, abs=0.06)
    assert found.patients == len(labels)
    after = [calibrated(found, float(score)) for score in scores]
    assert calibration_slope(labels, after) == pytest.approx(1, abs=1e-3)
    assert calibration_intercept(labels, after) == pytest.approx(0, abs=1e-3)


def test_temperature_has_no_intercept():
    labels, scores = distorted(shift=0.0)
    found = fit_calibration("temperature", scores, labels, np.arange(len(labels)))
    assert (found.method, found.intercept) == ("temperature", 0)
    assert found.slope == pytest.approx(0.5, abs=0.03)


def test_a_patient_counts_once_however_many_studies():
    labels, scores = distorted(60)
    once = fit_calibration("platt", scores, labels, np.arange(60))
    repeats = np.where(np.arange(60) < 20, 3, 1)
    again = fit_calibration(
        "platt", np.repeat(scores, repeats), np.repeat(labels, repeats), np.repeat(np.arange(60), repeats)
    )
    assert (again.slope, again.intercept) == pytest.approx((once.slope, once.intercept), rel=1e-4)
    assert again.patients == 60


@pytest.mark.parametrize(
    ("method", "labels", "scores", "reason"),
    [
        ("platt", [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "separate"),
        ("temperature", [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7], "separate"),
        ("platt", [0, 1, 0, 1], [0.4, 0.1, 0.9, 0.8], "do not mean more"),
        ("temperature", [1, 1, 1, 0], [0.1, 0.2, 0.6, 0.7], "do not mean more"),
        ("platt", [1, 1, 1], [0.1, 0.2, 0.3], "same label"),
    ],
)
def test_what_cannot_be_fitted_is_refused(method, labels: list[int], scores: list[float], reason: str):
    with pytest.raises(ModelError, match=reason) as caught:
        fit_calibration(method, scores, labels, range(len(labels)))
    assert caught.value.code == "calibration_unfit"


def test_temperature_is_possible_where_only_a_shifted_cut_separates():
    # Separated at 0.25, but a slope without intercept cannot use that: its likelihood has a maximum.
    found = fit_calibration("temperature", [0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1], range(4))
    assert 0 < found.slope < 100


def test_the_probability_by_hand():
    platt = Calibration(method="platt", slope=2, intercept=-1, patients=10)
    assert calibrated(platt, 0.5) == pytest.approx(1 / (1 + math.e))
    assert calibrated(platt, 0.8) == pytest.approx(1 / (1 + math.exp(-(2 * math.log(4) - 1))))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_at_the_ends_give_probabilities(score: float):
    found = calibrated(Calibration(method="platt", slope=60, intercept=0, patients=10), score)
    assert found == pytest.approx(score, abs=1e-6)
    assert 0 <= found <= 1


def test_a_higher_score_is_a_higher_probability():
    temperature = Calibration(method="temperature", slope=0.7, intercept=0, patients=10)
    found = [calibrated(temperature, score) for score in np.linspace(0, 1, 101)]
    assert found == sorted(found)
