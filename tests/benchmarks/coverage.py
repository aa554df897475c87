"""How often does an interval of 95 % hold the true AUC? ``python -m tests.benchmarks.coverage``.

Sixty patients, half with the event, scores normal within a class: one study each; three studies each, alike within a
patient; three groups of twenty, alike within a group. What lies below 93 % is a caution of the evaluation.
"""

from __future__ import annotations

import argparse
from math import sqrt

import numpy as np
from scipy.stats import norm

from models.training.evaluation.roc_area import auc_estimate

PATIENTS, SHIFT = 60, 1.5
SHARE = 0.5
"""Of the variance, that studies of a patient, or patients of a group, have in common."""


def drawn(random: np.random.Generator, studies: int, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, scores and patients; without groups each patient is one of its own."""
    patients = np.repeat(np.arange(PATIENTS), studies)
    labels = patients % 2
    common = random.normal(size=groups)[patients % groups] if groups else random.normal(size=PATIENTS)[patients]
    noise = random.normal(size=len(patients))
    # Groups differ in how far their events stand out, as sites with other scanners do.
    lift = SHIFT * labels + sqrt(SHARE) * common * (labels if groups else 1)
    return labels, lift + sqrt(1 - SHARE * (not groups)) * noise, patients


def true_auc(groups: int) -> float:
    """Return the area in the population."""
    spread = sqrt(2 + SHARE) if groups else sqrt(2)
    return float(norm.cdf(SHIFT / spread))


def coverage(studies: int, groups: int, runs: int, resamples: int) -> float:
    """Return the share of intervals that hold the true area."""
    true, hits = true_auc(groups), 0
    for run in range(runs):
        found = auc_estimate(*drawn(np.random.default_rng([run, studies, groups]), studies, groups), run, resamples)
        hits += found.low is not None and found.high is not None and found.low <= true <= found.high
    return hits / runs


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=300)
    arguments = parser.parse_args()
    for name, studies, groups in (("patients", 1, 0), ("three studies each", 3, 0), ("three groups", 1, 3)):
        found = coverage(studies, groups, arguments.runs, arguments.resamples)
        print(f"{name}: {found:.3f} of the intervals hold the true AUC {true_auc(groups):.3f}")


if __name__ == "__main__":
    main()
