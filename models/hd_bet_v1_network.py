"""The network of HD-BET v1 (Isensee et al., Human Brain Mapping 2019, 10.1002/hbm.24750), for inference.

A residual U-Net with pre-activation. The names of its layers are those of the published weights, which call instance
normalisation ``bn``; the two heads for deep supervision are left out.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_STEP: Final = 16
"""Voxels along each axis are a multiple of this: the network halves four times."""

_FILTERS: Final = 21
_LEVELS: Final = 4
_SLOPE: Final = 1e-2
_OUTER_SLOPE: Final = 1e-1
"""HD-BET's configuration states 0.1, which reaches the layers outside of the modules alone."""
_UNUSED: Final = ("running_mean", "running_var", "num_batches_tracked", "loc2_seg.weight", "loc3_seg.weight")
"""What the published weights hold beside: statistics of the training, which HD-BET replaces by the image's own, and the
heads for deep supervision."""


class HdBetV1Network(nn.Module):
    """Image to probabilities of background and brain.

    Notes
    -----
    Every normalisation is over the whole image, so a part of an image has other probabilities than the same part of
    all of it: it cannot be computed in tiles.
    """

    def __init__(self) -> None:
        super().__init__()
        n = _FILTERS
        self.init_conv = nn.Conv3d(1, n, 3, padding=1)
        for level in range(1, _LEVELS + 1):
            self.add_module(f"context{level}", _Encoding(n))
            self.add_module(f"down{level}", _Down(n))
            n *= 2
        self.context5 = _Encoding(n)
        self.bn_after_context5 = _norm(n)
        for level in range(1, _LEVELS + 1):
            self.add_module(f"up{level}", _Up(n))
            if level < _LEVELS:
                self.add_module(f"loc{level}", _Localization(n))
            n //= 2
        self.end_conv_1 = nn.Conv3d(2 * n, 2 * n, 3, padding=1)
        self.end_conv_1_bn = _norm(2 * n)
        self.end_conv_2 = nn.Conv3d(2 * n, 2 * n, 3, padding=1)
        self.end_conv_2_bn = _norm(2 * n)
        self.seg_layer = nn.Conv3d(2 * n, 2, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities.

        Parameters
        ----------
        image
            float32 (1, 1, z, y, x) of voxels of 1.5 mm, mean 0 and deviation 1 before it was padded; each axis a
            multiple of `SMALLEST_STEP`.

        Returns
        -------
        torch.Tensor
            float32 (1, 2, z, y, x): background and brain, in [0, 1], their sum 1.
        """
        x = self.init_conv(image)
        skips = []
        for level in range(1, _LEVELS + 1):
            skip, x = self.get_submodule(f"down{level}")(self.get_submodule(f"context{level}")(x))
            skips.append(skip)
        x = _rectified(self.bn_after_context5(self.context5(x)), _OUTER_SLOPE)
        for level in range(1, _LEVELS + 1):
            x = torch.cat((skips.pop(), self.get_submodule(f"up{level}")(x)), dim=1)
            if level < _LEVELS:
                x = self.get_submodule(f"loc{level}")(x)
        x = _rectified(self.end_conv_1_bn(self.end_conv_1(x)), _OUTER_SLOPE)
        x = _rectified(self.end_conv_2_bn(self.end_conv_2(x)), _OUTER_SLOPE)
        return torch.softmax(self.seg_layer(x), dim=1)


def load_fold(state: dict[str, Tensor]) -> HdBetV1Network:
    """Return the network with published weights.

    Parameters
    ----------
    state
        Of one fold, as published.

    Returns
    -------
    HdBetV1Network
        On the CPU, float32, without gradients.

    Raises
    ------
    RuntimeError
        If a tensor is missing, unknown or of another shape.
    """
    network = HdBetV1Network()
    network.load_state_dict({name: tensor for name, tensor in state.items() if not name.endswith(_UNUSED)})
    return network.eval().requires_grad_(False)


class _Encoding(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.bn_1, self.conv1 = _norm(n), nn.Conv3d(n, n, 3, padding=1)
        self.bn_2, self.conv2 = _norm(n), nn.Conv3d(n, n, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(_rectified(self.bn_1(x)))
        inner = self.conv2(_rectified(self.bn_2(inner)))
        return torch.add(inner, x)


class _Down(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.bn, self.downsample = _norm(n), nn.Conv3d(n, 2 * n, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = _rectified(self.bn(x))
        return skip, self.downsample(skip)


class _Up(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.upsample_conv, self.bn = nn.Conv3d(n, n // 2, 3, padding=1), _norm(n // 2)

    def forward(self, x: Tensor) -> Tensor:
        larger = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
        return _rectified(self.bn(self.upsample_conv(larger)))


class _Localization(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1, self.bn_1 = nn.Conv3d(n, n, 3, padding=1), _norm(n)
        self.conv2, self.bn_2 = nn.Conv3d(n, n // 2, 1), _norm(n // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = _rectified(self.bn_1(self.conv1(x)))
        return _rectified(self.bn_2(self.conv2(x)))


def _norm(n: int) -> nn.InstanceNorm3d:
    return nn.InstanceNorm3d(n, affine=True)


def _rectified(x: Tensor, slope: float = _SLOPE) -> Tensor:
    return F.leaky_relu(x, slope, inplace=True)
