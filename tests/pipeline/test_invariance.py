"""What cannot matter does not: names, order, folders, copies and encodings of files change no choice and no voxel."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from models.contrast import Contrast
from pipeline.select import select_study
from pipeline.synthetic import StudyTags, derive_uid, localizer_tags, series_tags, write_series
from pipeline.volume import read_volume
from tests.support.dicom_files import encode, files_in
from tests.support.services import SEEDED

STUDY = StudyTags(study_uid=derive_uid("test invariance"), **SEEDED)
SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless,
    JPEGLSLossless, JPEG2000Lossless,
)  # fmt: skip
FEW = settings(max_examples=5, deadline=None, database=None)


@dataclass(frozen=True)
class Outcome:
    """What became of a study."""

    series_uids: dict[Contrast, str]
    images: dict[Contrast, sitk.Image]
    digest: str


def outcome(files: list[Path]) -> Outcome:
    selection = select_study(files)
    assert selection.held is None, selection.held
    uids = {role: series.series_uid for role, series in selection.roles.items()}
    images = {role: read_volume(volume) for role, volume in selection.volumes.items()}
    return Outcome(uids, images, selection.digest)


def assert_same(after: Outcome, before: Outcome) -> None:
    assert after.series_uids == before.series_uids
    for role, image in before.images.items():
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(after.images[role]), sitk.GetArrayViewFromImage(image))
        for place in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
            assert getattr(after.images[role], place)() == getattr(image, place)()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Return the folder of a study with a bystander; each role lies oblique in another way."""
    folder = tmp_path_factory.mktemp("sent") / "sent"
    for number, tags in enumerate([*map(series_tags, Contrast), localizer_tags(9)]):
        values = np.random.default_rng(number).normal(400, 90, (17, 40, 48)).astype(np.float32)
        image = sitk.GetImageFromArray(values if number == 1 else values.astype(np.int16))
        image.SetSpacing((5.0, 5.5, 6.7))
        image.SetOrigin((-110.0, -100.0, -50.0 - number))
        turn = sitk.Euler3DTransform((0, 0, 0), 0.1 * number, -0.2, 0.05)
        image.SetDirection(turn.GetMatrix())
        write_series(image, folder, STUDY, tags)
    return folder


@pytest.fixture(scope="module")
def before(study) -> Outcome:
    return outcome(files_in(study))


@pytest.fixture(scope="module")
def copy(study, tmp_path_factory) -> Callable[[], list[Path]]:
    """Return a function that gives a fresh copy of the study, for each example one."""
    return lambda: files_in(Path(shutil.copytree(study, tmp_path_factory.mktemp("sent") / "sent")))


def scatter(files: list[Path], dice: random.Random) -> list[Path]:
    """Give files other names in several folders, and return them in any order."""
    root = files[0].parent
    names = dice.sample(range(10**6), len(files))
    moved = []
    for file, name in zip(files, names, strict=True):
        folder = root / dice.choice(["", "a", "a/b", "Z", "0"])
        folder.mkdir(parents=True, exist_ok=True)
        moved.append(file.rename(folder / dice.choice([f"{name}", f"{name}.dcm", f"IM-{name}.IMA"])))
    dice.shuffle(moved)
    return moved


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_names_folders_and_order_change_nothing(copy, before, seed):
    after = outcome(scatter(copy(), random.Random(seed)))
    assert_same(after, before)
    assert after.digest == before.digest


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_copies_change_nothing(copy, before, seed):
    dice = random.Random(seed)
    files = copy()
    copies = [Path(shutil.copy(file, file.with_suffix(".copy"))) for file in dice.sample(files, 10)]
    after = outcome(scatter(files + copies, dice))
    assert_same(after, before)
    assert after.digest == before.digest


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_encoding_of_the_whole_study_changes_nothing(copy, before, syntax):
    assert_same(outcome([encode(file, syntax) for file in copy()]), before)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_encoding_of_single_files_changes_nothing(copy, before, seed):
    dice = random.Random(seed)
    files = [encode(file, dice.choice(SYNTAXES)) for file in copy()]
    assert_same(outcome(scatter(files, dice)), before)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_copies_in_other_encodings_change_nothing(copy, before, seed):
    dice = random.Random(seed)
    files = copy()
    copies = [
        encode(Path(shutil.copy(file, file.with_suffix(".copy"))), dice.choice(SYNTAXES[1:]))
        for file in dice.sample(files, 10)
    ]
    together = files + copies
    after = outcome(scatter(together, dice))
    assert_same(after, before)
    assert outcome(scatter(files_in(files[0].parent), dice)).digest == after.digest
