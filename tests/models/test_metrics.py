"""Figures of performance agree with published examples, with hand-made ones, and never pretend to be certain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from models.training.evaluation import intervals, roc_area
from models.training.evaluation.figures import estimate_text
from models.training.evaluation.intervals import Estimate
from models.training.evaluation.metrics import (
    auc,
    bootstrap_interval,
    calibration_intercept,
    calibration_slope,
    delong_interval,
    summarise,
    youden_threshold,
)

# Hanley and McNeil 1982: ratings 1 to 5 of 58 normal and 51 abnormal CT images.
RATINGS = np.repeat([1, 2, 3, 4, 5] * 2, [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
RATED = np.repeat([0, 1], [58, 51])
FEW_LABELS, FEW_SCORES = np.array([1, 1, 1, 0, 0]), np.array([0.8, 0.6, 0.4, 0.5, 0.3])


def drawn(n: int = 60, seed: int = 0, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores whose logits are normal, `shift` apart."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return labels, expit(random.normal(size=n) + shift * (labels - 0.5))


def test_the_area_is_sklearns_with_ties_and_without():
    labels, scores = drawn()
    for values in (scores, np.round(scores, 1)):
        assert auc(labels, values) == pytest.approx(roc_auc_score(labels, values), abs=1e-12)


def test_the_count_behind_the_area_is_a_whole_number():
    assert roc_area.concordance([1, 1, 0], [0.5, 0.2, 0.2]) == 2 + 1
    assert isinstance(roc_area.concordance(RATED, RATINGS), int)


def test_one_class_has_no_area():
    with pytest.raises(ValueError, match="both classes"):
        auc([1, 1], [0.2, 0.3])


def test_delong_by_hand():
    # Placements of events 1, 1, 1/2 and of others 2/3, 1: variance (1/12)/3 + (1/18)/2 = 1/18.
    assert auc(FEW_LABELS, FEW_SCORES) == pytest.approx(5 / 6)
    assert roc_area.delong_variance(FEW_LABELS, FEW_SCORES) == pytest.approx(1 / 18)
    low, high = delong_interval(FEW_LABELS, FEW_SCORES, on_logit=False)
    assert low == pytest.approx(5 / 6 - 1.959964 * math.sqrt(1 / 18), abs=1e-6)
    assert high == 1.0


def test_delong_agrees_with_a_published_example():
    # Stata's manual, roctab on the data of Hanley and McNeil: 0.8932, standard error 0.0307, 0.83295 to 0.95339.
    assert auc(RATED, RATINGS) == pytest.approx(0.8932, abs=5e-5)
    assert math.sqrt(roc_area.delong_variance(RATED, RATINGS)) == pytest.approx(0.0307, abs=5e-5)
    assert delong_interval(RATED, RATINGS, on_logit=False) == pytest.approx((0.83295, 0.95339), abs=1e-5)


def test_delong_agrees_with_the_bootstrap():
    labels, scores = drawn(120)
    by_bootstrap = bootstrap_interval(auc, labels, scores, np.arange(120), seed=1, count=1000)
    assert delong_interval(labels, scores, on_logit=False) == pytest.approx(by_bootstrap, abs=0.02)


def test_delong_on_the_logit_scale_stays_inside():
    low, high = delong_interval(FEW_LABELS, FEW_SCORES)
    assert 0 < low < 5 / 6 < high < 1


@pytest.mark.parametrize(("labels", "scores"), [([0, 0, 1, 1], [1, 2, 3, 4]), ([0, 1, 1], [1, 1, 2])])
def test_delong_refuses_where_it_knows_nothing(labels: list[int], scores: list[int]):
    with pytest.raises(ValueError, match="DeLong"):
        delong_interval(labels, scores)


def test_studies_of_a_block_count_as_a_whole():
    labels, scores = drawn(40)
    blocks = np.tile(np.arange(40), 3)
    again = roc_area.auc_estimate(np.tile(labels, 3), np.tile(scores, 3), blocks)
    once = roc_area.auc_estimate(labels, scores, np.arange(40))
    assert again.value == pytest.approx(once.value)
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=0.01)


def test_one_block_determines_nothing():
    labels, scores = drawn(20)
    assert roc_area.auc_estimate(labels, scores, np.zeros(20)).low is None
    assert intervals.share_estimate(scores > 0.5, labels == 1, np.zeros(20)).low is None
    assert intervals.bootstrap_estimate(auc, labels, scores, np.arange(20) % 9, 0, count=20).low is None


def test_pairs_of_two_strata_are_not_compared():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    strata = [np.array([0, 1]), np.array([2, 3])]
    assert roc_area.auc_estimate(labels, scores, np.arange(4), strata).value == 1
    assert roc_area.auc_estimate(labels, scores, np.arange(4)).value == 0.75


def test_a_gain_that_cannot_vary_has_no_interval():
    labels, scores = drawn(40)
    for others in (scores, 2 * scores, scores**2):
        found = roc_area.gain_estimate(labels, scores, others, np.arange(40))
        assert (found.value, found.low, found.high) == (0, None, None)
    weaker = roc_area.gain_estimate(labels, scores, scores + np.random.default_rng(0).random(40), np.arange(40))
    assert weaker.low < weaker.value < weaker.high


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (7, 7), (3, 4), (55, 80)])
def test_wilson_agrees_with_scipy(hits: int, total: int):
    theirs = binomtest(hits, total).proportion_ci(method="wilson")
    assert intervals.wilson_interval(hits / total, total) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_share_of_alike_studies_is_wider_and_never_without_width():
    patients, right = np.repeat(np.arange(10), 4), np.repeat(np.arange(10) < 7, 4)
    everybody = np.ones(40, bool)
    alike = intervals.share_estimate(right, everybody, patients)
    single = intervals.share_estimate(right, everybody, np.arange(40))
    assert alike.high - alike.low > 1.5 * (single.high - single.low)
    for same in (right | True, np.tile([True, False], 20)):
        found = intervals.share_estimate(same, everybody, patients)
        assert found.high - found.low > 0.2


def test_an_interval_is_written_so_that_its_width_is_seen():
    assert estimate_text(Estimate(0.99997, 0.99996, 0.99999)) == "0.99997 (0.99996 to 0.99999)"
    assert estimate_text(Estimate(0.9, 0.85, 0.95)) == "0.900 (0.850 to 0.950)"


def test_the_area_that_would_go_unseen_is_where_newcombes_interval_begins_above_a_half():
    area = roc_area.least_noticed_area(20, 20)
    assert 0.65 < area < 0.75
    assert roc_area.newcombe_interval(area, 20, 20)[0] == pytest.approx(0.5, abs=1e-6)
    assert roc_area.least_noticed_area(4, 4) > 0.85


def test_perfect_scores_are_not_certain():
    labels = np.arange(20) % 2
    summary = summarise(labels, np.where(labels, 0.9, 0.1), np.arange(20), 0.5, seed=0, count=50)
    assert summary.auc.value == 1
    assert summary.auc.high == 1
    assert 0.7 < summary.auc.low < 0.9
    assert summary.auc.method.startswith("Newcombe")
    assert summary.sensitivity.low < 0.75
    assert (summary.calibration_slope.value, summary.calibration_slope.low) == (None, None)


def test_newcombes_bounds_solve_his_equation():
    # Hanley and McNeil's variance at the bound, with (m + n) / 2 - 1 in place of both m - 1 and n - 1.
    area, events, others = 0.8, 12, 8
    for bound in roc_area.newcombe_interval(area, events, others):
        pairs = 1 + 9 * (1 - bound) / (2 - bound) + 9 * bound / (1 + bound)
        error = math.sqrt(bound * (1 - bound) * pairs / (events * others))
        assert abs(area - bound) == pytest.approx(1.959964 * error, rel=1e-5)


def test_patients_are_drawn_whole_and_both_classes_stay():
    labels, patients = np.array([0, 0, 0, 1, 1]), np.array(["a", "a", "b", "c", "c"])
    for stratified in (True, False):
        sets = list(intervals.resamples(labels, patients, seed=3, count=200, stratified=stratified))
        assert len(sets) == 200
        for rows in sets:
            assert set(labels[rows]) == {0, 1}
            assert (rows == 0).sum() == (rows == 1).sum()
            assert (rows == 3).sum() == (rows == 4).sum()
    assert all((labels[rows] == 1).sum() == 2 for rows in intervals.resamples(labels, patients, seed=3, count=50))


def test_repeating_each_study_does_not_make_the_interval_narrower():
    labels, scores = drawn(40)
    once = summarise(labels, scores, np.arange(40), 0.5, seed=0, count=400)
    twice = summarise(np.tile(labels, 4), np.tile(scores, 4), np.tile(np.arange(40), 4), 0.5, seed=0, count=400)
    assert (twice.studies, twice.patients, twice.events) == (160, 40, 80)
    for name in ("auc", "sensitivity", "specificity", "ppv", "npv", "brier"):
        one, four = getattr(once, name), getattr(twice, name)
        assert one.value == pytest.approx(four.value)
        assert four.high - four.low > 0.8 * (one.high - one.low), name
    assert twice.auc.method.startswith("Obuchowski")
    assert twice.sensitivity.method == "Wilson over blocks"


def test_the_seed_decides_the_bootstrap():
    labels, scores = drawn(40)
    first, again, other = (bootstrap_interval(auc, labels, scores, np.arange(40), seed=s, count=100) for s in (1, 1, 2))
    assert first == again != other


def test_a_statistic_that_is_often_undefined_has_no_interval():
    labels, scores = drawn(20)
    seen = iter(range(10_000))
    assert bootstrap_interval(lambda *_: None if next(seen) % 10 == 0 else 1.0, labels, scores, range(20), 0) is None


def test_an_interval_without_width_is_none():
    labels, patients = np.repeat([0, 1], 10), np.repeat(np.arange(10), 2)
    found = intervals.bootstrap_estimate(auc, labels, labels.astype(float), patients, 0, count=50)
    assert (found.value, found.low, found.high) == (1, None, None)


def test_shares_by_hand():
    labels = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    scores = [0.9, 0.8, 0.7, 0.2, 0.6, 0.5, 0.1, 0.1, 0.1, 0.1]
    summary = summarise(labels, scores, range(10), 0.6, seed=0, count=20)
    counts = (summary.true_positives, summary.false_positives, summary.true_negatives, summary.false_negatives)
    assert counts == (3, 1, 5, 1)
    shares = (summary.sensitivity, summary.specificity, summary.ppv, summary.npv)
    assert [share.value for share in shares] == pytest.approx([3 / 4, 5 / 6, 3 / 4, 5 / 6])
    assert (summary.sensitivity.low, summary.sensitivity.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson
    errors = [0.01, 0.04, 0.09, 0.64, 0.36, 0.25, 0.01, 0.01, 0.01, 0.01]
    assert summary.brier.value == pytest.approx(sum(errors) / 10)


def test_no_positive_call_leaves_the_predictive_value_open():
    labels, scores = drawn(20)
    summary = summarise(labels, scores, range(20), 1.0, seed=0, count=20)
    assert (summary.ppv.value, summary.ppv.low) == (None, None)
    assert summary.sensitivity.value == 0


def test_calibration_is_perfect_where_it_was_made_so():
    random = np.random.default_rng(5)
    logit = random.normal(0, 1.5, 20_000)
    labels = random.random(20_000) < expit(logit)
    assert calibration_intercept(labels, expit(logit)) == pytest.approx(0, abs=0.05)
    assert calibration_slope(labels, expit(logit)) == pytest.approx(1, abs=0.05)
    assert calibration_slope(labels, expit(2 * logit)) == pytest.approx(0.5, abs=0.03)
    assert calibration_intercept(labels, expit(logit + 0.7)) == pytest.approx(-0.7, abs=0.05)


def test_the_interval_of_the_calibration_lets_the_share_of_events_vary():
    # Scores that say 0.5 of everyone: the intercept is the logit of the share of events, error 1 / sqrt(n p q).
    labels = np.arange(100) % 2
    summary = summarise(labels, np.full(100, 0.5), range(100), 0.5, seed=0, count=400)
    assert summary.calibration_intercept.high == pytest.approx(1.96 * 0.2, abs=0.12)


@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.8, 0.9], [0.1, 0.5, 0.5, 0.9], [0.9, 0.8, 0.2, 0.1], [0.5] * 4])
def test_separation_leaves_the_slope_open(scores: list[float]):
    assert calibration_slope([0, 0, 1, 1], scores) is None


def test_scores_at_the_ends_have_finite_calibration():
    assert math.isfinite(calibration_intercept([0, 1, 0], [0.0, 1.0, 1.0]))


@pytest.mark.parametrize(
    ("labels", "scores", "threshold"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], 0.4),
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], 0.2),  # as good as 0.7, and finds more events
        ([0, 1], [0.5, 0.5], 0.5),
    ],
)
def test_youden_by_hand(labels: list[int], scores: list[float], threshold: float):
    assert youden_threshold(labels, scores) == pytest.approx(threshold)
