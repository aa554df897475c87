"""Frames become the grey values that they stand for, in every encoding, or a refusal that takes no memory."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from models.contrast import Contrast
from pipeline.codestream import Codestream, read_codestream
from pipeline.dicom_file import MAX_VOXELS, open_dataset
from pipeline.errors import StudyHeld
from pipeline.geometry import ordered_frames, stacked_frames
from pipeline.headers import Frame, read_headers
from pipeline.pixels import decode, read_pixels
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from tests.support.dicom_files import AXIAL, edit, encode, files_in, write_enhanced
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test pixels"), **SEEDED)
ROWS, COLUMNS = 40, 48


def noise(slices: int = 4, dtype=np.int16) -> np.ndarray:
    return np.random.default_rng(5).uniform(0, 3000, (slices, ROWS, COLUMNS)).astype(dtype)


def write(folder: Path, values: np.ndarray) -> list[Path]:
    return write_series(sitk.GetImageFromArray(values), folder, STUDY, series_tags(Contrast.T2W))


def frames_of(files) -> list[Frame]:
    """Return the frames of the only volume, from bottom to top."""
    headers = read_headers(files)
    assert headers.problems == ()
    (volume,) = headers.volumes
    return stacked_frames(volume.frames)[0]


def stored(path: Path) -> np.ndarray:
    """Return the stored values of the first frame of a file."""
    dataset, _ = open_dataset(path, pixels=True)
    return next(decode(dataset, [0]))


def refusal(frames: list[Frame]) -> StudyHeld:
    with pytest.raises(StudyHeld) as held:
        read_pixels(frames)
    assert held.value.sentence.endswith(".")
    return held.value


# --- values -----------------------------------------------------------------------------------------------------------


def test_slope_and_intercept_lead_back_to_the_values(sent):
    written = noise(dtype=np.float32) / 7 - 100
    files = write(sent, written)
    slope = float(pydicom.dcmread(files[0]).RescaleSlope)
    assert slope != 1
    array = read_pixels(frames_of(files))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, written, atol=slope / 2 + 1e-3)


def test_each_file_has_its_own_slope(sent):
    files = write(sent, noise())
    for number, file in enumerate(files):
        edit(file, RescaleSlope=1 + number, RescaleIntercept=-number)
    numbers = np.arange(len(files), dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(read_pixels(frames_of(files)), noise() * (1 + numbers) - numbers, rtol=1e-6)


def test_each_frame_of_an_enhanced_object_has_its_own_slope(sent):
    planes = [{"position": (0.0, 0.0, float(z)), "slope": 1.0 + z, "intercept": -3.0 * z} for z in range(3)]
    pixels = np.arange(3 * 6 * 8, dtype=np.uint16)
    file = write_enhanced(sent / "e.dcm", STUDY.study_uid, planes[::-1], PixelData=pixels.tobytes())
    expected = [pixels.reshape(3, 6, 8)[2 - z] * (1.0 + z) - 3.0 * z for z in range(3)]
    np.testing.assert_allclose(read_pixels(frames_of([file])), expected, rtol=1e-6)


def test_frames_of_a_real_enhanced_object_have_their_own_slopes():
    path = real_data("xa30-enhanced", "t1.dcm")
    frames, _ = ordered_frames(read_headers([path]).volumes[0].frames)
    dataset = pydicom.dcmread(path)
    array = read_pixels(frames)
    for place in (0, 40, 95):
        index = frames[place].index
        group = dataset.PerFrameFunctionalGroupsSequence[index]
        shared = dataset.SharedFunctionalGroupsSequence[0]
        transform = (group.get("PixelValueTransformationSequence") or shared.PixelValueTransformationSequence)[0]
        expected = dataset.pixel_array[index] * float(transform.RescaleSlope) + float(transform.RescaleIntercept)
        np.testing.assert_allclose(array[place], expected, rtol=1e-6)


def test_frames_come_in_the_order_asked_for(sent):
    frames = frames_of(write(sent, noise()))
    np.testing.assert_array_equal(read_pixels(frames[::-1]), noise()[::-1])
    file = write_enhanced(
        sent / "e.dcm", STUDY.study_uid, [{"position": (0.0, 0.0, float(z))} for z in range(3)],
        PixelData=np.arange(3, dtype=np.uint16).repeat(48).tobytes(),
    )  # fmt: skip
    assert read_pixels(frames_of([file])[::-2])[:, 0, 0].tolist() == [2, 0]


def test_unused_bits_are_no_values(sent):
    files = write(sent, noise() % 4096)
    for file in files:
        content = pydicom.dcmread(file)
        content.BitsStored, content.HighBit, content.PixelRepresentation = 12, 11, 0
        content.PixelData = (np.frombuffer(content.PixelData, "<u2") | 0xA000).astype("<u2").tobytes()
        content["PixelData"].VR = "OW"
        content.save_as(file)
    np.testing.assert_array_equal(read_pixels(frames_of(files)), noise() % 4096)


def test_what_follows_the_pixels_is_not_read(sent):
    files = write(sent, noise())
    for file in files:
        file.write_bytes(file.read_bytes() + bytes(2**21))
    np.testing.assert_array_equal(read_pixels(frames_of(files)), noise())


# --- damage -----------------------------------------------------------------------------------------------------------


def _unknown_kind_of_slope(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"(\0\x53\x10DS", b"(\0\x53\x10ZZ"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(lambda file: edit(file, PixelData=bytes(100)), id="few pixels"),
        pytest.param(lambda file: edit(file, Rows=COLUMNS, Columns=ROWS), id="another matrix"),
        pytest.param(_unknown_kind_of_slope, id="slope of an unknown kind"),
        pytest.param(lambda file: file.write_bytes(b"nothing of DICOM"), id="no DICOM any more"),
        pytest.param(Path.unlink, id="gone"),
    ],
)
def test_slice_that_cannot_be_decoded_is_named_as_damage(sent, defect):
    files = write(sent, noise(dtype=np.float32) / 7)
    frames = frames_of(files)
    defect(files[3])
    assert refusal(frames).code == "pixel_data_damaged"


def test_values_that_are_no_finite_numbers_are_damage(sent):
    files = write(sent, noise())
    edit(files[1], RescaleSlope="1e38", RescaleIntercept="0")
    assert refusal(frames_of(files)).code == "pixel_data_damaged"


def test_transfer_syntax_that_nobody_decodes_is_refused_as_such(sent):
    files = [encode(file, JPEGLSLossless) for file in write(sent, noise())]
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        dataset.save_as(file)
    assert refusal(frames_of(files)).code == "pixel_encoding_unclear"


def test_more_voxels_than_any_head_are_refused_before_memory_is_taken():
    side = 4096
    count = MAX_VOXELS // side**2 + 1
    frames = [Frame(Path("none"), i, "1.1", (0.0, 0.0, float(i)), AXIAL, (1.0, 1.0), side, side) for i in range(count)]
    tracemalloc.start()
    held = refusal(frames)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held.code == "pixel_size_implausible"
    assert f"{count} slices" in held.sentence
    assert peak_bytes < 2**20


def _jpeg_2000_size(frame: bytes) -> tuple[int, str, list[int]]:
    return frame.index(b"\xff\x51") + 6, ">II", [60_000, 60_000]


def _jpeg_ls_size(frame: bytes) -> tuple[int, str, list[int]]:
    return frame.index(b"\xff\xf7") + 5, ">HH", [60_000, 60_000]


def _jpeg_size(frame: bytes) -> tuple[int, str, list[int]]:
    return frame.index(b"\xff\xc3") + 5, ">HH", [60_000, 60_000]


@pytest.mark.parametrize(
    ("syntax", "place"),
    [(JPEG2000Lossless, _jpeg_2000_size), (JPEGLSLossless, _jpeg_ls_size), (JPEGLosslessSV1, _jpeg_size)],
    ids=["JPEG 2000", "JPEG-LS", "JPEG Lossless"],
)
def test_compressed_frame_that_declares_another_image_is_damage_before_memory_is_taken(sent, syntax, place):
    if syntax == JPEGLosslessSV1:  # nothing here writes it
        files = [sent / "a.dcm"]
        files[0].write_bytes(files_in(real_data("dicom2nifti", "generic-compressed-jpeg"))[0].read_bytes())
    else:
        files = [encode(file, syntax) for file in write(sent, noise())]
    for file in files:
        dataset = pydicom.dcmread(file)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        at, kind, size = place(frame)
        changed = frame[:at] + struct.pack(kind, *size) + frame[at + struct.calcsize(kind) :]
        dataset.PixelData = encapsulate([changed])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(file)
        declared = read_codestream(changed)
        assert declared == Codestream(60_000, 60_000, 1, declared.bits, declared.signed)
    (volume,) = read_headers(files).volumes
    tracemalloc.start()
    held = refusal(list(volume.frames))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held.code == "pixel_data_damaged"
    assert "PixelsError" in held.sentence
    assert peak_bytes < 2**23


@pytest.mark.parametrize("cut", [0, 1, 2, 4, 10])
def test_codestream_without_a_header_has_no_size(sent, cut):
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        file = encode(write(sent / syntax, noise())[0], syntax)
        (frame,) = generate_frames(pydicom.dcmread(file).PixelData, number_of_frames=1)
        declared = read_codestream(frame)
        assert (declared.rows, declared.columns, declared.samples, declared.bits) == (ROWS, COLUMNS, 1, 16)
        assert declared.signed is (True if syntax == JPEG2000Lossless else None)
        with pytest.raises(ValueError, match=r"codestream|marker"):
            read_codestream(frame[:cut])


def test_run_lengths_that_hold_another_image_are_damage(sent):
    files = [encode(file, RLELossless) for file in write(sent, noise())]
    frames = frames_of(files)
    small = write(sent / "small", noise()[:, ::2, ::2])
    other = pydicom.dcmread(encode(small[0], RLELossless)).PixelData
    dataset = pydicom.dcmread(files[0])
    dataset.PixelData = other
    dataset.save_as(files[0])
    assert refusal(frames).code == "pixel_data_damaged"


# --- transfer syntaxes ------------------------------------------------------------------------------------------------


def test_run_lengths_beyond_the_frame_are_damage(sent):
    """In which the codec panics, as Rust has it: that is no `Exception`."""
    files = [encode(file, RLELossless) for file in write(sent, noise())]
    dataset = pydicom.dcmread(files[1])
    overflowing = struct.pack("<16I", 2, 64, 64 + 2 * 40, *[0] * 13) + b"\x81\x07" * 80
    dataset.PixelData = encapsulate([overflowing])
    dataset.save_as(files[1])
    assert refusal(frames_of(files)).code == "pixel_data_damaged"


def test_one_real_image_decodes_alike_in_every_transfer_syntax():
    files = files_in(real_data("transfer-syntaxes"))
    syntaxes = {pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID for file in files}
    assert len(syntaxes) == 7
    first, *others = map(stored, files)
    assert len(others) == 8
    assert np.ptp(first) > 0
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_one_real_series_decodes_alike_in_four_compressions():
    decoded = []
    for codec in ("j2k", "jpeg", "jpegls", "rle"):
        files = files_in(real_data("dicom2nifti", f"generic-compressed-{codec}"))
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        assert all(header.file_meta.TransferSyntaxUID.is_compressed for header in headers)
        decoded.append({header.SOPInstanceUID: stored(file) for header, file in zip(headers, files, strict=True)})
    first, *others = decoded
    assert len(first) == 4
    for other in others:
        assert other.keys() == first.keys()
        for uid, pixels in first.items():
            np.testing.assert_array_equal(other[uid], pixels)


def test_fragments_of_one_frame_are_joined():
    files = files_in(real_data("jpeg-fragments"))
    slices = [stored(file).astype(float) for file in files]
    assert {pixels.shape for pixels in slices} == {(128, 128)}
    for one, other in pairwise(slices):  # a frame that ends early has nothing of its neighbour
        assert np.corrcoef(one[64:].ravel(), other[64:].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
        RLELossless, JPEGLSLossless, JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.name,
)  # fmt: skip
def test_whole_series_reads_alike_in_every_encoding(sent, syntax):
    files = [encode(file, syntax) for file in write(sent, noise())]
    assert {pydicom.dcmread(file).file_meta.TransferSyntaxUID for file in files} == {syntax}
    np.testing.assert_array_equal(read_pixels(frames_of(files)), noise())
