"""The headers of a study become volumes with facts: what belongs together, and every instance once."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from models.contrast import Contrast
from pipeline.headers import Volume, content_digest, read_headers
from pipeline.synthetic import SeriesTags, StudyTags, derive_uid, series_tags, write_series
from tests.support.dicom_files import AXIAL, CORONAL, edit, encode, item, write_enhanced
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test headers"), **SEEDED)
ROWS, COLUMNS = 40, 48
OTHER_ENCODINGS = (
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)


def noise(slices: int = 4, seed: int = 0) -> sitk.Image:
    values = np.random.default_rng(seed).integers(0, 1000, (slices, ROWS, COLUMNS))
    return sitk.GetImageFromArray(values.astype(np.int16))


def write(folder: Path, tags: SeriesTags | None = None, slices: int = 4, first: int = 1, **changes) -> list[Path]:
    tags = replace(tags or series_tags(Contrast.FLAIR), **changes)
    return write_series(noise(slices, seed=first), folder, STUDY, tags, first_instance=first)


def sizes(files: list[Path]) -> list[int]:
    headers = read_headers(files)
    assert headers.problems == ()
    return sorted(len(volume.frames) for volume in headers.volumes)


def only_volume(files) -> Volume:
    headers = read_headers(files)
    assert headers.problems == ()
    (volume,) = headers.volumes
    return volume


# --- what is read -----------------------------------------------------------------------------------------------------


def test_classic_series_becomes_one_volume_with_its_facts(sent):
    files = write(sent, slices=5)
    volume = only_volume(files)
    tags = series_tags(Contrast.FLAIR)
    assert (volume.study_uid, volume.series_number) == (STUDY.study_uid, tags.number)
    assert volume.description == volume.protocol == tags.description
    assert (volume.tr_ms, volume.te_ms, volume.ti_ms) == (tags.tr_ms, tags.te_ms, tags.ti_ms)
    assert volume.flip_deg == tags.flip_deg
    assert volume.scanning_sequence == ("SE", "IR")
    assert volume.image_type == tags.image_type
    assert (volume.acquisition_type, volume.modality, volume.contrast_agent) == ("2D", "MR", False)
    assert (volume.b_value, volume.samples_per_pixel) == (None, 1)
    assert (volume.sequence_name, volume.body_part) == (tags.sequence_name, "BRAIN")
    assert (volume.complex_component, volume.field_strength_t) == ("", 3.0)
    assert volume.acquired == STUDY.study_date + STUDY.study_time
    assert set(volume.files) == set(files)
    assert sorted(frame.position_mm for frame in volume.frames) == [(0.0, 0.0, float(z)) for z in range(5)]
    assert {(f.rows, f.columns, f.pixel_spacing_mm, f.orientation) for f in volume.frames} == {
        (ROWS, COLUMNS, (1.0, 1.0), AXIAL)
    }


def test_enhanced_object_becomes_one_volume_with_the_facts_of_its_functional_groups(sent):
    planes = [{"position": (0.0, 0.0, z * 2.0)} for z in (3, 0, 2, 1)]
    file = write_enhanced(sent / "enhanced.dcm", STUDY.study_uid, planes, PulseSequenceName="*tfl3d1_16ns")
    volume = only_volume([file])
    assert (volume.tr_ms, volume.te_ms, volume.ti_ms, volume.flip_deg) == (1800.0, 2.4, 900.0, 8.0)
    assert volume.scanning_sequence == ("GR", "IR")
    assert (volume.acquisition_type, volume.complex_component) == ("3D", "MAGNITUDE")
    assert volume.sequence_name == "*tfl3d1_16ns"
    assert volume.files == (file,)
    assert {frame.index: frame.position_mm[2] for frame in volume.frames} == {0: 6.0, 1: 0.0, 2: 4.0, 3: 2.0}
    assert {frame.pixel_spacing_mm for frame in volume.frames} == {(1.5, 1.25)}


def test_real_enhanced_object_tells_its_timing():
    (volume,) = read_headers([real_data("xa30-enhanced", "t1.dcm")]).volumes
    assert (volume.tr_ms, volume.te_ms, volume.ti_ms) == (1800.0, 2.41, 900.0)
    assert len(volume.frames) == 96
    assert len({frame.position_mm for frame in volume.frames}) == 96


def test_enhanced_object_without_shared_groups_is_read():
    (volume,) = read_headers(real_data("dicom2nifti", "siemens-multiframe").iterdir()).volumes
    assert len(volume.frames) == 8
    assert volume.te_ms == 2.46


def test_private_macro_does_not_move_a_plane(sent):
    file = write_enhanced(sent / "e.dcm", STUDY.study_uid, [{"position": (1.0, 2.0, 3.0)}])
    dataset = pydicom.dcmread(file)
    block = dataset.PerFrameFunctionalGroupsSequence[0].private_block(0x2005, "Philips MR Imaging DD 005", create=True)
    block.add_new(0x0F, "SQ", [item(ImagePositionPatient=[1.5, 2.5, 3.0], EffectiveEchoTime=99.0)])
    dataset.save_as(file)
    volume = only_volume([file])
    assert [frame.position_mm for frame in volume.frames] == [(1.0, 2.0, 3.0)]
    assert volume.te_ms == 2.4


@pytest.mark.parametrize(
    ("agent", "given_"),
    [
        ("Gadobutrol", True), ("YES", True), ("10 ml", True), ("", False), ("NO", False), ("none", False),
        ("No", False), ("0", False), ("N", False), (None, False),
    ],
)  # fmt: skip
def test_contrast_agent_counts_where_one_is_named(sent, agent, given_):
    assert only_volume(write(sent, contrast_agent=agent)).contrast_agent is given_


@pytest.mark.parametrize(("administered", "given_"), [("YES", True), ("NO", False), (None, True)])
def test_contrast_agent_of_an_enhanced_object_counts_once_it_is_administered(sent, administered, given_):
    plane = {"position": (0.0, 0.0, 0.0)} | ({"administered": administered} if administered else {})
    agent = item(CodeValue="C-B0322", CodingSchemeDesignator="SRT", CodeMeaning="Gadobutrol")
    file = write_enhanced(sent / "e.dcm", STUDY.study_uid, [plane], ContrastBolusAgentSequence=[agent])
    assert only_volume([file]).contrast_agent is given_


def test_contrast_agent_named_by_a_code_alone_counts_in_classic_images_too(sent):
    files = write(sent)
    for file in files:
        edit(file, ContrastBolusAgentSequence=[item(CodeValue="1", CodingSchemeDesignator="X", CodeMeaning="Gd")])
    assert only_volume(files).contrast_agent


@pytest.mark.filterwarnings("ignore")  # pydicom does not like the colons of old DICOM
@pytest.mark.parametrize(
    ("times", "acquired"),
    [
        ({"AcquisitionDateTime": "20250102101112.5+0100"}, "20250102101112.5"),
        ({"AcquisitionDate": "20250102", "AcquisitionTime": "101112.25"}, "20250102101112.25"),
        ({"AcquisitionTime": "10:11:12"}, "20250101101112"),
        ({"AcquisitionDate": "", "AcquisitionTime": "101112"}, "20250101101112"),
        ({"AcquisitionTime": "", "SeriesTime": "0930"}, "202501010930"),
        ({"AcquisitionTime": "", "SeriesTime": ""}, None),
        ({"AcquisitionDate": "", "SeriesDate": "", "StudyDate": ""}, None),
    ],
)
def test_acquisition_began_when_the_best_clock_says(sent, times, acquired):
    files = [edit(file, **times) for file in write(sent)]
    assert only_volume(files).acquired == acquired


def test_acquisition_began_with_its_first_slice(sent):
    files = write(sent)
    for file, time in zip(files, ("101503", "101501", "101502", "101504"), strict=True):
        edit(file, AcquisitionTime=time)
    assert only_volume(files).acquired == "20250101101501"


def test_texts_of_any_alphabet_are_read(sent):
    files = write(sent)
    for file, (character_set, text) in zip(
        files,
        [("ISO_IR 192", "頭部 T2"), ("ISO_IR 100", "Schädel"), (["", "ISO 2022 IR 87"], "頭部"), ("GB18030", "脑 T1")],
        strict=True,
    ):
        edit(file, SpecificCharacterSet=character_set, SeriesDescription=text, SeriesInstanceUID=derive_uid(text))
    assert {volume.description for volume in read_headers(files).volumes} == {"頭部 T2", "Schädel", "頭部", "脑 T1"}


# --- what belongs together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"ImageOrientationPatient": list(CORONAL)},
        {"EchoTime": 20.0},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        {"ComplexImageComponent": "PHASE"},
        {"DiffusionBValue": 1000.0},
        {"StackID": "2"},
        {"Rows": COLUMNS, "Columns": ROWS},
    ],
    ids=lambda other: next(iter(other)),
)
def test_classic_series_is_split(sent, other):
    files = write(sent, slices=6)
    for file in files[4:]:
        edit(file, **other)
    assert sizes(files) == [2, 4]


@pytest.mark.parametrize(
    "other",
    [
        {"orientation": CORONAL},
        {"te": 20.0},
        {"type": ["DERIVED", "PRIMARY", "M", "ADD"]},
        {"component": "PHASE"},
        {"stack": "2"},
        {"b": 1000.0},
    ],
    ids=lambda other: next(iter(other)),
)
def test_enhanced_object_is_split(sent, other):
    planes = [{"position": (0.0, 0.0, float(z))} for z in range(6)]
    planes = planes[:4] + [plane | other for plane in planes[4:]]
    assert sizes([write_enhanced(sent / "enhanced.dcm", STUDY.study_uid, planes)]) == [2, 4]


REPETITIONS = [
    {"AcquisitionNumber": 2},
    {"TemporalPositionIdentifier": 2},
    {"InversionTime": 900.0},
    {"TriggerTime": 400.0},
    {"EchoNumbers": 2},
    {"AcquisitionTime": "121500"},
]


@pytest.mark.parametrize("other", REPETITIONS, ids=lambda other: next(iter(other)))
def test_repeated_acquisition_is_two_volumes(sent, other):
    files = write(sent) + [edit(file, **other) for file in write(sent, first=101)]
    headers = read_headers(files)
    assert [len(volume.frames) for volume in headers.volumes] == [4, 4]
    assert {volume.files for volume in headers.volumes} != {tuple(files)}
    for volume in headers.volumes:
        assert len({frame.position_mm for frame in volume.frames}) == 4
        assert len({file in files[:4] for file in volume.files}) == 1


@pytest.mark.parametrize("other", REPETITIONS, ids=lambda other: next(iter(other)))
def test_what_differs_from_slice_to_slice_of_one_volume_splits_nothing(sent, other):
    files = write(sent, slices=6)
    for file in files[::2]:
        edit(file, **other)
    assert sizes(files) == [6]


@pytest.mark.parametrize("key", ["time", "acquisition"])
def test_repetitions_in_an_enhanced_object_are_volumes(sent, key):
    planes = [{"position": (0.0, 0.0, float(z)), key: repetition} for repetition in (1, 2, 3) for z in range(4)]
    assert sizes([write_enhanced(sent / "enhanced.dcm", STUDY.study_uid, planes)]) == [4, 4, 4]


def test_repetitions_that_two_attributes_tell_apart_are_volumes(sent):
    files = []
    for number in range(4):
        written = write(sent, first=1 + 100 * number)
        marks = {"AcquisitionNumber": 1 + number // 2, "TemporalPositionIdentifier": 1 + number % 2}
        files += [edit(file, **marks) for file in written]
    assert sizes(files) == [4, 4, 4, 4]


def test_repetitions_that_nothing_tells_apart_stay_together(sent):
    assert sizes(write(sent) + write(sent, first=101)) == [8]


def test_repetition_that_was_broken_off_stays_with_the_whole_one(sent):
    again = [edit(file, AcquisitionNumber=2) for file in write(sent, first=101)]
    assert sizes(write(sent) + again[:3]) == [7]


def test_clock_of_every_single_slice_makes_no_volumes_of_one_slice(sent):
    files = write(sent) + write(sent, first=101)
    for number, file in enumerate(files):
        edit(file, AcquisitionTime=f"1200{number:02d}", TriggerTime=float(number))
    assert sizes(files) == [8]


def test_rounding_of_the_orientation_splits_nothing(sent):
    files = write(sent, slices=6)
    for number, file in enumerate(files):
        sine = 0.0499999 + 1e-7 * number  # around a half of the first decimal, where rounding to it would split
        edit(file, ImageOrientationPatient=[1, 0, 0, 0, round((1 - sine**2) ** 0.5, 7), round(sine, 7)])
    assert sizes(files) == [6]


def test_two_series_are_two_volumes_in_the_order_of_their_numbers(sent):
    files = write(sent, number=9) + write(sent, number=3)
    assert [volume.series_number for volume in read_headers(files).volumes] == [3, 9]


@settings(max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_names_and_order_of_files_mean_nothing(sent, seed):
    shutil.rmtree(sent)
    files = write(sent, slices=5) + [edit(file, AcquisitionNumber=2) for file in write(sent, slices=5, first=101)]
    edit(files[2], RepetitionTime=4321)
    before = read_headers(files).volumes
    dice = random.Random(seed)
    names = dice.sample(range(10**6), len(files))
    renamed = [file.rename(sent / f"{name:06d}") for file, name in zip(files, names, strict=True)]
    dice.shuffle(renamed)
    after = read_headers(renamed).volumes
    assert [replace(volume, frames=()) for volume in after] == [replace(volume, frames=()) for volume in before]
    uids = [[[frame.sop_instance_uid for frame in v.frames] for v in volumes] for volumes in (before, after)]
    assert len(uids[0]) == 2
    assert uids[0] == uids[1]


# --- the same instance twice ------------------------------------------------------------------------------------------


def test_copy_of_an_instance_counts_once(sent):
    files = write(sent)
    copy = Path(shutil.copy(files[0], sent / "copy.dcm"))
    headers = read_headers([*files, copy])
    assert headers.conflicts == frozenset()
    assert len(headers.volumes[0].frames) == len(files)


def test_copy_under_another_file_meta_counts_once(sent):
    files = write(sent)
    copy = _with_other_meta(files[0], sent / "copy.dcm")
    assert copy.read_bytes() != files[0].read_bytes()
    headers = read_headers([*files, copy])
    assert headers.conflicts == frozenset()
    assert len(headers.volumes[0].frames) == len(files)


@pytest.mark.parametrize("syntax", OTHER_ENCODINGS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", ["0000.dcm", "zzzz.dcm"])
def test_copy_in_another_encoding_counts_once(sent, syntax, name):
    files = write(sent)
    copy = encode(Path(shutil.copy(files[1], sent / name)), syntax)
    assert content_digest(copy) != content_digest(files[1])
    headers = read_headers([*files, copy])
    assert headers.conflicts == frozenset()
    assert headers.problems == ()
    assert len(headers.volumes[0].frames) == len(files)


def test_enhanced_copy_in_another_encoding_counts_once(sent):
    file = write_enhanced(sent / "e.dcm", STUDY.study_uid, [{"position": (0.0, 0.0, float(z))} for z in range(3)])
    copy = encode(Path(shutil.copy(file, sent / "copy.dcm")), RLELossless)
    headers = read_headers([file, copy])
    assert headers.conflicts == frozenset()
    assert len(headers.volumes[0].frames) == 3


def test_which_copy_is_kept_does_not_depend_on_names(sent):
    files = write(sent)
    copy = encode(Path(shutil.copy(files[0], sent / "a.dcm")), RLELossless)
    kept = {content_digest(path) for path in only_volume([*files, copy]).files}
    swapped = [files[0].rename(sent / "b.dcm"), copy.rename(sent / "zz.dcm"), *files[1:]]
    assert {content_digest(path) for path in only_volume(swapped).files} == kept


@pytest.mark.parametrize(
    "change",
    [
        {"PixelData": bytes(ROWS * COLUMNS * 2)},
        {"RescaleSlope": 2, "RescaleIntercept": 0},
        {"SeriesDescription": "another"},
        {"ImagePositionPatient": [0, 0, 77]},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless], ids=lambda syntax: syntax.name)
def test_instance_with_other_content_is_a_conflict_in_any_encoding(sent, change, syntax):
    files = write(sent)
    other = encode(edit(Path(shutil.copy(files[0], sent / "other.dcm")), **change), syntax)
    headers = read_headers([*files, other])
    assert headers.conflicts == {str(pydicom.dcmread(other).SOPInstanceUID)}
    assert [len(volume.frames) for volume in headers.volumes] == [len(files)]


def test_copy_whose_pixels_cannot_be_decoded_is_a_conflict(sent):
    files = write(sent)
    other = encode(Path(shutil.copy(files[0], sent / "other.dcm")), JPEGLSLossless)
    content = other.read_bytes()
    other.write_bytes(content.replace(b"\xff\xf7", b"\xff\xf6"))
    assert len(read_headers([*files, other]).conflicts) == 1


@pytest.mark.parametrize("name", ["0000.dcm", "zzzz.dcm"])
def test_conflict_over_two_series_is_seen_from_both_whatever_the_names(sent, name):
    files = write(sent)
    stray = Path(shutil.copy(files[0], sent / name))
    edit(stray, SeriesInstanceUID=derive_uid("another series"), SeriesNumber=99)
    headers = read_headers([*files, stray])
    assert len(headers.conflicts) == 1
    for volume in headers.volumes:
        assert headers.conflicts <= {frame.sop_instance_uid for frame in volume.frames}
    assert [len(volume.frames) for volume in headers.volumes] == [len(files), 1]


def _with_other_meta(file: Path, target: Path) -> Path:
    dataset = pydicom.dcmread(file)
    dataset.file_meta.SourceApplicationEntityTitle = "ANOTHER"
    dataset.file_meta.ImplementationVersionName = "SOMEBODY ELSE"
    dataset.save_as(target)
    return target


def test_content_digest_ignores_the_file_meta_and_nothing_else(sent):
    file = write(sent)[0]
    digest = content_digest(file)
    assert content_digest(_with_other_meta(file, sent / "meta.dcm")) == digest
    other = bytearray(file.read_bytes())
    other[-1] ^= 1
    (sent / "pixel.dcm").write_bytes(other)
    assert content_digest(sent / "pixel.dcm") != digest
    assert content_digest(edit(Path(shutil.copy(file, sent / "tag.dcm")), SeriesDescription="other")) != digest
