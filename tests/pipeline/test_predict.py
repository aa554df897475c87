"""Volumes become network inputs of one shape; three scores become one finding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Calibration, Grid, TwoSequences
from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.predict import Category, Finding, ModelIdentity, combine, model_tensor

GRID = Grid(size_xyz=(256, 256, 128), spacing_xyz_mm=(1.0, 1.0, 1.5), centre="brain")
COARSE = Grid(size_xyz=(32, 32, 16), spacing_xyz_mm=(4, 4, 4), centre="brain")
MODEL = ModelIdentity(
    name="test", version="1", digest="0" * 64, notice="TEST", intended_use="Tests.", architecture="none",
    network_digests=dict.fromkeys(Contrast, "0" * 64),
)  # fmt: skip
EQUAL = dict.fromkeys(Contrast, 1 / 3)
UNIT = st.floats(0, 1)


def by_role(values) -> dict[Contrast, Any]:
    return dict(zip(Contrast, values, strict=True))


scores_of_three = st.tuples(UNIT, UNIT, UNIT).map(by_role)
weights_of_three = (
    st.tuples(*[st.floats(0.001, 1)] * 3).map(lambda parts: by_role(part / sum(parts) for part in parts))
)  # fmt: skip


# --- combine ----------------------------------------------------------------------------------------------------------


def test_patent_equation_by_hand():
    """CN114170162A [0078]: (0.5 * 0.8 + 0.3 * 0.6 + 0.2 * 0.4) / 3 = 0.66 / 3 = 0.22."""
    finding = combine(by_role([0.8, 0.6, 0.4]), by_role([0.5, 0.3, 0.2]), 0.5, MODEL)
    assert finding.score == pytest.approx(0.66, abs=1e-12)
    assert finding.score_patent == pytest.approx(0.22, abs=1e-12)
    assert finding.category is Category.AT_OR_ABOVE
    assert finding.threshold == 0.5
    assert finding.model is MODEL
    assert (finding.scores, finding.weights) == (by_role([0.8, 0.6, 0.4]), by_role([0.5, 0.3, 0.2]))


def test_each_weight_belongs_to_its_sequence():
    for role in Contrast:
        scores = dict.fromkeys(Contrast, 0.0) | {role: 1.0}
        weights = by_role([0.5, 0.3, 0.2])
        assert combine(scores, weights, 0.5, MODEL).score == pytest.approx(weights[role])


@settings(max_examples=300, deadline=None, database=None)
@given(scores=scores_of_three, weights=weights_of_three)
def test_score_stays_between_the_single_scores(scores, weights):
    finding = combine(scores, weights, 0.5, MODEL)
    assert 0 <= finding.score <= 1
    assert 0 <= finding.score_patent <= 1 / 3
    assert min(scores.values()) - 1e-12 <= finding.score <= max(scores.values()) + 1e-12


@settings(max_examples=200, deadline=None, database=None)
@given(weights=weights_of_three)
def test_certain_networks_make_a_certain_ensemble(weights):
    assert combine(dict.fromkeys(Contrast, 0.0), weights, 0.5, MODEL).score == 0
    assert combine(dict.fromkeys(Contrast, 1.0), weights, 0.5, MODEL).score == pytest.approx(1, abs=1e-12)
    assert combine(dict.fromkeys(Contrast, 1.0), weights, 0.5, MODEL).score <= 1


@settings(max_examples=200, deadline=None, database=None)
@given(scores=scores_of_three, weights=weights_of_three, role=st.sampled_from(list(Contrast)), more=UNIT)
def test_a_higher_single_score_never_lowers_the_finding(scores, weights, role, more):
    raised = scores | {role: max(scores[role], more)}
    assert combine(raised, weights, 0.5, MODEL).score >= combine(scores, weights, 0.5, MODEL).score


@settings(max_examples=300, deadline=None, database=None)
@given(scores=scores_of_three, weights=weights_of_three, threshold=UNIT)
def test_category_is_the_side_of_the_threshold_in_either_scale(scores, weights, threshold):
    finding = combine(scores, weights, threshold, MODEL)
    assert (finding.category is Category.AT_OR_ABOVE) == (finding.score >= threshold)
    if abs(finding.score - threshold) > 1e-12:  # nearer than that, a third of either may round to the same number
        assert (finding.category is Category.AT_OR_ABOVE) == (finding.score_patent >= threshold / 3)


def test_score_on_the_threshold_counts_as_reached():
    finding = combine(dict.fromkeys(Contrast, 0.5), by_role([0.5, 0.25, 0.25]), 0.5, MODEL)
    assert finding.category is Category.AT_OR_ABOVE
    below = combine(dict.fromkeys(Contrast, np.nextafter(0.5, 0)), by_role([0.5, 0.25, 0.25]), 0.5, MODEL)
    assert below.category is Category.BELOW


@pytest.mark.parametrize(
    ("scores", "weights", "patent"),
    [
        ([1, 1, 1], [0.1, 0.1, 0.8], 1 / 3),
        ([0, 0, 1], [0.1, 0.1, 0.8], 0.8 / 3),
        ([0.9, 0.1, 0.5], [0.8, 0.1, 0.1], (0.72 + 0.01 + 0.05) / 3),
        ([0.25, 0.5, 0.75], [0.2, 0.3, 0.5], (0.05 + 0.15 + 0.375) / 3),
    ],
)
def test_more_of_the_patents_equation_by_hand(scores, weights, patent):
    finding = combine(by_role(scores), by_role(weights), 0.5, MODEL)
    assert finding.score_patent == pytest.approx(patent, abs=1e-15)
    assert finding.score == pytest.approx(3 * patent, abs=1e-15)


@settings(max_examples=200, deadline=None, database=None)
@given(scores=scores_of_three, one=weights_of_three, other=weights_of_three, share=UNIT)
def test_the_score_is_linear_in_the_weights(scores, one, other, share):
    mixed = {role: share * one[role] + (1 - share) * other[role] for role in Contrast}
    parts = [combine(scores, weights, 0.5, MODEL).score for weights in (one, other)]
    assert combine(scores, mixed, 0.5, MODEL).score == pytest.approx(
        share * parts[0] + (1 - share) * parts[1], abs=1e-12
    )


@settings(max_examples=300, deadline=None, database=None)
@given(scores=scores_of_three, weights=weights_of_three, steps=st.integers(-3, 3))
def test_next_to_the_threshold_both_scales_decide_alike_but_for_what_no_double_tells(scores, weights, steps):
    """Division by 3 rounds, and keeps the order: it may make two neighbours equal, and never turns them round."""
    score = combine(scores, weights, 0.5, MODEL).score
    threshold = score
    for _ in range(abs(steps)):
        threshold = float(np.clip(np.nextafter(threshold, np.sign(steps) * np.inf), 0, 1))
    finding = combine(scores, weights, threshold, MODEL)
    assert (finding.category is Category.AT_OR_ABOVE) == (score >= threshold)
    if finding.category is Category.AT_OR_ABOVE:
        assert finding.score_patent >= threshold / 3
    else:
        assert finding.score_patent <= threshold / 3


@settings(max_examples=100, deadline=None, database=None)
@given(scores=scores_of_three, weights=weights_of_three, order=st.permutations(list(Contrast)))
def test_the_order_of_the_sequences_does_not_count(scores, weights, order):
    turned_scores, turned_weights = ({role: values[role] for role in order} for values in (scores, weights))
    assert combine(turned_scores, turned_weights, 0.5, MODEL).score == combine(scores, weights, 0.5, MODEL).score


def test_equal_scores_on_the_threshold_reach_it_whatever_the_weights():
    """36 triples of tenths: 0.1 + 0.2 + 0.7 is not 1 in doubles, their sum over equal scores is."""
    for i in range(1, 9):
        for j in range(1, 10 - i):
            weights = by_role([i / 10, j / 10, (10 - i - j) / 10])
            for score in (0.5, 0.25, 0.75):
                assert combine(dict.fromkeys(Contrast, score), weights, score, MODEL).category is Category.AT_OR_ABOVE


# --- folds, calibration, two sequences --------------------------------------------------------------------------------

FOLDS = by_role([(0.2, 0.4), (0.5, 0.5), (0.9, 0.7)])
MEANS = by_role([0.3, 0.5, 0.8])


def test_spread_over_folds_by_hand():
    """Fold 1: 0.5 * 0.2 + 0.3 * 0.5 + 0.2 * 0.9 = 0.43; fold 2: 0.5 * 0.4 + 0.3 * 0.5 + 0.2 * 0.7 = 0.49."""
    finding = combine(MEANS, by_role([0.5, 0.3, 0.2]), 0.5, MODEL, members=FOLDS)
    whole, alone = finding.spread(), finding.spread(Contrast.T1W)
    assert (whole.folds, whole.low, whole.high) == (2, pytest.approx(0.43), pytest.approx(0.49))
    assert whole.sd == pytest.approx(0.06 / np.sqrt(2))
    assert finding.score == pytest.approx((0.43 + 0.49) / 2)
    assert (alone.low, alone.high, alone.sd) == (0.2, 0.4, pytest.approx(0.2 / np.sqrt(2)))
    assert finding.spread(Contrast.T2W).sd == 0


def test_one_network_has_no_spread():
    assert combine(MEANS, EQUAL, 0.5, MODEL).spread() is None
    single = combine(MEANS, EQUAL, 0.5, MODEL, members={role: (MEANS[role],) for role in Contrast})
    assert single.spread() is None
    assert single.spread(Contrast.FLAIR) is None


def test_only_a_bundle_with_calibration_gives_a_probability():
    assert combine(MEANS, EQUAL, 0.5, MODEL).calibrated is None
    calibration = Calibration(method="platt", slope=2.0, intercept=-0.5, patients=76)
    calibrated = combine(dict.fromkeys(Contrast, 0.8), EQUAL, 0.5, MODEL, calibration=calibration).calibrated
    assert calibrated.probability == pytest.approx(1 / (1 + np.exp(-(2 * np.log(4) - 0.5))))
    assert (calibrated.method, calibrated.patients) == ("platt", 76)
    for score in (0.0, 1.0):
        certain = combine(dict.fromkeys(Contrast, score), EQUAL, 0.5, MODEL, calibration=calibration).calibrated
        assert certain.probability == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("role", list(Contrast))
def test_two_sequences_have_weights_of_their_own(role):
    scores = {other: 0.6 for other in Contrast if other is not role}
    weights = dict(zip(scores, (0.75, 0.25), strict=True))
    mode = TwoSequences(weights=weights, threshold=0.4, patients=40, auc=0.7)
    finding = combine(scores, weights, 0.4, MODEL, two_sequences=mode)
    assert finding.score == pytest.approx(0.6)
    assert (finding.missing, set(finding.sequences)) == ((role,), set(scores))
    with pytest.raises(ValueError, match="cannot be combined"):
        combine(scores, EQUAL, 0.4, MODEL, two_sequences=mode)
    with pytest.raises(ValueError, match="cannot be combined"):
        combine(scores, weights, 0.4, MODEL)
    with pytest.raises(ValueError, match="cannot be combined"):
        combine(scores | {role: 0.5}, EQUAL, 0.4, MODEL, two_sequences=mode)


@pytest.mark.parametrize("role", list(Contrast))
def test_missing_sequence_gives_no_score(role):
    scores = {other: 0.5 for other in Contrast if other is not role}
    with pytest.raises(ValueError, match="cannot be combined"):
        combine(scores, EQUAL, 0.5, MODEL)


def test_finding_keeps_its_own_copy():
    scores = by_role([0.8, 0.6, 0.4])
    finding: Finding = combine(scores, EQUAL, 0.5, MODEL)
    scores[Contrast.T1W] = 0.0
    assert finding.scores[Contrast.T1W] == 0.8


# --- model tensor -----------------------------------------------------------------------------------------------------


def head(size=(60, 64, 40), spacing=(4.0, 4.0, 5.0), bright_left: float = 0.0) -> tuple[sitk.Image, sitk.Image]:
    """Return an ellipsoid of noise in a bright frame, and its mask, on axial planes of LPS axes."""
    z, y, x = np.indices(size[::-1]).astype(float)
    mm = [(axis - (n - 1) / 2) * step for axis, n, step in zip((x, y, z), size, spacing, strict=True)]
    inside = (mm[0] / 68) ** 2 + (mm[1] / 85) ** 2 + (mm[2] / 65) ** 2 <= 1
    values = np.where(inside, np.random.default_rng(1).normal(500, 60, inside.shape), 2000.0)
    values += bright_left * (inside & (mm[0] > 20))
    volume, mask = sitk.GetImageFromArray(values.astype(np.float32)), sitk.GetImageFromArray(inside.astype(np.uint8))
    for image in (volume, mask):
        image.SetSpacing(spacing)
        image.SetOrigin((-100.0, -90.0, -70.0))
    return volume, mask


def test_tensor_has_the_shape_of_the_grid_in_z_y_x():
    tensor = model_tensor(*head(), GRID, (0.5, 99.5))
    assert tensor.shape == (128, 256, 256)
    assert tensor.dtype == np.float32
    inside = tensor != 0
    assert inside.mean() * np.prod([256, 256, 192]) == pytest.approx(4 / 3 * np.pi * 68 * 85 * 65, rel=0.03)
    assert tensor[inside].mean() == pytest.approx(0, abs=1e-4)
    assert tensor[inside].std() == pytest.approx(1, abs=1e-3)
    edge_x, edge_y = 128 - 72, 128 - 89
    outside = (tensor[..., :edge_x], tensor[..., -edge_x:], tensor[:, :edge_y], tensor[:, -edge_y:])
    assert not any(part.any() for part in outside)


def test_tensor_runs_from_left_to_right():
    tensor = model_tensor(*head(bright_left=400.0), GRID, (0.5, 99.5))
    left, right = tensor[:, :, :100], tensor[:, :, 156:]
    assert left[left != 0].mean() > 0.5
    assert right[right != 0].mean() < -0.2


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "LSA"])
def test_order_of_stored_axes_does_not_change_the_tensor(orientation):
    volume, mask = head()
    expected = model_tensor(volume, mask, GRID, (0.5, 99.5))
    turned_volume, turned_mask = (sitk.DICOMOrient(image, orientation) for image in (volume, mask))
    np.testing.assert_allclose(model_tensor(turned_volume, turned_mask, GRID, (0.5, 99.5)), expected, atol=1e-3)


def test_brain_beyond_the_grid_is_refused():
    with pytest.raises(StudyHeld) as held:
        model_tensor(*head(spacing=(9.0, 9.0, 11.0), size=(60, 64, 40)), COARSE, (0.5, 99.5))
    assert held.value.code == "geometry_brain_outside_grid"


def test_brain_without_contrast_is_refused():
    volume, mask = head()
    with pytest.raises(StudyHeld) as held:
        model_tensor(volume * 0 + 5, mask, GRID, (0.5, 99.5))
    assert held.value.code == "intensity_constant"
