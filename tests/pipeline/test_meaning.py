"""A fuzz of meaning: one attribute of a good study is changed, and no score may change in silence.

Every outcome is the unchanged tensors, a doubt by name, or a hold by name. The count of each is printed. Left out is
what nobody can see in one file of a study: a rescale, a spacing or a place that is wrong in every image of a series in
the same way.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from models.bundle import Grid, Range
from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.grid import canonical
from pipeline.out_of_range import check_headers
from pipeline.predict import model_tensor
from pipeline.select import Selection, select_study
from pipeline.synthetic import StudyTags, series_tags, write_series
from pipeline.volume import read_volume
from tests.support.dicom_files import encode
from tests.support.services import SEEDED
from tests.support.studies import head

SEED, COUNT = 20261129, 500
STUDY_UID = "2.25.6301"
GRID = Grid(size_xyz=(24, 24, 32), spacing_xyz_mm=(9.0, 9.5, 5.0), centre="brain")
LIMITS = Range(age_years=(0, 120), contrast_agent="never", field_strength_t=(1.5, 3.0))
Files = Mapping[Contrast, list[Path]]
Change = Callable[[random.Random, Dataset], None]


@dataclass(frozen=True)
class Mutation:
    """One attribute's change, of one image, of a series or of a copy of it."""

    kind: str
    name: str
    change: Change


def put(keyword: str, *values: object) -> Change:
    def change(dice: random.Random, dataset: Dataset) -> None:
        setattr(dataset, keyword, dice.choice(values))

    return change


def drop(keyword: str) -> Change:
    def change(_: random.Random, dataset: Dataset) -> None:
        if keyword in dataset:
            delattr(dataset, keyword)

    return change


def family(kind: str, **values: tuple[object, ...]) -> list[Mutation]:
    put_in = [Mutation(kind, keyword, put(keyword, *those)) for keyword, those in values.items()]
    return put_in + [Mutation(kind, f"{keyword} absent", drop(keyword)) for keyword in values]


IDENTITY = family(
    "identity",
    PatientID=("SEED-ID-4712", "47", "seed-id-4711", " SEED-ID-4711"),
    PatientName=("OTHER^PATIENT", "Seeded^Patient^^"),
    PatientBirthDate=("19990103", "19000101"), PatientSex=("M", "F", "O"), AccessionNumber=("7", "8"),
    IssuerOfPatientID=("A", "B"), PatientAge=("010Y", "099Y", "003M"), StudyID=("2",), ReferringPhysicianName=("DOC",),
)  # fmt: skip
TIMES = family(
    "times",
    StudyDate=("20200101", "20301231"), SeriesDate=("20200101",), AcquisitionDate=("20200101", "20301231"),
    AcquisitionTime=("000000", "235959"), SeriesTime=("000000", "235959"), ContentTime=("010101",),
    RepetitionTime=(0, 1, 550, 4000, 9000), EchoTime=(0, 1, 3, 90, 120), InversionTime=(0, 100, 900, 2500),
    FlipAngle=(0, 8, 90, 180), TriggerTime=(0, 99), AcquisitionNumber=(1, 2), TemporalPositionIdentifier=(1, 2),
)  # fmt: skip
PIXELS = family(
    "pixels",
    PhotometricInterpretation=("MONOCHROME1", "RGB", "PALETTE COLOR"), BitsStored=(8, 11, 12), HighBit=(7, 11),
    BitsAllocated=(8, 32), PixelRepresentation=(0, 1), SamplesPerPixel=(3,), Rows=(8, 32), Columns=(8, 32),
    NumberOfFrames=(2,), PresentationLUTShape=("INVERSE", "IDENTITY"), WindowCenter=(5,), RescaleType=("HU", "US"),
    LossyImageCompression=("01",), BurnedInAnnotation=("YES",), RescaleSlope=(0,),
    PlanarConfiguration=(1,),
)  # fmt: skip
PLACES = family(
    "orientation",
    ImageOrientationPatient=([1, 0, 0, 0, -1, 0], [0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, -1], [0, 0, 0, 0, 0, 0]),
    ImagePositionPatient=([0, 0, 500], [40, 0, 0], [0, 0, 0]), PixelSpacing=([1, 1], [0, 0], [9.5, 4]),
    PatientPosition=("FFS", "HFP"), SliceLocation=(0, 999), InstanceNumber=(1, 999), SliceThickness=(1, 50),
    SpacingBetweenSlices=(1, 50), FrameOfReferenceUID=("2.25.9",),
)  # fmt: skip
WORDS = family(
    "words and types",
    SpecificCharacterSet=("ISO_IR 100", "GB18030", "ISO_IR 192", "ISO 2022 IR 87"),
    BodyPartExamined=("HEAD", "KNEE"),
    SeriesDescription=("localizer", "T1 post", "ep2d_diff"),
    ImageType=(["DERIVED", "SECONDARY"], ["ORIGINAL", "PRIMARY", "P"]),
    ContrastBolusAgent=("Gadovist", "NONE"), Modality=("CT",), SOPClassUID=("1.2.840.10008.5.1.4.1.1.2",),
    SeriesInstanceUID=("2.25.77",), StudyInstanceUID=("2.25.78",),
    Manufacturer=("OTHER",), MagneticFieldStrength=(0.5, 7),
    ScanningSequence=("EP",), SequenceName=("*ep_b1000",), EchoNumbers=(2,), SeriesNumber=(99,),
)  # fmt: skip
MUTATIONS = (*IDENTITY, *TIMES, *PIXELS, *PLACES, *WORDS)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless)
ALIKE_IN_EVERY_IMAGE = frozenset(
    {
        "PixelSpacing", "ImageOrientationPatient", "PixelRepresentation", "BitsStored", "Rows", "Columns",
        "BitsAllocated", "HighBit",
    }
)  # fmt: skip
"""Wrong in a whole series these may describe another real acquisition."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[Contrast, list[Path]]:
    folder, tags = tmp_path_factory.mktemp("good"), StudyTags(study_uid=STUDY_UID, **SEEDED)
    series = {role: series_tags(role) for role in Contrast}
    return {role: list(write_series(head(one.number), folder / role, tags, one)) for role, one in series.items()}


def whole(files: Files) -> list[Path]:
    return [path for paths in files.values() for path in paths]


TENSORS: dict[str, np.ndarray] = {}


def tensor(selection: Selection, role: Contrast) -> np.ndarray:
    """Return the network input of a role under a mask that is the same for all."""
    volume = selection.volumes[role]
    total = hashlib.sha256(repr([replace(frame, path=Path()) for frame in volume.frames]).encode())
    for path in volume.files:
        total.update(path.read_bytes())
    key = total.hexdigest()
    if key not in TENSORS:
        image = canonical(read_volume(volume))
        mask = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
        mask.CopyInformation(image)
        TENSORS[key] = model_tensor(image, mask, GRID, (0.5, 99.5))
    return TENSORS[key]


def outcome(paths: list[Path], expected: Mapping[Contrast, np.ndarray]) -> str:
    """Return what becomes of a study: unchanged, a doubt, a reason to hold it, or a score that changed in silence."""
    selection = select_study(paths)
    try:
        if selection.held:
            raise selection.held
        doubts = check_headers(selection.volumes, selection.candidates, LIMITS)
        alike = all(
            expected[role].shape == (found := tensor(selection, role)).shape
            and np.allclose(found, expected[role], atol=1e-4)
            for role in Contrast
        )
    except StudyHeld as held:
        return f"held: {held.code}"
    if alike:
        return "unchanged"
    return f"flag: {doubts[0].code}" if doubts else "SILENT"


def mutated(dice: random.Random, mutation: Mutation, good: Files, folder: Path) -> tuple[list[Path], str]:
    """Return the files of the study with one attribute changed, and where."""
    role = dice.choice(list(Contrast))
    reach = dice.choice(("image", "series", "copy"))
    if mutation.name.removesuffix(" absent") in ALIKE_IN_EVERY_IMAGE and reach == "series":
        reach = "image"
    chosen = good[role] if reach == "series" else [dice.choice(good[role])]
    kept = [path for path in whole(good) if reach == "copy" or path not in chosen]
    values = dice.getstate()
    made = []
    for path in chosen:
        target = folder / path.name
        shutil.copy(path, target)
        dataset = pydicom.dcmread(target)
        dice.setstate(values)
        mutation.change(dice, dataset)
        dataset.save_as(target, enforce_file_format=False)
        made.append(target)
    return kept + made, f"{reach} of {role}"


@pytest.mark.filterwarnings("ignore")
def test_no_single_change_changes_the_score_in_silence(good: dict[Contrast, list[Path]], tmp_path: Path):
    dice = random.Random(SEED)
    selection = select_study(whole(good))
    expected = {role: tensor(selection, role) for role in Contrast}
    counts: dict[str, Counter[str]] = {}
    silent = []
    for number in range(COUNT):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        folder = tmp_path / str(number)
        folder.mkdir()
        paths, where = mutated(dice, mutation, good, folder)
        came = outcome(paths, expected)
        counts.setdefault(mutation.kind, Counter())[came] += 1
        if came == "SILENT":
            silent.append(f"{mutation.kind}: {mutation.name}, {where}")
        shutil.rmtree(folder)
    print(f"\nseed {SEED}, {COUNT} changes")
    for kind, outcomes in counts.items():
        print(f"{kind}: " + ", ".join(f"{count} {what}" for what, count in outcomes.most_common()))
    assert silent == []


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_no_encoding_of_a_copy_changes_anything(good: dict[Contrast, list[Path]], tmp_path: Path, syntax: UID) -> None:
    selection = select_study(whole(good))
    expected = {role: tensor(selection, role) for role in Contrast}
    copy = encode(Path(shutil.copy(good[Contrast.T2W][5], tmp_path / "copy.dcm")), syntax)
    assert outcome([*whole(good), copy], expected) == "unchanged"
