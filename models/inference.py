"""EfficientNet3D-B0 arranged for reading: what the network computes, in less time and a fraction of the memory.

Batch normalisation is folded into the convolutions, channels lie next to each other in memory, and a block is computed
slab by slab along depth, so that its widened features (the largest tensors of the network) never leave the cache.
Everything stays in float32. bfloat16 would be faster still, but its rounding can move a score by far more than 1e-3,
and the same volume would get another score on a processor without it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.efficientnet3d import EfficientNet3D, MBConvBlock, PaddedConv3d

SLAB_BYTES: Final = 8 << 20
"""Of widened features at a time: more is written to memory and read again, less pays for the calls."""

_Planes = Callable[[int, int, torch.Tensor], None]
"""Writes the planes from a first to before a last one into a tensor (b, z, y, x, c)."""


def for_inference(network: nn.Module, device: torch.device) -> nn.Module:
    """Return an equivalent network that only reads; `network` itself is left as it is.

    Parameters
    ----------
    network
        As made by `efficientnet3d_b0`.
    device
        Where the result will run. On a CPU it is a network in slabs; elsewhere the batch normalisation is folded.

    Returns
    -------
    torch.nn.Module
        Takes float32 (b, 1, z, y, x), sides multiples of 64, and returns float32 logits (b, 1). Its logits differ from
        those of `network` by float32 rounding only, and equal volumes get equal logits on one machine with one number
        of threads.

    Raises
    ------
    TypeError
        If `network` is another one.
    """
    if not isinstance(network, EfficientNet3D):
        raise TypeError(f"{type(network).__name__} is not EfficientNet3D")
    folded = without_normalisation(network)
    arranged = _SlabNetwork(folded) if device.type == "cpu" else folded
    return arranged.to(device).eval().requires_grad_(requires_grad=False)


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep a GPU's convolutions from rounding to TF32, as torch lets them: scores must be those of a CPU."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def read(network: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of some volumes and the features they follow from, in one pass.

    Parameters
    ----------
    network
        A result of `for_inference`, or a network of `efficientnet3d_b0` in evaluation mode.
    batch
        float32 (b, 1, z, y, x) on the network's device.

    Returns
    -------
    tuple of torch.Tensor
        Logits (b,) and features (b, 1280) after global average pooling, float32.
    """
    pooled: list[torch.Tensor] = []
    pooling = network.get_submodule("_avg_pooling")
    hook = pooling.register_forward_hook(lambda _module, _inputs, output: pooled.append(output))
    try:
        logits = network(batch)
    finally:
        hook.remove()
    return logits[:, 0].float(), pooled[0].flatten(1).float()


def without_normalisation(network: EfficientNet3D) -> EfficientNet3D:
    """Return a copy whose batch normalisation is folded into its convolutions.

    Parameters
    ----------
    network
        As made by `efficientnet3d_b0`; left as it is.
    """
    folded = copy.deepcopy(network).eval()
    _fold(folded, "_conv_stem", "_bn0")
    _fold(folded, "_conv_head", "_bn1")
    for block in folded.blocks():
        if block.widens:
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")
    return folded


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    found, normalised = module.get_submodule(convolution), module.get_submodule(norm)
    assert isinstance(found, nn.Conv3d)
    assert isinstance(normalised, nn.BatchNorm3d)
    setattr(module, convolution, fuse_conv_bn_eval(found, normalised))
    setattr(module, norm, nn.Identity())


class _SlabNetwork(nn.Module):
    """A folded EfficientNet whose tensors are (b, z, y, x, c)."""

    def __init__(self, folded: EfficientNet3D) -> None:
        super().__init__()
        self._stem = _Convolution(folded.get_submodule("_conv_stem"))
        first, *others = folded.blocks()
        self._first, self._others = _SlabBlock(first), nn.Sequential(*[_SlabBlock(block) for block in others])
        self._head = _pointwise(folded, "_conv_head")
        self._avg_pooling = _Mean()
        self._fc = folded.get_submodule("_fc")

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        volumes = batch[:, 0, ..., None]
        # The stem is no tensor of its own either: it widens the image for the first block.
        x = self._first.narrow(self._first.depthwise.in_slabs(*self._stem.planes_of(volumes)), None)
        x = F.silu(self._head(self._others(x)), inplace=True)
        logits: torch.Tensor = self._fc(self._avg_pooling(x))
        return logits


class _SlabBlock(nn.Module):
    """An MBConv block: widen and filter in slabs, weigh the channels, narrow."""

    def __init__(self, block: MBConvBlock) -> None:
        super().__init__()
        self._widen = _pointwise(block, "_expand_conv") if block.widens else None
        self.depthwise = _Convolution(block.get_submodule("_depthwise_conv"))
        self._squeeze, self._excite = _pointwise(block, "_se_reduce"), _pointwise(block, "_se_expand")
        self._average = _Mean()
        self._narrow = _pointwise(block, "_project_conv")
        self._skips = block.skips

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self._widen is not None
        widen = self._widen

        def planes(first: int, last: int, out: torch.Tensor) -> None:
            silu_into(widen(x[:, first:last]), out)

        return self.narrow(self.depthwise.in_slabs(planes, tuple(x.shape[:4])), x if self._skips else None)

    def narrow(self, filtered: torch.Tensor, skipped: torch.Tensor | None) -> torch.Tensor:
        """Return the block's output from its filtered features, which are squeezed and excited on the way."""
        gates = torch.sigmoid(self._excite(F.silu(self._squeeze(self._average(filtered)))))
        # Weights times gates are few numbers, features times gates many.
        weights = (self._narrow.weight * gates[:, None]).mT
        narrowed = torch.baddbmm(self._narrow.bias, filtered.flatten(1, 3), weights)
        narrowed = narrowed.view(*filtered.shape[:4], -1)
        return narrowed if skipped is None else narrowed.add_(skipped)


class _Convolution(nn.Module):
    """A padded convolution with its activation."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        assert isinstance(convolution, PaddedConv3d)
        self._convolution = convolution.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._kernel, self._stride = convolution.kernel_size[0], convolution.stride[0]
        self._before, self._after = convolution.before, convolution.after

    def planes_of(self, x: torch.Tensor) -> tuple[_Planes, tuple[int, ...]]:
        """Return what computes some planes of the result for (b, z, y, x, c), and the shape (b, z, y, x) of it."""
        in_plane, depth = (self._before, self._after) * 2, x.shape[1]

        def planes(first: int, last: int, out: torch.Tensor) -> None:
            begin, end = first * self._stride - self._before, self._end(last) - self._before
            known = x[:, max(begin, 0) : min(end, depth)]
            padded = F.pad(known, (0, 0, *in_plane, max(-begin, 0), max(end - depth, 0)))
            silu_into(self._apply_to(padded), out)

        return planes, (x.shape[0], *self._sizes(tuple(x.shape[1:4])))

    def in_slabs(self, planes: _Planes, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the result (b, z, y, x, c) for an input of the shape (b, z, y, x), asked for slab by slab."""
        sizes, step = self._sizes(shape[1:]), self._step(shape)
        slab = self._slab(shape, self._end(step))
        before = self._before
        inside = slab[:, :, before : before + shape[2], before : before + shape[3]]
        result = slab.new_empty((shape[0], *sizes, self._convolution.out_channels))
        known = 0
        for start in range(0, sizes[0], step):
            stop = min(start + step, sizes[0])
            begin, end = start * self._stride, self._end(stop)  # padded planes, as `known` is
            if start:
                slab[:, : known - begin] = slab[:, step * self._stride :][:, : known - begin]
            first, last = max(known - before, 0), min(end - before, shape[1])
            if first < last:
                planes(first, last, inside[:, first + before - begin : last + before - begin])
            slab[:, last + before - begin :].zero_()
            known = end
            silu_into(self._apply_to(slab[:, : end - begin]), result[:, start:stop])
        return result

    def _step(self, shape: tuple[int, ...]) -> int:
        """Return how many planes of the result make a slab; what two slabs share must not overlap as it is moved."""
        sides = self._padded(shape[2:])
        plane_bytes = 4 * math.prod((shape[0], *sides, self._convolution.in_channels))
        least = math.ceil((self._kernel - self._stride) / self._stride)
        return max(least, min(self._sizes(shape[1:])[0], SLAB_BYTES // (plane_bytes * self._stride)))

    def _slab(self, shape: tuple[int, ...], planes: int) -> torch.Tensor:
        sides = self._padded(shape[2:])
        return torch.zeros((shape[0], planes, *sides, self._convolution.in_channels))

    def _end(self, planes: int) -> int:
        """Return after which padded plane the first `planes` of the result are known."""
        return (planes - 1) * self._stride + self._kernel

    def _sizes(self, shape: tuple[int, ...]) -> list[int]:
        return [(side - self._kernel) // self._stride + 1 for side in self._padded(shape)]

    def _padded(self, shape: tuple[int, ...]) -> list[int]:
        return [side + self._before + self._after for side in shape]

    def _apply_to(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias, stride = self._convolution.weight, self._convolution.bias, [self._stride] * 3
        x = x.permute(0, 4, 1, 2, 3)
        if not torch.backends.mkldnn.is_available():
            return F.conv3d(x, weight, bias, stride, groups=self._convolution.groups).permute(0, 2, 3, 4, 1)
        # F.conv3d leaves small inputs to a slower kernel that returns another memory layout (no upstream issue known).
        groups = self._convolution.groups
        y: torch.Tensor = torch.mkldnn_convolution(x, weight, bias, [0] * 3, stride, [1] * 3, groups)
        return y.permute(0, 2, 3, 4, 1)


class _Mean(nn.Module):
    """The mean of (b, z, y, x, c) over space."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))


def _pointwise(module: nn.Module, name: str) -> nn.Linear:
    convolution = module.get_submodule(name)
    assert isinstance(convolution, nn.Conv3d)
    assert convolution.bias is not None
    linear = nn.Linear(convolution.in_channels, convolution.out_channels)
    linear.load_state_dict({"weight": convolution.weight.flatten(1), "bias": convolution.bias})
    return linear


def silu_into(x: torch.Tensor, out: torch.Tensor) -> None:
    """Write the SiLU of each value into a tensor; no third one is held.

    Parameters
    ----------
    x, out
        float32 of equal shape; `out` may be part of another tensor.
    """
    torch.ops.aten.silu.out(x, out=out)
