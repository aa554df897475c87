"""Releases are unpacked without trust: whatever an archive holds, only tensors and plans come out of it."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import brain_weights
from models.brain_extractor import BrainExtractor
from models.brain_weights import CONVERTED, PICKLED, STATED, open_brain_weights, read_checkpoint, read_pickled
from models.bundle import ModelError, sha256, write_checksums
from models.hd_bet_release import install_release
from tests.support.hd_bet_models import FILES, write_model, write_release


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small model folder as nnU-Net leaves it; read only."""
    return write_model(tmp_path_factory.mktemp("model") / "release_2.0.0")


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    """Return a copy of the model folder that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "own"))


def refused(archive: Path, folder: Path, **options: Any) -> str:
    """Return the code of the refusal, after which nothing may have changed beside the archive."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ModelError) as caught:
        install_release(archive, folder, "hd-bet", **options)
    assert sorted(folder.parent.rglob("*")) == before
    assert str(caught.value).endswith(".")
    return caught.value.code


def changed(own: Path, change: Callable[[dict[str, Any]], object], name: str = "plans.json") -> Path:
    """Return a release in which one JSON file was changed."""
    content = json.loads((own / name).read_text())
    change(content)
    (own / name).write_text(json.dumps(content))
    return write_release(own, own.with_suffix(".zip"))


# --- what is installed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["", "release_2.0.0/", "hd-bet_params/release_2.0.0/"])
def test_no_pickle_is_left(model: Path, tmp_path: Path, root: str):
    archive = write_release(model, tmp_path / "release.zip", root)
    weights = install_release(archive, tmp_path / "node" / "hd-bet", "hd-bet")
    present = {str(path.relative_to(weights.folder)) for path in weights.folder.rglob("*") if path.is_file()}
    assert present == {"dataset.json", "plans.json", str(CONVERTED), str(STATED), "SHA256SUMS"}
    assert [path.name for path in weights.folder.parent.iterdir()] == ["hd-bet"]
    stated = json.loads((weights.folder / STATED).read_text())
    assert stated["converted_from"] == {FILES[2]: sha256(model / PICKLED)}


def test_tensors_are_those_of_the_pickle_and_shared_ones_are_stored_once(model: Path, tmp_path: Path):
    weights = install_release(write_release(model, tmp_path / "release.zip"), tmp_path / "hd-bet", "hd-bet")
    before, after = read_pickled(model / PICKLED), read_checkpoint(weights.folder)
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())
    assert (after.trainer, after.configuration) == ("nnUNetTrainer", "3d_fullres")
    assert after.mirroring_axes == (0, 1, 2)
    distinct = {tensor.data_ptr(): tensor.nbytes for tensor in before.tensors.values()}
    assert (weights.folder / CONVERTED).stat().st_size < 1.5 * sum(distinct.values())


def test_the_digest_is_that_of_the_weights_and_not_of_the_archive(model: Path, tmp_path: Path):
    one = install_release(write_release(model, tmp_path / "a.zip"), tmp_path / "one", "hd-bet")
    other = install_release(write_release(model, tmp_path / "b.zip", "release_2.0.0/"), tmp_path / "other", "hd-bet")
    assert one.digest == other.digest
    assert open_brain_weights("hd-bet", one.folder, one.digest) == one
    with pytest.raises(ModelError) as caught:
        open_brain_weights("hd-bet", one.folder, "0" * 64)
    assert caught.value.code == "brain_weights_not_pinned"
    assert one.digest in str(caught.value)


def test_a_second_release_takes_the_place_of_the_first(model: Path, tmp_path: Path):
    first = install_release(write_release(model, tmp_path / "a.zip"), tmp_path / "hd-bet", "hd-bet")
    second_model = write_model(tmp_path / "second", seed=1)
    second = install_release(write_release(second_model, tmp_path / "b.zip"), tmp_path / "hd-bet", "hd-bet")
    assert first.digest != second.digest
    assert refused(tmp_path / "none.zip", tmp_path / "hd-bet") == "release_missing"
    assert open_brain_weights("hd-bet", tmp_path / "hd-bet") == second


@pytest.mark.parametrize("file", ["plans.json", str(CONVERTED), str(STATED)])
def test_a_changed_byte_is_refused(model: Path, tmp_path: Path, file: str):
    weights = install_release(write_release(model, tmp_path / "release.zip"), tmp_path / "hd-bet", "hd-bet")
    content = bytearray((weights.folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (weights.folder / file).write_bytes(bytes(content))
    with pytest.raises(ModelError) as caught:
        open_brain_weights("hd-bet", weights.folder)
    assert caught.value.code == "brain_weights_changed"
    assert file in str(caught.value)


def test_an_archive_with_another_digest_than_expected_is_refused(model: Path, tmp_path: Path):
    archive = write_release(model, tmp_path / "release.zip")
    assert refused(archive, tmp_path / "hd-bet", expected="0" * 64) == "release_not_expected"
    install_release(archive, tmp_path / "hd-bet", "hd-bet", sha256(archive).upper())


def test_converted_weights_draw_the_mask_of_the_pickled_ones(own: Path, tmp_path: Path):
    installed = install_release(write_release(own, tmp_path / "release.zip"), tmp_path / "hd-bet", "hd-bet")
    write_checksums(own)
    volume_zyx = np.random.default_rng(0).normal(100, 20, (20, 30, 25)).astype(np.float32)
    masks = [
        BrainExtractor(weights, torch.device("cpu")).mask(volume_zyx, (3.0, 2.0, 2.0))
        for weights in (open_brain_weights("hd-bet", own), installed)
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert 0 < masks[0].mean() < 1


# --- hostile archives -------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("place", ["logging", "network_weights", "trainer_name"])
def test_a_pickle_that_runs_code_is_not_run(own: Path, tmp_path: Path, place: str):
    trace = tmp_path / "trace"
    content = torch.load(own / PICKLED, weights_only=False)
    content[place] = Call(os.mkdir, str(trace))
    torch.save(content, own / PICKLED)
    assert refused(write_release(own, tmp_path / "release.zip"), tmp_path / "hd-bet") == "brain_weights_unsafe"
    assert not trace.exists()
    torch.load(own / PICKLED, weights_only=False)
    assert trace.exists(), "the trap of this test does not work"


def test_a_bare_pickle_is_not_run(own: Path, tmp_path: Path):
    trace = tmp_path / "trace"
    (own / PICKLED).write_bytes(pickle.dumps(Call(os.mkdir, str(trace))))
    assert refused(write_release(own, tmp_path / "release.zip"), tmp_path / "hd-bet") == "brain_weights_invalid"
    assert not trace.exists()


def test_plans_that_name_code_are_refused(own: Path, tmp_path: Path):
    def architecture(plans: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = plans["configurations"]["3d_fullres"]["architecture"]
        return found

    folder = tmp_path / "hd-bet"
    archive = changed(own, lambda plans: architecture(plans).update(network_class_name="subprocess.Popen"))
    assert refused(archive, folder) == "brain_weights_unsafe"
    archive = changed(own, lambda plans: architecture(plans)["arch_kwargs"].update(conv_op="os.system"))
    assert refused(archive, folder) == "brain_weights_unsafe"


@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "fold_all/../../escaped", "..\\escaped", "C:/escaped", "a\\..\\..\\escaped"]
)
def test_a_path_that_leads_elsewhere_is_refused(model: Path, tmp_path: Path, name: str):
    archive = write_release(model, tmp_path / "release.zip")
    with zipfile.ZipFile(archive, "a") as zipped:
        member = zipfile.ZipInfo("x")
        member.filename = name
        zipped.writestr(member, "x")
    assert refused(archive, tmp_path / "node" / "hd-bet") == "release_unsafe"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_is_refused(model: Path, tmp_path: Path, kind: int):
    archive = write_release(model, tmp_path / "release.zip")
    with zipfile.ZipFile(archive, "a") as zipped:
        member = zipfile.ZipInfo("link")
        member.external_attr = (kind | 0o777) << 16
        zipped.writestr(member, "/etc/passwd")
    assert refused(archive, tmp_path / "hd-bet") == "release_unsafe"


def test_a_bomb_is_refused_before_it_is_unpacked(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("models.hd_bet_release.MAX_CHECKPOINT_BYTES", 10**6)
    archive = write_release(model, tmp_path / "release.zip")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros", b"\0" * 10**6)
    assert archive.stat().st_size < 10**6
    assert refused(archive, tmp_path / "hd-bet") == "release_unsafe"
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as zipped:
        for number in range(1001):
            zipped.writestr(str(number), "")
    assert refused(tmp_path / "many.zip", tmp_path / "hd-bet") == "release_unsafe"


def test_a_checkpoint_that_is_a_bomb_itself_is_refused(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(own / PICKLED, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("archive/data.pkl", b"\0" * 10**6)
    archive = write_release(own, tmp_path / "release.zip")
    monkeypatch.setattr(brain_weights, "MAX_CHECKPOINT_BYTES", 10**6 - 1)
    assert refused(archive, tmp_path / "hd-bet") == "brain_weights_invalid"


def test_an_expanded_tensor_is_refused(own: Path, tmp_path: Path):
    content = torch.load(own / PICKLED, weights_only=False)
    name = next(iter(content["network_weights"]))
    content["network_weights"][name] = torch.zeros(1).expand(10**12)
    torch.save(content, own / PICKLED)
    assert refused(write_release(own, tmp_path / "release.zip"), tmp_path / "hd-bet") == "brain_weights_invalid"


@pytest.mark.parametrize("missing", FILES)
def test_a_release_without_one_of_its_files_is_refused(own: Path, tmp_path: Path, missing: str):
    archive = tmp_path / "release.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in set(FILES) - {missing}:
            zipped.write(own / name, name)
    assert refused(archive, tmp_path / "hd-bet") == "release_invalid"


def test_a_release_with_two_checkpoints_is_refused(model: Path, tmp_path: Path):
    archive = write_release(model, tmp_path / "release.zip")
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.write(model / PICKLED, "other/fold_all/checkpoint_final.pth")
    assert refused(archive, tmp_path / "hd-bet") == "release_invalid"


def test_what_is_no_archive_is_refused(model: Path, tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"no archive")
    assert refused(tmp_path / "x.zip", tmp_path / "hd-bet") == "release_invalid"
    content = bytearray(write_release(model, tmp_path / "y.zip").read_bytes())
    content[len(content) // 3] ^= 255
    (tmp_path / "y.zip").write_bytes(bytes(content))
    assert refused(tmp_path / "y.zip", tmp_path / "hd-bet") == "release_invalid"


def test_weights_that_do_not_fit_their_plans_are_refused(own: Path, tmp_path: Path):
    def widen(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 8, 8]

    assert refused(changed(own, widen), tmp_path / "hd-bet") == "brain_weights_invalid"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("dataset.json", lambda content: content.update(labels={"background": 0, "a": 1, "b": 2})),
        ("dataset.json", lambda content: content.update(channel_names={"0": "T1", "1": "T2"})),
        ("dataset.json", lambda content: content.clear()),
        ("plans.json", lambda content: content["configurations"].clear()),
        ("plans.json", lambda content: content["configurations"]["3d_fullres"].update(patch_size=[64000] * 3)),
        ("plans.json", lambda content: content["configurations"]["3d_fullres"].update(spacing=[1e-3, 1.0, 1.0])),
        ("plans.json", lambda content: content["configurations"]["3d_fullres"].pop("architecture")),
    ],
)
def test_plans_of_another_kind_are_refused(own: Path, tmp_path: Path, name: str, change: Callable[[Any], object]):
    assert refused(changed(own, change, name), tmp_path / "hd-bet") == "brain_weights_invalid"


def test_a_checkpoint_of_another_kind_is_refused(own: Path, tmp_path: Path):
    for content in ({"weights": 1}, [1, 2], {"network_weights": {"a": torch.zeros(1)}}):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        (own / PICKLED).write_bytes(buffer.getvalue())
        archive = write_release(own, tmp_path / "release.zip")
        assert refused(archive, tmp_path / "hd-bet") == "brain_weights_invalid"
