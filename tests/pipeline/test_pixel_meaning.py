"""What a header says of its pixels changes their values rightly, or the series is refused by name."""

from __future__ import annotations

import struct
import zlib
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
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.headers import Frame, read_headers
from pipeline.pixels import decode, read_pixels
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from tests.support.dicom_files import edit, encode, item, overwrite, write_enhanced
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test pixel meaning"), **SEEDED)
SLICES, ROWS, COLUMNS = 4, 40, 48
VALUES, ENCODING, DAMAGE = "pixel_values_unclear", "pixel_encoding_unclear", "pixel_data_damaged"
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def smooth(brightest: int = 1900) -> np.ndarray:
    """Return a head-like image: dark around, neighbours alike."""
    z, y, x = np.meshgrid(*map(np.arange, (SLICES, ROWS, COLUMNS)), indexing="ij")
    inside = np.clip(1.2 - ((y - 19) / 17) ** 2 - ((x - 23) / 19) ** 2, 0, 1)
    return (inside * (brightest - 100 + 90 * np.sin(x / 5 + z))).round().astype(np.int16)


def write(folder: Path, values: np.ndarray | None = None, **attributes) -> list[Path]:
    values = smooth() if values is None else values
    files = write_series(sitk.GetImageFromArray(values), folder, STUDY, series_tags(Contrast.T2W))
    return [change(file, **attributes) for file in files] if attributes else files


def change(file: Path, **attributes) -> Path:
    """Set attributes in place; those that may be US or SS are written as SS."""
    dataset = pydicom.dcmread(file)
    for keyword, value in attributes.items():
        vr = pydicom.datadict.dictionary_VR(keyword)
        dataset.add_new(keyword, "SS" if vr == "US or SS" else vr, value)
    dataset.save_as(file)
    return file


def outcome(files: list[Path]) -> np.ndarray | str:
    """Return the values of the only volume, or the code by which it is refused."""
    headers = read_headers(files)
    assert headers.problems == ()
    (volume,) = headers.volumes
    return read(sorted(volume.frames, key=lambda frame: frame.position_mm or ()))


def read(frames: list[Frame]) -> np.ndarray | str:
    try:
        return read_pixels(frames)
    except StudyHeld as error:
        held = error
    assert held.sentence.endswith(".")
    assert not any(value in held.sentence for value in SEEDED.values())
    return held.code.value


def assert_read(files: list[Path], values: np.ndarray | None = None) -> None:
    found = outcome(files)
    assert not isinstance(found, str), found
    np.testing.assert_array_equal(found, smooth() if values is None else values)


def set_pixels(file: Path, pixels: bytes, **attributes) -> Path:
    """Set plain pixels, and attributes beside them."""
    dataset = pydicom.dcmread(file)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW"
    dataset.save_as(file)
    return file


def drop(file: Path, *keywords: str) -> Path:
    dataset = pydicom.dcmread(file)
    for keyword in keywords:
        delattr(dataset, keyword)
    dataset.save_as(file)
    return file


# --- attributes -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, VALUES),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, VALUES),
        ({"PhotometricInterpretation": "RGB"}, VALUES),
        ({"PhotometricInterpretation": ""}, VALUES),
        ({"PhotometricInterpretation": "MONOCHROME"}, VALUES),
        ({"PresentationLUTShape": "INVERSE"}, VALUES),
        ({"PixelPresentation": "COLOR"}, VALUES),
        ({"PixelPresentation": "MIXED"}, VALUES),
        ({"PixelIntensityRelationship": "LOG"}, VALUES),
        ({"PixelIntensityRelationshipSign": -1}, VALUES),
        ({"BurnedInAnnotation": "YES"}, VALUES),
        ({"RedPaletteColorLookupTableDescriptor": [256, 0, 16]}, VALUES),
        ({"BitsAllocated": 12}, VALUES),
        ({"BitsAllocated": 8}, VALUES),
        ({"BitsStored": 0}, VALUES),
        ({"BitsStored": 17}, VALUES),
        ({"BitsStored": 8, "HighBit": 7}, VALUES),
        ({"BitsStored": 12}, VALUES),
        ({"HighBit": 11}, VALUES),
        ({"HighBit": 0}, VALUES),
        ({"PixelRepresentation": 2}, VALUES),
        ({"Columns": COLUMNS - 1}, VALUES),
        ({"Columns": COLUMNS - 4}, VALUES),
        ({"RescaleSlope": "-1", "RescaleIntercept": "0"}, VALUES),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, VALUES),
        ({"RescaleSlope": "1e300", "RescaleIntercept": "1e300"}, VALUES),
        ({"RescaleSlope": ["1", "2"], "RescaleIntercept": "0"}, VALUES),
        ({"ModalityLUTSequence": [item(ModalityLUTType="US")]}, VALUES),
        ({"RealWorldValueMappingSequence": [item(RealWorldValueSlope=-1.0)]}, VALUES),
        ({"RealWorldValueMappingSequence": [item(RealWorldValueLUTData=[0.0, 1.0])]}, VALUES),
        ({"PixelPaddingValue": int(smooth().max())}, VALUES),
    ],
    ids=str,
)
def test_attribute_that_leaves_open_what_pixels_mean_is_refused(sent, attributes, code):
    assert outcome(write(sent, **attributes)) == code


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "attributes",
    [
        {"PresentationLUTShape": "IDENTITY"},
        {"PixelPresentation": "MONOCHROME"},
        {"BurnedInAnnotation": "NO"},
        {"PixelIntensityRelationship": "LIN"},
        {"PlanarConfiguration": 1},
        {"PixelAspectRatio": ["1", "2"]},
        {"SmallestImagePixelValue": 7},
        {"LargestImagePixelValue": 9},
        {"BitsStored": 13, "HighBit": 12},
        {"PixelRepresentation": 0},
        {"HighBit": None},
        {"PixelPaddingValue": 0},
        {"PixelPaddingValue": 500},
        {"PixelPaddingValue": -2000},
        {"PixelPaddingValue": None},
        {"RescaleType": "US"},
        {"RescaleType": "normalized"},
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"ModalityLUTSequence": []},
        {"RealWorldValueMappingSequence": [item(RealWorldValueSlope=2.0, RealWorldValueIntercept=0.0)]},
        {"WindowCenter": "3", "WindowWidth": "1"},
        {"VOILUTFunction": "SIGMOID"},
        {"LossyImageCompression": "01"},
        {"NumberOfFrames": 1},
    ],
    ids=str,
)
def test_attribute_that_changes_no_value_changes_nothing(sent, attributes):
    assert_read(write(sent, **attributes))


@pytest.mark.parametrize(
    "keyword", ["PhotometricInterpretation", "BitsStored", "PixelRepresentation", "SamplesPerPixel"]
)
def test_attribute_that_is_missing_is_not_guessed(sent, keyword):
    assert outcome([drop(file, keyword) for file in write(sent)]) == VALUES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [b"abc ", b"1,5 ", b"1\\2 "])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_rescale_that_is_not_a_number_is_refused_by_its_name(sent, keyword, value):
    files = [overwrite(file, keyword, "DS", value) for file in write(sent)]
    assert outcome(files) == VALUES


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_rescale_of_one_half_leaves_the_other_neutral(sent, keyword):
    expected = smooth() * 3.0 if keyword == "RescaleSlope" else smooth() + 3.0
    assert_read([change(file, **{keyword: "3"}) for file in write(sent)], expected)


def test_colours_are_refused(sent):
    files = write(sent)
    frames = list(read_headers(files).volumes[0].frames)
    edit(files[2], SamplesPerPixel=3)
    assert read(frames) == VALUES


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "RGB"])
def test_one_slice_that_differs_is_enough(sent, photometric):
    files = write(sent)
    edit(files[2], PhotometricInterpretation=photometric)
    assert outcome(files) == VALUES


def test_slices_of_other_bits_and_signs_keep_their_values(sent):
    files = write(sent)
    edit(files[0], BitsStored=12, HighBit=11, PixelRepresentation=0)
    edit(files[1], PixelRepresentation=0)
    set_pixels(files[2], smooth()[2].astype("<i4").tobytes(), BitsAllocated=32, BitsStored=32, HighBit=31)
    assert_read(files)


# --- bits and signs ---------------------------------------------------------------------------------------------------


def _overlay(file: Path, *, declared: bool, signed: bool, values: np.ndarray) -> Path:
    """Put a square of an overlay into bit 15, above 12 bits of image."""
    bits = np.zeros((ROWS, COLUMNS), np.uint16)
    bits[10:20, 10:30] = 0x8000
    pixels = (values.astype(np.uint16) & 0x0FFF) | bits
    set_pixels(file, pixels.astype("<u2").tobytes(), BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    if declared:
        dataset = pydicom.dcmread(file)
        dataset.add_new((0x6000, 0x0100), "US", 16)
        dataset.add_new((0x6000, 0x0102), "US", 15)
        dataset.save_as(file)
    return file


def recode(file: Path, syntax) -> Path:
    """Compress all bits of the cells, as archives do that know nothing of overlays."""
    dataset = pydicom.dcmread(file)
    kept = {keyword: dataset[keyword].value for keyword in ("BitsStored", "HighBit")}
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.compress(syntax, generate_instance_uid=False)
    for keyword, value in kept.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file)
    return file


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("declared", [False, True], ids=["undeclared", "declared"])
def test_bits_of_overlays_are_no_values(sent, syntax, signed, declared):
    values = smooth() - 40 * signed
    files = write(sent)
    for file, values_yx in zip(files, values, strict=True):
        _overlay(file, declared=declared, signed=signed, values=values_yx)
        if syntax.is_compressed:
            recode(file, syntax)
    if declared:
        assert_read(files, values)
    else:
        assert outcome(files) == VALUES


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED], ids=lambda syntax: syntax.name)
def test_sign_that_is_not_extended_is_still_a_sign(sent, syntax):
    values = smooth() - 40
    files = write(sent)
    for file, values_yx in zip(files, values, strict=True):
        pixels = (values_yx.astype(np.uint16) & 0x0FFF).astype("<u2").tobytes()
        set_pixels(file, pixels, BitsStored=12, HighBit=11)
        if syntax.is_compressed:
            recode(file, syntax)
    assert_read(files, values)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        (smooth() - 40, {}, {"PixelRepresentation": 0}),
        (
            smooth(3900),
            {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0},
            {"PixelRepresentation": 1},
        ),
        (smooth() - 40, {"BitsStored": 12, "HighBit": 11}, {"BitsStored": 10, "HighBit": 9}),
        (smooth() - 40, {"BitsStored": 12, "HighBit": 11}, {"PixelRepresentation": 0}),
    ],
    ids=["negative as unsigned", "unsigned as negative", "fewer bits", "12 bits negative as unsigned"],
)
def test_sign_or_bits_that_are_not_those_of_the_values_are_refused(sent, syntax, values, before, after):
    files = [edit(file, **before) for file in write(sent, values)]
    if syntax.is_compressed:
        files = [encode(file, syntax) for file in files]
    assert_read(files, values)
    assert outcome([edit(file, **after) for file in files]) == VALUES


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
def test_more_bits_stored_than_compressed_change_no_value(sent, syntax):
    files = [edit(file, BitsStored=12, HighBit=11, PixelRepresentation=0) for file in write(sent)]
    files = [encode(file, syntax) for file in files]
    assert_read([edit(file, BitsStored=16, HighBit=15) for file in files])


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_frame_of_more_bits_than_allocated_is_refused(sent, syntax):
    files = [encode(file, syntax) for file in write(sent)]
    assert outcome([edit(file, BitsAllocated=8, BitsStored=8, HighBit=7) for file in files]) == VALUES


def test_full_range_of_unsigned_bits_is_no_wrap(sent):
    values = smooth(4095)
    assert_read(write(sent, values, BitsStored=12, HighBit=11, PixelRepresentation=0), values)


def test_full_range_of_signed_bits_under_an_intercept_is_no_wrap(sent):
    stored = (smooth(4000) * 16.0 - 32700).astype(np.int16)
    assert_read(write(sent, stored, RescaleSlope="1", RescaleIntercept="32700"), stored + 32700.0)


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "attributes", "code"),
    [
        (-32768, {"PixelPaddingValue": -32768}, VALUES),
        (30000, {"PixelPaddingValue": 30000}, VALUES),
        (-9000, {"PixelPaddingValue": -10000, "PixelPaddingRangeLimit": -8000}, VALUES),
        (-100, {"PixelPaddingValue": -100}, None),
        (0, {"PixelPaddingValue": 0}, None),
    ],
)
def test_padding_is_harmless_or_refused(sent, value, attributes, code):
    values = smooth()
    values[:, :3] = value
    files = write(sent, values, **attributes)
    if code:
        assert outcome(files) == code
    else:
        assert_read(files, values)


# --- length -----------------------------------------------------------------------------------------------------------


def test_zeros_behind_the_pixels_are_padding(sent):
    files = write(sent)
    for file, values_yx in zip(files, smooth(), strict=True):
        set_pixels(file, values_yx.astype("<i2").tobytes() + bytes(2 * ROWS))
    assert_read(files)


@pytest.mark.parametrize("excess", [b"\1\0", bytes(99) + b"\1", b"\1" * ROWS * 2])
def test_more_pixels_than_the_header_describes_are_refused(sent, excess):
    files = write(sent)
    set_pixels(files[1], smooth()[1].astype("<i2").tobytes() + excess)
    assert outcome(files) == VALUES


# --- several scales ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False], ids=["one scale", "two scales"])
def test_real_world_mapping_that_scales_slices_differently_is_refused(sent, same):
    files = write(sent)
    for number, file in enumerate(files):
        slope = 1 + number
        mapped = item(RealWorldValueSlope=3.0 * slope if same else 3.0, RealWorldValueIntercept=0.0)
        edit(file, RescaleSlope=slope, RescaleIntercept=0, RealWorldValueMappingSequence=[mapped])
    if same:
        assert_read(files, smooth() * np.arange(1, SLICES + 1)[:, None, None])
    else:
        assert outcome(files) == VALUES


@pytest.mark.parametrize("same", [True, False], ids=["one scale", "two scales"])
def test_scale_of_philips_that_differs_from_slice_to_slice_is_refused(sent, same):
    files = write(sent)
    for number, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.25 if same else 0.25 + 0.1 * number)
        dataset.RescaleSlope, dataset.RescaleIntercept = "2", "0"
        dataset.save_as(file)
    if same:
        assert_read(files, smooth() * 2)
    else:
        assert outcome(files) == VALUES


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("changes", [{"RescaleSlope": "2"}, {"RescaleSlope": "0.4"}, {"RescaleIntercept": "300"}])
def test_rescale_that_sets_one_slice_apart_is_refused(sent, place, changes):
    files = write(sent, np.tile(smooth()[:1], (10, 1, 1)))
    change(files[place], **{"RescaleSlope": "1", "RescaleIntercept": "0", **changes})
    assert outcome(files) == VALUES


@pytest.mark.parametrize("place", [0, 4, 9])
def test_rescale_that_makes_one_slice_alike_is_applied(sent, place):
    values = np.tile(smooth()[:1] // 2 * 2, (10, 1, 1))
    stored = values.copy()
    stored[place] //= 2
    files = write(sent, stored)
    change(files[place], RescaleSlope="2", RescaleIntercept="0")
    assert_read(files, values)


# --- Enhanced ---------------------------------------------------------------------------------------------------------

PIXELS = np.arange(3 * 6 * 8, dtype=np.uint16).reshape(3, 6, 8)


def enhanced(folder: Path, **attributes) -> Path:
    planes = [{"position": (0.0, 0.0, float(z))} for z in range(3)]
    return write_enhanced(folder / "e.dcm", STUDY.study_uid, planes, PixelData=PIXELS.tobytes(), **attributes)


def change_frame(file: Path, index: int, **macros) -> Path:
    dataset = pydicom.dcmread(file)
    for keyword, value in macros.items():
        setattr(dataset.PerFrameFunctionalGroupsSequence[index], keyword, [value])
    dataset.save_as(file)
    return file


def test_groups_of_frames_that_change_no_value_change_nothing(sent):
    file = change_frame(enhanced(sent), 1, FrameVOILUTSequence=item(WindowCenter="3", WindowWidth="1"))
    assert_read([file], PIXELS)


def test_frames_without_a_transformation_of_their_own_have_the_shared_one(sent):
    file = change_frame(
        enhanced(sent), 1, PixelValueTransformationSequence=item(RescaleSlope=3.0, RescaleIntercept=1.0)
    )
    dataset = pydicom.dcmread(file)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = [item(RescaleSlope=2.0, RescaleIntercept=0.0)]
    dataset.save_as(file)
    assert_read([file], np.stack([PIXELS[0] * 2, PIXELS[1] * 3 + 1, PIXELS[2] * 2]))


@pytest.mark.parametrize(
    "macro",
    [
        {"PixelValueTransformationSequence": item(RescaleSlope=-1.0, RescaleIntercept=0.0)},
        {"PixelValueTransformationSequence": item(RescaleSlope=0.0, RescaleIntercept=0.0)},
        {"RealWorldValueMappingSequence": item(RealWorldValueSlope=-1.0)},
        {"MRImageFrameTypeSequence": item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"], PixelPresentation="COLOR")},
    ],
    ids=str,
)
def test_frame_of_another_meaning_is_refused(sent, macro):
    if "MRImageFrameTypeSequence" in macro:
        macro["MRImageFrameTypeSequence"].ComplexImageComponent = "MAGNITUDE"
    assert outcome([change_frame(enhanced(sent), 1, **macro)]) == VALUES


def test_more_frames_than_declared_are_refused(sent):
    file = write(sent)[0]
    set_pixels(file, smooth()[:2].astype("<i2").tobytes())
    assert outcome([file]) == VALUES
    set_pixels(file, smooth()[0].astype("<i2").tobytes())
    dataset = pydicom.dcmread(encode(file, JPEGLSLossless))
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame, frame])
    dataset.save_as(file)
    assert outcome([file]) == ENCODING


# --- encoding ---------------------------------------------------------------------------------------------------------


def _relabel(file: Path, syntax) -> Path:
    """Say another transfer syntax of the bytes as they are."""
    content = file.read_bytes()
    dataset = pydicom.dcmread(file)
    start = 144 + struct.unpack("<I", content[140:144])[0]
    meta = dataset.file_meta
    meta.TransferSyntaxUID = syntax
    body = content[start:]
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_file_meta_info(buffer, meta, enforce_standard=True)
    file.write_bytes(bytes(128) + b"DICM" + buffer.getvalue() + body)
    return file


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plain", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian], ids=str)
@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer than the image"])
def test_compressed_pixels_under_a_plain_transfer_syntax_are_refused(sent, syntax, longer, plain):
    files = [encode(file, syntax) for file in write(sent)]
    if longer:
        for file in files:
            dataset = pydicom.dcmread(file)
            (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
            dataset.PixelData = encapsulate([frame + bytes(2 * ROWS * COLUMNS)])
            dataset["PixelData"].VR = "OB"
            dataset.save_as(file)
    for file in files:
        _relabel(file, ExplicitVRLittleEndian)
        if plain == DeflatedExplicitVRLittleEndian:
            _deflate(file)
    assert outcome(files) == ENCODING


def _deflate(file: Path) -> None:
    content = _relabel(file, DeflatedExplicitVRLittleEndian).read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    file.write_bytes(content[:start] + deflater.compress(content[start:]) + deflater.flush())


def test_items_in_pixels_of_a_given_length_are_refused(sent):
    files = write(sent)
    for file in files:
        (frame,) = generate_frames(pydicom.dcmread(encode(file, JPEGLSLossless)).PixelData, number_of_frames=1)
        _relabel(file, ExplicitVRLittleEndian)
        for length in (0, 2 * ROWS * COLUMNS):
            dataset = pydicom.dcmread(file)
            dataset.PixelData = encapsulate([frame + bytes(length)])
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = False
            dataset.save_as(file)
            assert outcome([file]) == ENCODING


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [*COMPRESSED, JPEGLosslessSV1, JPEGExtended12Bit], ids=lambda syntax: syntax.name)
def test_plain_pixels_under_a_compressed_transfer_syntax_are_refused(sent, syntax):
    assert outcome([_relabel(file, syntax) for file in write(sent)]) == ENCODING


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.8.1", "1.2.3.4", "1.2.840.10008.1.1"])
@pytest.mark.filterwarnings("ignore")
def test_transfer_syntax_without_a_decoder_is_refused_by_name(sent, syntax):
    files = [_relabel(encode(file, JPEGLSLossless), pydicom.uid.UID(syntax)) for file in write(sent)]
    assert outcome(files) == ENCODING


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, *COMPRESSED], ids=str)
def test_missing_transfer_syntax_is_read_where_it_shows(sent, syntax):
    files = [encode(file, syntax) for file in write(sent)]
    for file in files:
        content = file.read_bytes()
        at = content.index(b"\x02\x00\x10\x00UI")
        length = 8 + struct.unpack("<H", content[at + 6 : at + 8])[0]
        group = struct.pack("<I", struct.unpack("<I", content[140:144])[0] - length)
        file.write_bytes(content[:140] + group + content[144:at] + content[at + length :])
        assert "TransferSyntaxUID" not in pydicom.dcmread(file).file_meta
    if syntax.is_compressed:
        assert outcome(files) == ENCODING
    else:
        assert_read(files)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_pixels_in_floating_point_are_refused(sent, keyword):
    files = write(sent)
    for file in files:
        dataset = pydicom.dcmread(file)
        del dataset.PixelData
        bits = 32 if keyword == "FloatPixelData" else 64
        dataset.BitsAllocated = bits
        setattr(dataset, keyword, smooth()[0].astype(f"<f{bits // 8}").tobytes())
        dataset.save_as(file)
    assert outcome(files) == VALUES


def _offsets(file: Path, table: list[int], *, extended: bool) -> Path:
    dataset = pydicom.dcmread(file)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=3))
    if extended:
        dataset.PixelData = encapsulate(frames, has_bot=False)
        dataset.ExtendedOffsetTable = struct.pack(f"<{len(table)}Q", *table)
        dataset.ExtendedOffsetTableLengths = struct.pack("<3Q", *map(len, frames))
    else:
        whole = encapsulate(frames, has_bot=True)
        dataset.PixelData = whole[:8] + struct.pack("<3I", *table) + whole[20:]
    dataset["PixelData"].VR = "OB"
    dataset.save_as(file)
    return file


@pytest.mark.parametrize("extended", [False, True], ids=["basic", "extended"])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 0, 2), (0, 2, 1), (1, 2, 0)])
def test_table_of_frames_that_reorders_them_is_refused(sent, extended, order):
    noise = np.random.default_rng(3).integers(0, 900, (3, 6, 8)).astype(np.uint16)
    file = encode(edit(enhanced(sent), PixelData=noise.tobytes()), JPEGLSLossless)
    frames = list(generate_frames(pydicom.dcmread(file).PixelData, number_of_frames=3))
    starts = np.cumsum([0, *(8 + len(frame) + len(frame) % 2 for frame in frames)])
    _offsets(file, [int(starts[place]) for place in order], extended=extended)
    if order == (0, 1, 2):
        assert_read([file], noise)
    else:
        assert outcome([file]) == ENCODING


# --- real codecs ------------------------------------------------------------------------------------------------------


def test_jpeg_of_12_bits_is_decoded():
    dataset = pydicom.dcmread(real_data("pydicom", "files", "JPGExtended.dcm"))
    assert (dataset.file_meta.TransferSyntaxUID, dataset.BitsStored) == (JPEGExtended12Bit, 12)
    (decoded,) = decode(dataset, [0])
    assert (decoded.dtype, int(decoded.min()), int(decoded.max())) == (np.uint16, 0, 264)


def test_big_endian_keeps_the_bits(sent):
    files = [edit(file, BitsStored=12, HighBit=11, PixelRepresentation=0) for file in write(sent)]
    assert_read([encode(file, ExplicitVRBigEndian) for file in files])
