"""Networks of several folds, or one for all sequences, read a volume as one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.bundle import SHIPPED, ModelError, open_bundle
from models.contrast import Contrast
from models.efficientnet3d import efficientnet3d_b0
from models.feature_space import distance, fit_feature_space, save_axes
from models.saliency import grad_cam
from models.wae_net import WaeNet
from tests.support.bundles import change_metadata

CPU = torch.device("cpu")
VOLUME = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
GRID = {"size_xyz": [64, 64, 64], "spacing_xyz_mm": [3.0, 3.0, 3.0], "centre": "brain"}
TWO_FOLDS: dict[Contrast, list[str]] = {
    Contrast.T1W: ["models/0.safetensors", "models/1.safetensors"],
    Contrast.T2W: ["models/1.safetensors", "models/0.safetensors"],
    Contrast.FLAIR: ["models/0.safetensors", "models/1.safetensors"],
}
SPACE = fit_feature_space(np.random.default_rng(1).normal(size=(9, 1280)), 4)


def network(seed: int) -> torch.nn.Module:
    """Return a network whose score depends on the volume: its batch normalisation has seen noise."""
    made = efficientnet3d_b0(2, seed).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.train().momentum = None
    noise = torch.randn((1, 1, 64, 128, 128), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        made(noise)
        made.get_parameter("_fc.weight").mul_(0.005)
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(SHIPPED / "untrained-demo", tmp_path_factory.mktemp("wae") / "bundle"))
    (folder / "models").mkdir()
    for seed in (0, 1):
        save_file(network(seed).state_dict(), folder / "models" / f"{seed}.safetensors")
    save_axes(folder / "models" / "features.safetensors", dict.fromkeys(tuple(Contrast), SPACE))
    (folder / "configs" / "inference.json").write_text("{}")
    change(folder, network_files=TWO_FOLDS)
    return folder


def change(folder: Path, **facts: object) -> None:
    change_metadata(folder, **{"seed": None, "grid": GRID, "range": {}} | facts)


@pytest.fixture(scope="module")
def ensemble(folder: Path) -> WaeNet:
    return WaeNet(open_bundle(folder), CPU)


@pytest.fixture(scope="module")
def expected() -> list[tuple[float, np.ndarray]]:
    """Score and features of either network, straight from MONAI's modules."""
    batch, found = torch.from_numpy(VOLUME)[None, None], []
    for seed in (0, 1):
        made = network(seed)
        kept: list[torch.Tensor] = []
        made.get_submodule("_avg_pooling").register_forward_hook(lambda *args, kept=kept: kept.append(args[2]))
        with torch.inference_mode():
            score = float(torch.sigmoid(made(batch).double()))
        found.append((score, kept[0].flatten().numpy()))
    return found


def test_a_score_is_the_mean_of_the_folds_in_their_order(ensemble: WaeNet, expected: list[tuple[float, np.ndarray]]):
    (first, _), (second, _) = expected
    assert abs(first - second) > 0.001
    assert ensemble.read(Contrast.T1W, VOLUME).member_scores == pytest.approx((first, second), abs=1e-4)
    assert ensemble.read(Contrast.T2W, VOLUME).member_scores == pytest.approx((second, first), abs=1e-4)
    assert ensemble.score(Contrast.T1W, VOLUME) == pytest.approx((first + second) / 2, abs=1e-4)


def test_features_are_the_mean_of_what_the_last_layers_see(ensemble: WaeNet, expected: list[tuple[float, np.ndarray]]):
    features = ensemble.read(Contrast.FLAIR, VOLUME).features
    assert (features.shape, features.dtype) == ((1280,), np.float32)
    assert features == pytest.approx((expected[0][1] + expected[1][1]) / 2, rel=1e-3, abs=1e-3)


def test_no_pass_may_round_to_tf32(ensemble: WaeNet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    allowed: list[bool] = []
    hooks = [
        network.register_forward_hook(lambda *_: allowed.append(torch.backends.cudnn.allow_tf32))
        for network in {*ensemble.reading[Contrast.T1W], *ensemble.explained[Contrast.T1W]}
    ]
    ensemble.read(Contrast.T1W, VOLUME)
    assert allowed == [False, False]
    ensemble.saliency(Contrast.T1W, VOLUME)
    assert set(allowed) == {False}
    assert torch.backends.cudnn.allow_tf32
    for hook in hooks:
        hook.remove()


def test_saliency_is_the_mean_of_the_folds(ensemble: WaeNet):
    batch = torch.from_numpy(VOLUME)[None, None]
    maps = [grad_cam(network(seed).requires_grad_(requires_grad=False), batch).values_zyx for seed in (0, 1)]
    assert ensemble.saliency(Contrast.T1W, VOLUME).values_zyx == pytest.approx((maps[0] + maps[1]) / 2, abs=1e-6)


def test_a_file_that_stands_under_several_sequences_is_loaded_once(folder: Path):
    shared = {sequence: ["models/0.safetensors"] for sequence in Contrast}
    change(folder, network_files=shared)
    ensemble = WaeNet(open_bundle(folder), CPU)
    assert len({id(ensemble.reading[sequence][0]) for sequence in Contrast}) == 1
    assert len({ensemble.score(sequence, VOLUME) for sequence in Contrast}) == 1


def test_the_distance_is_that_of_the_bundles_feature_space(folder: Path, ensemble: WaeNet):
    features = np.ones(1280, dtype=np.float32)
    assert ensemble.distance(Contrast.T1W, features) is None
    space = {"file": "models/features.safetensors", "limits": dict.fromkeys(tuple(Contrast), 40.0)}
    change(
        folder, network_files={sequence: ["models/0.safetensors"] for sequence in Contrast}, range={"features": space}
    )
    assert WaeNet(open_bundle(folder), CPU).distance(Contrast.T1W, features) == pytest.approx(distance(SPACE, features))


def test_half_precision_files_are_computed_in_full(folder: Path):
    weights = load_file(folder / "models" / "1.safetensors")
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halves, folder / "models" / "half.safetensors")
    change(folder, network_files={sequence: ["models/half.safetensors"] for sequence in Contrast})
    full = network(1)
    full.load_state_dict({name: value.float() for name, value in halves.items()})
    with torch.inference_mode():
        score = float(torch.sigmoid(full(torch.from_numpy(VOLUME)[None, None]).double()))
    assert WaeNet(open_bundle(folder), CPU).score(Contrast.T1W, VOLUME) == pytest.approx(score, abs=1e-4)


def test_numbers_that_are_not_finite_are_refused(folder: Path):
    weights = load_file(folder / "models" / "1.safetensors")
    weights["_fc.bias"][0] = torch.nan
    save_file(weights, folder / "models" / "damaged.safetensors")
    change(folder, network_files=TWO_FOLDS | {"FLAIR": ["models/0.safetensors", "models/damaged.safetensors"]})
    with pytest.raises(ModelError) as caught:
        WaeNet(open_bundle(folder), CPU)
    assert caught.value.code == "weights_unfit"


def test_an_image_that_breaks_a_network_gets_no_score(ensemble: WaeNet):
    with pytest.raises(RuntimeError, match="finite"):
        ensemble.read(Contrast.T1W, np.full((64, 64, 64), np.nan, dtype=np.float32))
