"""EfficientNet3D-B0: EfficientNet with three spatial dimensions, one channel in and one logit.

The patent (CN114170162A) names the class ``EfficientNet3D``; the public code of that name halves the volume once more
in its first block than the EfficientNet paper does. Both have the same 4,689,661 parameters under the same names, so
the first block's stride is a field of the model bundle and is never guessed from the weights.

Tensors have the names of MONAI's ``EfficientNet``, and numbers and draws are equal to its, so that either reads the
other's weights (tests hold both together). It stands here because importing MONAI takes longer than loading all models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

SIDE_MULTIPLE = 64
"""Every side of an input is a multiple of this, so that every layer of stride 2 halves a volume without a rest."""
PADDING_SIDE = 256
"""MONAI derives its static padding from this side; it is the one of `PaddedConv3d`."""

_STEM_CHANNELS: Final = 32
_HEAD_CHANNELS: Final = 1280
_SQUEEZE: Final = 0.25
_DROPOUT: Final = 0.2
_MOST_DROPPED: Final = 0.2
"""Chance that the last block is left out of a training step; it grows from 0 with the depth."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of Table 1 of Tan and Le (ICML 2019); the stride is that of the first of its blocks."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int

    def __str__(self) -> str:
        """Return it as MONAI's ``blocks_args_str`` has it."""
        sizes = f"r{self.repeats}_k{self.kernel}_s{self.stride}{self.stride}_e{self.expansion}"
        return f"{sizes}_i{self.inputs}_o{self.outputs}_se{_SQUEEZE}"


_LATER_STAGES: Final = (
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
)


def stages(first_block_stride: int) -> tuple[Stage, ...]:
    """Return the seven stages of blocks.

    Parameters
    ----------
    first_block_stride
        1 or 2.

    Raises
    ------
    ValueError
        If the stride is neither 1 nor 2.
    """
    if first_block_stride not in (1, 2):
        raise ValueError(f"first_block_stride is {first_block_stride}; it must be 1 or 2")
    return Stage(1, 3, first_block_stride, 1, _STEM_CHANNELS, 16), *_LATER_STAGES


def block_strings(first_block_stride: int) -> list[str]:
    """Return the seven stages as MONAI's EfficientNet takes them, as its ``blocks_args_str``.

    Parameters
    ----------
    first_block_stride
        1 or 2.

    Raises
    ------
    ValueError
        If the stride is neither 1 nor 2.
    """
    return [str(stage) for stage in stages(first_block_stride)]


class PaddedConv3d(nn.Conv3d):
    """A convolution whose input is padded with zeros so that a stride alone makes it smaller.

    Attributes
    ----------
    before, after
        Voxels of padding along each axis; uneven where the stride is 2, as TensorFlow's "same" padding is.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.before, self.after = (kernel - stride) // 2, (kernel - stride + 1) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (b, c, z, y, x), sides divided by the stride."""
        return super().forward(F.pad(x, (self.before, self.after) * 3))


class MBConvBlock(nn.Module):
    """Widen, filter each channel alone, weigh the channels, narrow.

    Parameters
    ----------
    stage
        Kernel, expansion and channels.
    first
        Whether it is the first of its stage, which has the stride and takes the channels of the stage before.
    dropped
        Chance that its branch is left out of a training step.

    Attributes
    ----------
    widens, skips
        Whether it has a first convolution, and whether its input is added to its output.
    """

    def __init__(self, stage: Stage, *, first: bool, dropped: float) -> None:
        super().__init__()
        inputs, stride = (stage.inputs, stage.stride) if first else (stage.outputs, 1)
        wide = inputs * stage.expansion
        self.widens = stage.expansion > 1
        self.skips = stride == 1 and inputs == stage.outputs
        self._dropped = dropped
        if self.widens:
            self._expand_conv = nn.Conv3d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = PaddedConv3d(wide, wide, stage.kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        squeezed = max(1, int(inputs * _SQUEEZE))
        self._se_reduce = nn.Conv3d(wide, squeezed, 1)
        self._se_expand = nn.Conv3d(squeezed, wide, 1)
        self._project_conv = nn.Conv3d(wide, stage.outputs, 1, bias=False)
        self._bn2 = _norm(stage.outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (b, c, z, y, x)."""
        x = _swish(self._bn0(self._expand_conv(inputs))) if self.widens else inputs
        x = _swish(self._bn1(self._depthwise_conv(x)))
        squeezed = _swish(self._se_reduce(F.adaptive_avg_pool3d(x, 1)))
        x = self._bn2(self._project_conv(torch.sigmoid(self._se_expand(squeezed)) * x))
        return self._left_out(x) + inputs if self.skips else x

    def _left_out(self, branch: torch.Tensor) -> torch.Tensor:
        """Return the branch, in training 0 for some images, and larger for the others by as much."""
        if not self.training or not self._dropped:
            return branch
        kept = 1 - self._dropped
        draws = torch.rand((len(branch), 1, 1, 1, 1), dtype=branch.dtype, device=branch.device)
        return branch / kept * (draws + kept).floor()


class EfficientNet3D(nn.Module):
    """EfficientNet-B0 for volumes of one channel.

    Parameters
    ----------
    first_block_stride
        1 as in the EfficientNet paper, 2 as in the public EfficientNet3D.
    outputs
        How many numbers it returns.

    Raises
    ------
    ValueError
        If the stride is neither 1 nor 2.
    """

    def __init__(self, first_block_stride: int, outputs: int) -> None:
        super().__init__()
        self._conv_stem = PaddedConv3d(1, _STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(_STEM_CHANNELS)
        rows = stages(first_block_stride)
        self._blocks = nn.Sequential(*_stacks(rows))
        self._conv_head = nn.Conv3d(rows[-1].outputs, _HEAD_CHANNELS, 1, bias=False)
        self._bn1 = _norm(_HEAD_CHANNELS)
        self._avg_pooling = nn.AdaptiveAvgPool3d(1)
        self._dropout = nn.Dropout(_DROPOUT)
        self._fc = nn.Linear(_HEAD_CHANNELS, outputs)
        self._draw()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits (b, outputs) of volumes (b, 1, z, y, x), sides multiples of 64."""
        x = self._blocks(_swish(self._bn0(self._conv_stem(batch))))
        x = self._avg_pooling(_swish(self._bn1(self._conv_head(x))))
        logits: torch.Tensor = self._fc(self._dropout(x.flatten(1)))
        return logits

    def blocks(self) -> Iterator[MBConvBlock]:
        """Yield the blocks of all stages in order."""
        return (module for module in self._blocks.modules() if isinstance(module, MBConvBlock))

    def _draw(self) -> None:
        """Draw the weights: convolutions by their fan-out, the last layer by its outputs.

        MONAI 1.6.1 takes depthwise convolutions for dense ones (no MONAI issue is known; issue 84 of
        pytorch-image-models was the same, and issue 23854 of PyTorch is its root). They are drawn once more, after all
        others, so that a seed gives the same network everywhere.
        """
        layers = list(self.modules())
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv3d)]
        for layer in convolutions:
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        reach = self._fc.out_features**-0.5
        nn.init.uniform_(self._fc.weight, -reach, reach)
        nn.init.zeros_(self._fc.bias)
        for layer in convolutions:
            if layer.groups > 1:
                nn.init.normal_(layer.weight, std=math.sqrt(2 / math.prod(layer.kernel_size)))


def _stacks(rows: tuple[Stage, ...]) -> Iterator[nn.Sequential]:
    """Yield the blocks of each stage, named by their place among all blocks."""
    total, place = sum(row.repeats for row in rows), 0
    for row in rows:
        stack = nn.Sequential()
        for repeat in range(row.repeats):
            stack.add_module(str(place), MBConvBlock(row, first=repeat == 0, dropped=_MOST_DROPPED * place / total))
            place += 1
        yield stack


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.01)


def _swish(x: torch.Tensor) -> torch.Tensor:
    return F.silu(x, inplace=True)


def efficientnet3d_b0(first_block_stride: int, seed: int | None = None, outputs: int = 1) -> EfficientNet3D:
    """Return an EfficientNet3D-B0 with one input channel.

    Parameters
    ----------
    first_block_stride
        1 as in the EfficientNet paper, 2 as in the public EfficientNet3D.
    seed
        Start of the random initialisation; None leaves it to torch's global generator.
    outputs
        How many numbers it returns; the networks of a bundle return one, the logit.

    Raises
    ------
    ValueError
        If the stride is neither 1 nor 2.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return EfficientNet3D(first_block_stride, outputs)


def demonstration_network(first_block_stride: int, seed: int) -> EfficientNet3D:
    """Return a network of random weights whose score nevertheless depends on the image.

    Fresh batch normalisation expects unit variance in every layer and damps an untrained network to a constant 0.5;
    here its statistics are those of one random volume, a smooth pattern inside an ellipsoid, drawn from the same seed.

    Parameters
    ----------
    first_block_stride
        As in `efficientnet3d_b0`.
    seed
        Of weights and volume.
    """
    network = efficientnet3d_b0(first_block_stride, seed)
    last_layer = network.get_submodule("_fc")
    assert isinstance(last_layer, nn.Linear)
    reach = 1 / last_layer.in_features
    nn.init.uniform_(last_layer.weight, -reach, reach, generator=torch.Generator().manual_seed(seed))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    momentum = norms[0].momentum
    network.eval()
    for norm in norms:
        norm.train().momentum = None  # the plain mean over what is seen
    with torch.no_grad():
        network(_pattern(seed))
    for norm in norms:
        norm.eval().momentum = momentum
    return network


def _pattern(seed: int) -> torch.Tensor:
    """Return a random volume of 128 x 256 x 256 voxels that resembles a standardised brain in scale only."""
    generator = torch.Generator().manual_seed(seed)
    size = (128, 256, 256)
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in size], indexing="ij")
    inside = ((z / 0.7) ** 2 + (y / 0.7) ** 2 + (x / 0.55) ** 2) < 1
    coarse = torch.randn((1, 1, 16, 32, 32), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=size, mode="trilinear")
    return (smooth + 0.3 * torch.randn((1, 1, *size), generator=generator)) * inside
