"""A score averaged over stated shifts of the grid: a network reads every second voxel, and so depends on which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch.nn import functional as F

Shift = tuple[int, int, int]
SHIFTS: Final[dict[int, tuple[Shift, ...]]] = {
    1: (),
    2: ((0, 0, 0), (1, 1, 1)),
    4: ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)),
    8: tuple((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)),
}
"""By how many readings a score costs: shifts along x, y and z, by whole voxels, so that nothing is interpolated."""


def shifted(batch: torch.Tensor, shifts: Sequence[Shift]) -> Iterator[torch.Tensor]:
    """Yield network inputs moved by whole voxels, 0 where nothing comes from; the input itself where none are stated.

    Parameters
    ----------
    batch
        float32 (b, 1, z, y, x).
    shifts
        In voxels along x, y and z, at least 0.
    """
    if not shifts:
        yield batch
        return
    for x, y, z in shifts:
        depth, height, width = batch.shape[2:]
        moved = F.pad(batch, (x, 0, y, 0, z, 0))[:, :, :depth, :height, :width]
        yield moved.contiguous()
