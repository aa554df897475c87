"""Things that are no head, as tissue maps on a head's grid: their right mask is empty.

Random solids and foams stand for phantoms, fruit and whatever else is put into a scanner; heads without their brain
and the neck alone show that scalp and bone around something do not make a brain of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_FEWEST_SLICES = 24
"""Of neck and face: where fewer lie below the brain, another thing is drawn."""


class NonHeads:
    """Draws tissue maps of things that are no head.

    Parameters
    ----------
    tissues
        How many tissues there are; 0 is air.
    random
        Source of all that is random here.
    """

    def __init__(self, tissues: int, random: torch.Generator) -> None:
        self.tissues = tissues
        self.random = random
        self._changes: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
            self._solids, self._foam, self._hollow_head, self._below_the_brain,
        )  # fmt: skip

    def draw(self, tissue: Tensor, brain: Tensor) -> Tensor:
        """Return a tissue map of the size of a head's, without a brain.

        Parameters
        ----------
        tissue, brain
            A head: uint8 (1, 1, z, y, x), tissue indices and 1 inside the brain.

        Returns
        -------
        torch.Tensor
            uint8 (1, 1, z, y, x), tissue indices.
        """
        return self._changes[self._integer(0, len(self._changes))](tissue, brain)

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def _integer(self, start: int, stop: int) -> int:
        return int(torch.randint(start, stop, (), generator=self.random))

    def _tissue(self) -> int:
        return self._integer(1, self.tissues)

    def _depth(self, size: tuple[int, ...]) -> Tensor:
        """Return the distance from the middle of a dented superquadric in units of its radii."""
        power, column = self._uniform(0.7, 7), self._uniform(0, 1) < 0.3
        parts = []
        for axis, n in enumerate(size):
            radius = self._uniform(0.35, 0.95) * (10.0 if column and axis == 0 else 1.0)
            along = (torch.linspace(-1, 1, n) - self._uniform(-0.15, 0.15)).abs() / radius
            parts.append((along**power).reshape([-1 if a == axis else 1 for a in range(len(size))]))
        cells = self._integer(3, 9)
        dents = torch.randn(1, 1, cells, cells, cells, generator=self.random)
        dents = F.interpolate(dents, size=size, mode="trilinear", align_corners=True)[0, 0]
        return (parts[0] + parts[1] + parts[2]) ** (1 / power) + self._uniform(0, 0.15) * dents

    def _solids(self, tissue: Tensor, _brain: Tensor) -> Tensor:
        """Return one to three bodies of one to five layers."""
        thing = torch.zeros_like(tissue)
        for _ in range(self._integer(1, 4)):
            depth, layer = self._depth(tuple(tissue.shape[2:])), 1.0
            for _ in range(self._integer(1, 6)):
                thing[0, 0].masked_fill_(depth < layer, self._tissue())
                layer *= self._uniform(0.5, 0.98)
        return thing

    def _foam(self, tissue: Tensor, _brain: Tensor) -> Tensor:
        """Return a body of cells, each of one tissue, with or without a skin."""
        size = tuple(tissue.shape[2:])
        cells = F.interpolate(self._cells(size)[None, None].float(), size=size).to(torch.uint8)
        depth = self._depth(size)
        if self._uniform(0, 1) < 0.5:
            cells[0, 0].masked_fill_(depth > self._uniform(0.7, 0.98), self._tissue())
        return cells.masked_fill_((depth > 1)[None, None], 0)

    def _cells(self, size: tuple[int, ...]) -> Tensor:
        """Return, on a grid of half the size, the tissue of the nearest of some random points."""
        coarse = [n // 2 for n in size]
        points = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, n) for n in coarse], indexing="ij"), -1)
        seeds = 2 * torch.rand(self._integer(8, 60), 3, generator=self.random) - 1
        kinds = self._integer(2, 6)
        palette = torch.randint(0, self.tissues, (kinds,), generator=self.random)
        of_seed = palette[torch.randint(kinds, (len(seeds),), generator=self.random)]
        # |p - s|^2 without |p|^2, which is the same for all seeds of a point.
        return of_seed[(seeds.square().sum(1) - 2 * points @ seeds.T).argmin(-1)]

    def _hollow_head(self, tissue: Tensor, brain: Tensor) -> Tensor:
        """Return a head that holds one fluid, or a few bodies of others, in place of the brain."""
        filling = torch.full_like(tissue, self._tissue() if self._uniform(0, 1) < 0.7 else 0)
        for _ in range(self._integer(0, 4)):
            filling[0, 0].masked_fill_(self._depth(tuple(tissue.shape[2:])) < self._uniform(0.1, 0.5), self._tissue())
        return torch.where(brain > 0, filling, tissue)

    def _below_the_brain(self, tissue: Tensor, brain: Tensor) -> Tensor:
        """Return neck and face alone, stretched to the height of the view."""
        height = int(brain.amax((0, 1, 3, 4)).argmax())
        if height < _FEWEST_SLICES:
            return self._solids(tissue, brain)
        below = tissue[:, :, :height].float()
        return F.interpolate(below, size=tuple(tissue.shape[2:])).to(torch.uint8)
