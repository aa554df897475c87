"""A bundle is used only if every file is the one listed and everything in it can be right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.bundle import SEQUENCES, SHIPPED, ModelError, open_bundle, write_checksums
from models.efficientnet3d import efficientnet3d_b0
from models.wae_net import WaeNet, refuse_torch_2_9

CPU = torch.device("cpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "untrained-demo", tmp_path / "bundle"))


def change(folder: Path, **facts: object) -> None:
    """Change the metadata of a bundle and make its checksums right again."""
    file = folder / "configs" / "metadata.json"
    metadata = json.loads(file.read_text()) | facts
    file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))
    write_checksums(folder)


def refusal(folder: Path | str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        WaeNet(open_bundle(folder), CPU)
    return caught.value


def test_the_shipped_bundle_opens_by_name_and_says_what_it_is():
    bundle = open_bundle("untrained-demo")
    assert bundle.metadata.notice.startswith("UNTRAINED DEMONSTRATION MODEL")
    assert bundle.metadata.network_files is None
    assert sum(bundle.metadata.weights.values()) == pytest.approx(1, abs=1e-12)
    assert len({bundle.network_digest(sequence) for sequence in SEQUENCES}) == 3


def test_a_bundle_that_is_not_there():
    assert refusal("no-such-bundle").code == "bundle_missing"


def test_a_changed_byte(bundle: Path):
    file = bundle / "docs" / "README.md"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    error = refusal(bundle)
    assert error.code == "bundle_changed"
    assert "docs/README.md" in str(error)


def test_a_missing_file(bundle: Path):
    (bundle / "LICENSE").unlink()
    assert refusal(bundle).code == "bundle_changed"


def test_a_file_that_is_not_listed(bundle: Path):
    (bundle / "models").mkdir()
    (bundle / "models" / "extra.pt").write_bytes(b"pickle")
    assert refusal(bundle).code == "bundle_changed"


def test_no_checksums(bundle: Path):
    (bundle / "SHA256SUMS").unlink()
    assert refusal(bundle).code == "bundle_changed"


@pytest.mark.parametrize(
    "facts",
    [
        {"weights": {"T1W": 0.3, "T2W": 0.3, "FLAIR": 0.3}},
        {"weights": {"T1W": 1.2, "T2W": -0.6, "FLAIR": 0.4}},
        {"weights": {"T1W": 0.5, "T2W": 0.5}},
        {"architecture": {"name": "ResNet3D", "first_block_stride": 2}},
        {"architecture": {"name": "EfficientNet3D-B0", "first_block_stride": 3}},
        {"seed": None},
        {"network_files": dict.fromkeys(SEQUENCES, "models/a.safetensors")},
        {"threshold": 1.5},
        {"notice": "für Versuche"},
        {"surprise": 1},
    ],
)
def test_metadata_that_cannot_be_right(bundle: Path, facts: dict[str, object]):
    change(bundle, **facts)
    assert refusal(bundle).code == "bundle_invalid"


def test_metadata_that_is_no_json(bundle: Path):
    (bundle / "configs" / "metadata.json").write_text("{")
    write_checksums(bundle)
    assert refusal(bundle).code == "bundle_invalid"


def test_a_grid_the_network_cannot_halve(bundle: Path):
    change(bundle, grid={"size_xyz": [250, 256, 128], "spacing_xyz_mm": [1, 1, 1.5], "centre": "brain"})
    assert refusal(bundle).code == "grid_unfit"


def with_networks(bundle: Path) -> None:
    """Give a bundle weights files of networks of known seeds."""
    (bundle / "models").mkdir()
    for seed, sequence in enumerate(SEQUENCES):
        save_file(efficientnet3d_b0(2, seed=seed).state_dict(), bundle / "models" / f"{sequence}.safetensors")
    change(bundle, seed=None, network_files={s: f"models/{s}.safetensors" for s in SEQUENCES})


def test_weights_files_are_loaded(bundle: Path):
    with_networks(bundle)
    ensemble = WaeNet(open_bundle(bundle), CPU)
    tensor = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = float(
            torch.sigmoid(efficientnet3d_b0(2, seed=1).eval()(torch.from_numpy(tensor)[None, None]).double())
        )
    assert ensemble.score("T2W", tensor) == expected


@pytest.mark.parametrize("damage", ["shape", "pickle", "names"])
def test_weights_that_do_not_fit(bundle: Path, damage: str):
    with_networks(bundle)
    file = bundle / "models" / "T2W.safetensors"
    weights = efficientnet3d_b0(2).state_dict()
    if damage == "pickle":
        torch.save(weights, file)
    else:
        weights["_fc.weight"] = torch.zeros(2, 1280)
        save_file(weights if damage == "shape" else {"other": torch.zeros(1)}, file)
    write_checksums(bundle)
    assert refusal(bundle).code == "weights_unfit"


def test_torch_2_9_is_refused():
    refuse_torch_2_9("2.13.0")
    with pytest.raises(ModelError, match="pinned"):
        refuse_torch_2_9("2.9.1+cpu")
