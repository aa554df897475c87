"""Every folder of the real scans ends as their README says: selected, never selected, or refused by name."""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.geometry import ordered_frames
from pipeline.headers import Frame, Volume, read_headers
from pipeline.select import Selection, Verdict, select_study
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from pipeline.volume import read_volume
from tests.support.dicom_files import CORONAL, edit, files_in, tag_bytes
from tests.support.services import SEEDED, real_data

SELECTED, NEVER, UNFIT = "selected", "never selected", "unfit"
"""A volume that plays a role; one that must play none; one that would play a role and is refused by the gate."""


@dataclass(frozen=True)
class Row:
    """What becomes of a folder.

    `volumes`: how often which outcome (selected or unfit: of which role) with which answer of the gate, empty where it
    lets the volume pass. `problems`: how many files are no usable MR images, by code.
    """

    volumes: dict[tuple[str, str | None, str], int]
    problems: dict[str, int] = field(default_factory=dict)
    held: str = "missing_role"


def too_few(role: str) -> Row:
    return Row({(UNFIT, role, "geometry_too_few"): 1}, held="geometry_too_few")


def never(gate: str, count: int = 1) -> Row:
    return Row({(NEVER, None, gate): count})


ROWS = {
    "transfer-syntaxes": never("geometry_mosaic"),
    "jpeg-fragments": Row({(UNFIT, "T1W", "geometry_coverage"): 1}, held="geometry_coverage"),
    "xa30-enhanced": Row(
        {(SELECTED, "T1W", ""): 1, (NEVER, None, ""): 3, (NEVER, None, "geometry_too_few"): 2}, {"not_mr_image": 3}
    ),
    "philips-mprage": Row({(SELECTED, "T1W", ""): 1}),
    "philips-enhanced": Row(
        {(UNFIT, "T1W", "geometry_too_few"): 1, (NEVER, None, ""): 1}, {"not_mr_image": 1}, held="several_studies"
    ),
    "uih-dti": never("geometry_mosaic"),
    "canon-enhanced": never("", count=13),
    "toshiba-dti": never(""),
    "siemens-decubitus": Row({(SELECTED, "T1W", ""): 1}),
    "ge-pd": never(""),
    "ge-localizer": never("geometry_too_few", count=3),
    "siemens-scouts": Row(
        {(NEVER, None, "geometry_too_few"): 3, (NEVER, None, "geometry_orientation"): 1},
        {"not_mr_image": 1},
        held="several_studies",
    ),
    "open-ms": Row({}, {"file_not_dicom": 14}, held="no_dicom_files"),
    "synthseg-labels": Row({}, {"file_not_dicom": 18}, held="no_dicom_files"),
    "strings": Row({}, {"file_not_dicom": 1}, held="no_dicom_files"),
    "licences": Row({}, {"file_not_dicom": 15}, held="no_dicom_files"),
    "pydicom": Row(
        {(NEVER, None, "geometry_too_few"): 19},
        {"file_not_dicom": 7, "file_without_identity": 18, "not_mr_image": 95, "pixel_data_truncated": 1},
        held="several_studies",
    ),
    "dicom2nifti/ge-anatomical": too_few("T1W"),
    "dicom2nifti/ge-anatomical-implicit": too_few("T1W"),
    "dicom2nifti/ge-single-slice": too_few("T1W"),
    "dicom2nifti/ge-dti": never("geometry_duplicate"),
    "dicom2nifti/ge-fmri": never("geometry_duplicate"),
    "dicom2nifti/siemens-flair": too_few("FLAIR"),
    "dicom2nifti/generic-anatomical": too_few("FLAIR"),
    "dicom2nifti/generic-compressed-j2k": too_few("FLAIR"),
    "dicom2nifti/generic-compressed-jpeg": too_few("FLAIR"),
    "dicom2nifti/generic-compressed-jpegls": too_few("FLAIR"),
    "dicom2nifti/generic-compressed-rle": too_few("FLAIR"),
    "dicom2nifti/generic-non-isotropic": never("geometry_too_few"),
    "dicom2nifti/generic-rgb-secondary-capture": Row({}, {"not_mr_image": 4}),
    "dicom2nifti/hitachi-shoulder": never("geometry_too_few"),
    "dicom2nifti/hyperfine-enhanced": too_few("FLAIR"),
    "dicom2nifti/philips-flair": too_few("FLAIR"),
    "dicom2nifti/philips-enhanced-t1": too_few("T1W"),
    "dicom2nifti/philips-enhanced-dti": Row(
        {(NEVER, None, "geometry_too_few"): 1, (NEVER, None, "geometry_duplicate"): 1}
    ),
    "dicom2nifti/philips-enhanced-fmri": never("geometry_too_few", count=4),
    "dicom2nifti/siemens-multiframe": never("geometry_too_few"),
    "dicom2nifti/failing-slice-count": too_few("FLAIR"),
    "dicom2nifti/failing-slice-increment": Row({}, {"not_mr_image": 4}),
    # Two echo times and two orientations: each part is refused by itself.
    "dicom2nifti/failing-slice-orientation": Row({(UNFIT, "T2W", "geometry_too_few"): 2}, held="geometry_too_few"),
    "dicom2nifti/failing-gantry-tilt": Row({}, {"not_mr_image": 4}),
}

FAILING = {
    "failing-slice-count": "geometry_too_few",
    "failing-slice-increment": "geometry_gap",
    "failing-slice-orientation": "geometry_orientation",
    "failing-gantry-tilt": "geometry_tilt",
}
"""What the geometry functions as such say, CT or not."""

PYDICOM_FILES = {
    "file_not_dicom": "no_meta ExplVR_BigEndNoMeta ExplVR_LitEndNoMeta",
    "file_without_identity": "JPEGLSNearLossless_08 JPEGLSNearLossless_16 UN_sequence empty_charset_LEI "
    "meta_missing_tsyntax nested_priv_SQ no_meta_group_length priv_SQ",
    "pixel_data_truncated": "MR_truncated",
    "not_mr_image": "693_J2KI CT_small JPEG-lossy JPEG2000 JPEG2000-embedded-sequence-delimiter JPGExtended badVR "
    "SC_rgb_jpeg_gdcm SC_rgb_rle SC_rgb_rle_2frame SC_rgb_small_odd image_dfl liver_1frame reportsi "
    "reportsi_with_empty_number_tags test-SR",
    "geometry_too_few": "MR_small MR_small_RLE MR_small_bigendian MR_small_expb MR_small_implicit MR_small_padded "
    "MR_small_jp2klossless MR_small_jpeg_ls_lossless examples_overlay",
}


def outcome(selection: Selection) -> Counter[tuple[str, str | None, str]]:
    """Return how often which volume of a study ends how."""
    found: Counter[tuple[str, str | None, str]] = Counter()
    for candidate in selection.candidates:
        gate = gate_code(candidate.volume)
        if candidate.verdict is not Verdict.NONE:
            found[SELECTED, str(candidate.verdict), gate] += 1
        elif candidate.unfit:
            found[UNFIT, str(candidate.unfit), gate] += 1
        else:
            found[NEVER, None, gate] += 1
    return found


def gate_code(volume: Volume) -> str:
    """Return the code by which a volume is refused, or an empty text."""
    try:
        read_volume(volume)
    except StudyHeld as held:
        return held.code
    return ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", ROWS)
def test_folder_ends_as_its_readme_says(folder):
    row = ROWS[folder]
    selection = select_study(files_in(real_data(*folder.split("/"))))
    assert outcome(selection) == Counter(row.volumes)
    assert Counter(problem.code for problem in selection.problems) == Counter(row.problems)
    assert all(problem.sentence.endswith(".") for problem in selection.problems)
    assert selection.held is not None, "no folder holds all three roles"
    assert selection.held.code == row.held
    assert selection.held.sentence.endswith(".")
    assert selection.roles == {}


def test_every_folder_has_a_row():
    data = real_data()
    folders = {path.name for path in data.iterdir() if path.is_dir()} - {"dicom2nifti"}
    cases = {f"dicom2nifti/{path.name}" for path in (data / "dicom2nifti").iterdir() if path.is_dir()}
    assert folders | cases == set(ROWS)


def test_every_line_of_the_readme_has_a_row():
    text = real_data("README.md").read_text("utf-8")
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    names = {name for cell in first_cells for name in re.findall(r"`([\w-]+)`", cell)}
    columns_of_strings = {name for name in names if "_" in name} | {"string", "label", "manufacturer", "source"}
    columns_of_strings |= {"quality", "trap"}
    assert {"philips-mprage", "failing-gantry-tilt", "-rle"} <= names
    for name in names - columns_of_strings - {"dicom2nifti"}:  # "-rle" goes on from the name before it
        assert any(folder.endswith(name if name.startswith("-") else f"/{name}") for folder in map("/{}".format, ROWS))


@pytest.mark.parametrize(("case", "code"), FAILING.items())
def test_failing_case_is_refused_by_its_name(case, code):
    frames = []
    for path in files_in(real_data("dicom2nifti", case)):
        d = pydicom.dcmread(path, stop_before_pixels=True)
        geometry = (d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing)
        position_mm, orientation, spacing_mm = (tuple(map(float, values)) for values in geometry)
        frames.append(Frame(path, 0, d.SOPInstanceUID, position_mm, orientation, spacing_mm, d.Rows, d.Columns))
    with pytest.raises(StudyHeld) as held:
        ordered_frames(frames)
    assert held.value.code == code
    assert held.value.sentence.count(". ") == 1
    assert held.value.sentence.endswith(".")


@pytest.mark.filterwarnings("ignore")
def test_every_odd_file_of_pydicom_ends_by_its_name():
    expected = {f"{name}.dcm": code for code, names in PYDICOM_FILES.items() for name in names.split()}
    found = {}
    for path in files_in(real_data("pydicom", "files")):
        headers = read_headers([path])
        codes = [problem.code for problem in headers.problems] + [gate_code(volume) for volume in headers.volumes]
        assert len(codes) == 1
        assert all(problem.path == path for problem in headers.problems)
        found[path.name] = codes[0]
    assert found == expected


@pytest.mark.filterwarnings("ignore")
def test_one_image_in_eight_encodings_is_one_image():
    headers = read_headers(p for p in files_in(real_data("pydicom", "files")) if p.name.startswith("MR_small"))
    assert headers.conflicts == frozenset()
    assert headers.problems == ()
    assert [len(volume.frames) for volume in headers.volumes] == [1]


# --- made defects -----------------------------------------------------------------------------------------------------

STUDY = StudyTags(study_uid=derive_uid("test real data table"), **SEEDED)


def write(folder: Path, role: Contrast, first: int = 1) -> list[Path]:
    values = np.random.default_rng(first).integers(0, 900, (24, 6, 8)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((9.0, 9.5, 5.0))
    return write_series(image, folder / role, STUDY, series_tags(role), first_instance=first)


def _missing_slice(files: list[Path]) -> None:
    files[11].unlink()


def _another_slice_at_the_same_place(files: list[Path]) -> None:
    extra = write(files[0].parents[1] / "again", Contrast.FLAIR, first=101)[11]
    extra.rename(files[0].with_name("extra.dcm"))


def _all_slices_twice(files: list[Path]) -> None:
    for file in write(files[0].parents[1] / "again", Contrast.FLAIR, first=101):
        file.rename(files[0].with_name(f"again-{file.name}"))


def _other_pixels_in_a_copy(files: list[Path]) -> None:
    copy = files[0].with_name("copy.dcm")
    copy.write_bytes(files[11].read_bytes())
    edit(copy, PixelData=bytes(6 * 8 * 2))


def _swapped_spacing(files: list[Path]) -> None:
    edit(files[11], PixelSpacing=[9.0, 9.5])


def _turned_a_little(files: list[Path]) -> None:
    edit(files[11], ImageOrientationPatient=[1, 0, 0, 0, 0.9986, 0.0523])


def _turned_to_another_plane(files: list[Path]) -> None:
    edit(files[11], ImageOrientationPatient=list(CORONAL))


def _tilted(files: list[Path]) -> None:
    for number, file in enumerate(files):
        x, y, z = pydicom.dcmread(file).ImagePositionPatient
        edit(file, ImagePositionPatient=[x, y + 1.2 * number, z])


def _sixteen_million_rows(files: list[Path]) -> None:
    content = files[-1].read_bytes()
    rows = tag_bytes("Rows") + b"US" + struct.pack("<HH", 2, 6)
    files[-1].write_bytes(content.replace(rows, tag_bytes("Rows") + b"UL" + struct.pack("<HI", 4, 2**24)))


def _no_pixels(files: list[Path]) -> None:
    edit(files[-1], PixelData=b"")


def _no_spacing(files: list[Path]) -> None:
    for file in files:
        edit(file, PixelSpacing=["NaN", "NaN"])


def _no_place(files: list[Path]) -> None:
    for file in files:
        edit(file, ImagePositionPatient=None)


def _mosaic(files: list[Path]) -> None:
    for file in files:
        edit(file, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])


def _half_of_the_head(files: list[Path]) -> None:
    for file in files[18:]:
        file.unlink()


def _few_slices(files: list[Path]) -> None:
    for file in files[10:]:
        file.unlink()


def _far_apart(files: list[Path]) -> None:
    for number, file in enumerate(files):
        edit(file, ImagePositionPatient=[0, 0, 9.0 * number])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("defect", "code", "problem"),
    [
        (_missing_slice, "geometry_gap", None),
        (_another_slice_at_the_same_place, "geometry_duplicate", None),
        (_all_slices_twice, "geometry_duplicate", None),
        (_other_pixels_in_a_copy, "conflicting_instances", None),
        (_swapped_spacing, "geometry_spacing", None),
        (_no_spacing, "geometry_spacing", None),
        (_turned_a_little, "geometry_orientation", None),
        (_turned_to_another_plane, "geometry_gap", None),
        (_tilted, "geometry_tilt", None),
        (_no_place, "geometry_position", None),
        (_half_of_the_head, "geometry_coverage", None),
        (_few_slices, "geometry_too_few", None),
        (_far_apart, "geometry_thick", None),
        (_sixteen_million_rows, "pixel_data_damaged", "pixel_size_implausible"),
        (_no_pixels, "pixel_data_damaged", "pixel_data_truncated"),
        (_mosaic, "missing_role", None),
    ],
)
def test_made_defect_ends_in_a_refusal_by_name(sent, defect, code, problem):
    files = {role: write(sent, role) for role in Contrast}
    assert select_study(files_in(sent)).held is None
    defect(files[Contrast.FLAIR])
    selection = select_study(files_in(sent))
    assert selection.held is not None
    assert selection.held.code == code
    assert "FLAIR" in selection.held.sentence
    assert selection.held.sentence.endswith(".")
    assert [found.code for found in selection.problems] == ([problem] if problem else [])


def test_gate_lets_a_faultless_series_pass(sent):
    (volume,) = read_headers(write(sent, Contrast.FLAIR)).volumes
    assert gate_code(volume) == ""
