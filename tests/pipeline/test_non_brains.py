"""What is no brain ends in a named refusal, never in a score; heads are never refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.brain_weights import EMBEDDED, open_brain_weights
from models.bundle import open_bundle
from models.contrast import Contrast
from pipeline.brain import extract_brain
from pipeline.errors import StudyHeld
from pipeline.geometry import stacked_frames
from pipeline.grid import canonical
from pipeline.headers import read_headers
from pipeline.select import select_study
from pipeline.study import Models, load_models, run_study
from pipeline.synthetic import StudyTags, nifti_study, render
from pipeline.synthetic.anatomy import procedural_head
from pipeline.volume import image_of
from tests.support.services import command, real_data

NON_BRAINS = ("jpeg-fragments", "philips-enhanced/t1w-tse-phantom.dcm", "dicom2nifti/hitachi-shoulder")
HEADS = ("philips-mprage", "xa30-enhanced/t1.dcm", "siemens-decubitus", "ge-pd")
FLAIR = "open-ms/patient04-study1-flair.nii.gz"
MASK_CODES = {"brain_mask_empty", "brain_mask_implausible", "brain_masks_disagree"}


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(open_bundle("untrained-demo"), open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))


@pytest.fixture(scope="module")
def extractor(models: Models) -> BrainExtractor:
    return models.extractor


def scan(name: str) -> sitk.Image:
    """Return a real volume of any size: the gate, which refuses most of these before, is left out."""
    path = real_data(*name.split("/"))
    if path.name.endswith(".nii.gz"):
        return canonical(sitk.ReadImage(str(path), sitk.sitkFloat32))
    files = [path] if path.is_file() else sorted(path.iterdir())
    return canonical(image_of(*stacked_frames(read_headers(files).volumes[0].frames)))


def volume(array_zyx: np.ndarray, spacing_xyz_mm: tuple[float, float, float] = (2.0, 2.0, 4.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array_zyx.astype(np.float32))
    image.SetSpacing(spacing_xyz_mm)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def bottle() -> np.ndarray:
    """Return a cylinder of one fluid in air, with the coil's shading and noise."""
    _, y, x = np.indices((40, 100, 100))
    inside = np.hypot(y - 50, x - 50) < 35
    return np.abs(inside * (900 + 250 * np.cos(x / 25)) + np.random.default_rng(3).normal(0, 15, inside.shape))


def ball() -> np.ndarray:
    z, y, x = np.indices((40, 100, 100))
    inside = np.sqrt((2 * (z - 20)) ** 2 + (y - 50) ** 2 + (x - 50) ** 2) < 38
    return np.abs(inside * (900 + 250 * np.cos(y / 25)) + np.random.default_rng(4).normal(0, 15, inside.shape))


def noise() -> np.ndarray:
    return np.abs(np.random.default_rng(5).normal(0, 100, (40, 100, 100)))


MADE: dict[str, Callable[[], np.ndarray]] = {
    "bottle": bottle,
    "ball": ball,
    "noise": noise,
    "empty": lambda: np.zeros((40, 100, 100)),
    "constant": lambda: np.full((40, 100, 100), 300.0),
}


def refused(image: sitk.Image, extractor: BrainExtractor) -> str:
    with pytest.raises(StudyHeld) as error:
        extract_brain(image, extractor)
    assert error.value.sentence.endswith(".")
    return error.value.code


@pytest.mark.parametrize("name", NON_BRAINS)
def test_real_non_brains_are_refused(name: str, extractor: BrainExtractor):
    assert refused(scan(name), extractor) in MASK_CODES


@pytest.mark.parametrize("name", MADE)
def test_made_non_brains_are_refused(name: str, extractor: BrainExtractor):
    code = refused(volume(MADE[name]()), extractor)
    assert code == ("brain_mask_empty" if name in ("empty", "constant") else "brain_mask_implausible")


def test_a_bottle_that_fills_the_field_of_view_is_refused(extractor: BrainExtractor):
    """The slab of the real bottle, its slices declared so far apart that it is as large as a head."""
    image = scan("jpeg-fragments")
    spacing_mm = [112 / n if n == min(image.GetSize()) else s for n, s in zip(image.GetSize(), image.GetSpacing())]  # noqa: B905
    image.SetSpacing(spacing_mm)
    assert refused(image, extractor) == "brain_mask_implausible"


@pytest.mark.parametrize("name", [*HEADS, FLAIR])
def test_real_heads_are_not_refused(name: str, extractor: BrainExtractor):
    _, facts = extract_brain(scan(name), extractor)
    assert 1000 < facts.volume_ml < 2000
    assert set(facts.flags) <= {"touches_border"}


def test_made_heads_are_not_refused(extractor: BrainExtractor):
    labels = procedural_head(21, spacing_mm=1.5)
    for role in Contrast:
        image = render(labels, role, spacing_xyz_mm=(1.5, 1.5, 4.0), seed=21)
        _, facts = extract_brain(canonical(sitk.Cast(image, sitk.sitkFloat32)), extractor)
        assert facts.flags == (), role


def study(folder: Path, image: sitk.Image) -> Path:
    """Write the same object three times, with the honest headers of a T1W, a T2W and a FLAIR."""
    file = folder / "volume.nrrd"
    sitk.WriteImage(image, str(file))
    nifti_study(folder / "sent", dict.fromkeys(Contrast, file), StudyTags(study_uid="2.25.4711"))
    return folder / "sent"


@pytest.mark.parametrize("name", [*NON_BRAINS, "empty"])
def test_a_study_of_non_brains_gets_no_score(name: str, tmp_path: Path, models: Models):
    folder = study(tmp_path, volume(MADE[name]()) if name in MADE else scan(name))
    result = run_study(select_study(folder.rglob("*.dcm")), tmp_path / "out", models).as_json()
    assert result["state"] == "held"
    assert "score" not in result
    # Some of the real ones are refused before their pixels are read: too few slices, too short a stack.
    assert result["reason"] in (MASK_CODES if name in MADE else {*MASK_CODES, "geometry_too_few"})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_the_command_refuses_a_study_of_a_bottle(tmp_path: Path):
    folder = study(tmp_path, volume(bottle()))
    result = json.loads(command("run", str(folder), "--out", str(tmp_path / "out"), "--json", code=3))
    assert (result["state"], result["reason"]) == ("held", "brain_mask_implausible")
    assert result["sentence"].startswith("T1W: ")
