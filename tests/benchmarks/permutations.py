"""Would a leak be seen? ``python -m tests.benchmarks.permutations COHORT [--permutations 200]``.

The split, the folds, the choice of weights and the test of a training, with a logistic regression on four figures of
each image in place of a network: once with the true labels, then with labels exchanged between patients. What leaks
from the test into the training lifts the AUC of exchanged labels above a half. It takes a second for each.

The same figures say how hard a made cohort is: the AUC of the share of bright voxels alone, by difficulty.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from math import sqrt
from pathlib import Path

import numpy as np
from scipy.stats import kurtosis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.bundle import ModelError
from models.contrast import Contrast
from models.training.bundling.ensemble_weights import choose_weights
from models.training.cohort import Case, Cohort, open_cohort
from models.training.evaluation.predictions import Predictions
from models.training.evaluation.roc_area import auc, auc_estimate, least_noticed_area
from models.training.fit.folds import split
from models.training.train import shuffled

BRIGHT = 2.0
"""Standard deviations of the brain."""
FOLDS, TEST_SHARE = 2, 0.2
SIGN_OF_LEAK = 3.0
"""Standard errors by which the mean of exchanged labels lies above a half."""
Figures = Mapping[str, Mapping[Contrast, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Permutations:
    """What exchanged labels reach.

    Attributes
    ----------
    auc
        With the true labels, on the test patients.
    permutations, mean, deviation, highest
        How many labellings were tried, and the AUC that they reach.
    p
        Share of the labellings, the true one included, that reach what the true one does.
    unseen_below
        A leak whose AUC is smaller would not be seen in half of the cases.
    """

    auc: float
    permutations: int
    mean: float
    deviation: float
    highest: float
    p: float
    unseen_below: float

    @property
    def leaks(self) -> bool:
        """Whether exchanged labels are learnt better than by chance."""
        return self.mean - 0.5 > SIGN_OF_LEAK * self.deviation / sqrt(self.permutations)

    def sentence(self) -> str:
        """Return the figures in words."""
        sign = "A sign of a leak" if self.leaks else "No sign of a leak"
        return (
            f"{sign}: over {self.permutations} exchanges of labels the AUC is {self.mean:.3f} in the mean (SD "
            f"{self.deviation:.3f}, highest {self.highest:.3f}); {self.auc:.3f} with the true, p = {self.p:.3f}. "
            f"A leak below AUC {self.unseen_below:.2f} would go unseen in half of the cases by one such test"
        )


def figures_of(cohort: Cohort) -> dict[str, dict[Contrast, np.ndarray]]:
    """Return four figures of each image, by case and contrast: shares bright and dark, a percentile, the kurtosis."""
    return {case.case: {c: _figures(cohort.tensor(case, c)) for c in Contrast} for case in cohort.included}


def permuted(cohort: Cohort, figures: Figures, count: int, seed: int = 0) -> Permutations:
    """Return what exchanged labels reach beside the true ones."""
    true, events, others = tested(cohort, figures, seed)
    found = np.array([*islice(_exchanged(cohort, figures, seed), count)])
    p = (1 + int((found >= true).sum())) / (1 + count)
    spread = float(found.std(ddof=1))
    return Permutations(
        true, count, float(found.mean()), spread, float(found.max()), p, least_noticed_area(events, others)
    )


def _exchanged(cohort: Cohort, figures: Figures, seed: int) -> Iterator[float]:
    for draw in itertools.count(1):
        try:
            yield tested(shuffled(cohort, draw), figures, seed)[0]
        except ModelError:  # of a small cohort: a part would lack an outcome
            continue


def tested(cohort: Cohort, figures: Figures, seed: int) -> tuple[float, int, int]:
    """Return the AUC on test patients of an ensemble of regressions, and how many blocks have each outcome."""
    parts = split(cohort.included, test_share=TEST_SHARE, folds=FOLDS, seed=seed)
    scores = {
        contrast: np.concatenate(
            [_scores(figures, parts.training(fold), cases, contrast) for fold, cases in enumerate(parts.folds)]
        )
        for contrast in Contrast
    }
    folds = np.repeat(np.arange(FOLDS), [len(cases) for cases in parts.folds])
    weights = choose_weights(Predictions(parts.development, scores, folds)).weights
    on_test = {c: _scores(figures, parts.development, parts.test, c) for c in Contrast}
    test = Predictions(parts.test, on_test)
    blocks, labels = test.blocks, test.labels
    by_outcome = [len(np.unique(blocks[labels == label])) for label in (1, 0)]
    return auc(labels, test.ensemble(weights)), by_outcome[0], by_outcome[1]


def brightness(cohort: Cohort, figures: Figures) -> dict[str, dict[str, float | None]]:
    """Return the AUC of the share of bright voxels alone, by difficulty and contrast: how much a look gives away."""
    table: dict[str, dict[str, float | None]] = {}
    for name in ["all", *sorted({case.subgroup for case in cohort.included} - {""})]:
        cases = [case for case in cohort.included if name in ("all", case.subgroup)]
        labels = np.array([case.label for case in cases])
        both = len(set(labels)) == 2
        shares = {c: np.array([figures[case.case][c][0] for case in cases]) for c in Contrast}
        found = {str(c): auc_estimate(labels, s, np.arange(len(s))).value if both else None for c, s in shares.items()}
        table[name] = {"patients": len(cases), **found}
    return table


def _figures(tensor_zyx: np.ndarray) -> np.ndarray:
    brain = tensor_zyx[tensor_zyx != 0]
    bright, dark = float((brain > BRIGHT).mean()), float((brain < -BRIGHT).mean())
    return np.array([bright, dark, float(np.percentile(brain, 99)), float(kurtosis(brain))])


def _scores(figures: Figures, training: tuple[Case, ...], cases: tuple[Case, ...], contrast: Contrast) -> np.ndarray:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit([figures[case.case][contrast] for case in training], [case.label for case in training])
    return np.asarray(model.predict_proba([figures[case.case][contrast] for case in cases])[:, 1])


def main() -> None:
    """Exchange labels and print; exit code 1 at a sign of a leak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cohort = open_cohort(arguments.cohort)
    figures = figures_of(cohort)
    found, bright = permuted(cohort, figures, arguments.permutations, arguments.seed), brightness(cohort, figures)
    if arguments.json:
        print(json.dumps({"permutations": asdict(found) | {"sentence": found.sentence()}, "brightness": bright}))
    else:
        print(found.sentence())
        for name, by_contrast in bright.items():
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in by_contrast.items()))
    raise SystemExit(1 if found.leaks else 0)


if __name__ == "__main__":
    main()
