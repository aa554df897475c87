"""The figures of the folds, beside which that of the test is to be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.bundle import open_bundle
from models.contrast import Contrast
from models.training.bundling.card_methods import methods
from models.training.bundling.cross_validation import cross_validation
from models.training.bundling.ensemble_weights import choose_weights
from models.training.bundling.training_record import TrainingRecord, WeightSearch
from models.training.cohort import INCLUDED, Case
from models.training.evaluation.predictions import Predictions
from models.training.fit.recipe import Recipe

CASES = tuple(Case(f"{n:012x}", f"P{n}", n % 2, INCLUDED) for n in range(12))
FOLDS = np.repeat([0, 1], 6)
WEIGHTS = {Contrast.T1W: 0.2, Contrast.T2W: 0.2, Contrast.FLAIR: 0.6}


def predictions() -> Predictions:
    """Return scores right in both folds, but on another scale in the second."""
    labels = np.array([case.label for case in CASES])
    scores = np.where(np.arange(12) < 6, 0.1, 0.6) + 0.2 * labels + np.arange(12) * 1e-3
    return Predictions(CASES, dict.fromkeys(Contrast, scores), FOLDS)


def test_pairs_are_counted_within_a_fold_alone():
    found = cross_validation(predictions(), WEIGHTS, 0.5)
    assert set(found.auc_by_fold) == {*tuple(Contrast), "ensemble"}
    assert found.auc_by_fold["ensemble"] == (1.0, 1.0)
    assert found.ensemble_auc == 1
    assert choose_weights(predictions()).auc == 1
    assert choose_weights(replace(predictions(), folds=None)).auc < 1


def test_a_lower_fold_does_not_choose_the_weights():
    # T1W orders each fold rightly, on two scales; FLAIR orders the folds, and nothing else.
    labels = np.array([case.label for case in CASES])
    noise = np.random.default_rng(0).random(12) * 1e-3
    right, wrong = np.where(FOLDS == 0, 0.0, 0.5) + 0.1 * labels, np.where(labels == FOLDS, 0.9, 0.1) + noise
    scores = {Contrast.T1W: right, Contrast.T2W: noise, Contrast.FLAIR: wrong}
    uneven = Predictions(CASES[:4] + CASES[6:], {c: np.delete(s, [4, 5]) for c, s in scores.items()},
                         np.delete(FOLDS, [4, 5]))  # fmt: skip
    within = choose_weights(uneven)
    assert within.weights[Contrast.T1W] == max(within.weights.values())
    assert within.auc > choose_weights(replace(uneven, folds=None)).auc


def test_the_folds_state_an_interval_the_threshold_and_the_subgroups():
    cases = tuple(replace(case, subgroup="plain" if n % 3 else "motion") for n, case in enumerate(CASES))
    scores = dict.fromkeys(Contrast, np.random.default_rng(3).random(12))
    given = Predictions(cases, scores, FOLDS)
    found = cross_validation(given, WEIGHTS, 0.5)
    ensemble = given.ensemble(WEIGHTS)
    assert found.sensitivity == (ensemble[given.labels == 1] >= 0.5).mean()
    assert found.specificity == (ensemble[given.labels == 0] < 0.5).mean()
    assert set(found.subgroup_auc) == {"motion", "plain"}
    low, high = found.ensemble_auc_interval
    assert low < found.ensemble_auc < high
    assert "plain" in found.sentence()


@pytest.mark.parametrize(("threshold", "said"), [(None, "No threshold"), (10.0, "Met"), (0.01, "Not met")])
def test_claim_7_is_about_the_loss_of_the_ensemble(threshold: float | None, said: str):
    choice = choose_weights(predictions())
    found = cross_validation(predictions(), choice.weights, 0.5)
    record = TrainingRecord(
        recipe=Recipe(loss_threshold=threshold), weight_search=WeightSearch("out_of_fold", choice),
        cross_validation=found,
    )  # fmt: skip
    rows = {subject: words for _, subject, words in methods(open_bundle("untrained-demo").metadata, record)}
    (claim,) = (words for subject, words in rows.items() if subject.startswith("Claim 7"))
    assert claim.startswith(said)
    assert f"{choice.log_loss:.3f}" in claim
    assert "within folds 1.000" in rows["Cross-validation"]
    empty = replace(record, weight_search=None, cross_validation=None)
    rows = {subject: words for _, subject, words in methods(open_bundle("untrained-demo").metadata, empty)}
    assert rows["Cross-validation"] == "not stated"
