"""Set test patients aside and divide the others into folds, so that no patient and no group stands on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from models.bundle import ModelError
from models.training.blocks import independent_blocks
from models.training.cohort import Case

OUTCOMES: Final = (0, 1)
"""Labels of a case that trains or tests."""
_PARTITIONS_TRIED: Final = 64
"""Draws before a cohort counts as too small; a draw takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Split:
    """A partition of labelled cases.

    Attributes
    ----------
    test
        Set aside: neither trains nor chooses anything.
    folds
        The development cases, divided; each fold is left out of one training.
    """

    test: tuple[Case, ...]
    folds: tuple[tuple[Case, ...], ...]

    @property
    def development(self) -> tuple[Case, ...]:
        """All cases that are not test cases, in the order of the folds."""
        return tuple(case for fold in self.folds for case in fold)

    def training(self, fold: int) -> tuple[Case, ...]:
        """Return the development cases outside one fold.

        Parameters
        ----------
        fold
            Number from 0; one that no fold has leaves none out.
        """
        return tuple(case for number, cases in enumerate(self.folds) if number != fold for case in cases)


def split(cases: Sequence[Case], *, test_share: float, folds: int, seed: int) -> Split:
    """Return test cases and folds, stratified by label; the same for the same cases in any order.

    Parameters
    ----------
    cases
        Those without a label or left out of the cohort take no part.
    test_share
        Of all patients, above 0 and at most 0.5; it is rounded to one of 1/k, since one of ``round(1 / test_share)``
        parts is taken, and patients and groups that stay together move it further.
    folds
        How many, 2 or more.
    seed
        Of the draw.

    Raises
    ------
    ModelError
        ``cohort_one_class`` if all cases have one label, ``cohort_too_small`` if a part would lack one.
    """
    known = tuple(sorted((c for c in cases if c.included and c.label is not None), key=lambda case: case.case))
    if len({case.label for case in known}) < len(OUTCOMES):
        raise ModelError("cohort_one_class", "All cases have the same label: a cohort needs both outcomes.")
    test, *others = _partition(known, round(1 / test_share), seed, f"a test share of {test_share:g}")
    rest = tuple(case for part in others for case in part)
    return Split(test, _partition(rest, folds, seed, f"{folds} folds"))


def _partition(cases: tuple[Case, ...], parts: int, seed: int, purpose: str) -> tuple[tuple[Case, ...], ...]:
    """Return the first of several drawn partitions in which every part has both labels."""
    blocks, labels = independent_blocks(cases), np.array([case.label for case in cases])
    if min(len(set(blocks[labels == label])) for label in OUTCOMES) >= parts:
        for attempt in range(_PARTITIONS_TRIED):
            drawn = np.random.SeedSequence([seed, parts, attempt]).generate_state(1)[0]
            splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=int(drawn))
            found = [chosen for _, chosen in splitter.split(labels, labels, blocks)]
            if all(len(set(labels[rows])) == len(OUTCOMES) for rows in found):
                return tuple(tuple(cases[row] for row in rows) for rows in found)
    raise ModelError(
        "cohort_too_small",
        f"{len(cases)} cases in {len(set(blocks))} independent groups do not suffice for {purpose} with both outcomes "
        "in every part: use fewer folds or a larger cohort.",
    )
