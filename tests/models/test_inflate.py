"""A 2-D EfficientNet-B0 becomes a 3-D one that sees the same in a volume that is constant along depth."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets.efficientnet import EfficientNet, EfficientNetBN
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models.bundle import ModelError
from models.efficientnet3d import efficientnet3d_b0
from models.inflate import inflate, inflate_checkpoint, refuse_unless_inflated

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def flat() -> EfficientNet:
    """Return MONAI's 2-D network with random weights and random statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3, num_classes=1000)
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return network.eval()


def other_names(state: State) -> State:
    """Return a state under the names of EfficientNet-PyTorch, whose blocks are numbered through."""
    return {re.sub(r"^(_blocks)\.\d+(\.\d+\.)", r"\1\2", name): value for name, value in state.items()}


def test_every_tensor_is_accounted_for(flat: EfficientNet):
    state, report = inflate(flat.state_dict())
    assert [len(names) for names in (report.copied, report.inflated, report.reinitialised)] == [277, 81, 2]
    assert report.reinitialised == ("_fc.weight", "_fc.bias")
    assert sorted((*report.copied, *report.inflated, *report.reinitialised)) == sorted(state)
    assert "277 tensors copied, 81 kernels inflated, 2 re-initialised" in str(report)
    assert 0 < float(state["_fc.weight"].abs().max()) < 0.03
    for stride in (1, 2):
        efficientnet3d_b0(stride).load_state_dict(state)


def test_both_spellings_of_the_names_give_the_same_weights(flat: EfficientNet):
    other = other_names(flat.state_dict())
    assert "_blocks.5._depthwise_conv.weight" in other
    one, again = inflate(flat.state_dict())[0], inflate(other)[0]
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_copied_is_equal_and_inflated_sums_to_the_flat_kernel(flat: EfficientNet):
    source = flat.state_dict()
    state, report = inflate(source)
    assert all(torch.equal(state[name], source[name]) for name in report.copied)
    for name in report.inflated:
        expected = source[name].sum(1, keepdim=True) if name == "_conv_stem.weight" else source[name]
        torch.testing.assert_close(state[name].sum(2), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(state[name][:, :, 0], state[name][:, :, -1])


@torch.inference_mode()
def test_a_volume_constant_along_depth_is_seen_as_its_slice(flat: EfficientNet):
    deep = efficientnet3d_b0(1).eval()
    deep.load_state_dict(inflate(flat.state_dict())[0])
    image = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    volume = image[:, :, None].expand(-1, -1, 64, -1, -1)
    seen_flat = flat._conv_stem(flat._conv_stem_padding(image.expand(-1, 3, -1, -1)))
    seen_deep = deep.get_submodule("_conv_stem")(volume)
    assert seen_deep.shape[2] == 32
    # The last plane looks at the zeros behind the volume.
    assert float((seen_deep[:, :, :-1] - seen_flat[:, :, None]).abs().max()) <= 6e-7
    assert float((seen_deep[:, :, -1] - seen_flat).abs().max()) > 1e-3


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_inflated_and_says_what_it_is(flat: nn.Module, tmp_path: Path, suffix: str):
    checkpoint, out = tmp_path / f"flat{suffix}", tmp_path / "deep.safetensors"
    state = flat.state_dict()
    if suffix == ".pth":
        torch.save(state, checkpoint)
    else:
        save_file(state, checkpoint)
    report = inflate_checkpoint(checkpoint, out)
    refuse_unless_inflated(out)
    expected, _ = inflate(state)
    written = load_file(out)
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert {place: tuple(names) for place, names in json.loads(metadata["inflation"]).items()} == {
        "copied": report.copied, "inflated": report.inflated, "reinitialised": report.reinitialised,
    }  # fmt: skip
    assert len(metadata["checkpoint_sha256"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([checkpoint.name, out.name])
    with pytest.raises(ModelError) as refused:
        inflate_checkpoint(checkpoint, out)
    assert refused.value.code == "output_exists"


class Intruder:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path):
    trace = tmp_path / "trace"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))):
        checkpoint = tmp_path / "bad.pth"
        save({"_fc.bias": Intruder(trace)}, checkpoint)
        with pytest.raises(ModelError) as refused:
            inflate_checkpoint(checkpoint, tmp_path / "out.safetensors")
        assert refused.value.code == "checkpoint_unreadable"
        assert not trace.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", ["absent.pth", "flat.bin", "text.pth", "text.safetensors", "list.pth"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, name: str):
    if name.startswith("list"):
        torch.save([torch.zeros(1)], tmp_path / name)
    elif not name.startswith("absent"):
        (tmp_path / name).write_text("weights")
    with pytest.raises(ModelError) as refused:
        inflate_checkpoint(tmp_path / name, tmp_path / "out.safetensors")
    assert refused.value.code == "checkpoint_unreadable"
    assert name in str(refused.value)


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("_bn0.weight"), "lacks the tensor '_bn0.weight'"),
        (lambda state: state | {"extra": torch.zeros(1)}, "unknown tensor 'extra'"),
        (lambda state: state | {"_bn0.weight": torch.zeros(8)}, "'_bn0.weight' of shape"),
        (lambda state: state | {"_conv_stem.weight": torch.zeros(32, 1, 3, 3)}, "'_conv_stem.weight' of shape"),
        (lambda state: state | {"_bn1.bias": torch.full((1280,), torch.nan)}, "not finite"),
        (lambda _state: efficientnet3d_b0(1).state_dict(), "of shape"),
        (lambda _state: {}, "and 308 more"),
    ],
)  # fmt: skip
def test_another_network_is_refused(flat: nn.Module, change: Callable[[State], State], told: str):
    with pytest.raises(ModelError, match=re.escape(told)) as refused:
        inflate(change(dict(flat.state_dict())))
    assert refused.value.code == "checkpoint_unfit"


def test_a_larger_relative_is_refused():
    larger = EfficientNetBN("efficientnet-b1", pretrained=False, spatial_dims=2, in_channels=3, num_classes=1000)
    with pytest.raises(ModelError) as refused:
        inflate(larger.state_dict())
    assert refused.value.code == "checkpoint_unfit"


def test_a_checkpoint_without_batch_counters_is_taken_and_said_to_lack_them(flat: EfficientNet):
    state = {name: value for name, value in flat.state_dict().items() if not name.endswith("num_batches_tracked")}
    _, report = inflate(state)
    assert [len(names) for names in (report.copied, report.inflated, report.reinitialised)] == [228, 81, 51]
