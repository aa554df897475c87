"""How often does an interval of 95 % hold the true figure? ``python -m tests.benchmarks.coverage``.

Sixty patients, half with the event, scores normal within a class: one study each; three studies each, alike within a
patient; groups of patients that are alike, or whose shares of events differ as those of sites do. AUC, and sensitivity
at the middle between the classes. Bar: 93 to 97 %; with fewer than ten groups intervals may be wider,
and the evaluation says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import norm

from models.training.evaluation.intervals import BLOCKS_MIN, Estimate, share_estimate
from models.training.evaluation.roc_area import auc_estimate

PATIENTS, SHIFT = 60, 1.5
SHARE = 0.5
"""Of the variance, that studies of a patient, or patients of a group, have in common."""
BARS = 0.93, 0.97
BAND = 1.96
"""Simulated shares have errors of their own: half a percent each way at 2000 runs."""


@dataclass(frozen=True, slots=True)
class Design:
    """How patients are drawn: studies of each, groups (0: none), and whether groups differ in how many have events."""

    name: str
    studies: int = 1
    groups: int = 0
    uneven: bool = False

    def drawn(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return labels, scores and blocks."""
        patients = np.repeat(np.arange(PATIENTS), self.studies)
        blocks = patients // 2 % self.groups if self.groups else patients
        labels = patients % 2
        if self.uneven:
            chance = 0.25 + 0.5 * (np.arange(self.groups) % 2)
            labels = (random.random(PATIENTS) < chance[blocks]).astype(int)
        common = random.normal(size=blocks.max() + 1)[blocks]
        noise = random.normal(size=len(patients))
        if not self.groups:
            return labels, SHIFT * labels + sqrt(SHARE) * common + sqrt(1 - SHARE) * noise, blocks
        # Groups differ in how far their events stand out, as sites with other scanners do.
        return labels, (SHIFT + sqrt(SHARE) * common) * labels + noise, blocks

    @property
    def truth(self) -> dict[str, float]:
        """AUC and sensitivity in the population."""
        extra = SHARE if self.groups else 0.0
        return {
            "AUC": float(norm.cdf(SHIFT / sqrt(2 + extra))),
            "sensitivity": float(norm.cdf(SHIFT / 2 / sqrt(1 + extra))),
        }


DESIGNS = (
    Design("60 patients"),
    Design("60 patients, three studies each", studies=3),
    *(Design(f"60 patients of {groups} groups", groups=groups) for groups in (3, 5, 8, 20)),
    Design("60 patients of 10 groups with other shares of events", groups=10, uneven=True),
)


def found_by(design: Design, random: np.random.Generator) -> dict[str, Estimate]:
    """Return the estimates of one draw; none where it has one class alone."""
    labels, scores, blocks = design.drawn(random)
    if not 0 < labels.sum() < len(labels):
        return {}
    shares = share_estimate(scores >= SHIFT / 2, labels == 1, blocks)
    return {"AUC": auc_estimate(labels, scores, blocks), "sensitivity": shares}


def coverage(design: Design, runs: int) -> dict[str, float]:
    """Return the share of intervals that hold the truth, by figure; a figure without an interval counts as a miss."""
    hits = dict.fromkeys(design.truth, 0)
    for run in range(runs):
        found = found_by(design, np.random.default_rng([run, design.studies, design.groups, design.uneven]))
        for name, one in found.items():
            hits[name] += one.low is not None and one.high is not None and one.low <= design.truth[name] <= one.high
    return {name: count / runs for name, count in hits.items()}


def met(design: Design, share: float, runs: int) -> bool:
    """Return whether a share agrees with the bars within its own error; of few groups the caution says: too wide."""
    error = BAND * sqrt(0.05 * 0.95 / runs)
    cautioned = 0 < design.groups < BLOCKS_MIN
    return BARS[0] - error <= share and (cautioned or share <= BARS[1] + error)


def main() -> None:
    """Simulate and print; exit code 1 if an interval misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    table = {design.name: coverage(design, arguments.runs) for design in DESIGNS}
    if arguments.json:
        print(json.dumps(table, indent=2))
    else:
        for name, by_figure in table.items():
            print(f"{name}: " + ", ".join(f"{figure} {share:.3f}" for figure, share in by_figure.items()))
    sys.exit(0 if all(met(d, share, arguments.runs) for d in DESIGNS for share in table[d.name].values()) else 1)


if __name__ == "__main__":
    main()
