"""Augmentation of network inputs: crop, rotation and flip (CN114170162A [0061]), and what differs between MR scanners.

Every draw depends on the key that it is given and on nothing else, so that an interrupted training repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandBiasField,
    RandFlip,
    RandGaussianNoise,
    RandSpatialCrop,
    ResizeWithPadOrCrop,
)
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

ROTATION_MAX_DEG: Final = 12.0
"""About each axis; heads lie less skew than this in the scanner."""
CROP_MIN: Final = 0.88
"""Smallest share of a side that a crop keeps; the rest is filled with 0 evenly, which also moves the brain."""
_MR_PROBABILITY: Final = 0.5
_GAMMA: Final = (0.7, 1.5)
"""The range of nnU-Net (Isensee et al., Nat Methods 2021;18:203)."""
_BIAS_MAX: Final = 0.15
_NOISE_STD: Final = 0.15
"""Somewhat more than MONAI's defaults of 0.1, and not tuned; noise is in standard deviations of the brain."""
_VOXELS_MIN: Final = 2
"""A standard deviation needs two voxels."""


def augmented(
    tensor_zyx: np.ndarray, operation: str | None, key: Sequence[int], spacing_xyz_mm: tuple[float, ...], *, mr: bool
) -> torch.Tensor:
    """Return an augmented copy of a network input, float32 (z, y, x), on the same grid.

    Parameters
    ----------
    tensor_zyx
        float32, 0 outside the brain.
    operation
        ``"crop"``, ``"rotation"``, ``"flip"`` or None. Only left and right are exchanged: superior and inferior, or
        anterior and posterior, are not alike.
    key
        Numbers of at least 0 that the draw depends on.
    spacing_xyz_mm
        Of the grid; rotations are rigid in millimetres.
    mr
        Also draws a bias field, noise and a gamma, inside the brain, and z-scores it again.
    """
    random = np.random.default_rng(list(key))
    image = torch.from_numpy(tensor_zyx)
    if operation == "rotation":
        angles = random.uniform(-ROTATION_MAX_DEG, ROTATION_MAX_DEG, 3)
        image = _rotated(image, Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), spacing_xyz_mm)
    elif operation == "crop":
        image = _drawn(_crop(image.shape), image, random)
    elif operation == "flip":
        image = _drawn(RandFlip(prob=1, spatial_axis=2), image, random)
    return _other_scanner(image, random) if mr else image.contiguous()


def _rotated(image: torch.Tensor, rotation_xyz: np.ndarray, spacing_xyz_mm: tuple[float, ...]) -> torch.Tensor:
    """Rotate about the centre in millimetres.

    MONAI's rotation in voxels shears a grid with unequal spacing (no upstream issue known).
    """
    reach_mm = np.array(image.shape[::-1]) * spacing_xyz_mm
    matrix = torch.zeros(1, 3, 4)
    matrix[0, :, :3] = torch.from_numpy(rotation_xyz * reach_mm / reach_mm[:, None])
    places = F.affine_grid(matrix, [1, 1, *image.shape], align_corners=False)
    return F.grid_sample(image[None, None], places, padding_mode="zeros", align_corners=False)[0, 0]


def _crop(size_zyx: Sequence[int]) -> Compose:
    smallest = [round(CROP_MIN * side) for side in size_zyx]
    return Compose([RandSpatialCrop(smallest, random_size=True), ResizeWithPadOrCrop(list(size_zyx))])


def _other_scanner(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    brain = image != 0
    transform = Compose(
        [
            RandBiasField(prob=_MR_PROBABILITY, coeff_range=(0.0, _BIAS_MAX)),
            RandAdjustContrast(prob=_MR_PROBABILITY, gamma=_GAMMA),
            RandGaussianNoise(prob=_MR_PROBABILITY, std=_NOISE_STD),
        ]
    )
    # Bias and gamma act on grey values from 0 up, which z-scores are not.
    low = image.min()
    changed = _drawn(transform, image - low, random) + low
    inside = changed[brain]
    if inside.numel() < _VOXELS_MIN or not float(inside.std()) > 0:
        return image.contiguous()
    return torch.where(brain, (changed - inside.mean()) / inside.std(), 0.0).contiguous()


def _drawn(transform: Compose | RandFlip, image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    transform.set_random_state(seed=int(random.integers(2**32)))
    result = transform(image[None])
    return torch.as_tensor(result.as_tensor() if hasattr(result, "as_tensor") else result)[0]
