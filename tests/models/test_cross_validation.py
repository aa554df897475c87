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
from models.training.fit.folds import Split
from models.training.fit.recipe import Recipe

CASES = tuple(Case(f"{n:012x}", f"P{n}", n % 2, INCLUDED) for n in range(12))
PARTS = Split((), (CASES[:6], CASES[6:]))
WEIGHTS = {Contrast.T1W: 0.2, Contrast.T2W: 0.2, Contrast.FLAIR: 0.6}


def predictions() -> Predictions:
    """Return scores right in both folds, but on another scale in the second."""
    labels = np.array([case.label for case in CASES])
    scores = np.where(np.arange(12) < 6, 0.1, 0.6) + 0.2 * labels + np.arange(12) * 1e-3
    return Predictions(CASES, dict.fromkeys(Contrast, scores))


def test_pairs_are_counted_within_a_fold_alone():
    found = cross_validation(predictions(), WEIGHTS, PARTS)
    assert set(found.auc_by_fold) == {*tuple(Contrast), "ensemble"}
    assert found.auc_by_fold["ensemble"] == (1.0, 1.0)
    assert found.ensemble_auc == 1
    assert choose_weights(predictions()).auc < 1


@pytest.mark.parametrize(("threshold", "said"), [(None, "No threshold"), (10.0, "Met"), (0.01, "Not met")])
def test_claim_7_is_about_the_loss_of_the_ensemble(threshold: float | None, said: str):
    choice = choose_weights(predictions())
    found = cross_validation(predictions(), choice.weights, PARTS)
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
