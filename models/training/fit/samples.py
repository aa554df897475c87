"""What a network is shown in one epoch: every image of its cases, as the original and as augmented copies."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from models.contrast import Contrast
from models.training.cohort import Case, Cohort
from models.training.fit.augment import augmented
from models.training.fit.recipe import Recipe

Batch = tuple[torch.Tensor, torch.Tensor]


class Samples(Dataset[Batch]):
    """Network inputs and labels, made when asked for.

    Parameters
    ----------
    cohort
        Read from its folder; the operating system keeps it in memory as far as there is room.
    cases, contrasts
        Every contrast of every case is an image.
    recipe
        Seed and augmentation.
    fold, epoch
        Draws depend on them, and on case, contrast and copy.
    copies
        Samples of each image; the first is the original.
    as_they_are
        Leaves the placement of the originals, too, as it is.
    """

    def __init__(
        self, cohort: Cohort, cases: tuple[Case, ...], contrasts: tuple[Contrast, ...], recipe: Recipe,
        *, fold: int, epoch: int, copies: int, as_they_are: bool = False,
    ) -> None:  # fmt: skip
        self._cohort = cohort
        self._items = [(case, contrast, copy) for case in cases for contrast in contrasts for copy in range(copies)]
        self._recipe = recipe
        self._augmented = not as_they_are
        self._fold, self._epoch = fold, epoch

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Batch:
        case, contrast, copy = self._items[index]
        label = torch.tensor(float(case.label or 0))
        tensor_zyx = self._cohort.tensor(case, contrast)
        if copy == 0 and not (self._recipe.placement and self._augmented):
            return torch.from_numpy(tensor_zyx)[None], label
        operations = self._recipe.augmentation if copy else ()
        # Turns with the epoch, so that fewer copies than operations still meet them all.
        operation = operations[(copy - 1 + self._epoch) % len(operations)] if operations else None
        key = (
            self._recipe.seed, self._fold, tuple(Contrast).index(contrast), self._epoch, int(case.case, 16), copy,
        )  # fmt: skip
        spacing = self._cohort.description.grid.spacing_xyz_mm
        mr, placement = self._recipe.mr and copy > 0, self._recipe.placement
        return augmented(tensor_zyx, operation, key, spacing, mr=mr, placement=placement)[None], label

    def batches(self, order: np.ndarray, workers: int) -> DataLoader[Batch]:
        """Return a loader of all samples in an order, in the batches of `divided`.

        Parameters
        ----------
        order
            int (n,): places of the samples.
        workers
            Processes that make them; 0: this one.
        """
        return DataLoader(
            self, batch_sampler=divided(order, self._recipe.batch), num_workers=workers, pin_memory=workers > 0
        )


def divided(order: np.ndarray, batch: int) -> list[list[int]]:
    """Return batches of at least `batch` samples, or all: batch normalisation cannot learn from a last single one.

    Parameters
    ----------
    order
        int (n,): places of the samples.
    batch
        2 or more.
    """
    return [part.tolist() for part in np.array_split(order, max(1, len(order) // batch))]
