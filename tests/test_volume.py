"""Planes become an image at the patient's place, or a refusal with a name."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from pipeline.errors import StudyHeld
from pipeline.grid import canonical
from pipeline.headers import Frame, Volume, read_headers
from pipeline.select import Role
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from pipeline.volume import MAX_STEP_MM, MIN_COVERAGE_MM, MIN_SLICES, _decode, ordered_frames, read_volume
from tests.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test volume"), **SEEDED)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def stack(count: int = 30, step_mm: float = 5.0, orientation: tuple[float, ...] = AXIAL) -> list[Frame]:
    """Return the planes of a faultless volume."""
    normal = np.cross(orientation[:3], orientation[3:])
    first = np.array([-120.0, -100.0, -60.0])
    return [
        Frame(Path(f"{i}"), 0, f"1.{i}", tuple(first + i * step_mm * normal), tuple(orientation), (0.9, 0.8), 256, 192)
        for i in range(count)
    ]


def refusal(frames: list[Frame]) -> str:
    with pytest.raises(StudyHeld) as held:
        ordered_frames(tuple(frames))
    assert held.value.sentence.endswith(".")
    return held.value.code


def shifted(frame: Frame, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Frame:
    assert frame.position_mm is not None
    return replace(frame, position_mm=tuple(a + b for a, b in zip(frame.position_mm, (x, y, z), strict=True)))


def oblique(seed: int) -> np.ndarray:
    """Return a right-handed matrix of three perpendicular directions in its columns."""
    directions, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return directions * np.sign(np.linalg.det(directions))


def rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    euler = sitk.Euler3DTransform((0, 0, 0), *np.deg2rad([x_deg, y_deg, z_deg]).tolist())
    return np.reshape(euler.GetMatrix(), (3, 3))


def image_of(
    values_zyx: np.ndarray, spacing=(2.0, 1.5, 6.0), direction=None, origin=(-90.0, -80.0, -50.0)
) -> sitk.Image:
    image = sitk.GetImageFromArray(values_zyx)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.eye(3).ravel().tolist() if direction is None else np.asarray(direction).ravel().tolist())
    return image


def noise(slices: int = 20, dtype=np.int16) -> np.ndarray:
    values = np.random.default_rng(5).uniform(0, 3000, (slices, 24, 32))
    return values.astype(dtype)


def write(folder: Path, image: sitk.Image) -> list[Path]:
    return write_series(image, folder, STUDY, series_tags(Role.T2W))


def only_volume(files) -> Volume:
    headers = read_headers(files)
    assert headers.problems == ()
    (volume,) = headers.volumes
    return volume


def edit(path: Path, **attributes) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)])
def test_faultless_planes_are_ordered_along_their_normal(orientation):
    frames = stack(orientation=orientation)
    shuffled = random.Random(1).sample(frames, len(frames))
    ordered, step_mm = ordered_frames(tuple(shuffled))
    assert ordered == frames
    assert step_mm == pytest.approx(5.0, abs=1e-6)


def _gap(f):
    return f[:10] + f[11:]


def _wide_gap_at_the_end(f):
    return [*f, shifted(f[-1], z=10.0)]


def _duplicate(f):
    return [*f, replace(f[7], path=Path("copy"), sop_instance_uid="1.99")]


def _turned(f):
    return [*f[:-1], replace(f[-1], orientation=SAGITTAL)]


def _other_spacing(f):
    return [*f[:-1], replace(f[-1], pixel_spacing_mm=(0.8, 0.9))]


def _other_matrix(f):
    return [*f[:-1], replace(f[-1], rows=192, columns=256)]


def _no_spacing(f):
    return [replace(frame, pixel_spacing_mm=None) for frame in f]


def _metres(f):
    return [replace(frame, pixel_spacing_mm=(0.0009, 0.0008)) for frame in f]


def _no_position(f):
    return [*f[:4], replace(f[4], position_mm=None), *f[5:]]


def _no_orientation(f):
    return [*f[:4], replace(f[4], orientation=None), *f[5:]]


def _no_directions(f):
    return [replace(frame, orientation=(0.0,) * 6) for frame in f]


def _not_perpendicular(f):
    return [replace(frame, orientation=(1.0, 0.0, 0.0, 0.6, 0.8, 0.0)) for frame in f]


def _tilted(f):
    return [shifted(frame, y=1.21 * i) for i, frame in enumerate(f)]


def _tilted_a_little(f):
    return [shifted(frame, y=0.25 * i) for i, frame in enumerate(f)]


def _one_slice_aside(f):
    return [*f[:4], shifted(f[4], x=3.0), *f[5:]]


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        (_gap, "geometry_gap"),
        (_wide_gap_at_the_end, "geometry_gap"),
        (_duplicate, "geometry_duplicate"),
        (_turned, "geometry_orientation"),
        (_no_directions, "geometry_orientation"),
        (_not_perpendicular, "geometry_orientation"),
        (_other_spacing, "geometry_spacing"),
        (_no_spacing, "geometry_spacing"),
        (_metres, "geometry_spacing"),
        (_other_matrix, "geometry_matrix"),
        (_no_position, "geometry_position"),
        (_no_orientation, "geometry_position"),
        (_tilted, "geometry_tilt"),
        (_tilted_a_little, "geometry_tilt"),
        (_one_slice_aside, "geometry_tilt"),
    ],
)
def test_defect_is_refused_by_its_name(defect, code):
    frames = stack()
    ordered_frames(tuple(frames))
    assert refusal(defect(frames)) == code
    assert refusal(defect(frames)[::-1]) == code


def test_limits_of_count_distance_and_coverage():
    enough = int(MIN_COVERAGE_MM / MAX_STEP_MM) + 1
    assert enough == MIN_SLICES
    ordered_frames(tuple(stack(MIN_SLICES, MAX_STEP_MM)))
    assert refusal(stack(MIN_SLICES - 1, MAX_STEP_MM)) == "geometry_too_few"
    assert refusal(stack(1)) == "geometry_too_few"
    assert refusal(stack(30, MAX_STEP_MM + 0.1)) == "geometry_thick"
    ordered_frames(tuple(stack(110, 1.0)))
    assert refusal(stack(109, 1.0)) == "geometry_coverage"


@settings(max_examples=60, deadline=None, database=None)
@given(
    angles_deg=st.tuples(*[st.floats(-180, 180)] * 3),
    step_mm=st.floats(1.0, 7.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_rounded_positions_in_any_order_are_one_volume(angles_deg, step_mm, seed):
    turned = rotation(*angles_deg)
    frames = stack(120, step_mm, tuple(turned[:, :2].T.ravel().tolist()))
    rounded = [
        replace(
            frame,
            position_mm=tuple(round(value, 2) for value in frame.position_mm or ()),
            orientation=tuple(round(value, 5) for value in frame.orientation or ()),
        )
        for frame in frames
    ]
    shuffled = random.Random(seed).sample(rounded, len(rounded))
    ordered, found_mm = ordered_frames(tuple(shuffled))
    assert ordered == rounded
    assert found_mm == pytest.approx(step_mm, abs=1e-3)


@settings(max_examples=40, deadline=None, database=None)
@given(angles_deg=st.tuples(*[st.floats(-180, 180)] * 3), left_out=st.integers(1, 38), step_mm=st.floats(3.0, 7.4))
def test_one_slice_less_inside_is_a_gap_in_any_orientation(angles_deg, left_out, step_mm):
    frames = stack(40, step_mm, tuple(rotation(*angles_deg)[:, :2].T.ravel().tolist()))
    assert refusal(frames[:left_out] + frames[left_out + 1 :]) == "geometry_gap"


def test_orientation_in_few_decimals_does_not_change_the_distance_of_slices():
    frames = stack(40, 4.0, AXIAL)
    long_ones = [replace(frame, orientation=tuple(value * 1.004 for value in AXIAL)) for frame in frames]
    _, step_mm = ordered_frames(tuple(long_ones))
    assert step_mm == pytest.approx(4.0, abs=1e-9)


def _real_frames(*parts: str) -> list[Frame]:
    """Return the planes of classic files of any modality."""
    frames = []
    for path in sorted(real_data(*parts).iterdir()):
        d = pydicom.dcmread(path, stop_before_pixels=True)
        geometry = (d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing)
        position_mm, orientation, spacing_mm = (tuple(map(float, values)) for values in geometry)
        frames.append(Frame(path, 0, d.SOPInstanceUID, position_mm, orientation, spacing_mm, d.Rows, d.Columns))
    return frames


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("failing-slice-increment", "geometry_gap"),
        ("failing-gantry-tilt", "geometry_tilt"),
        ("failing-slice-orientation", "geometry_orientation"),
        ("failing-slice-count", "geometry_too_few"),
        ("ge-anatomical", "geometry_too_few"),
        ("ge-dti", "geometry_duplicate"),
        ("ge-single-slice", "geometry_too_few"),
    ],
)
def test_real_defects_are_refused_by_their_names(case, code):
    assert refusal(_real_frames("dicom2nifti", case)) == code


def test_real_rounding_is_no_gap():
    _, step_mm = ordered_frames(tuple(_real_frames("ge-pd")))
    assert step_mm == pytest.approx(7.0, abs=0.01)


def test_defects_in_files_end_in_refusals(sent):
    faultless = write(sent / "faultless", image_of(noise()))
    defects = {
        "geometry_gap": lambda files: files.pop(9).unlink(),
        "geometry_duplicate": lambda files: edit(
            files[5], ImagePositionPatient=pydicom.dcmread(files[6]).ImagePositionPatient
        ),
        "geometry_spacing": lambda files: edit(files[5], PixelSpacing=[2.0, 1.5]),
        "geometry_orientation": lambda files: edit(files[5], ImageOrientationPatient=[1, 0, 0, 0, 0.9986, 0.0523]),
    }
    for code, make in defects.items():
        files = [Path(shutil.copy(f, _made(sent / code) / f.name)) for f in faultless]
        make(files)
        with pytest.raises(StudyHeld) as held:
            read_volume(only_volume(files))
        assert held.value.code == code


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_and_geometry_come_back(sent):
    written = image_of(noise(), direction=oblique(3))
    image = read_volume(only_volume(write(sent, written)))
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), noise())
    np.testing.assert_allclose(image.GetSpacing(), written.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), written.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), written.GetDirection(), atol=1e-6)


def test_slope_and_intercept_lead_back_to_the_values(sent):
    written = noise(dtype=np.float32) / 7 - 100
    files = write(sent, image_of(written))
    slope = float(pydicom.dcmread(files[0]).RescaleSlope)
    assert slope != 1
    array = sitk.GetArrayFromImage(read_volume(only_volume(files)))
    np.testing.assert_allclose(array, written, atol=slope / 2 + 1e-3)


def test_each_file_has_its_own_slope(sent):
    files = write(sent, image_of(noise()))
    for number, file in enumerate(files):
        edit(file, RescaleSlope=1 + number, RescaleIntercept=-number)
    array = sitk.GetArrayFromImage(read_volume(only_volume(files)))
    numbers = np.arange(len(files), dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(array, noise() * (1 + numbers) - numbers, rtol=1e-6)


def test_frames_of_an_enhanced_object_have_their_own_slopes():
    path = real_data("xa30-enhanced", "t1.dcm")
    volume = next(v for v in read_headers([path]).volumes if len(v.frames) == 96)
    image = read_volume(volume)
    dataset, stored = _decode(path)
    frames, _ = ordered_frames(volume.frames)
    for place in (0, 40, 95):
        index = frames[place].index
        group = dataset.PerFrameFunctionalGroupsSequence[index]
        shared = dataset.SharedFunctionalGroupsSequence[0]
        transform = (group.get("PixelValueTransformationSequence") or shared.PixelValueTransformationSequence)[0]
        expected = stored[index] * float(transform.RescaleSlope) + float(transform.RescaleIntercept)
        np.testing.assert_allclose(sitk.GetArrayViewFromImage(image)[place], expected, rtol=1e-6)
    assert image.GetSize() == (128, 128, 96)
    np.testing.assert_allclose(image.GetSpacing(), (2.0, 2.0, 2.0), atol=1e-3)


def _unknown_kind_of_slope(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"(\0\x53\x10DS", b"(\0\x53\x10ZZ"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(lambda file: edit(file, PixelData=bytes(100)), id="few pixels"),
        pytest.param(lambda file: edit(file, BitsAllocated=12), id="odd bits"),
        pytest.param(lambda file: edit(file, SamplesPerPixel=3), id="three samples"),
        pytest.param(lambda file: edit(file, Rows=12, Columns=48), id="another matrix"),
        pytest.param(_unknown_kind_of_slope, id="slope of an unknown kind"),
        pytest.param(lambda file: file.write_bytes(b"nothing of DICOM"), id="no DICOM any more"),
        pytest.param(Path.unlink, id="gone"),
    ],
)
def test_slice_that_cannot_be_decoded_is_named_as_damage(sent, defect):
    files = write(sent, image_of(noise(dtype=np.float32) / 7))
    volume = only_volume(files)
    defect(files[3])
    with pytest.raises(StudyHeld) as held:
        read_volume(volume)
    assert held.value.code == "pixel_data_damaged"


# --- transfer syntaxes ------------------------------------------------------------------------------------------------


def test_one_real_image_decodes_alike_in_every_transfer_syntax():
    files = sorted(real_data("transfer-syntaxes").iterdir())
    syntaxes = {pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID for file in files}
    assert len(syntaxes) == 7
    first, *others = [_decode(file)[1] for file in files]
    assert len(others) == 8
    assert np.ptp(first) > 0
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_one_real_series_decodes_alike_in_four_compressions():
    decoded = []
    for codec in ("j2k", "jpeg", "jpegls", "rle"):
        datasets = [_decode(file) for file in real_data("dicom2nifti", f"generic-compressed-{codec}").iterdir()]
        assert all(dataset.file_meta.TransferSyntaxUID.is_compressed for dataset, _ in datasets)
        decoded.append({dataset.SOPInstanceUID: pixels for dataset, pixels in datasets})
    first, *others = decoded
    assert len(first) == 4
    for other in others:
        assert other.keys() == first.keys()
        for uid, pixels in first.items():
            np.testing.assert_array_equal(other[uid], pixels)


def test_fragments_of_one_frame_are_joined():
    frames = sorted(_real_frames("jpeg-fragments"), key=lambda frame: frame.position_mm)
    slices = [_decode(frame.path)[1][0].astype(float) for frame in frames]
    assert {pixels.shape for pixels in slices} == {(frames[0].rows, frames[0].columns)}
    for one, other in pairwise(slices):  # a frame that ends early has nothing of its neighbour
        half = len(one) // 2
        assert np.corrcoef(one[half:].ravel(), other[half:].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless],
    ids=lambda syntax: syntax.name,
)
def test_whole_series_reads_alike_in_every_encoding(sent, syntax):
    files = write(sent, image_of(noise()))
    for file in files:
        dataset = pydicom.dcmread(file)
        if syntax.is_compressed:
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(file)
    image = read_volume(only_volume(files))
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(image), noise())


# --- the patient's place ----------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, database=None)
@given(
    angles_deg=st.tuples(*[st.floats(-180, 180)] * 3),
    voxel_xyz=st.tuples(st.integers(0, 31), st.integers(0, 23), st.integers(0, 19)),
    seed=st.integers(0, 1000),
)
def test_landmark_keeps_its_patient_coordinates(tmp_path_factory, angles_deg, voxel_xyz, seed):
    values = np.zeros((20, 24, 32), np.int16)
    values[voxel_xyz[::-1]] = 1000
    written = image_of(values, direction=rotation(*angles_deg))
    landmark_mm = written.TransformIndexToPhysicalPoint(voxel_xyz)
    files = write(tmp_path_factory.mktemp("sent") / "sent", written)
    random.Random(seed).shuffle(files)
    image = read_volume(only_volume(files))
    for found in (image, canonical(image)):
        brightest = np.unravel_index(sitk.GetArrayViewFromImage(found).argmax(), found.GetSize()[::-1])
        point_mm = found.TransformIndexToPhysicalPoint([int(index) for index in brightest[::-1]])
        np.testing.assert_allclose(point_mm, landmark_mm, atol=1e-3)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PSR", "LSA", "AIL"])
def test_left_is_left_in_canonical_axes(sent, orientation):
    values = np.zeros((20, 24, 32), np.int16)
    written = image_of(values, spacing=(6.5, 6.5, 6.5))
    left_front_top = written.TransformPhysicalPointToIndex((60.0, -60.0, 40.0))  # L, A, S in LPS millimetres
    values[left_front_top[::-1]] = 1000
    written = sitk.DICOMOrient(image_of(values, spacing=(6.5, 6.5, 6.5)), orientation)
    image = canonical(read_volume(only_volume(write(sent, written))))
    marker_zyx = np.unravel_index(sitk.GetArrayViewFromImage(image).argmax(), image.GetSize()[::-1])
    marker_xyz = np.array(marker_zyx[::-1])
    point_mm = np.array(image.TransformIndexToPhysicalPoint(marker_xyz.tolist()))
    np.testing.assert_allclose(point_mm, (60.0, -60.0, 40.0), atol=6.5 / 2)
    towards = np.array(image.TransformIndexToPhysicalPoint((marker_xyz + 1).tolist())) - point_mm
    assert (np.sign(towards) == (-1, -1, 1)).all()  # the next voxels lie further right, in front and above


def test_cosines_next_to_nothing_do_no_harm(sent):
    files = write(sent, image_of(noise()))
    for file in files:
        edit(file, ImageOrientationPatient=["1", "0", "-1e-310", "0", "1", "0"])
    image = read_volume(only_volume(files))
    for found in (image, canonical(image)):
        point_mm = found.TransformIndexToPhysicalPoint((3, 2, 1))
        assert found.TransformPhysicalPointToIndex(point_mm) == (3, 2, 1)


def test_directions_are_right_handed(sent):
    mirrored = sitk.Flip(image_of(noise()), (False, False, True))
    image = read_volume(only_volume(write(sent, mirrored)))
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) == pytest.approx(1.0)


def test_whole_real_mprage_is_read():
    files = list(real_data("philips-mprage").iterdir())
    volume = only_volume(files)
    image = read_volume(volume)
    assert image.GetSize() == (256, 256, 170)
    np.testing.assert_allclose(image.GetSpacing(), (1.0, 1.0, 1.0), atol=1e-4)
    header = pydicom.dcmread(volume.frames[0].path)
    place = [f.sop_instance_uid for f in ordered_frames(volume.frames)[0]].index(header.SOPInstanceUID)
    expected = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    np.testing.assert_allclose(sitk.GetArrayViewFromImage(image)[place], expected, rtol=1e-5)
    origin_mm = image.TransformIndexToPhysicalPoint((0, 0, place))
    np.testing.assert_allclose(origin_mm, [float(v) for v in header.ImagePositionPatient], atol=1e-3)


def test_real_mprage_without_one_slice_is_a_gap():
    frames = list(only_volume(real_data("philips-mprage").iterdir()).frames)
    ordered, _ = ordered_frames(tuple(frames))
    assert refusal(ordered[:80] + ordered[81:]) == "geometry_gap"


def test_left_and_right_of_a_patient_on_the_side_come_from_the_orientation():
    volume = only_volume(real_data("siemens-decubitus").iterdir())
    image = read_volume(volume)
    upright = canonical(image)
    assert image.GetSize()[2] == 35
    assert image.GetSpacing()[2] == pytest.approx(4.8, abs=1e-3)
    assert np.argmax(np.abs(np.reshape(upright.GetDirection(), (3, 3))), axis=0).tolist() == [0, 1, 2]
    corner = image.TransformIndexToPhysicalPoint((3, 5, 7))
    assert upright.GetPixel(*upright.TransformPhysicalPointToIndex(corner)) == image.GetPixel(3, 5, 7)
