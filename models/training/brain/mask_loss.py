"""What a mask of the brain costs that is not the right one: its rim, its overlap, and its leaks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_NEAR_VOXELS, _FAR_VOXELS = 2, 6
"""From the brain: up to the first a voxel too many is the rim's affair, from the second on it is a whole leak."""
_BRAIN_VOXELS = 80_000.0
"""Of an adult at 2.5 mm, so that leaks count by their volume, in a child and where there is no brain at all."""
_LEAK_WEIGHT = 1.0


def mask_loss(logits: Tensor, brain: Tensor) -> Tensor:
    """Return cross-entropy plus soft Dice loss plus the volume of leaks.

    Parameters
    ----------
    logits
        (batch, 2, z, y, x), background and brain, in any floating-point type.
    brain
        float32 (batch, 1, z, y, x), fraction of each voxel that is brain, in [0, 1]; all 0 where there is none.

    Returns
    -------
    torch.Tensor
        float32 scalar, 0 or more.
    """
    log_odds = (logits[:, 1:] - logits[:, :1]).float()
    cross_entropy = F.binary_cross_entropy_with_logits(log_odds, brain)
    probability = torch.sigmoid(log_odds)
    overlap = (probability * brain).sum((1, 2, 3, 4))
    dice = (2 * overlap + 1) / ((probability**2).sum((1, 2, 3, 4)) + (brain**2).sum((1, 2, 3, 4)) + 1)
    leaks = (probability * far_from(brain)).sum() / (len(brain) * _BRAIN_VOXELS)
    # Overlap says nothing where there is no brain: there it would weigh the first voxel as much as a whole mask.
    missed = ((1 - dice) * brain.amax((1, 2, 3, 4)).gt(0)).mean()
    return cross_entropy + missed + _LEAK_WEIGHT * leaks


def far_from(brain: Tensor) -> Tensor:
    """Return 0 in and beside the brain, a half around it, and 1 farther off: in orbits, face and neck, or anywhere.

    Parameters
    ----------
    brain
        float32 (batch, 1, z, y, x), 0 outside the brain.

    Returns
    -------
    torch.Tensor
        float32, the shape of `brain`.
    """
    near = _dilate((brain > 0).float(), _NEAR_VOXELS)
    around = _dilate(near, _FAR_VOXELS - _NEAR_VOXELS)
    return 1 - (near + around) / 2


def _dilate(mask: Tensor, voxels: int) -> Tensor:
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * voxels + 1, voxels
        mask = F.max_pool3d(mask, kernel, stride=1, padding=padding)
    return mask
