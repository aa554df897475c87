"""The network arranged for reading computes what MONAI's modules compute, and always the same."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from monai.networks.nets.efficientnet import EfficientNet, EfficientNetBN
from torch import nn

import models.inference
from models.efficientnet3d import efficientnet3d_b0
from models.inference import for_inference, read

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[1, 2])
def network(request: pytest.FixtureRequest) -> nn.Module:
    """Return a network whose batch normalisation does something, and whose logit is steep."""
    network = efficientnet3d_b0(request.param, seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm3d)):
        norm.weight.data.uniform_(0.7, 1.3, generator=generator)
        norm.bias.data.normal_(0, 0.3, generator=generator)
        norm.running_mean.normal_(0, 0.3, generator=generator)
        norm.running_var.uniform_(0.5, 1.5, generator=generator)
    network.get_parameter("_fc.weight").data.normal_(0, 0.1, generator=generator)
    return network


def volumes(count: int = 1, side: int = 64) -> torch.Tensor:
    """Return random volumes, zero outside a box, with three different sides."""
    batch = torch.randn((count, 1, side, side, 2 * side), generator=torch.Generator().manual_seed(2))
    batch[..., :8] = 0
    return batch


@torch.inference_mode()
def test_scores_and_features_equal_those_of_monai(network: nn.Module):
    batch = volumes()
    logits, features = read(for_inference(network, CPU), batch)
    expected, expected_features = read(network, batch)
    assert (logits.shape, features.shape, logits.dtype, features.dtype) == ((1,), (1, 1280), *[torch.float32] * 2)
    assert torch.equal(expected, network(batch)[:, 0])
    assert abs(float(expected)) > 0.01
    torch.testing.assert_close(logits.sigmoid(), expected.sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(features, expected_features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("slab_bytes", [1, 300_000, 3_000_000])
@torch.inference_mode()
def test_the_size_of_a_slab_does_not_matter(network: nn.Module, monkeypatch: pytest.MonkeyPatch, slab_bytes: int):
    arranged, batch = for_inference(network, CPU), volumes()
    whole = arranged(batch)
    monkeypatch.setattr(models.inference, "SLAB_BYTES", slab_bytes)
    torch.testing.assert_close(arranged(batch), whole, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_several_volumes_are_read_as_one_by_one(network: nn.Module):
    arranged, batch = for_inference(network, CPU), volumes(2)
    logits, features = read(arranged, batch)
    for index in range(2):
        alone, alone_features = read(arranged, batch[index : index + 1])
        torch.testing.assert_close(logits[index : index + 1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features[index : index + 1], alone_features, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_same_volume_gets_the_same_score_bit_for_bit(network: nn.Module):
    batch = volumes()
    first, again = for_inference(network, CPU), for_inference(network, CPU)
    logits = [model(batch) for model in (first, first, again)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@torch.inference_mode()
def test_the_image_and_the_first_network_stay_as_they_are(network: nn.Module):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    batch = volumes()
    kept = batch.clone()
    for_inference(network, CPU)(batch)
    assert torch.equal(batch, kept)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


@torch.inference_mode()
def test_the_arrangement_for_other_devices_is_equal_too(network: nn.Module):
    folded = models.inference.without_normalisation(cast(EfficientNet, network))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm3d)]
    for ours, expected in zip(read(folded, volumes(2)), read(network, volumes(2)), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_it_never_holds_a_whole_widened_tensor(network: nn.Module, monkeypatch: pytest.MonkeyPatch):
    largest = []
    silu = models.inference.silu_into

    def measured(x: torch.Tensor, out: torch.Tensor) -> None:
        largest.append(x.numel() * x.element_size())
        silu(x, out)

    monkeypatch.setattr(models.inference, "silu_into", measured)
    monkeypatch.setattr(models.inference, "SLAB_BYTES", 1 << 20)
    with torch.inference_mode():
        for_inference(network, CPU)(volumes())
    # At stride 1 the second block widens to 96 channels of 32 x 32 x 64 voxels, 25 MB.
    assert max(largest) <= 3 << 20


def test_another_network_is_refused():
    with pytest.raises(TypeError, match="Sequential"):
        for_inference(nn.Sequential(), CPU)


def test_monai_s_own_class_is_read_too():
    monai = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1, num_classes=1).eval()
    with torch.inference_mode():
        torch.testing.assert_close(for_inference(monai, CPU)(volumes()), monai(volumes()), rtol=1e-4, atol=1e-4)
