"""The network is MONAI's EfficientNet, with the stride as a parameter and a sound initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets.efficientnet import EfficientNetBN
from torch import nn

from models.efficientnet3d import demonstration_network, efficientnet3d_b0


@pytest.mark.parametrize(("outputs", "parameters"), [(1, 4_689_661), (2, 4_690_942)])
@pytest.mark.parametrize("stride", [1, 2])
def test_parameter_count(stride: int, outputs: int, parameters: int):
    network = efficientnet3d_b0(stride, outputs=outputs)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_weights_do_not_tell_the_strides_apart():
    one, two = efficientnet3d_b0(1).state_dict(), efficientnet3d_b0(2).state_dict()
    assert len(one) == 360
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}


def test_another_stride_is_refused():
    with pytest.raises(ValueError, match="must be 1 or 2"):
        efficientnet3d_b0(3)


def test_stride_one_equals_monai():
    ours = efficientnet3d_b0(1, seed=5).eval()
    monai = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1, num_classes=1).eval()
    monai.load_state_dict(ours.state_dict())
    volume = torch.randn((1, 1, 64, 64, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(ours(volume), monai(volume))


def test_stride_two_halves_the_map_once_more():
    sides = {}
    volume = torch.zeros((1, 1, 64, 64, 64))
    for stride in (1, 2):
        network = efficientnet3d_b0(stride).eval()
        network.get_submodule("_conv_head").register_forward_hook(
            lambda _module, _inputs, output, stride=stride: sides.update({stride: tuple(output.shape[2:])})
        )
        with torch.inference_mode():
            network(volume)
    assert sides == {1: (2, 2, 2), 2: (1, 1, 1)}


def test_depthwise_layers_start_by_the_fan_out_of_one_group():
    network = efficientnet3d_b0(2, seed=1)
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv3d) and m.groups > 1]
    assert len(depthwise) == 16
    for layer in depthwise:
        expected = math.sqrt(2 / math.prod(layer.kernel_size))
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.15)


def test_a_seed_gives_the_same_network_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    one, again, other = (efficientnet3d_b0(2, seed=seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["_conv_stem.weight"], other["_conv_stem.weight"])


def test_the_demonstration_network_looks_at_the_image():
    network = demonstration_network(2, seed=3)
    generator = torch.Generator().manual_seed(2)
    volumes = [torch.randn((1, 1, 64, 128, 128), generator=generator) * scale for scale in (0.5, 1.0)]
    with torch.inference_mode():
        logits = [float(network(volume)) for volume in volumes]
        again = float(demonstration_network(2, seed=3)(volumes[0]))
    assert again == logits[0]
    assert abs(logits[0] - logits[1]) > 1e-3
