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
)
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

ROTATION_MAX_DEG: Final = 12.0
"""About each axis; heads lie less skew than this in the scanner."""
CROP_MIN: Final = 0.75
"""Smallest share of each side of the brain's box that a crop keeps; what is cut off becomes 0."""
SHIFT_MAX_MM: Final = 16.0
PLACE_VOXELS: Final = 2.0
PLACE_DEG: Final = 3.0
"""By what the grid's place, and the skew of a head in it, differ between two readings of one head."""
_BORDER_CELLS: Final = 6
"""Of the border's random field, along each side of the grid."""
_BORDER_CHANGED: Final = 0.4
"""Of a field of unit deviation at its cells: a third of the border is taken away, a third gets more."""
_MR_PROBABILITY: Final = 0.5
_GAMMA: Final = (0.7, 1.5)
"""The range of nnU-Net (Isensee et al., Nat Methods 2021;18:203)."""
_BIAS_MAX: Final = 0.15
_NOISE_STD: Final = 0.15
"""Somewhat more than MONAI's defaults of 0.1, and not tuned; noise is in standard deviations of the brain."""
_VOXELS_MIN: Final = 2
"""A standard deviation needs two voxels."""


def augmented(
    tensor_zyx: np.ndarray,
    operation: str | None,
    key: Sequence[int],
    spacing_xyz_mm: tuple[float, ...],
    *,
    mr: bool,
    placement: bool = False,
) -> torch.Tensor:
    """Return an augmented copy of a network input, float32 (z, y, x), on the same grid.

    Parameters
    ----------
    tensor_zyx
        float32, 0 outside the brain.
    operation
        ``"crop"``, ``"rotation"``, ``"flip"``, ``"shift"`` or None. Only left and right are exchanged:
        superior and inferior, or anterior and posterior, are not alike.
    key
        Numbers of at least 0 that the draw depends on.
    spacing_xyz_mm
        Of the grid; rotations are rigid in millimetres.
    mr
        Also draws a bias field, noise and a gamma, inside the brain, and z-scores it again.
    placement
        Also moves the image by parts of a voxel, turns it a little, and moves the border of the brain.
    """
    random = np.random.default_rng(list(key))
    image = torch.from_numpy(tensor_zyx)
    angles, shift_mm = np.zeros(3), np.zeros(3)
    if operation == "rotation":
        angles += random.uniform(-ROTATION_MAX_DEG, ROTATION_MAX_DEG, 3)
    elif operation == "shift":
        shift_mm += random.uniform(-SHIFT_MAX_MM, SHIFT_MAX_MM, 3)
    elif operation == "crop":
        image = _cropped(image, random)
    elif operation == "flip":
        image = _drawn(RandFlip(prob=1, spatial_axis=2), image, random)
    if placement:
        image = _other_border(image, random)
        angles += random.uniform(-PLACE_DEG, PLACE_DEG, 3)
        shift_mm += random.uniform(-PLACE_VOXELS, PLACE_VOXELS, 3) * spacing_xyz_mm
    if angles.any() or shift_mm.any():
        rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        image = _moved(image, rotation, shift_mm, spacing_xyz_mm)
    return _other_scanner(image, random) if mr else image.contiguous()


def _moved(
    image: torch.Tensor, rotation_xyz: np.ndarray, shift_mm: np.ndarray, spacing_xyz_mm: tuple[float, ...]
) -> torch.Tensor:
    """Rotate about the centre in millimetres, and shift, by one interpolation.

    MONAI's rotation in voxels shears a grid with unequal spacing (no upstream issue known).
    """
    reach_mm = np.array(image.shape[::-1]) * spacing_xyz_mm
    matrix = torch.zeros(1, 3, 4)
    matrix[0, :, :3] = torch.from_numpy(rotation_xyz * reach_mm / reach_mm[:, None])
    matrix[0, :, 3] = torch.from_numpy(2 * shift_mm / reach_mm)
    places = F.affine_grid(matrix, [1, 1, *image.shape], align_corners=False)
    return F.grid_sample(image[None, None], places, padding_mode="zeros", align_corners=False)[0, 0]


def _cropped(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Keep a box within that of the brain."""
    kept = torch.zeros_like(image)
    window = []
    for axis in range(image.ndim):
        others = tuple(other for other in range(image.ndim) if other != axis)
        brain = (image != 0).any(dim=others[1]).any(dim=others[0]).nonzero().flatten()
        low, high = (int(brain[0]), int(brain[-1]) + 1) if len(brain) else (0, image.shape[axis])
        side = round((high - low) * random.uniform(CROP_MIN, 1))
        start = int(random.integers(low, high - side + 1))
        window.append(slice(start, start + side))
    kept[tuple(window)] = image[tuple(window)]
    return kept


def _other_border(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Take away, or add, a voxel at the border of the brain, here one and there the other.

    What is added is like its neighbours, brighter or darker as a whole, as fluid or membranes are.
    """
    brain = (image != 0).float()[None, None]
    cells = torch.from_numpy(random.standard_normal((2, 1, 1, *[_BORDER_CELLS] * 3), np.float32))
    fields = [F.interpolate(field, size=image.shape, mode="trilinear", align_corners=True)[0, 0] for field in cells]
    kept = -F.max_pool3d(-brain, 3, 1, 1)[0, 0] > 0
    near = F.avg_pool3d(brain, 3, 1, 1)[0, 0]
    like = F.avg_pool3d(image[None, None], 3, 1, 1)[0, 0] / near.clamp(min=1e-6)
    added = (near > 0) & (brain[0, 0] == 0) & (fields[1] > _BORDER_CHANGED)
    image = torch.where((brain[0, 0] > 0) & ~kept & (fields[0] > _BORDER_CHANGED), 0.0, image)
    return torch.where(added, like + float(random.standard_normal()), image)


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
