"""The network equals MONAI's EfficientNet, with the stride as a parameter and a sound initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets.efficientnet import EfficientNet
from torch import nn

from models.efficientnet3d import PADDING_SIDE, block_strings, demonstration_network, efficientnet3d_b0

VOLUMES = torch.randn((2, 1, 64, 64, 128), generator=torch.Generator().manual_seed(1))


def monais(stride: int, seed: int) -> EfficientNet:
    """Return MONAI's network as it draws it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EfficientNet(
            block_strings(stride), spatial_dims=3, in_channels=1, num_classes=1, image_size=PADDING_SIDE
        )


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


@pytest.mark.parametrize("stride", [1, 2])
def test_logits_equal_those_of_monai(stride: int):
    ours, monai = efficientnet3d_b0(stride, seed=5).eval(), monais(stride, seed=6).eval()
    monai.load_state_dict(ours.state_dict())
    with torch.inference_mode():
        assert torch.equal(ours(VOLUMES), monai(VOLUMES))


def test_a_step_of_training_equals_one_with_monai():
    """Statistics, dropout and the blocks left out by chance too."""
    networks = efficientnet3d_b0(2, seed=5), monais(2, seed=6)
    networks[1].load_state_dict(networks[0].state_dict())
    for network in networks:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network.train()(VOLUMES).sum().backward()
    ours, theirs = networks
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)
    statistics = theirs.state_dict()
    assert all(torch.equal(value, statistics[name]) for name, value in ours.state_dict().items())


def test_a_seed_draws_the_weights_of_monai_but_for_the_depthwise_layers():
    ours, theirs = efficientnet3d_b0(1, seed=5).state_dict(), monais(1, seed=5).state_dict()
    assert list(ours) == list(theirs)
    other = {name for name, value in ours.items() if not torch.equal(value, theirs[name])}
    assert other == {name for name in ours if name.endswith("_depthwise_conv.weight")}


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
