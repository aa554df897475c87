"""The weights are the best of the patent's 36, chosen the same way every time."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from models.contrast import Contrast
from models.training.bundling.ensemble_weights import Candidate, choose_weights, weight_triples
from models.training.cohort import INCLUDED, Case
from models.training.evaluation.predictions import Predictions


def predictions(labels: list[int], **scores: list[float]) -> Predictions:
    cases = tuple(Case(f"{i:012x}", f"P{i}", label, INCLUDED) for i, label in enumerate(labels))
    by_sequence: dict[Contrast, np.ndarray] = {sequence: np.array(scores[sequence], float) for sequence in Contrast}
    return Predictions(cases, by_sequence)


def drawn(seed: int = 0, n: int = 40, **strength: float) -> Predictions:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    logit = {s: random.normal(size=n) + strength.get(s, 0.0) * labels for s in Contrast}
    return predictions(labels.tolist(), **{s: (1 / (1 + np.exp(-z))).tolist() for s, z in logit.items()})


def test_there_are_36_triples():
    triples = weight_triples()
    assert len(set(triples)) == len(triples) == 36
    assert all(sum(triple) == 10 and min(triple) >= 1 and max(triple) <= 8 for triple in triples)
    assert triples == sorted(triples)


def test_the_best_area_wins_and_the_whole_search_is_kept():
    given = drawn(T1W=0.5, T2W=1.0, FLAIR=1.5)
    choice = choose_weights(given)
    ensembles = {
        t: sum(i * given.scores[s] for i, s in zip(t, tuple(Contrast), strict=True)) / 10 for t in weight_triples()
    }
    areas = {t: roc_auc_score(given.labels, ensemble) for t, ensemble in ensembles.items()}
    assert choice.auc == pytest.approx(max(areas.values()), abs=1e-12)
    assert {c.tenths: c.auc for c in choice.table} == pytest.approx(areas)
    assert {c.tenths: c.log_loss for c in choice.table} == pytest.approx(
        {t: log_loss(given.labels, ensemble) for t, ensemble in ensembles.items()}
    )
    assert choice.table[0].weights == choice.weights
    assert [c.concordance for c in choice.table] == sorted((c.concordance for c in choice.table), reverse=True)


def test_weights_are_tenths_that_sum_to_one():
    choice = choose_weights(drawn(FLAIR=2.0))
    assert {round(10 * weight) / 10 for weight in choice.weights.values()} == set(choice.weights.values())
    assert sum(choice.weights.values()) == pytest.approx(1, abs=1e-12)
    assert list(choice.weights) == list(Contrast)


def test_only_one_sequence_with_signal_gets_the_largest_weight():
    for sequence in Contrast:
        weights = choose_weights(drawn(n=200, seed=4, **{sequence: 3.0})).weights
        assert max(weights, key=weights.__getitem__) == sequence


def test_a_tie_goes_to_the_smallest_log_loss():
    # Every triple separates the classes; FLAIR is the surest.
    labels = [0, 0, 1, 1]
    choice = choose_weights(
        predictions(labels, T1W=[0.4, 0.4, 0.6, 0.6], T2W=[0.4, 0.4, 0.6, 0.6], FLAIR=[0.1, 0.1, 0.9, 0.9])
    )
    assert choice.auc == 1
    assert choice.weights == {"T1W": 0.1, "T2W": 0.1, "FLAIR": 0.8}


def test_a_tie_of_both_goes_to_the_most_equal_then_to_the_first():
    # Equal sequences: every ensemble is the same but for rounding, which must not decide.
    scores = np.random.default_rng(1).random(30).tolist()
    choice = choose_weights(predictions([0, 1] * 15, T1W=scores, T2W=scores, FLAIR=scores))
    assert choice.weights == {"T1W": 0.3, "T2W": 0.3, "FLAIR": 0.4}
    assert len({c.concordance for c in choice.table}) == 1


def test_rounding_makes_no_difference_between_equal_ensembles():
    # With equal weights of T1W and FLAIR both studies have the same terms, in another order: 0.1 + 0.2 + 0.3 as floats
    # is more than 0.3 + 0.2 + 0.1.
    mirrored = predictions([0, 1], T1W=[0.3, 0.1], T2W=[0.2, 0.2], FLAIR=[0.1, 0.3])
    equal = [c for c in choose_weights(mirrored).table if c.tenths[0] == c.tenths[2]]
    assert len(equal) == 4
    assert all(c.concordance == 1 for c in equal)


def test_one_class_cannot_choose():
    with pytest.raises(ValueError, match="both classes"):
        choose_weights(predictions([1, 1], T1W=[0.1, 0.2], T2W=[0.1, 0.2], FLAIR=[0.1, 0.2]))


def test_the_ensemble_is_the_weighted_sum():
    given = predictions([0, 1], T1W=[0.2, 1.0], T2W=[0.4, 1.0], FLAIR=[0.6, 1.0])
    assert given.ensemble({Contrast.T1W: 0.1, Contrast.T2W: 0.2, Contrast.FLAIR: 0.7}) == pytest.approx([0.52, 1.0])
    assert given.ensemble({Contrast.T2W: 0.5, Contrast.FLAIR: 0.5}) == pytest.approx([0.5, 1.0])
    assert max(given.ensemble({Contrast.T1W: 0.1, Contrast.T2W: 0.1, Contrast.FLAIR: 0.8})) <= 1


def test_a_candidate_names_the_nearest_float():
    assert Candidate((1, 2, 7), 0, 0.5, 0.7).weights == {"T1W": 0.1, "T2W": 0.2, "FLAIR": 0.7}
