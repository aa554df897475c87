"""The network arranged for reading computes what the trained one computes, and always the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models.inference
from models.efficientnet3d import EfficientNet3D, efficientnet3d_b0
from models.inference import for_inference, read

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[1, 2])
def network(request: pytest.FixtureRequest) -> EfficientNet3D:
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
def test_scores_and_features_equal_those_of_the_trained_network(network: nn.Module):
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
def test_the_arrangement_for_other_devices_is_equal_too(network: EfficientNet3D):
    folded = models.inference.without_normalisation(network)
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
