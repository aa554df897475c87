"""Files of any kind become planes, or a problem with a name; never an exception, never more memory than a head."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from models.contrast import Contrast
from pipeline.dicom_file import MAX_INFLATED_BYTES
from pipeline.headers import Headers, read_headers
from pipeline.headers.attributes import NUMERIC, WANTED
from pipeline.headers.quick import read_quickly
from pipeline.headers.thorough import read_thoroughly
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from tests.support.dicom_files import edit, encode, files_in, overwrite, tag_bytes, write_enhanced
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test header files"), **SEEDED)
REAL_FOLDERS = (
    "canon-enhanced", "dicom2nifti", "ge-localizer", "ge-pd", "jpeg-fragments", "philips-enhanced", "philips-mprage",
    "pydicom", "siemens-decubitus", "siemens-scouts", "toshiba-dti", "transfer-syntaxes", "uih-dti", "xa30-enhanced",
)  # fmt: skip
ROOT = Path(__file__).parents[2]
MEMORY_LIMIT_BYTES = 2**24
"""What reading a header may take; the files that lie about their size claim a hundred times as much."""


def write(folder: Path, slices: int = 4, **changes) -> list[Path]:
    values = np.random.default_rng(0).integers(0, 1000, (slices, 6, 8)).astype(np.int16)
    return write_series(sitk.GetImageFromArray(values), folder, STUDY, replace(series_tags(Contrast.FLAIR), **changes))


def enhanced(path: Path, planes: int = 3, **attributes) -> Path:
    positions = [{"position": (0.0, 0.0, float(z))} for z in range(planes)]
    return write_enhanced(path, STUDY.study_uid, positions, **attributes)


def problem_codes(headers: Headers) -> list[str]:
    return [problem.code for problem in headers.problems]


def refused(file: Path) -> str:
    """Return the code of the problem that a file is, which may not take memory to find out."""
    read_headers([file])  # pydicom loads
    tracemalloc.start()
    headers = read_headers([file])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert headers.volumes == ()
    (problem,) = headers.problems
    assert problem.sentence.endswith(".")
    assert peak_bytes < MEMORY_LIMIT_BYTES
    return problem.code


# --- what is no MR image ----------------------------------------------------------------------------------------------


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _text(file: Path) -> None:
    file.write_text("This is a text with the name of an image. " * 20)


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-48])


def _one_byte_too_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:700])


def _cut_in_a_sequence(file: Path) -> None:
    content = file.read_bytes()
    sequence = tag_bytes("ReferencedStudySequence") + b"SQ\0\0\xff\xff\xff\xff"
    file.write_bytes(content[: content.index(tag_bytes("PatientName"))] + sequence)


def _no_pixels(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    del dataset.PixelData
    dataset.save_as(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _without(keyword: str):
    def change(file: Path) -> None:
        dataset = pydicom.dcmread(file)
        delattr(dataset, keyword)
        dataset.save_as(file)

    return change


def _with(**attributes):
    return lambda file: edit(file, **attributes)


def _sixteen_million_rows(file: Path) -> None:
    content = file.read_bytes()
    rows = tag_bytes("Rows") + b"US" + struct.pack("<H", 2) + struct.pack("<H", 6)
    assert rows in content
    file.write_bytes(content.replace(rows, tag_bytes("Rows") + b"UL" + struct.pack("<HI", 4, 2**24)))


def _one_byte_of_rows(file: Path) -> None:
    content = file.read_bytes()
    at = content.index(tag_bytes("Rows") + b"US")
    file.write_bytes(content[: at + 6] + struct.pack("<H", 1) + content[at + 8 :])


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        pytest.param(_empty, "file_empty", id="empty"),
        pytest.param(_text, "file_not_dicom", id="text"),
        pytest.param(_folder, "file_unreadable", id="a folder"),
        pytest.param(Path.unlink, "file_unreadable", id="gone"),
        pytest.param(_truncated, "pixel_data_truncated", id="truncated"),
        pytest.param(_one_byte_too_short, "pixel_data_truncated", id="one byte too short"),
        pytest.param(_cut_in_the_header, "file_without_identity", id="cut in the header"),
        pytest.param(_cut_in_a_sequence, "file_damaged", id="cut in a sequence"),
        pytest.param(_with(PixelData=b""), "pixel_data_truncated", id="zero-length pixels"),
        pytest.param(_no_pixels, "pixel_data_truncated", id="no pixels"),
        pytest.param(_without("SOPInstanceUID"), "file_without_identity", id="no instance UID"),
        pytest.param(_without("SeriesInstanceUID"), "file_without_identity", id="no series UID"),
        pytest.param(_without("StudyInstanceUID"), "file_without_identity", id="no study UID"),
        pytest.param(_with(Rows=60_000, Columns=60_000), "pixel_size_implausible", id="huge matrix"),
        pytest.param(_sixteen_million_rows, "pixel_size_implausible", id="sixteen million rows"),
        pytest.param(_with(Rows=4_000, Columns=4_000), "pixel_data_truncated", id="large matrix in a small file"),
        pytest.param(_with(NumberOfFrames=2_000_000), "pixel_size_implausible", id="two million frames"),
        pytest.param(_with(NumberOfFrames=-3), "pixel_size_implausible", id="less than no frames"),
        pytest.param(
            _with(Rows=4_000, Columns=4_000, NumberOfFrames=15_000), "pixel_size_implausible", id="terabytes of frames"
        ),
        pytest.param(_with(Rows=0), "pixel_size_implausible", id="no rows"),
        pytest.param(_without("Columns"), "pixel_size_implausible", id="columns missing"),
        pytest.param(_one_byte_of_rows, "pixel_size_implausible", id="half a number"),
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
def test_file_without_the_right_to_read_is_a_problem(sent):
    files = write(sent)
    files[0].chmod(0)
    assert problem_codes(read_headers(files)) == ["file_unreadable"]


@pytest.mark.parametrize("keyword", ["PixelMeasuresSequence", "PlanePositionSequence"])
def test_functional_group_of_an_unknown_kind_is_a_problem(sent, keyword):
    file = enhanced(sent / "enhanced.dcm")
    file.write_bytes(file.read_bytes().replace(tag_bytes(keyword) + b"SQ", tag_bytes(keyword) + b"ZZ"))
    headers = read_headers([file])
    assert problem_codes(headers) == ["file_damaged"]
    assert headers.problems[0].series_uid == derive_uid("enhanced")
    assert headers.volumes == ()


@pytest.mark.parametrize("frames", [2, 4, 19_000])
def test_frames_that_are_not_described_one_by_one_are_a_problem(sent, frames):
    file = enhanced(sent / "e.dcm", planes=3, NumberOfFrames=frames, PixelData=bytes(6 * 8 * 2 * frames))
    assert refused(file) == "frames_incomplete"


# --- what would take too much memory ----------------------------------------------------------------------------------


def _deflate(file: Path, data_set: bytes) -> None:
    """Write the file meta information of a deflated file and this data set behind it."""
    encode(file, DeflatedExplicitVRLittleEndian)
    content = file.read_bytes()
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = 144 + int.from_bytes(content[140:144], "little")
    file.write_bytes(content[:start] + deflater.compress(data_set) + deflater.flush())


@pytest.mark.parametrize("kind", ["zeros", "long comment", "pixels"])
def test_deflated_file_that_inflates_without_end_is_refused_first(sent, kind):
    file = write(sent)[0]
    data_set = file.read_bytes()[144 + int.from_bytes(file.read_bytes()[140:144], "little") :]
    size_bytes = MAX_INFLATED_BYTES + 2**20
    bomb = {
        "zeros": bytes(size_bytes),
        "long comment": struct.pack("<HH2sHI", 8, 1, b"UT", 0, size_bytes) + bytes(size_bytes),
        "pixels": data_set + bytes(size_bytes),
    }[kind]
    _deflate(file, bomb)
    assert file.stat().st_size < MAX_INFLATED_BYTES / 100
    assert refused(file) == "deflated_size_implausible"


def test_deflated_file_under_a_lying_group_length_is_refused_too(sent):
    file = write(sent)[0]
    _deflate(file, bytes(MAX_INFLATED_BYTES + 2**20))
    content = bytearray(file.read_bytes())
    content[140:144] = struct.pack("<I", 8)
    file.write_bytes(content)
    assert refused(file) == "deflated_size_implausible"


def test_deflated_file_is_as_good_as_another(sent):
    files = [encode(file, DeflatedExplicitVRLittleEndian) for file in write(sent)]
    headers = read_headers(files)
    assert headers.problems == ()
    assert len(headers.volumes[0].frames) == len(files)
    files[0].write_bytes(files[0].read_bytes()[:-200])
    assert problem_codes(read_headers(files)) == ["file_damaged"]


def test_deflated_file_without_all_its_pixels_is_truncated(sent):
    files = [encode(edit(file, Rows=7), DeflatedExplicitVRLittleEndian) for file in write(sent)]
    assert problem_codes(read_headers(files)) == ["pixel_data_truncated"] * len(files)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(
    "size", [{"Rows": 16_384, "Columns": 16_384}, {"Rows": 4096, "Columns": 4096, "NumberOfFrames": 30}], ids=str
)
def test_small_compressed_file_that_declares_a_huge_image_is_refused_first(sent, syntax, size):
    file = write(sent)[0]
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = syntax
    frames = [bytes(40)] * size.get("NumberOfFrames", 1)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(file)
    edit(file, **size)
    assert refused(file) == "pixel_size_implausible"


def test_file_that_is_far_longer_than_its_image_is_refused_first(sent):
    file = write(sent)[0]
    content = file.read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00OW\0\0")
    with file.open("wb") as target:
        target.write(content[: at + 8] + struct.pack("<I", 2**28))
        target.truncate(at + 12 + 2**28)  # a hole, which takes no room on the disk
    assert refused(file) == "pixel_size_implausible"


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (lambda content: content.index(b"\xe0\x7f\x10\x00OW\0\0"), "pixel_data_truncated"),
        (lambda content: content.index(tag_bytes("Rows")), "pixel_size_implausible"),
        (lambda content: 144 + int.from_bytes(content[140:144], "little"), "file_damaged"),
        (lambda content: 132, "file_damaged"),
    ],
    ids=["no pixels", "no matrix", "no data set", "no file meta information"],
)
def test_zeros_that_were_never_written_over_are_refused_at_once(sent, start, code):
    file = write(sent)[0]
    content = file.read_bytes()
    with file.open("wb") as target:
        target.write(content[: start(content)])
        target.truncate(2**29)
    start_s = time.monotonic()
    assert refused(file) == code
    assert time.monotonic() - start_s < 5


def test_blank_compressed_slice_is_no_suspect(sent):
    files = [encode(edit(file, PixelData=bytes(6 * 8 * 2)), JPEGLSLossless) for file in write(sent)]
    assert problem_codes(read_headers(files)) == []


# --- odd values -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SeriesNumber", "IS", b"abc "),
        ("RepetitionTime", "DS", b"12,5"),
        ("EchoTime", "DS", b"nan "),
        ("PixelSpacing", "DS", b"NaN\\NaN "),
        ("PixelSpacing", "DS", b"1\\1e999 "),
        ("PixelSpacing", "DS", b"1 "),
        ("ImagePositionPatient", "DS", b"1\\2\\x "),
        ("ImagePositionPatient", "DS", b"1\\2\\\\3 "),
        ("ImageOrientationPatient", "DS", b"1\\0\\0 "),
        ("NumberOfFrames", "IS", b"x "),
        ("SpecificCharacterSet", "CS", b"NO SUCH SET "),
        ("SpecificCharacterSet", "CS", b"ISO 2022 IR 6\\ISO 2022 IR 87"),
        ("SpecificCharacterSet", "CS", b"\\\\\\ "),
        ("DiffusionBValue", "FD", b"abcd"),
        ("PatientAge", "AS", b"*** "),
        ("SeriesDescription", "LO", b"\xff\xfe\x1b$B\x00 "),
        ("SeriesDescription", "LO", b"x" * 300),
    ],
)
def test_odd_value_counts_as_unknown(sent, keyword, vr, value):
    files = write(sent)
    for file in files:
        overwrite(file, keyword, vr, value)
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


def test_private_elements_disturb_nothing(sent):
    files = write(sent)
    before = read_headers(files).volumes
    for file in files:
        dataset = pydicom.dcmread(file)
        block = dataset.private_block(0x0019, "SOMEBODY", create=True)
        block.add_new(0x01, "SQ", [pydicom.Dataset(), pydicom.dcmread(file)])
        block.add_new(0x02, "UN", bytes(range(256)))
        dataset.save_as(file)
    assert read_headers(files).volumes == before


# --- two readers, one result ------------------------------------------------------------------------------------------


def test_attributes_stand_under_the_tags_of_the_standard():
    for keyword, (tag, vr) in WANTED.items():
        assert pydicom.datadict.keyword_for_tag(tag) == keyword
        assert pydicom.datadict.dictionary_VR(tag) == vr
    assert {vr for _, vr in WANTED.values()} - NUMERIC <= {"CS", "DA", "DT", "LO", "SH", "TM", "UI"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", REAL_FOLDERS)
def test_both_readers_say_the_same_of_real_files(folder):
    quick = 0
    for file in files_in(real_data(folder)):
        header = read_quickly(file)
        quick += header is not None
        assert header is None or header == read_thoroughly(file), file.name
    assert quick > 0 or folder in {"canon-enhanced", "xa30-enhanced", "philips-enhanced"}


def test_no_real_file_lies_outside_the_folders_that_are_compared():
    others = [file for file in files_in(real_data()) if file.relative_to(real_data()).parts[0] not in REAL_FOLDERS]
    assert [file.name for file in others if read_quickly(file)] == []
    assert [file.name for file in others if file.read_bytes()[128:132] == b"DICM"] == []


@pytest.mark.parametrize(
    ("syntax", "quick"),
    [
        (ImplicitVRLittleEndian, True),
        (RLELossless, True),
        (JPEGLSLossless, True),
        (DeflatedExplicitVRLittleEndian, False),
        (ExplicitVRBigEndian, False),
    ],
    ids=str,
)
def test_encoding_changes_nothing_of_what_is_said(sent, syntax, quick):
    file = write(sent)[0]
    before = read_thoroughly(file)
    assert read_quickly(file) == before
    encode(file, syntax)
    header = read_quickly(file)
    assert (header is not None) is quick
    assert read_thoroughly(file).values == before.values
    assert header is None or header == read_thoroughly(file)


def test_damage_between_image_and_pixels_goes_unseen_by_the_quick_reader_alone(sent):
    file = write(sent)[0]
    dataset = pydicom.dcmread(file)
    dataset.private_block(0x2005, "SOMEBODY", create=True).add_new(0x01, "SQ", [pydicom.Dataset()])
    dataset.save_as(file)
    before = read_quickly(file)
    content = file.read_bytes()
    assert content.count(b"SOMEBODY") == 1
    file.write_bytes(content.replace(b"SOMEBODY", b"\xff" * 8).replace(b"\x05\x20\x01\x10SQ", b"\x05\x20\x01\x10??"))
    assert read_quickly(file) == before
    assert read_headers([file]).problems == ()


def test_plain_study_is_read_without_loading_pydicom(sent):
    write(sent)
    code = "import sys; from pathlib import Path; from pipeline.headers import read_headers\n"
    code += f"assert len(read_headers(Path({str(sent)!r}).iterdir()).volumes) == 1\n"
    code += "print(sorted({'pydicom', 'numpy', 'SimpleITK', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.filterwarnings("ignore")
def test_header_longer_than_any_plain_one_is_read_thoroughly(sent):
    file = edit(write(sent)[0], ImageComments="x" * 300_000)
    assert read_quickly(file) is None
    assert read_headers([file]).problems == ()


def test_nested_sequences_are_stepped_over(sent):
    file = write(sent)[0]
    before = read_quickly(file)
    dataset = pydicom.dcmread(file)
    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    inner.SeriesInstanceUID, inner.Rows = "1.2.3", 99
    outer.ReferencedSeriesSequence = [inner, inner]
    dataset.ReferencedStudySequence = [outer, outer]
    for sequence in (dataset["ReferencedStudySequence"], outer["ReferencedSeriesSequence"]):
        sequence.is_undefined_length = True
        for part in sequence.value:
            part.is_undefined_length_sequence_item = True
    dataset.save_as(file)
    assert b"\xff\xff\xff\xff" in file.read_bytes()
    assert read_quickly(file) == before == read_thoroughly(file)
    encode(file, ImplicitVRLittleEndian)
    assert read_quickly(file) == read_thoroughly(file)


@pytest.fixture(scope="module")
def plain_bytes(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sent")
    explicit, implicit = write(folder, slices=2)
    encode(implicit, ImplicitVRLittleEndian)
    return {"explicit": explicit.read_bytes(), "implicit": implicit.read_bytes()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["explicit", "implicit"])
@settings(max_examples=150, deadline=None, database=None)
@given(data=st.data())
def test_both_readers_say_the_same_of_damaged_files(tmp_path_factory, plain_bytes, kind, data):
    content = bytearray(plain_bytes[kind])
    last = content.index(tag_bytes("BitsAllocated"))  # what comes behind is looked at by one of the readers only
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(132, last))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.dcm"
    file.write_bytes(content)
    header = read_quickly(file)
    assert header is None or header == read_thoroughly(file)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", REAL_FOLDERS)
def test_both_readers_say_the_same_of_damaged_real_files(tmp_path, folder):
    random = np.random.default_rng(0)
    plain = [file for file in files_in(real_data(folder)) if read_quickly(file)]
    for file in plain[:: max(1, len(plain) // 4)]:
        content = file.read_bytes()
        last = content.index(tag_bytes("BitsAllocated"))
        for _ in range(25):
            damaged = bytearray(content)
            for place in random.integers(132, last, size=random.integers(1, 4)):
                damaged[place] = random.integers(256)
            (tmp_path / "damaged.dcm").write_bytes(damaged)
            header = read_quickly(tmp_path / "damaged.dcm")
            assert header is None or header == read_thoroughly(tmp_path / "damaged.dcm"), file.name


@pytest.fixture(scope="module")
def enhanced_bytes(tmp_path_factory) -> bytes:
    return enhanced(tmp_path_factory.mktemp("sent") / "enhanced.dcm").read_bytes()


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
    files = files_in(real_data(folder))
    headers = read_headers(files)
    used = {path for volume in headers.volumes for path in volume.files}
    problems = {problem.path for problem in headers.problems}
    uids = {frame.sop_instance_uid for volume in headers.volumes for frame in volume.frames}
    assert not used & problems
    for path in set(files) - used - problems:  # what is neither is a copy of an instance that is used
        assert pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID in uids


def test_what_is_no_dicom_in_the_real_files_is_called_so():
    files = [real_data("pydicom", "files", name) for name in ("no_meta.dcm", "ExplVR_BigEndNoMeta.dcm")]
    assert problem_codes(read_headers(files)) == ["file_not_dicom"] * 2
    assert problem_codes(read_headers([real_data("pydicom", "files", "MR_truncated.dcm")])) == ["pixel_data_truncated"]
