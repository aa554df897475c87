"""A volume becomes an image at the patient's place, or a refusal with a name."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.geometry import MIN_SLICES, ordered_frames, stacked_frames
from pipeline.grid import canonical
from pipeline.headers import Volume, read_headers
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from pipeline.volume import image_of, read_volume
from tests.support.dicom_files import edit
from tests.support.services import SEEDED, real_data

STUDY = StudyTags(study_uid=derive_uid("test volume"), **SEEDED)


def rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    euler = sitk.Euler3DTransform((0, 0, 0), *np.deg2rad([x_deg, y_deg, z_deg]).tolist())
    return np.reshape(euler.GetMatrix(), (3, 3))


def image_from(
    values_zyx: np.ndarray, spacing=(2.0, 1.5, 6.0), direction=None, origin=(-90.0, -80.0, -50.0)
) -> sitk.Image:
    image = sitk.GetImageFromArray(values_zyx)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.eye(3).ravel().tolist() if direction is None else np.asarray(direction).ravel().tolist())
    return image


def noise(slices: int = 20) -> np.ndarray:
    return np.random.default_rng(5).uniform(0, 3000, (slices, 24, 32)).astype(np.int16)


def write(folder: Path, image: sitk.Image) -> list[Path]:
    return write_series(image, folder, STUDY, series_tags(Contrast.T2W))


def only_volume(files) -> Volume:
    headers = read_headers(files)
    assert headers.problems == ()
    (volume,) = headers.volumes
    return volume


def refusal(volume: Volume) -> str:
    with pytest.raises(StudyHeld) as held:
        read_volume(volume)
    assert held.value.sentence.endswith(".")
    return held.value.code


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "defect"),
    [
        ("geometry_gap", lambda files: files.pop(9).unlink()),
        (
            "geometry_duplicate",
            lambda files: edit(files[5], ImagePositionPatient=pydicom.dcmread(files[6]).ImagePositionPatient),
        ),
        ("geometry_spacing", lambda files: edit(files[5], PixelSpacing=[2.0, 1.5])),
        ("geometry_spacing", lambda files: [edit(file, PixelSpacing=["NaN", "NaN"]) for file in files]),
        ("geometry_orientation", lambda files: edit(files[5], ImageOrientationPatient=[1, 0, 0, 0, 0.9986, 0.0523])),
        ("geometry_position", lambda files: [edit(file, ImagePositionPatient=None) for file in files]),
        ("geometry_mosaic", lambda files: [edit(f, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]) for f in files]),
        ("geometry_mosaic", lambda files: [edit(f, ImageType=["ORIGINAL", "PRIMARY", "VFRAME"]) for f in files]),
        ("geometry_too_few", lambda files: [files.pop().unlink() for _ in range(20 - MIN_SLICES + 1)]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_defects_in_files_end_in_refusals(sent, code, defect):
    files = write(sent, image_from(noise()))
    read_volume(only_volume(files))
    defect(files)
    assert refusal(only_volume(files)) == code


def test_real_mosaics_are_refused_by_name():
    for folder in ("uih-dti", "transfer-syntaxes"):
        volumes = read_headers(real_data(folder).iterdir()).volumes
        assert {refusal(volume) for volume in volumes} == {"geometry_mosaic"}


def test_image_of_a_few_slices_needs_no_head(sent):
    volume = only_volume(write(sent, image_from(noise(3))))
    assert refusal(volume) == "geometry_too_few"
    image = image_of(*stacked_frames(volume.frames))
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(image), noise(3))


def test_values_and_geometry_come_back(sent):
    written = image_from(noise(), direction=rotation(50, -20, 110))
    image = read_volume(only_volume(write(sent, written)))
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), noise())
    np.testing.assert_allclose(image.GetSpacing(), written.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), written.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), written.GetDirection(), atol=1e-6)


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
    written = image_from(values, direction=rotation(*angles_deg))
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
    written = image_from(values, spacing=(6.5, 6.5, 6.5))
    left_front_top = written.TransformPhysicalPointToIndex((60.0, -60.0, 40.0))  # L, A, S in LPS millimetres
    values[left_front_top[::-1]] = 1000
    written = sitk.DICOMOrient(image_from(values, spacing=(6.5, 6.5, 6.5)), orientation)
    image = canonical(read_volume(only_volume(write(sent, written))))
    marker_zyx = np.unravel_index(sitk.GetArrayViewFromImage(image).argmax(), image.GetSize()[::-1])
    marker_xyz = np.array(marker_zyx[::-1])
    point_mm = np.array(image.TransformIndexToPhysicalPoint(marker_xyz.tolist()))
    np.testing.assert_allclose(point_mm, (60.0, -60.0, 40.0), atol=6.5 / 2)
    towards = np.array(image.TransformIndexToPhysicalPoint((marker_xyz + 1).tolist())) - point_mm
    assert (np.sign(towards) == (-1, -1, 1)).all()  # the next voxels lie further right, in front and above


def test_cosines_next_to_nothing_do_no_harm(sent):
    files = write(sent, image_from(noise()))
    for file in files:
        edit(file, ImageOrientationPatient=["1", "0", "-1e-310", "0", "1", "0"])
    image = read_volume(only_volume(files))
    for found in (image, canonical(image)):
        point_mm = found.TransformIndexToPhysicalPoint((3, 2, 1))
        assert found.TransformPhysicalPointToIndex(point_mm) == (3, 2, 1)


def test_directions_are_right_handed(sent):
    mirrored = sitk.Flip(image_from(noise()), (False, False, True))
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


def test_left_and_right_of_a_patient_on_the_side_come_from_the_orientation():
    volume = only_volume(real_data("siemens-decubitus").iterdir())
    image = read_volume(volume)
    upright = canonical(image)
    assert image.GetSize()[2] == 35
    assert image.GetSpacing()[2] == pytest.approx(4.8, abs=1e-3)
    assert np.argmax(np.abs(np.reshape(upright.GetDirection(), (3, 3))), axis=0).tolist() == [0, 1, 2]
    corner = image.TransformIndexToPhysicalPoint((3, 5, 7))
    assert upright.GetPixel(*upright.TransformPhysicalPointToIndex(corner)) == image.GetPixel(3, 5, 7)
