"""The whole brain on the model grid, left on the left, after one interpolation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Grid
from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.grid import brain_centred, canonical, resample
from pipeline.headers import read_headers
from pipeline.predict import model_tensor
from pipeline.synthetic import StudyTags, derive_uid, series_tags, write_series
from pipeline.volume import read_volume
from tests.support.services import SEEDED

GRID = Grid(size_xyz=(256, 256, 128), spacing_xyz_mm=(1.0, 1.0, 1.5), centre="brain")
SMALL = Grid(size_xyz=(32, 32, 16), spacing_xyz_mm=(8.0, 8.0, 12.0), centre="brain")
"""The same box of 256 x 256 x 192 mm in coarse voxels."""
AXIAL = np.eye(3)
SAGITTAL = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
CORONAL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
BRAIN_MM = (140.0, 175.0, 135.0)
"""Width, length and height of a large brain."""


def rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    euler = sitk.Euler3DTransform((0, 0, 0), *np.deg2rad([x_deg, y_deg, z_deg]).tolist())
    return np.reshape(euler.GetMatrix(), (3, 3))


def empty(size, spacing_mm, direction=AXIAL, middle_mm=(0.0, 0.0, 0.0), kind=sitk.sitkFloat32) -> sitk.Image:
    image = sitk.Image(list(size), kind)
    image.SetSpacing(list(spacing_mm))
    image.SetDirection(np.asarray(direction, float).ravel().tolist())
    half = np.asarray(direction) @ ((np.array(size) - 1) / 2 * np.array(spacing_mm))
    image.SetOrigin((np.array(middle_mm) - half).tolist())
    return image


def points(image: sitk.Image) -> np.ndarray:
    """Return the LPS coordinates of every voxel, in the order of the array's ravel."""
    zyx = np.indices(image.GetSize()[::-1]).reshape(3, -1)
    matrix = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    return (matrix @ zyx[::-1]).T + np.array(image.GetOrigin())


def ellipsoid(image: sitk.Image, middle_mm, axes_mm=BRAIN_MM) -> sitk.Image:
    inside = (((points(image) - np.array(middle_mm)) / (np.array(axes_mm) / 2)) ** 2).sum(1) <= 1
    mask = sitk.GetImageFromArray(inside.reshape(image.GetSize()[::-1]).astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def noise(size=(7, 6, 5), direction=AXIAL) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(2).normal(size=size[::-1]).astype(np.float32))
    image.CopyInformation(empty(size, (1.1, 1.7, 3.0), direction, (5.0, -8.0, 13.0)))
    return image


# --- canonical axes ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, database=None)
@given(
    angles_deg=st.tuples(*[st.integers(-180, 180)] * 3), voxel=st.tuples(*[st.integers(0, n - 1) for n in (7, 6, 5)])
)
def test_canonical_permutes_and_flips_and_nothing_else(angles_deg, voxel):
    image = noise(direction=rotation(*angles_deg))
    upright = canonical(image)
    before, after = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(upright)
    np.testing.assert_array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
    point_mm = image.TransformIndexToPhysicalPoint(voxel)
    assert upright.GetPixel(*upright.TransformPhysicalPointToIndex(point_mm)) == image.GetPixel(*voxel)
    assert sorted(upright.GetSpacing()) == sorted(image.GetSpacing())


@pytest.mark.parametrize("direction", [AXIAL, SAGITTAL, CORONAL, -AXIAL @ np.diag([1, 1, -1])])
def test_canonical_axes_run_to_right_front_and_top(direction):
    upright = canonical(noise(direction=direction))
    np.testing.assert_allclose(np.reshape(upright.GetDirection(), (3, 3)), np.diag([-1, -1, 1]), atol=1e-12)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(canonical(upright)), sitk.GetArrayFromImage(upright))


# --- the model grid ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "spacing_mm", "direction", "middle_mm", "brain_mm"),
    [
        pytest.param((60, 60, 24), (4, 4, 6.5), AXIAL, (0, 0, 0), (0, 10, 5), id="thick axial stack"),
        pytest.param((60, 60, 24), (4, 4, 6.5), rotation(20, 0, 0), (0, 0, 0), (0, 0, 0), id="tilted axial stack"),
        pytest.param((65, 70, 45), (4, 4, 4), SAGITTAL, (0, 0, -60), (3, -20, 10), id="sagittal with neck"),
        pytest.param((60, 60, 44), (4, 4, 5), CORONAL, (0, 0, 0), (0, 0, 0), id="coronal"),
        pytest.param((60, 60, 24), (4, 4, 6.5), AXIAL, (300, -500, 800), (300, -495, 800), id="far from the isocentre"),
    ],
)
@pytest.mark.parametrize("grid", [GRID, SMALL], ids=["fine", "coarse"])
def test_whole_brain_lies_inside(size, spacing_mm, direction, middle_mm, brain_mm, grid):
    mask = ellipsoid(empty(size, spacing_mm, direction, middle_mm), brain_mm)
    inside = sitk.GetArrayViewFromImage(mask).ravel() > 0
    assert inside.sum() * np.prod(spacing_mm) / 1000 == pytest.approx(np.pi / 6 * np.prod(BRAIN_MM) / 1000, rel=0.03)
    target = brain_centred(mask, grid)
    assert target.GetSize() == grid.size_xyz
    assert target.GetSpacing() == grid.spacing_xyz_mm
    size_xyz, brain = np.array(grid.size_xyz), points(mask)[inside]
    voxels = np.array([target.TransformPhysicalPointToContinuousIndex(point) for point in brain.tolist()])
    assert (voxels >= -0.5).all()
    assert (voxels <= size_xyz - 0.5).all()
    moved = sitk.GetArrayFromImage(resample(mask, target, nearest=True))
    assert moved.sum() * np.prod(grid.spacing_xyz_mm) == pytest.approx(inside.sum() * np.prod(spacing_mm), rel=0.03)


def test_middle_of_the_brain_is_the_middle_of_the_grid():
    mask = ellipsoid(empty((60, 60, 40), (4, 4, 5)), (12.0, -20.0, 5.0))
    target = brain_centred(mask, GRID)
    middle = target.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in GRID.size_xyz])
    np.testing.assert_allclose(middle, (12.0, -20.0, 5.0), atol=2.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_brain_that_does_not_fit_is_refused(axis):
    box_mm = np.array(GRID.size_xyz) * np.array(GRID.spacing_xyz_mm)
    axes_mm = np.array(BRAIN_MM)
    axes_mm[axis] = box_mm[axis] - 12
    space = empty((75, 75, 75), (4, 4, 4))
    brain_centred(ellipsoid(space, (0, 0, 0), axes_mm), GRID)
    axes_mm[axis] = box_mm[axis] + 12
    with pytest.raises(StudyHeld) as held:
        brain_centred(ellipsoid(space, (0, 0, 0), axes_mm), GRID)
    assert held.value.code == "geometry_brain_outside_grid"
    assert f"{box_mm[axis]:.0f}" in held.value.sentence


LEFT_MM, RIGHT_MM, BRAIN_MIDDLE_MM = (52.0, -30.0, 35.0), (-52.0, -30.0, 35.0), (4.0, 6.0, 8.0)
"""Two places of a patient, to the left and right, in front and above; LPS as ImagePositionPatient has it."""


def patient(places_mm: np.ndarray) -> np.ndarray:
    """Return what a scanner sees at places of a patient: a brain of 100 with a marker of 900 left and 500 right."""
    brain = (((places_mm - BRAIN_MIDDLE_MM) / (np.array(BRAIN_MM) / 2)) ** 2).sum(-1) <= 1
    left, right = (((places_mm - marker) ** 2).sum(-1) <= 12.0**2 for marker in (LEFT_MM, RIGHT_MM))
    return np.select([left, right, brain], [900, 500, 100]).astype(np.int16)


def scan(folder: Path, size, spacing_mm, direction, middle_mm, position: str) -> list[Path]:
    """Write a series whose pixels are worked out from what its own headers say of their place (PS3.3 C.7.6.2.1.1)."""
    study = StudyTags(study_uid=derive_uid("test grid"), **SEEDED)
    tags = replace(series_tags(Contrast.T1W), patient_position=position)
    files = write_series(empty(size, spacing_mm, direction, middle_mm, sitk.sitkInt16), folder, study, tags)
    for file in files:
        header = pydicom.dcmread(file)
        across, down = np.reshape([float(cosine) for cosine in header.ImageOrientationPatient], (2, 3))
        row_mm, column_mm = (float(side) for side in header.PixelSpacing)
        row, column = np.indices((header.Rows, header.Columns))[..., None]
        first = np.array([float(part) for part in header.ImagePositionPatient])
        header.PixelData = patient(first + column * column_mm * across + row * row_mm * down).tobytes()
        header["PixelData"].VR = "OW"
        header.save_as(file)
    return files


AXIAL_DOWN = np.diag([1.0, 1.0, -1.0])
PRONE = np.diag([-1.0, -1.0, 1.0])
RIGHT_SIDE = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
SAGITTAL_RIGHT_SIDE = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
SAGITTAL_FROM_RIGHT = SAGITTAL @ np.diag([1.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("size", "spacing_mm", "direction", "middle_mm", "position"),
    [
        pytest.param((60, 60, 30), (4, 4, 6.5), AXIAL, (0, 0, 0), "HFS", id="axial, thick"),
        pytest.param((60, 60, 30), (4, 4, 6.5), AXIAL_DOWN, (0, 0, 0), "FFS", id="axial, feet first"),
        pytest.param((60, 60, 40), (4, 4, 5), PRONE, (0, 0, 0), "HFP", id="axial, prone"),
        pytest.param((60, 60, 40), (4, 4, 5), RIGHT_SIDE, (0, 0, 0), "HFDR", id="axial, on the right side"),
        pytest.param((60, 60, 40), (4, 4, 5), rotation(15, -12, 20), (0, 0, 0), "HFS", id="oblique"),
        pytest.param((65, 80, 48), (4, 4, 4), SAGITTAL, (0, 0, -60), "HFS", id="sagittal with neck"),
        pytest.param((65, 80, 48), (4, 4, 4), SAGITTAL_FROM_RIGHT, (0, 0, -60), "HFS", id="sagittal from the right"),
        pytest.param((80, 65, 48), (4, 4, 4), SAGITTAL_RIGHT_SIDE, (0, 0, -60), "HFDR", id="sagittal, on the right"),
        pytest.param((60, 60, 50), (4, 4, 4.5), CORONAL, (0, 0, 0), "HFS", id="coronal"),
        pytest.param((60, 60, 50), (4, 4, 4.5), CORONAL @ np.diag([1, 1, -1]), (0, 0, 0), "FFS", id="coronal, feet"),
    ],
)
def test_left_of_the_patient_is_left_in_the_network(sent, size, spacing_mm, direction, middle_mm, position):
    files = scan(sent, size, spacing_mm, direction, middle_mm, position)
    (volume,) = read_headers(files).volumes
    image = canonical(read_volume(volume))
    mask = sitk.Cast(image > 50, sitk.sitkUInt8)
    target = brain_centred(mask, GRID)
    on_grid = sitk.GetArrayFromImage(resample(image, target, nearest=True))
    inside = sitk.GetArrayFromImage(resample(mask, target, nearest=True)) > 0
    size_xyz, spacing_xyz_mm = np.array(GRID.size_xyz), np.array(GRID.spacing_xyz_mm)
    for grey, place_mm in ((900, LEFT_MM), (500, RIGHT_MM)):
        found_xyz = np.argwhere(on_grid == grey).mean(0)[::-1]
        to_right_front_top_mm = (np.array(place_mm) - BRAIN_MIDDLE_MM) * (-1, -1, 1)
        expected_xyz = (size_xyz - 1) / 2 + to_right_front_top_mm / spacing_xyz_mm
        np.testing.assert_allclose(found_xyz, expected_xyz, atol=4)
        assert (found_xyz[0] < size_xyz[0] / 2) == (grey == 900)  # the axis runs from left to right
    stored = sitk.GetArrayViewFromImage(mask)
    assert inside.sum() * spacing_xyz_mm.prod() == pytest.approx(stored.sum() * np.prod(image.GetSpacing()), rel=0.03)
    assert not any(inside.take(edge, axis).any() for axis in range(3) for edge in (0, -1))
    tensor = model_tensor(image, mask, GRID, (0.0, 100.0))
    assert tensor[on_grid == 900].mean() > tensor[on_grid == 500].mean() > tensor[on_grid == 100].mean()


def test_left_stays_left_on_the_grid():
    space = empty((60, 60, 40), (4, 4, 5))
    target = brain_centred(ellipsoid(space, (0, 0, 0)), GRID)
    marker = ellipsoid(space, (50.0, -30.0, 20.0), (20.0, 20.0, 20.0))  # left, front, top
    z, y, x = np.argwhere(sitk.GetArrayFromImage(resample(marker, target, nearest=True)) > 0).mean(0)
    np.testing.assert_allclose((x, y, z), (127.5 - 50, 127.5 + 30, 63.5 + 20 / 1.5), atol=2.5)


# --- interpolation ----------------------------------------------------------------------------------------------------


def ramp(direction=AXIAL) -> sitk.Image:
    """Return an image whose grey value is a linear function of the place."""
    image = empty((60, 60, 40), (4, 4, 5), direction)
    values = (points(image) @ np.array([1.0, -2.0, 0.5]) + 700).astype(np.float32)
    filled = sitk.GetImageFromArray(values.reshape(image.GetSize()[::-1]))
    filled.CopyInformation(image)
    return filled


@pytest.mark.parametrize("direction", [AXIAL, SAGITTAL, rotation(15, -10, 30)])
def test_interpolation_is_linear(direction):
    target = empty((20, 21, 22), (3.3, 2.7, 4.1), rotation(5, 5, 5), (3.0, -7.0, 2.0))
    found = sitk.GetArrayFromImage(resample(ramp(direction), target)).ravel()
    np.testing.assert_allclose(found, points(target) @ np.array([1.0, -2.0, 0.5]) + 700, atol=0.01)


def test_interpolation_cannot_ring():
    step = sitk.GetImageFromArray(np.repeat(np.array([0, 0, 0, 1000, 1000, 1000], np.float32), 64).reshape(6, 8, 8))
    target = empty((8, 8, 41), (0.8, 0.8, 0.11), middle_mm=(3.5, 3.5, 2.5))
    found = sitk.GetArrayFromImage(resample(step, target))
    assert (found.min(), found.max()) == (0, 1000)
    assert ((found > 100) & (found < 900)).any()
    assert set(np.unique(sitk.GetArrayFromImage(resample(step, target, nearest=True)))) == {0.0, 1000.0}


def test_outside_of_the_image_is_zero():
    target = empty((40, 40, 40), (10, 10, 10))
    found = sitk.GetArrayFromImage(resample(ramp() + 5000, target)).ravel()
    outside = (np.abs(points(target)) > (120, 120, 100)).any(1)
    assert outside.any()
    assert (found[outside] == 0).all()
    assert (found[~outside] > 4000).all()


def test_grid_is_adopted_and_the_kind_of_value_kept():
    target = brain_centred(ellipsoid(empty((60, 60, 40), (4, 4, 5)), (0, 0, 0)), SMALL)
    moved = resample(ramp(), target)
    assert moved.GetPixelID() == sitk.sitkFloat32
    assert moved.GetSize() == target.GetSize()
    assert (moved.GetOrigin(), moved.GetSpacing()) == (target.GetOrigin(), target.GetSpacing())
    assert moved.GetDirection() == target.GetDirection()
