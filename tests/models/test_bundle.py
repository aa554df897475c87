"""A bundle is used only if every file is the one listed and all can be right; each refusal has a code of its own."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from models.bundle import SHIPPED, ModelError, open_bundle, sha256, write_checksums
from models.bundle_metadata import Check
from models.contrast import Contrast
from models.efficientnet3d import efficientnet3d_b0
from models.wae_net import WaeNet, refuse_torch_2_9
from tests.support.bundles import change_metadata

CPU = torch.device("cpu")
FILES = {"T1W": ["models/T1W.safetensors"], "T2W": ["models/T2W.safetensors"], "FLAIR": ["models/T1W.safetensors"]}
LIMITS = dict.fromkeys(tuple(Contrast), 30.0)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Tensors of the right names and shapes, which is all that opening looks at; one byte each keeps files small."""
    return {
        name: torch.zeros(value.shape, dtype=torch.int8) for name, value in efficientnet3d_b0(2).state_dict().items()
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "untrained-demo", tmp_path / "bundle"))


@pytest.fixture
def full(bundle: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A bundle with two files of weights for three sequences, and a feature space."""
    (bundle / "models").mkdir()
    for name in ("T1W", "T2W"):
        save_file(weights, bundle / "models" / f"{name}.safetensors")
    parts = {"mean": np.zeros(4), "axes": np.eye(2, 4), "variances": np.ones(2)}
    arrays = {f"{s}.{name}": value.astype(np.float32) for s in Contrast for name, value in parts.items()}
    save_arrays(arrays, bundle / "models" / "features.safetensors")
    (bundle / "configs" / "inference.json").write_text("{}")
    features = {"file": "models/features.safetensors", "limits": LIMITS}
    change_metadata(bundle, seed=None, network_files=FILES, range={"features": features})
    return bundle


def refusal(folder: Path | str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        open_bundle(folder)
    return caught.value


# --- good ones --------------------------------------------------------------------------------------------------------


def test_the_shipped_bundle_opens_by_name_and_says_what_it_is():
    bundle = open_bundle("untrained-demo")
    assert bundle.metadata.notice.startswith("UNTRAINED DEMONSTRATION MODEL")
    assert bundle.metadata.network_files is None
    assert sum(bundle.metadata.weights.values()) == pytest.approx(1, abs=1e-12)
    assert len({bundle.network_digest(sequence) for sequence in Contrast}) == 3


def test_a_digest_covers_every_member(full: Path, weights: dict[str, torch.Tensor]):
    one = {sequence: open_bundle(full).network_digest(sequence) for sequence in Contrast}
    assert set(one.values()) == {sha256(full / "models" / "T1W.safetensors")}
    (full / "models" / "second.safetensors").write_bytes((full / "models" / "T1W.safetensors").read_bytes())
    both = {sequence: [*FILES[sequence], "models/second.safetensors"] for sequence in Contrast}
    change_metadata(full, network_files=both)
    two = open_bundle(full).network_digest(Contrast.T1W)
    assert two not in one.values()
    save_file(weights | {"_fc.bias": torch.ones(1, dtype=torch.int8)}, full / "models" / "second.safetensors")
    write_checksums(full)
    assert open_bundle(full).network_digest(Contrast.T1W) not in {two, *one.values()}


def test_the_digest_of_a_network_is_of_what_was_verified(full: Path, weights: dict[str, torch.Tensor]):
    opened = open_bundle(full)
    before = {sequence: opened.network_digest(sequence) for sequence in Contrast}
    save_file(weights | {"_fc.bias": torch.ones(1, dtype=torch.int8)}, full / "models" / "T1W.safetensors")
    write_checksums(full)
    assert {sequence: opened.network_digest(sequence) for sequence in Contrast} == before
    assert open_bundle(full).network_digest(Contrast.T1W) != before[Contrast.T1W]


def test_words_of_monai_are_taken_and_typed(bundle: Path):
    image = {"type": "image", "format": "magnitude", "modality": "MR", "num_channels": 1, "dtype": "float32",
             "spatial_shape": [128, 256, 256], "value_range": [-5, 5], "channel_def": {"0": "image"}}  # fmt: skip
    score = {"type": "probability", "format": "classification", "num_channels": 1, "dtype": "float32"}
    change_metadata(
        bundle, task="score", description="d", authors="a", copyright="c", monai_version="1.6.1", changelog={"1": "x"},
        pytorch_version="2.13.0", numpy_version="2.4.6", required_packages_version={"safetensors": "0.8.0"},
        network_data_format={"inputs": {"image": image}, "outputs": {"pred": score}},
    )  # fmt: skip
    assert open_bundle(bundle).metadata.network_data_format.inputs["image"].spatial_shape == (128, 256, 256)
    change_metadata(bundle, network_data_format={"inputs": {"image": image | {"num_channels": "one"}}, "outputs": {}})
    assert refusal(bundle).code == "bundle_invalid"


def test_what_a_study_outside_gets(bundle: Path):
    checks: tuple[Check, ...] = ("age", "contrast", "field_strength", "features", "brain_weights")
    change_metadata(bundle, range={})
    assert [open_bundle(bundle).metadata.range.action(check) for check in checks] == ["withhold"] * 3 + ["flag"] * 2
    change_metadata(bundle, range={"actions": {"age": "flag", "features": "withhold"}})
    said = [open_bundle(bundle).metadata.range.action(check) for check in checks]
    assert said == ["flag", "withhold", "withhold", "withhold", "flag"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_bundle_that_is_not_there():
    missing = refusal("no-such-bundle")
    assert missing.code == "bundle_missing"
    assert "untrained-demo" in str(missing)


@pytest.mark.parametrize("name", ["docs/README.md", "models/T2W.safetensors", "models/features.safetensors"])
def test_a_changed_byte(full: Path, name: str):
    file = full / name
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    error = refusal(full)
    assert error.code == "bundle_changed"
    assert name in str(error)


@pytest.mark.parametrize(
    "name",
    ["LICENSE", "docs/README.md", "configs/inference.json", "models/T2W.safetensors", "models/features.safetensors"],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_missing_file(full: Path, name: str, listed: bool):
    (full / name).unlink()
    if not listed:
        write_checksums(full)
    error = refusal(full)
    assert error.code == "bundle_file_missing"
    assert name in str(error)


def test_a_file_that_is_not_listed(bundle: Path):
    (bundle / "docs" / "extra.txt").write_text("more")
    assert refusal(bundle).code == "bundle_changed"


def test_no_checksums(bundle: Path):
    (bundle / "SHA256SUMS").unlink()
    assert refusal(bundle).code == "bundle_changed"


@pytest.mark.parametrize("name", ["../bundle/models/T1W.safetensors", "/models/T1W.safetensors", "models/T1W.pth",
                                  "models/./T1W.safetensors", "models\\T1W.safetensors"])  # fmt: skip
def test_a_name_that_leads_elsewhere(full: Path, name: str):
    change_metadata(full, network_files=FILES | {"T1W": [name]})
    assert refusal(full).code == "bundle_invalid"
    change_metadata(full, network_files=FILES, range={"features": {"file": name, "limits": LIMITS}})
    assert refusal(full).code == "bundle_invalid"


def test_a_link_that_leads_elsewhere(full: Path, tmp_path: Path):
    outside = (full / "models" / "T1W.safetensors").rename(tmp_path / "T1W.safetensors")
    (full / "models" / "T1W.safetensors").symlink_to(outside)
    write_checksums(full)
    assert refusal(full).code == "bundle_file_missing"


class Trap:
    """Its pickle ends the process of whoever reads it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exit, (1,)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("models/T2W.safetensors", lambda file: torch.save({"a": Trap()}, file)),
        ("models/T2W.safetensors", lambda file: file.write_bytes(pickle.dumps(Trap()))),
        ("models/extra.pt", lambda file: torch.save({}, file)),
        ("docs/extra.PTH", lambda file: file.write_bytes(b"anything")),
        ("configs/extra.pkl", lambda file: file.write_bytes(pickle.dumps(Trap()))),
        ("extra", lambda file: file.write_bytes(pickle.dumps(Trap()))),
    ],
    ids=["zip as weights", "pickle as weights", "pt", "pth", "pkl", "without suffix"],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_pickle(full: Path, name: str, write: Callable[[Path], object], listed: bool):
    write(full / name)
    if listed:
        write_checksums(full)
    error = refusal(full)
    assert error.code == "bundle_pickle"
    assert name in str(error)


def test_a_safetensors_file_that_begins_like_a_pickle_is_none(full: Path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode().ljust(0x80)
    (full / "models" / "more.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    write_checksums(full)
    open_bundle(full)


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"weights": {"T1W": 0.3, "T2W": 0.3, "FLAIR": 0.3}}, "ensemble_weights_invalid"),
        ({"weights": {"T1W": 1.2, "T2W": -0.6, "FLAIR": 0.4}}, "ensemble_weights_invalid"),
        ({"weights": {"T1W": 0.5, "T2W": 0.5}}, "bundle_invalid"),
        ({"two_sequences": [{"weights": {"T1W": 0.5, "T2W": 0.4}, "threshold": 0.5, "patients": 9, "auc": 0.7}]},
         "ensemble_weights_invalid"),
        ({"two_sequences": [{"weights": {"T1W": 1.0}, "threshold": 0.5, "patients": 9, "auc": 0.7}]}, "bundle_invalid"),
        ({"two_sequences": [{"weights": {"T1W": 0.5, "T2W": 0.5}, "threshold": 0.5, "patients": 9, "auc": 0.7}] * 2},
         "bundle_invalid"),
        ({"architecture": {"name": "ResNet3D", "first_block_stride": 2}}, "architecture_unknown"),
        ({"architecture": {"name": "EfficientNet3D-B0", "first_block_stride": 3}}, "architecture_unknown"),
        ({"architecture": {"name": "EfficientNet3D-B0"}}, "architecture_unknown"),
        ({"seed": None}, "bundle_invalid"),
        ({"network_files": FILES}, "bundle_invalid"),
        ({"threshold": 1.5}, "bundle_invalid"),
        ({"notice": "für Versuche"}, "bundle_invalid"),
        ({"surprise": 1}, "bundle_invalid"),
        ({"seed": 2**63}, "bundle_invalid"),
        ({"name": "x" * 65}, "bundle_invalid"),
        ({"intended_use": "x" * 10**6}, "bundle_invalid"),
        ({"intensity": {"clip_percentiles": [-1, 101]}}, "bundle_invalid"),
        ({"calibration": {"method": "temperature", "slope": 1.2, "intercept": 0.1, "patients": 9}}, "bundle_invalid"),
        ({"calibration": {"method": "platt", "slope": -1.2, "intercept": 0.1, "patients": 9}}, "bundle_invalid"),
        ({"range": {"age_years": [9, 2]}}, "bundle_invalid"),
        ({"range": {"actions": {"weather": "flag"}}}, "bundle_invalid"),
        ({"range": {"features": {"file": "models/f.safetensors", "limits": {"T1W": 1}}}}, "bundle_invalid"),
        ({"range": {"features": {"file": "models/f.safetensors", "limits": LIMITS}}}, "bundle_file_missing"),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_right(bundle: Path, facts: dict[str, object], code: str):
    change_metadata(bundle, **facts)
    assert refusal(bundle).code == code


@pytest.mark.parametrize(
    ("size_xyz", "spacing_xyz_mm"),
    [
        ([64000, 64000, 64000], [1, 1, 1]),
        ([1024, 1024, 33], [1, 1, 1]),
        ([2048, 1, 1], [1, 1, 1]),
        ([0, 256, 128], [1, 1, 1]),
        ([-256, -256, 128], [1, 1, 1]),
        ([256, 256, 128], [0.001, 1, 1]),
        ([256, 256, 128], [1, 1, -1]),
        ([256, 256, 128], [1e300, 1, 1]),
    ],
)
def test_a_grid_that_no_machine_has_the_memory_for(bundle: Path, size_xyz: list[int], spacing_xyz_mm: list[float]):
    change_metadata(bundle, grid={"size_xyz": size_xyz, "spacing_xyz_mm": spacing_xyz_mm, "centre": "brain"})
    refused = refusal(bundle)
    assert refused.code == "bundle_invalid"
    assert "grid" in str(refused)
    assert "Value error" not in str(refused)


@pytest.mark.parametrize("shape", [(2, 10**4), (10**4, 4)])
def test_a_feature_space_larger_than_any(full: Path, shape: tuple[int, int]):
    parts = {"mean": np.zeros(shape[1]), "axes": np.zeros(shape), "variances": np.ones(shape[0])}
    arrays = {f"{s}.{name}": value.astype(np.int8) for s in Contrast for name, value in parts.items()}
    save_arrays(arrays, full / "models" / "features.safetensors")
    write_checksums(full)
    assert refusal(full).code == "feature_space_unfit"


def test_checksums_of_more_files_than_any_model_has(bundle: Path):
    with (bundle / "SHA256SUMS").open("ab") as file:
        file.truncate(2**25)
    assert refusal(bundle).code == "bundle_changed"


@pytest.mark.parametrize("members", [[[], [], []], [["a"], ["b"], ["c", "d"]], [["a"] * 2] * 3, [list("abcdef")] * 3])
def test_members_that_cannot_be_right(full: Path, members: list[list[str]]):
    named = ([f"models/{name}.safetensors" for name in names] for names in members)
    change_metadata(full, network_files=dict(zip(tuple(Contrast), named, strict=True)))
    assert refusal(full).code == "bundle_invalid"


@pytest.mark.parametrize("name", ["configs/metadata.json", "configs/inference.json"])
@pytest.mark.parametrize(
    "content", ["{", "[]", "\udce9", '{"a":' * 10**5, "[" * 10**6, "{" + " " * 2**24 + "}", "9" * 9999]
)
def test_a_file_that_is_no_json(full: Path, name: str, content: str):
    (full / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    write_checksums(full)
    assert refusal(full).code == "bundle_invalid"


# --- tensors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["shape", "names", "missing", "extra", "no tensors"])
def test_weights_that_do_not_fit(full: Path, weights: dict[str, torch.Tensor], damage: str):
    file = full / "models" / "T2W.safetensors"
    other = {
        "shape": weights | {"_fc.weight": torch.zeros(2, 1280)},
        "names": {"other": torch.zeros(1)},
        "missing": {name: value for name, value in weights.items() if name != "_fc.bias"},
        "extra": weights | {"more": torch.zeros(1)},
    }
    if damage == "no tensors":
        file.write_bytes(b"not a header of safetensors")
    else:
        save_file(other[damage], file)
    write_checksums(full)
    error = refusal(full)
    assert error.code == "weights_unfit"
    assert "T2W" in str(error)


@pytest.mark.parametrize("damage", ["axes", "sequence", "no tensors"])
def test_a_feature_space_that_does_not_fit(full: Path, damage: str):
    file = full / "models" / "features.safetensors"
    sequences = tuple(Contrast)[:2] if damage == "sequence" else tuple(Contrast)
    parts = {"mean": np.zeros(4), "axes": np.eye(2, 5 if damage == "axes" else 4), "variances": np.ones(2)}
    save_arrays({f"{s}.{name}": value for s in sequences for name, value in parts.items()}, file)
    if damage == "no tensors":
        file.write_bytes(b"not a header of safetensors")
    write_checksums(full)
    assert refusal(full).code == "feature_space_unfit"


# --- what the networks refuse -----------------------------------------------------------------------------------------


def test_a_grid_the_network_cannot_halve(bundle: Path):
    change_metadata(bundle, grid={"size_xyz": [250, 256, 128], "spacing_xyz_mm": [1, 1, 1.5], "centre": "brain"})
    with pytest.raises(ModelError) as caught:
        WaeNet(open_bundle(bundle), CPU)
    assert caught.value.code == "grid_unfit"


def test_torch_2_9_is_refused():
    refuse_torch_2_9("2.13.0")
    with pytest.raises(ModelError, match="pinned"):
        refuse_torch_2_9("2.9.1+cpu")
