"""With the same weights, the mask of the node is the mask of the ``hd-bet`` command, voxel for voxel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.hd_bet_release import install_release
from pipeline.brain import raw_mask
from pipeline.grid import canonical
from tests.support.hd_bet_models import write_model, write_release
from tests.support.services import real_data

HD_BET = Path(sys.executable).with_name("hd-bet")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home folder in which the command finds weights: six stages, as the official network has, but thin."""
    home = tmp_path_factory.mktemp("home")
    write_model(home / "hd-bet_params" / "release_2.0.0", (4, 8, 8, 8, 8, 8), patch_voxels=64, spacing_mm=2.5, seed=4)
    return home


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a real T1W head on canonical axes, as the command wants it."""
    image = sitk.ReadImage(str(real_data("open-ms", "patient04-study1-t1w.nii.gz")), sitk.sitkFloat32)
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    sitk.WriteImage(canonical(image), str(path))
    return path


def hd_bet(home: Path, image: Path, out: Path) -> np.ndarray:
    """Return the mask that the command writes."""
    command: list[str | Path] = [HD_BET, "-i", image, "-o", out / "out.nii.gz", "-device", "cpu", "--disable_tta"]
    done = subprocess.run(
        [*command, "--save_bet_mask", "--no_bet_image"],
        env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return sitk.GetArrayFromImage(sitk.ReadImage(str(out / "out_bet.nii.gz")))


def test_mask_is_that_of_the_command(home: Path, head: Path, tmp_path: Path):
    folder = home / "hd-bet_params" / "release_2.0.0"
    theirs = hd_bet(home, head, tmp_path)
    assert 0.05 < theirs.mean() < 0.95
    weights = install_release(write_release(folder, tmp_path / "release.zip"), tmp_path / "hd-bet", "hd-bet")
    image = sitk.ReadImage(str(head), sitk.sitkFloat32)
    ours = raw_mask(image, BrainExtractor(weights, torch.device("cpu")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), theirs)
