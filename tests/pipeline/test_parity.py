"""The same voxels at the same place as dcm2niix, which the field compares itself with, for every series that both read.

Each difference stands in a table here with its reason; what stands there must really differ, by what is said.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from pipeline.errors import StudyHeld
from pipeline.geometry import stacked_frames
from pipeline.headers import Frame, Volume, read_headers
from pipeline.volume import image_of, read_volume
from tests.support.services import real_data, require

DCM2NIIX = Path(sys.executable).parent / "dcm2niix"
PLACE_MM = 1e-3
VALUE = 1e-3

FIRST_PAIR = "dcm2niix takes the distance of the first two slices for all; positions are rounded, we take the mean"
STATED = "dcm2niix takes SpacingBetweenSlices, which is rounded to 3.313 mm where the positions are 3.3125 mm apart"
PHILIPS = (
    "dcm2niix's default -p y gives Philips's floating point value, display value / (RS * SS) (PMC3998685): "
    "one factor for a whole series, which a z-score takes out; we give RescaleSlope's value, as DICOM has it"
)


STEPS = {
    "philips-mprage": FIRST_PAIR,  # 1.00001 mm for 0.999999 mm: 0.0013 mm in the last of 170 slices
    "ge-pd": FIRST_PAIR,  # 7.071 mm for 7.0005 mm: 1.3 mm in the last of 20 slices
    "dicom2nifti/philips-enhanced-fmri": STATED,  # 0.0035 mm in the last of 8 slices
}
SCALES = {
    "philips-mprage": PHILIPS,
    "philips-enhanced": PHILIPS,  # the phantom; RS * SS of the perfusion is 1
    "dicom2nifti/philips-enhanced-t1": PHILIPS,
    "dicom2nifti/philips-enhanced-dti": PHILIPS,
    "dicom2nifti/philips-enhanced-fmri": PHILIPS,
}
UNREAD = {
    # case: volumes that dcm2niix makes and we do not, our codes, and why
    "transfer-syntaxes": (9, {"geometry_mosaic"}, "mosaics are taken apart by private headers only; never a T1W, T2W"),
    "uih-dti": (17, {"geometry_mosaic"}, "the same, in the way of United Imaging"),
    "siemens-scouts": (3, {"geometry_too_few", "geometry_orientation"}, "single slices are no volume"),
    "xa30-enhanced": (
        3,
        {"not_mr_image"},
        "the colour map of diffusion is a Secondary Capture, two maps have palettes",
    ),
    "dicom2nifti/ge-single-slice": (1, {"geometry_too_few"}, "a single slice is no volume"),
    "dicom2nifti/ge-dti": (2, {"geometry_duplicate"}, "only the instance numbers tell the two volumes apart"),
    "dicom2nifti/ge-fmri": (2, {"geometry_duplicate"}, "only the instance numbers tell the two volumes apart"),
    "dicom2nifti/philips-enhanced-dti": (3, {"geometry_duplicate"}, "three directions of one b-value, never chosen"),
    "dicom2nifti/generic-rgb-secondary-capture": (1, {"not_mr_image"}, "colour Secondary Capture"),
    "dicom2nifti/failing-gantry-tilt": (2, {"not_mr_image"}, "CT; dcm2niix shears it straight besides"),
    "dicom2nifti/failing-slice-increment": (2, {"not_mr_image"}, "CT; dcm2niix fills the gap besides"),
}
FOLDERS = (
    "canon-enhanced", "ge-localizer", "ge-pd", "jpeg-fragments", "philips-enhanced", "philips-mprage",
    "siemens-decubitus", "siemens-scouts", "toshiba-dti", "transfer-syntaxes", "uih-dti", "xa30-enhanced",
)  # fmt: skip
CASES = (
    "failing-gantry-tilt", "failing-slice-count", "failing-slice-increment", "failing-slice-orientation",
    "ge-anatomical", "ge-anatomical-implicit", "ge-dti", "ge-fmri", "ge-single-slice", "generic-anatomical",
    "generic-compressed-j2k", "generic-compressed-jpeg", "generic-compressed-jpegls", "generic-compressed-rle",
    "generic-non-isotropic", "generic-rgb-secondary-capture", "hitachi-shoulder", "hyperfine-enhanced",
    "philips-enhanced-dti", "philips-enhanced-fmri", "philips-enhanced-t1", "philips-flair", "siemens-flair",
    "siemens-multiframe",
)  # fmt: skip
ALL = [*FOLDERS, *(f"dicom2nifti/{case}" for case in CASES)]


@dataclass(frozen=True)
class Image:
    """Voxels along three axes and where they lie, right, front and top positive."""

    values_xyz: np.ndarray
    affine_ras: np.ndarray


def converted(folder: Path, out: Path) -> list[Image]:
    """Return every volume that dcm2niix makes of a folder."""
    require(DCM2NIIX)
    # -g i: no defaults file of the user's home may change what is compared.
    command: list[str | Path] = [DCM2NIIX, "-g", "i", "-b", "n", "-z", "n", "-f", "%s_%r_%p", "-o", out, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    images = []
    for file in sorted(out.glob("*.nii")):
        image = nibabel.Nifti1Image.from_filename(file)
        values = np.asarray(image.dataobj)
        volumes = [values] if values.ndim == 3 else list(np.moveaxis(values, -1, 0))
        images += [Image(volume, image.affine) for volume in volumes]
    return images


def ours(frames: list[Frame], step_mm: float) -> Image:
    """Return the image of ordered frames."""
    image = image_of(frames, step_mm)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Image(sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)


def along_axes_of(image: Image, other: Image) -> Image | None:
    """Return an image with its axes permuted and flipped as those of another, None if they lie oblique to them."""
    turn = np.linalg.inv(other.affine_ras)[:3, :3] @ image.affine_ras[:3, :3]
    turn = np.rint(turn / np.abs(turn).max(0))
    if not (np.abs(turn).sum(0) == 1).all() or not (np.abs(turn).sum(1) == 1).all():
        return None
    order = np.abs(turn).argmax(1)
    flipped = turn[range(3), order] < 0
    values = image.values_xyz.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
    affine = image.affine_ras.copy()
    affine[:3, :3] = image.affine_ras[:3, order]
    for axis in np.flatnonzero(flipped):
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Image(values, affine)


def same_place(image: Image, other: Image) -> bool:
    """Return whether the corners of two images along the same axes lie at the same places."""
    last_xyz = np.array(image.values_xyz.shape) - 1
    corners = np.array([[*(corner * last_xyz), 1] for corner in np.ndindex(2, 2, 2)]).T
    return bool(np.abs((image.affine_ras - other.affine_ras) @ corners).max() <= PLACE_MM)


def same_values(image: Image, other: Image) -> bool:
    return bool(np.allclose(image.values_xyz, other.values_xyz, rtol=VALUE, atol=0))


def matches(image: Image, others: list[Image]) -> list[int]:
    """Return which of several images are the same as one."""
    found = []
    for number, other in enumerate(others):
        turned = along_axes_of(image, other)
        if (
            turned
            and other.values_xyz.dtype.names is None
            and turned.values_xyz.shape == other.values_xyz.shape
            and same_place(turned, other)
            and same_values(turned, other)
        ):
            found.append(number)
    return found


def philips_factor(volume: Volume) -> float:
    """Return 1 / (RS * SS) from the rescale and the private scale slope of the first frame."""
    dataset = pydicom.dcmread(volume.frames[0].path, stop_before_pixels=True)
    if "PerFrameFunctionalGroupsSequence" in dataset:
        dataset = dataset.PerFrameFunctionalGroupsSequence[0]
        dataset = next(e.value[0] for e in dataset if e.tag.group == 0x2005 and e.VR == "SQ" and e.tag.is_private)
    scale_slope = dataset.private_block(0x2005, "Philips MR Imaging DD 001")[0x0E].value
    return 1 / (float(dataset.RescaleSlope) * float(scale_slope))


def as_dcm2niix_has_it(case: str, volume: Volume, frames: list[Frame], step_mm: float) -> Iterator[Image]:
    """Yield our image with what the tables say of a case: as it is, then with one difference, then with the other."""
    image = ours(frames, step_mm)
    yield image
    if case in SCALES and (factor := philips_factor(volume)) != pytest.approx(1):
        image = Image(image.values_xyz * factor, image.affine_ras)
        yield image
    if case in STEPS:
        first = np.linalg.norm(np.subtract(frames[1].position_mm, frames[0].position_mm))
        stated = pydicom.dcmread(frames[0].path, stop_before_pixels=True).get("SpacingBetweenSlices")
        other_mm = first if STEPS[case] is FIRST_PAIR else float(stated)
        affine = image.affine_ras.copy()
        affine[:3, 2] *= other_mm / step_mm
        yield Image(image.values_xyz, affine)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ALL)
def test_series_is_as_dcm2niix_has_it(tmp_path, case):
    folder = real_data(*case.split("/"))
    theirs = converted(folder, tmp_path)
    headers = read_headers(path for path in folder.rglob("*") if path.is_file())
    codes: set[str] = {problem.code for problem in headers.problems}
    used: list[int] = []
    for volume in headers.volumes:
        try:
            frames, step_mm = stacked_frames(volume.frames)
            images = list(as_dcm2niix_has_it(case, volume, frames, step_mm))
        except StudyHeld:
            with pytest.raises(StudyHeld) as held:
                read_volume(volume)
            codes.add(held.value.code)
            continue
        *explained, last = [matches(image, theirs) for image in images]
        assert explained == [[]] * len(explained), "the tables of differences say more than there is"
        assert len(last) == 1, f"series {volume.series_number}, {len(frames)} slices"
        used += last
    assert len(used) == len(set(used))
    unread, our_codes, _ = UNREAD.get(case, (0, set(), ""))
    assert len(theirs) - len(used) == unread
    assert our_codes <= codes
    assert used or unread == len(theirs)


def test_slopes_that_differ_from_slice_to_slice_leave_one_factor(tmp_path):
    """Philips chooses slope and scale slice by slice: dcm2niix and we weigh the slices alike."""
    folder, scale_slopes = tmp_path / "sent", []
    folder.mkdir()
    for number, path in enumerate(sorted(real_data("philips-mprage").iterdir())[:20]):
        dataset = pydicom.dcmread(path)
        scale_slope = dataset.private_block(0x2005, "Philips MR Imaging DD 001")[0x0E]
        dataset.RescaleSlope = f"{float(dataset.RescaleSlope) * (1 + 0.1 * number):.8f}"
        del dataset.RealWorldValueMappingSequence  # which has the slope once more
        scale_slope.value /= 1 + 0.1 * number
        scale_slopes.append(scale_slope.value)
        dataset.save_as(folder / path.name)
    (theirs,) = converted(folder, tmp_path)
    (volume,) = read_headers(folder.iterdir()).volumes
    image = along_axes_of(ours(*stacked_frames(volume.frames)), theirs)
    assert image is not None
    np.testing.assert_allclose(theirs.values_xyz, image.values_xyz / scale_slopes[0], rtol=VALUE)


def test_tables_name_only_what_is_tried():
    assert STEPS.keys() | SCALES.keys() | UNREAD.keys() <= set(ALL)


def test_every_series_is_tried():
    # pydicom: tiny single images; the other two: no DICOM.
    others = {"dicom2nifti", "licences", "open-ms", "pydicom", "strings", "synthseg-labels"}
    assert {path.name for path in real_data().iterdir() if path.is_dir()} == {*FOLDERS, *others}
    assert {path.name for path in real_data("dicom2nifti").iterdir() if path.is_dir()} == set(CASES)
