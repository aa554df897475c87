"""HD-BET's predictor, in process, on weights in its own format."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor, hd_bet_module
from models.brain_weights import EMBEDDED, open_brain_weights
from models.bundle import ModelError, write_checksums
from models.contrast import Contrast
from models.training.brain.label_maps import brain_mask
from pipeline.brain import extract_brain, raw_mask
from pipeline.grid import canonical
from pipeline.mask_measures import measure_mask
from tests.support.hd_bet_models import write_model
from tests.support.services import real_data

HELD_OUT = (13, 14, 15)
"""Label maps that no embedded weights were ever trained on."""


@pytest.fixture(scope="module")
def extractor() -> BrainExtractor:
    return BrainExtractor(open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def children() -> str:
    """Return the processes that this one has started; tests before may have left the tracker of their spawned ones."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_it_is_hd_bets_predictor():
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = hd_bet_module().hd_bet_predictor(EMBEDDED, torch.device("cpu"))
    assert isinstance(predictor, nnUNetPredictor)
    assert not predictor.use_mirroring


def test_loading_and_using_it_leaves_the_process_as_it_was(capfd: pytest.CaptureFixture[str]):
    before = sys.stdout, torch.get_num_threads(), children()
    weights = open_brain_weights("embedded", EMBEDDED)
    extractor = BrainExtractor(weights, torch.device("cpu"))
    noise = np.random.default_rng(0).normal(100, 10, (40, 40, 40)).astype(np.float32)
    mask = extractor.mask(noise, (2.5, 2.5, 2.5))
    assert (mask.shape, mask.dtype) == (noise.shape, np.uint8)
    assert set(np.unique(mask)) <= {0, 1}
    assert (sys.stdout, torch.get_num_threads(), children()) == before
    assert capfd.readouterr().out == ""


def test_nothing_is_written_to_stdout_in_a_fresh_process():
    """Importing HD-BET replaces ``sys.stdout``, which can be seen only where it was not imported before."""
    code = (
        "import sys, numpy as np, torch; stdout = sys.stdout\n"
        "from models.brain_extractor import BrainExtractor\n"
        "from models.brain_weights import EMBEDDED, open_brain_weights\n"
        "torch.set_num_threads(1)\n"
        "extractor = BrainExtractor(open_brain_weights('embedded', EMBEDDED), torch.device('cpu'))\n"
        "assert sys.stdout is stdout and torch.get_num_threads() == 1\n"
        "extractor.mask(np.random.default_rng(0).normal(size=(30, 30, 30)), (3, 3, 3))\n"
        "assert sys.stdout is stdout and torch.get_num_threads() == 1\n"
        "from nnunetv2.configuration import default_num_processes\n"
        "assert default_num_processes == 1, 'nnU-Net would take eight threads'"
    )
    fresh = {name: value for name, value in os.environ.items() if name != "nnUNet_def_n_proc"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=fresh, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_memory_does_not_grow_from_volume_to_volume(tmp_path: Path):
    folder = write_model(tmp_path / "model", (1, 1), patch_voxels=64, spacing_mm=1.0)
    write_checksums(folder)
    extractor = BrainExtractor(open_brain_weights("small", folder), torch.device("cpu"))
    random = np.random.default_rng(0)

    def resident_mb_after(volumes: int) -> float:
        for _ in range(volumes):
            # Every volume has another size, as series have.
            shape_zyx = (96 + int(random.integers(20)), 96, 64)
            volume = sitk.GetImageFromArray(random.normal(100, 20, shape_zyx).astype(np.float32))
            mask = raw_mask(volume, extractor)
            mask[:10, :10, :10] = 1
            measure_mask(volume, mask, 1.0)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    early_mb, late_mb = resident_mb_after(5), resident_mb_after(20)
    print(f"after 5 volumes {early_mb:.0f} MB, after 25 {late_mb:.0f} MB")
    assert late_mb <= 1.05 * early_mb


def test_the_same_volume_gives_the_same_mask(extractor: BrainExtractor):
    volume = np.random.default_rng(1).normal(100, 10, (48, 64, 64)).astype(np.float32)
    volume[10:40, 10:50, 10:50] += 300
    assert np.array_equal(extractor.mask(volume, (3, 2, 2)), extractor.mask(volume, (3, 2, 2)))


def test_changed_weights_are_refused(tmp_path: Path):
    folder = Path(shutil.copytree(EMBEDDED, tmp_path / "weights"))
    checkpoint = folder / "fold_all" / "checkpoint_final.pth"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(bytes(content))
    with pytest.raises(ModelError) as caught:
        open_brain_weights("embedded", folder)
    assert caught.value.code == "brain_weights_changed"


def test_missing_weights_are_refused(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        open_brain_weights("hd-bet", tmp_path)
    assert caught.value.code == "brain_weights_missing"


def test_dice_on_held_out_maps(extractor: BrainExtractor):
    """Measure against the brain with its sulcal fluid (`brain_mask`, without a rim, as these weights learned it).

    The bar is 0.95 for every contrast and thickness, in the mean over the maps; the model card has each image.
    """
    from pipeline.synthetic import render

    values: dict[tuple[Contrast, float], list[float]] = {}
    for number in HELD_OUT:
        labels = sitk.ReadImage(str(real_data("synthseg-labels", f"training_seg_{number:02d}.nii.gz")))
        brain = brain_mask(labels, rim_mm=0.0)
        for role, slices_mm in itertools.product(Contrast, (1.0, 5.0)):
            image = render(labels, role, spacing_xyz_mm=(1.0, 1.0, slices_mm), seed=number)
            image = canonical(sitk.Cast(image, sitk.sitkFloat32))
            truth = sitk.Resample(brain, image, sitk.Transform(), sitk.sitkNearestNeighbor)
            mask, facts = extract_brain(image, extractor)
            value = dice(sitk.GetArrayFromImage(mask) > 0, sitk.GetArrayFromImage(truth) > 0)
            values.setdefault((role, slices_mm), []).append(value)
            print(f"map {number} {role} {slices_mm:g} mm: Dice {value:.3f}, {facts.volume_ml:.0f} ml")
    for (role, slices_mm), reached in values.items():
        print(f"{role} {slices_mm:g} mm: mean {statistics.mean(reached):.3f}, lowest {min(reached):.3f}")
        assert statistics.mean(reached) >= 0.95
        assert min(reached) >= 0.94


@pytest.mark.parametrize("role", ["t1w", "t2w", "flair"])
def test_dice_on_real_scans(role: str, extractor: BrainExtractor):
    """Measure against the supplied masks, which are automatic; the bar is 0.93."""
    image, supplied = (
        canonical(sitk.ReadImage(str(real_data("open-ms", f"patient04-study1-{name}.nii.gz")), sitk.sitkFloat32))
        for name in (role, f"{role}-brainmask")
    )
    mask, _ = extract_brain(image, extractor)
    value = dice(sitk.GetArrayFromImage(mask) > 0, sitk.GetArrayFromImage(supplied) > 0)
    print(f"patient04 {role}: Dice {value:.3f}")
    assert value >= 0.93
