"""Grad-CAM of a contrast's network: which parts of its input a score depends on, and where these parts lie.

The features are the deepest ones that are at most `STRIDE` voxels apart: the last of all where the first block keeps
the size, those before the last halving where it does not; that one would leave cubes of 64 voxels, a third of a brain.

`monai.visualize.GradCAM` of MONAI 1.6.1 does not serve: it rectifies the map, which says as much below 0; it needs
parameters with gradients, hence keeps the features of every layer, where only those behind the cut are kept here; and
its hooks stay in the network that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.efficientnet3d import PaddedConv3d

STRIDE: Final = 32
"""Largest distance of two features in voxels of the input: that of the last features of EfficientNet itself."""


@dataclass(frozen=True, slots=True)
class ClassActivation:
    """A map on the features of a network.

    Attributes
    ----------
    values_zyx
        float32, without unit; above 0 where the features raise the logit, below 0 where they lower it.
    first, stride
        Of the features in voxels of the input, equal on all axes: feature ``i`` looks around voxel
        ``first + stride * i``, counted from the middle of the first voxel.
    """

    values_zyx: npt.NDArray[np.float32]
    first: float
    stride: int


def grad_cam(network: nn.Module, batch: torch.Tensor) -> ClassActivation:
    """Return the gradient-weighted class activation map of one volume.

    Parameters
    ----------
    network
        EfficientNet3D-B0 in evaluation mode. If its parameters need no gradients, nothing before the features is kept
        for the way back.
    batch
        float32 (1, 1, z, y, x) on the network's device.

    Returns
    -------
    ClassActivation
        Equal arguments give equal maps on one machine.

    Notes
    -----
    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017:
    channels are summed with their mean gradients as weights. Their final rectification is left out: there is one
    logit, and what lowers it is what speaks for the other side (their counterfactual maps, in one with the map).
    """
    following, stride, first = feature_layer(network)
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        kept.append(inputs[0].detach().requires_grad_())
        # Activations may work in place, on what is no leaf.
        return (kept[0].clone(),)

    hook = following.register_forward_pre_hook(keep)
    try:
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(network(batch).sum(), kept)
    finally:
        hook.remove()
    weights = gradients.mean(dim=(2, 3, 4), keepdim=True)
    values = (weights * kept[0].detach()).sum(dim=1)[0]
    return ClassActivation(values.float().cpu().numpy(), first, stride)


def mean_activation(activations: Sequence[ClassActivation]) -> ClassActivation:
    """Return the mean of the maps of several networks of one architecture.

    Parameters
    ----------
    activations
        One at least, of equal shape, place and stride.

    Returns
    -------
    ClassActivation
        float32.
    """
    first = activations[0]
    values_zyx = np.stack([activation.values_zyx for activation in activations]).mean(axis=0)
    return ClassActivation(values_zyx.astype(np.float32), first.first, first.stride)


def feature_layer(network: nn.Module) -> tuple[nn.Module, int, float]:
    """Return the module that takes the features, their stride, and the voxel around which the first one looks.

    Parameters
    ----------
    network
        EfficientNet3D-B0.

    Returns
    -------
    tuple
        The module; stride and place in voxels of the input, equal on all axes, counted from the middle of the first.
    """
    stride, first = 1, 0.0
    for stage in (network.get_submodule("_conv_stem"), *network.get_submodule("_blocks").children()):
        at_stage = stride, first
        for step, shift in _steps(stage):
            first += stride * shift
            stride *= step
        if stride > STRIDE:
            return stage, *at_stage
    return network.get_submodule("_avg_pooling"), stride, first


def _steps(stage: nn.Module) -> Iterator[tuple[int, float]]:
    """Yield stride and shift of a stage's convolutions; those of one voxel change neither."""
    for convolution in stage.modules():
        if isinstance(convolution, PaddedConv3d):
            yield convolution.stride[0], (convolution.kernel_size[0] - 1) / 2 - convolution.before
