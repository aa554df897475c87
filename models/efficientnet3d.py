"""EfficientNet3D-B0: MONAI's EfficientNet with three spatial dimensions and one logit.

The patent (CN114170162A) names the class ``EfficientNet3D``; the public code of that name halves the volume once more
in its first block than the EfficientNet paper does. Both have the same 4,689,661 parameters under the same names, so
the first block's stride is a field of the model bundle and is never guessed from the weights.
"""

from __future__ import annotations

import math

import torch
from monai.networks.nets.efficientnet import EfficientNet
from torch import nn

SIDE_MULTIPLE = 64
"""Every side of an input is a multiple of this, so that no layer pads unevenly at either stride."""

_FIRST_BLOCK = {1: "r1_k3_s11_e1_i32_o16_se0.25", 2: "r1_k3_s22_e1_i32_o16_se0.25"}
_LATER_BLOCKS = [
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
]
PADDING_SIDE = 256
"""MONAI derives its static SAME padding from this side; as true SAME does for 256 x 256 x 128 at both strides."""


def block_strings(first_block_stride: int) -> list[str]:
    """Return the seven blocks as MONAI's EfficientNet takes them, as its ``blocks_args_str``.

    Parameters
    ----------
    first_block_stride
        1 or 2.

    Raises
    ------
    ValueError
        If the stride is neither 1 nor 2.
    """
    if first_block_stride not in _FIRST_BLOCK:
        raise ValueError(f"first_block_stride is {first_block_stride}; it must be 1 or 2")
    return [_FIRST_BLOCK[first_block_stride], *_LATER_BLOCKS]


def efficientnet3d_b0(first_block_stride: int, seed: int | None = None, outputs: int = 1) -> nn.Module:
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
    blocks = block_strings(first_block_stride)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        network = EfficientNet(
            blocks,
            spatial_dims=3,
            in_channels=1,
            num_classes=outputs,
            image_size=PADDING_SIDE,
        )
        _reset_depthwise(network)
    return network


def demonstration_network(first_block_stride: int, seed: int) -> nn.Module:
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


def _reset_depthwise(network: nn.Module) -> None:
    """Initialise depthwise convolutions by the fan-out of one group; MONAI 1.6.1 forgets the groups.

    No MONAI issue is known; issue 84 of pytorch-image-models was the same, and issue 23854 of PyTorch is its root.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.groups > 1:
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / math.prod(module.kernel_size)))
