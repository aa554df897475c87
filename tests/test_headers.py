"""Files of any kind become volumes with facts, or a problem with a name; never an exception."""

from __future__ import annotations

import random
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from pipeline.headers import Headers, content_digest, read_headers
from pipeline.select import Role
from pipeline.synthetic import SeriesTags, StudyTags, derive_uid, series_tags, write_series
from tests.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test headers"), **SEEDED)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
REAL_FOLDERS = (
    "canon-enhanced", "dicom2nifti", "ge-localizer", "ge-pd", "jpeg-fragments", "philips-enhanced", "philips-mprage",
    "pydicom", "siemens-decubitus", "siemens-scouts", "toshiba-dti", "transfer-syntaxes", "uih-dti", "xa30-enhanced",
)  # fmt: skip


def noise(slices: int = 4, seed: int = 0) -> sitk.Image:
    values = np.random.default_rng(seed).integers(0, 1000, (slices, 6, 8))
    return sitk.GetImageFromArray(values.astype(np.int16))


def write(folder: Path, tags: SeriesTags | None = None, slices: int = 4, **changes) -> list[Path]:
    return write_series(noise(slices), folder, STUDY, replace(tags or series_tags(Role.FLAIR), **changes))


def edit(path: Path, **attributes) -> Path:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def item(**attributes) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def write_enhanced(path: Path, planes: list[dict], shared: Dataset | None = None) -> Path:
    """Write an Enhanced MR object with one functional-group item per plane."""
    dataset = item(
        SOPClassUID=EnhancedMRImageStorage, SOPInstanceUID=derive_uid(path.name), StudyInstanceUID=STUDY.study_uid,
        SeriesInstanceUID=derive_uid("enhanced"), SeriesNumber=7, Modality="MR", SeriesDescription="enhanced",
        ImageType=["ORIGINAL", "PRIMARY", "M", "NONE"], MRAcquisitionType="3D", EchoPulseSequence="GRADIENT",
        InversionRecovery="YES", NumberOfFrames=len(planes), Rows=6, Columns=8, SamplesPerPixel=1, BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2",
        PixelData=bytes(6 * 8 * 2 * len(planes)),
    )  # fmt: skip
    dataset["PixelData"].VR = "OW"
    timing = item(RepetitionTime=1800.0, InversionTimes=[900.0], FlipAngle=8.0)
    measures = item(PixelSpacing=[1.5, 1.25])
    dataset.SharedFunctionalGroupsSequence = [
        shared or item(MRTimingAndRelatedParametersSequence=[timing], PixelMeasuresSequence=[measures])
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=list(plane["position"]))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(plane.get("orientation", AXIAL)))],
            MREchoSequence=[item(EffectiveEchoTime=plane.get("te", 2.4))],
            MRImageFrameTypeSequence=[item(FrameType=plane.get("type", ["ORIGINAL", "PRIMARY", "M", "NONE"]))],
            FrameContentSequence=[item(TemporalPositionIndex=plane.get("time", 1))],
        )
        for plane in planes
    ]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def problem_codes(headers: Headers) -> list[str]:
    return [problem.code for problem in headers.problems]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_classic_series_becomes_one_volume_with_its_facts(sent):
    files = write(sent, slices=5)
    (volume,) = read_headers(files).volumes
    tags = series_tags(Role.FLAIR)
    assert (volume.study_uid, volume.series_number) == (STUDY.study_uid, tags.number)
    assert volume.description == volume.protocol == tags.description
    assert (volume.tr_ms, volume.te_ms, volume.ti_ms) == (tags.tr_ms, tags.te_ms, tags.ti_ms)
    assert volume.flip_deg == tags.flip_deg
    assert volume.scanning_sequence == ("SE", "IR")
    assert volume.image_type == tags.image_type
    assert (volume.acquisition_type, volume.modality, volume.contrast_agent) == ("2D", "MR", False)
    assert (volume.b_value, volume.samples_per_pixel) == (None, 1)
    assert set(volume.files) == set(files)
    assert sorted(frame.position_mm for frame in volume.frames) == [(0.0, 0.0, float(z)) for z in range(5)]
    assert {(f.rows, f.columns, f.pixel_spacing_mm, f.orientation) for f in volume.frames} == {
        (6, 8, (1.0, 1.0), AXIAL)
    }


def test_enhanced_object_becomes_one_volume_with_the_facts_of_its_functional_groups(sent):
    file = write_enhanced(sent / "enhanced.dcm", [{"position": (0.0, 0.0, z * 2.0)} for z in (3, 0, 2, 1)])
    (volume,) = read_headers([file]).volumes
    assert (volume.tr_ms, volume.te_ms, volume.ti_ms, volume.flip_deg) == (1800.0, 2.4, 900.0, 8.0)
    assert volume.scanning_sequence == ("GR", "IR")
    assert volume.acquisition_type == "3D"
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


# --- what belongs together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"ImageOrientationPatient": list(CORONAL)},
        {"EchoTime": 20.0},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        {"TemporalPositionIdentifier": 2},
        {"DiffusionBValue": 1000.0},
        {"Rows": 8, "Columns": 6},
    ],
    ids=lambda other: next(iter(other)),
)
def test_classic_series_is_split(sent, other):
    files = write(sent, slices=6)
    for file in files[4:]:
        edit(file, **other)
    assert sorted(len(volume.frames) for volume in read_headers(files).volumes) == [2, 4]


@pytest.mark.parametrize(
    "other",
    [{"orientation": CORONAL}, {"te": 20.0}, {"type": ["DERIVED", "PRIMARY", "M", "ADD"]}, {"time": 2}],
    ids=lambda other: next(iter(other)),
)
def test_enhanced_object_is_split(sent, other):
    planes = [{"position": (0.0, 0.0, float(z))} for z in range(6)]
    file = write_enhanced(sent / "enhanced.dcm", planes[:4] + [plane | other for plane in planes[4:]])
    assert sorted(len(volume.frames) for volume in read_headers([file]).volumes) == [2, 4]


def test_rounding_of_the_orientation_splits_nothing(sent):
    files = write(sent, slices=6)
    for number, file in enumerate(files):
        sine = 0.0499999 + 1e-7 * number  # around a half of the first decimal, where rounding to it would split
        edit(file, ImageOrientationPatient=[1, 0, 0, 0, round((1 - sine**2) ** 0.5, 7), round(sine, 7)])
    (volume,) = read_headers(files).volumes
    assert len(volume.frames) == 6


def test_two_series_are_two_volumes_in_the_order_of_their_numbers(sent):
    files = write(sent, number=9) + write(sent, number=3)
    assert [volume.series_number for volume in read_headers(files).volumes] == [3, 9]


@settings(max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_names_and_order_of_files_mean_nothing(sent, seed):
    shutil.rmtree(sent)
    files = write(sent, slices=5)
    edit(files[2], RepetitionTime=4321)
    before = read_headers(files).volumes
    dice = random.Random(seed)
    names = dice.sample(range(10**6), len(files))
    renamed = [file.rename(sent / f"{name:06d}") for file, name in zip(files, names, strict=True)]
    dice.shuffle(renamed)
    after = read_headers(renamed).volumes
    assert [replace(volume, frames=()) for volume in after] == [replace(volume, frames=()) for volume in before]
    uids = [[frame.sop_instance_uid for frame in volume.frames] for volume in (*before, *after)]
    assert uids[0] == uids[1]


# --- what is no MR image ----------------------------------------------------------------------------------------------


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _text(file: Path) -> None:
    file.write_text("This is a text with the name of an image. " * 20)


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-48])


def _cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:700])


def _zero_length_pixels(file: Path) -> None:
    edit(file, PixelData=b"")


def _no_pixels(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    del dataset.PixelData
    dataset.save_as(file)


def _without(keyword: str):
    def change(file: Path) -> None:
        dataset = pydicom.dcmread(file)
        delattr(dataset, keyword)
        dataset.save_as(file)

    return change


def _with(**attributes):
    return lambda file: edit(file, **attributes)


def _one_byte_of_rows(file: Path) -> None:
    content = file.read_bytes()
    tag = struct.pack("<HH", 0x0028, 0x0010) + b"US"
    at = content.index(tag)
    file.write_bytes(content[: at + 6] + struct.pack("<H", 1) + content[at + 8 :])


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        pytest.param(_empty, "file_empty", id="empty"),
        pytest.param(_text, "file_not_dicom", id="text"),
        pytest.param(_truncated, "pixel_data_truncated", id="truncated"),
        pytest.param(_cut_in_the_header, "file_without_identity", id="cut in the header"),
        pytest.param(_zero_length_pixels, "pixel_data_truncated", id="zero-length pixels"),
        pytest.param(_no_pixels, "pixel_data_truncated", id="no pixels"),
        pytest.param(_without("SOPInstanceUID"), "file_without_identity", id="no instance UID"),
        pytest.param(_without("SeriesInstanceUID"), "file_without_identity", id="no series UID"),
        pytest.param(_without("StudyInstanceUID"), "file_without_identity", id="no study UID"),
        pytest.param(_with(Rows=60_000, Columns=60_000), "pixel_size_implausible", id="huge matrix"),
        pytest.param(_with(Rows=4_000, Columns=4_000), "pixel_data_truncated", id="large matrix in a small file"),
        pytest.param(_with(NumberOfFrames=2_000_000), "pixel_size_implausible", id="two million frames"),
        pytest.param(
            _with(Rows=4_000, Columns=4_000, NumberOfFrames=15_000), "pixel_size_implausible", id="terabytes of frames"
        ),
        pytest.param(_with(Rows=0), "pixel_size_implausible", id="no rows"),
        pytest.param(_without("Columns"), "pixel_size_implausible", id="columns missing"),
        pytest.param(_one_byte_of_rows, "file_damaged", id="half a number"),
        pytest.param(_with(Modality="CT"), "not_mr_image", id="CT"),
        pytest.param(_with(SOPClassUID=SecondaryCaptureImageStorage), "not_mr_image", id="secondary capture"),
    ],
)
def test_file_that_is_no_usable_image_is_a_problem(sent, defect, code):
    files = write(sent)
    defect(files[1])
    headers = read_headers(files)
    (problem,) = headers.problems
    assert (problem.path, problem.code) == (files[1], code)
    assert problem.sentence.endswith(".")
    (volume,) = headers.volumes
    assert set(volume.files) == set(files) - {files[1]}


def test_problem_names_its_series_where_the_file_still_tells_it(sent):
    files = write(sent)
    _truncated(files[0])
    _empty(files[1])
    headers = read_headers(files)
    assert [problem.series_uid for problem in headers.problems] == [headers.volumes[0].series_uid, None]


@pytest.mark.parametrize("keyword", ["PixelMeasuresSequence", "PlanePositionSequence"])
def test_functional_group_of_an_unknown_kind_is_a_problem(sent, keyword):
    file = write_enhanced(sent / "enhanced.dcm", [{"position": (0.0, 0.0, float(z))} for z in range(3)])
    file.write_bytes(file.read_bytes().replace(_tag(keyword) + b"SQ", _tag(keyword) + b"ZZ"))
    headers = read_headers([file])
    assert problem_codes(headers) == ["file_damaged"]
    assert headers.problems[0].series_uid == derive_uid("enhanced")
    assert headers.volumes == ()


def test_deflated_file_is_not_mistaken_for_a_truncated_one(sent):
    files = write(sent)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(file)
    headers = read_headers(files)
    assert headers.problems == ()
    assert len(headers.volumes[0].frames) == len(files)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SeriesNumber", "IS", b"abc "),
        ("RepetitionTime", "DS", b"12,5"),
        ("EchoTime", "DS", b"nan "),
        ("PixelSpacing", "DS", b"NaN\\NaN "),
        ("ImagePositionPatient", "DS", b"1\\2\\x "),
        ("ImageOrientationPatient", "DS", b"1\\0\\0 "),
        ("NumberOfFrames", "IS", b"x "),
        ("SpecificCharacterSet", "CS", b"NO SUCH SET "),
        ("DiffusionBValue", "FD", b"abcd"),
        ("PatientAge", "AS", b"*** "),
    ],
)
def test_odd_value_counts_as_unknown(sent, keyword, vr, value):
    files = write(sent)
    for file in files:
        _overwrite(file, keyword, vr, value)
    headers = read_headers(files)
    assert headers.problems == ()
    (volume,) = headers.volumes
    unknown = {
        "SeriesNumber": volume.series_number,
        "RepetitionTime": volume.tr_ms,
        "EchoTime": volume.te_ms,
        "DiffusionBValue": volume.b_value,
        "PixelSpacing": volume.frames[0].pixel_spacing_mm,
        "ImagePositionPatient": volume.frames[0].position_mm,
        "ImageOrientationPatient": volume.frames[0].orientation,
    }
    assert unknown.get(keyword) is None
    assert len(volume.frames) == len(files)


def _overwrite(file: Path, keyword: str, vr: str, value: bytes) -> None:
    """Replace or add an element by its bytes, which pydicom would refuse to write."""
    edit(file, **{keyword: {"FD": 1.0, "CS": "ISO_IR 100", "AS": "010Y"}.get(vr, 1)})
    content = file.read_bytes()
    at = content.index(_tag(keyword) + vr.encode())
    (length,) = struct.unpack_from("<H", content, at + 6)
    changed = content[at : at + 6] + struct.pack("<H", len(value)) + value
    file.write_bytes(content[:at] + changed + content[at + 8 + length :])


def _tag(keyword: str) -> bytes:
    tag = pydicom.datadict.tag_for_keyword(keyword)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


@pytest.fixture(scope="module")
def enhanced_bytes(tmp_path_factory) -> bytes:
    planes = [{"position": (0.0, 0.0, float(z))} for z in range(3)]
    return write_enhanced(tmp_path_factory.mktemp("sent") / "enhanced.dcm", planes).read_bytes()


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, database=None)
@given(data=st.data())
def test_damaged_header_never_raises(tmp_path_factory, enhanced_bytes, data):
    content = bytearray(enhanced_bytes)
    last = content.index(b"\xe0\x7f\x10\x00")
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(132, last))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.dcm"
    file.write_bytes(content)
    headers = read_headers([file])
    assert len(headers.problems) + bool(headers.volumes) == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", REAL_FOLDERS)
def test_no_real_file_raises_and_none_is_lost(folder):
    files = [path for path in real_data(folder).rglob("*") if path.is_file()]
    headers = read_headers(files)
    used = {path for volume in headers.volumes for path in volume.files}
    refused = {problem.path for problem in headers.problems}
    uids = {frame.sop_instance_uid for volume in headers.volumes for frame in volume.frames}
    assert not used & refused
    for path in set(files) - used - refused:  # what is neither is a copy of an instance that is used
        assert pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID in uids


def test_what_is_no_dicom_in_the_real_files_is_called_so():
    files = [real_data("pydicom", "files", name) for name in ("no_meta.dcm", "ExplVR_BigEndNoMeta.dcm")]
    assert problem_codes(read_headers(files)) == ["file_not_dicom"] * 2
    assert problem_codes(read_headers([real_data("pydicom", "files", "MR_truncated.dcm")])) == ["pixel_data_truncated"]


# --- the same instance twice ------------------------------------------------------------------------------------------


def test_copy_of_an_instance_counts_once(sent):
    files = write(sent)
    copy = shutil.copy(files[0], sent / "copy.dcm")
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


def test_instance_with_other_content_is_a_conflict(sent):
    files = write(sent)
    other = edit(shutil.copy(files[0], sent / "other.dcm"), PixelData=bytes(6 * 8 * 2))
    uid = str(pydicom.dcmread(other).SOPInstanceUID)
    assert read_headers([*files, other]).conflicts == {uid}


@pytest.mark.parametrize("name", ["0000.dcm", "zzzz.dcm"])
def test_conflict_over_two_series_is_seen_from_both_whatever_the_names(sent, name):
    files = write(sent)
    stray = edit(shutil.copy(files[0], sent / name), SeriesInstanceUID=derive_uid("another series"), SeriesNumber=99)
    headers = read_headers([*files, stray])
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
    assert content_digest(edit(shutil.copy(file, sent / "tag.dcm"), SeriesDescription="other")) != digest
