"""Made heads look like heads, and their DICOM says where every voxel lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from models.contrast import Contrast
from pipeline.synthetic import (
    RIGHT_OF_LEFT,
    Label,
    Plane,
    StudyTags,
    brain_volume_ml,
    derive_uid,
    nifti_study,
    procedural_head,
    render,
    series_tags,
    write_series,
    write_study,
)

STUDY = StudyTags(
    study_uid=derive_uid("test study"),
    patient_name="SEEDED^PATIENT",
    patient_id="SEED-ID-4711",
    birth_date="19990102",
)
DATA = Path(os.environ.get("DICOM_NODE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
PATIENT_04 = {role: DATA / "open-ms" / f"patient04-study1-{role.lower()}.nii.gz" for role in Contrast}
LESIONS = (Label.LESION, RIGHT_OF_LEFT[Label.LESION])


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    return procedural_head(1, spacing_mm=1.5, tubers=6)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    started = time.monotonic()
    study = write_study(folder, seed=3, study=STUDY, quick=True)
    return study, time.monotonic() - started


def require(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        message = f"{tool} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def read_volume(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (z-y-x) and the matrix from column, row and slice to LPS, from the headers alone."""
    datasets = [pydicom.dcmread(path) for path in files]
    positions = np.array([[float(v) for v in d.ImagePositionPatient] for d in datasets])
    row_mm, column_mm = (float(v) for v in datasets[0].PixelSpacing)
    along_row, along_column = np.reshape([float(v) for v in datasets[0].ImageOrientationPatient], (2, 3))
    steps = np.diff(positions, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-5)
    matrix = np.eye(4)
    matrix[:3] = np.stack([along_row * column_mm, along_column * row_mm, steps[0], positions[0]], axis=1)
    slope, intercept = float(datasets[0].get("RescaleSlope", 1)), float(datasets[0].get("RescaleIntercept", 0))
    return np.stack([d.pixel_array * slope + intercept for d in datasets]), matrix


def physical_points(volume: sitk.Image) -> np.ndarray:
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.GetSize()) - 1)
    return np.array([volume.TransformIndexToPhysicalPoint([int(i) for i in corner]) for corner in corners])


# --- anatomy ---------------------------------------------------------------------------------------------------------


def test_same_seed_same_head_other_seed_another(head):
    again = sitk.GetArrayFromImage(procedural_head(1, spacing_mm=1.5, tubers=6))
    other = sitk.GetArrayFromImage(procedural_head(2, spacing_mm=1.5, tubers=6))
    labels = sitk.GetArrayFromImage(head)
    assert np.array_equal(labels, again)
    assert not np.array_equal(labels, other)


@pytest.mark.parametrize("seed", range(1, 6))
def test_brain_has_the_volume_of_a_brain(seed):
    assert 1000 < brain_volume_ml(procedural_head(seed, spacing_mm=2.0)) < 1500


def test_scale_makes_a_smaller_head():
    small, large = (brain_volume_ml(procedural_head(1, spacing_mm=2.0, scale=scale)) for scale in (0.85, 1.0))
    assert small / large == pytest.approx(0.85**3, rel=0.03)


def test_every_lesion_is_a_tuber(head):
    labels = sitk.GetArrayFromImage(head)
    lesions = sitk.GetImageFromArray(np.isin(labels, LESIONS).astype(np.uint8))
    components = sitk.RelabelComponent(sitk.ConnectedComponent(lesions, True), minimumObjectSize=30)
    assert int(sitk.GetArrayViewFromImage(components).max()) == 6
    without = sitk.GetArrayFromImage(procedural_head(1, spacing_mm=3.0, tubers=0))
    assert not np.isin(without, LESIONS).any()


def test_left_labels_lie_on_the_left(head):
    labels = sitk.GetArrayFromImage(head)
    for left, right in RIGHT_OF_LEFT.items():
        for number, sign in ((left, 1), (right, -1)):
            indices = np.argwhere(labels == number)
            if len(indices):
                x_mm = head.GetOrigin()[0] + indices[:, 2] * head.GetSpacing()[0]
                assert sign * x_mm.mean() > 0, f"label {number}"


def test_brain_lies_in_fluid_fluid_in_bone_and_all_in_skin(head):
    """Layers from the middle of the brain upwards and backwards, in millimetres."""
    labels = sitk.GetArrayFromImage(head)
    x, y, z = head.TransformPhysicalPointToIndex((30.0, 5.0, 10.0))
    for line in (labels[z:, y, x], labels[z, y:, x]):
        bone = np.flatnonzero(np.isin(line, (Label.CORTICAL_BONE, Label.CANCELLOUS_BONE)))
        skin = np.flatnonzero(line == Label.SKIN)
        fluid = np.count_nonzero(line[bone[0] - 3 : bone[0]] == Label.OUTER_CSF)
        assert 3.5 <= np.ptp(bone) * 1.5 + 1.5 <= 9.5
        assert fluid >= 1
        assert 3.5 <= (skin[-1] - bone[-1]) * 1.5 <= 10
        assert (line[skin[-1] + 1 :] == Label.AIR).all()


def test_only_known_numbers_and_all_structures(head):
    found = set(np.unique(sitk.GetArrayViewFromImage(head)).tolist())
    assert found == {*Label, *RIGHT_OF_LEFT.values()}


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, 9.0])
def test_senseless_spacing_is_refused(spacing_mm):
    with pytest.raises(ValueError, match="cannot be drawn"):
        procedural_head(1, spacing_mm=spacing_mm)


# --- contrast --------------------------------------------------------------------------------------------------------


def mean_signal(head: sitk.Image, role: Contrast) -> dict[str, float]:
    volume = render(head, role, spacing_xyz_mm=(1.5, 1.5, 1.5), seed=5, noise=0.01)
    labels = sitk.GetArrayFromImage(sitk.Resample(head, volume, sitk.Transform(), sitk.sitkNearestNeighbor))
    values = sitk.GetArrayFromImage(volume)
    groups = {
        "white": (2, 41), "grey": (3, 42), "fluid": (4, 43, 24), "tuber": LESIONS, "bone": (515,), "air": (0,),
    }  # fmt: skip
    return {name: float(values[np.isin(labels, numbers)].mean()) for name, numbers in groups.items()}


def test_t1w_contrast(head):
    signal = mean_signal(head, Contrast.T1W)
    assert signal["fluid"] < 0.7 * signal["grey"]
    assert signal["grey"] < 0.85 * signal["white"]
    assert signal["tuber"] < 0.85 * signal["white"]


def test_t2w_contrast(head):
    signal = mean_signal(head, Contrast.T2W)
    assert signal["white"] < signal["grey"] < signal["fluid"]
    assert signal["tuber"] > 1.5 * signal["white"]


def test_flair_contrast(head):
    signal = mean_signal(head, Contrast.FLAIR)
    assert signal["fluid"] < 0.8 * signal["white"]
    assert signal["white"] < signal["grey"] < signal["tuber"]


def test_air_and_bone_are_dark(head):
    for role in Contrast:
        signal = mean_signal(head, role)
        assert signal["air"] < 0.2 * signal["white"]
        assert signal["bone"] < signal["white"]


def test_render_depends_on_seed_and_role_only(head):
    first, again, other = (
        sitk.GetArrayFromImage(render(head, Contrast.T1W, spacing_xyz_mm=(3, 3, 3), seed=seed)) for seed in (1, 1, 2)
    )
    assert first.dtype == np.int16
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("plane", Plane)
def test_rendered_image_lies_where_its_labels_lie(head, plane):
    volume = render(head, Contrast.T2W, spacing_xyz_mm=(1.5, 1.5, 4.0), seed=1, plane=plane)
    eyes = sitk.Resample(head, volume, sitk.Transform(), sitk.sitkNearestNeighbor) == Label.EYE
    values = sitk.GetArrayFromImage(volume)
    inside = values[sitk.GetArrayFromImage(eyes) > 0]
    assert inside.mean() > 2.5 * values[values > 40].mean()


def test_map_in_another_orientation_gives_the_same_place(head):
    turned = sitk.DICOMOrient(head, "LIA")
    first, second = (render(labels, Contrast.T1W, spacing_xyz_mm=(2, 2, 4), seed=1) for labels in (head, turned))
    np.testing.assert_allclose(physical_points(first), physical_points(second), atol=1e-4)


def test_brain_slices_are_fewer(head):
    everything, brain = (
        render(head, Contrast.T2W, spacing_xyz_mm=(2, 2, 5), seed=1, brain_slices=only) for only in (False, True)
    )
    assert brain.GetSize()[2] < everything.GetSize()[2]


def test_empty_map_and_senseless_spacing_are_refused(head):
    with pytest.raises(ValueError, match="nothing but air"):
        render(sitk.Image(8, 8, 8, sitk.sitkUInt16), Contrast.T1W, spacing_xyz_mm=(1, 1, 1), seed=1)
    with pytest.raises(ValueError, match="positive"):
        render(head, Contrast.T1W, spacing_xyz_mm=(1, 0, 1), seed=1)


# --- series ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
def test_geometry_survives_the_round_trip(head, tmp_path, plane):
    volume = render(head, Contrast.FLAIR, spacing_xyz_mm=(2.0, 1.5, 6.0), seed=1, plane=plane)
    files = write_series(volume, tmp_path, STUDY, series_tags(Contrast.FLAIR, plane=plane))
    values, matrix = read_volume(files)
    assert np.array_equal(values, sitk.GetArrayFromImage(volume))
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.GetSize()) - 1)
    points = (matrix @ np.c_[corners, np.ones(8)].T).T[:, :3]
    np.testing.assert_allclose(points, physical_points(volume), atol=1e-3)
    locations = [float(pydicom.dcmread(path, stop_before_pixels=True).SliceLocation) for path in files]
    np.testing.assert_allclose(np.diff(locations), 6.0, atol=1e-4)


def test_oblique_geometry_survives_the_round_trip(tmp_path):
    volume = sitk.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6))
    volume.SetSpacing((0.7, 0.9, 3.3))
    volume.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.1).GetMatrix())
    volume.SetOrigin((-12.3456789, 45.678, 1e-7))
    _, matrix = read_volume(write_series(volume, tmp_path, STUDY, series_tags(Contrast.T2W)))
    corner = matrix @ (5, 4, 3, 1)
    np.testing.assert_allclose(corner[:3], volume.TransformIndexToPhysicalPoint((5, 4, 3)), atol=1e-4)


@pytest.mark.parametrize("plane", Plane)
def test_left_is_left(tmp_path, plane):
    labels = sitk.Image(80, 80, 80, sitk.sitkUInt16)
    labels.SetOrigin((-40, -40, -40))
    labels[10:70, 10:70, 10:70] = int(Label.SOFT_TISSUE)
    labels[55:62, 30:50, 30:50] = int(Label.EYE)  # the only bright thing of a T2W lies at x = +18 mm
    volume = render(labels, Contrast.T2W, spacing_xyz_mm=(1.0, 1.0, 2.0), seed=1, plane=plane, bias=0.0)
    values, matrix = read_volume(write_series(volume, tmp_path, STUDY, series_tags(Contrast.T2W)))
    bright = np.argwhere(values > 0.7 * values.max())[:, ::-1].mean(axis=0)
    x_mm, y_mm, z_mm, _ = matrix @ (*bright, 1)
    assert x_mm == pytest.approx(18, abs=1.5)
    assert (y_mm, z_mm) == pytest.approx((0, 0), abs=1.5)


def test_series_is_what_simpleitk_reads(head, tmp_path):
    volume = render(head, Contrast.T1W, spacing_xyz_mm=(2, 2, 3), seed=1, plane=Plane.SAGITTAL)
    files = write_series(volume, tmp_path, STUDY, series_tags(Contrast.T1W))
    again = sitk.ReadImage([str(path) for path in files])
    np.testing.assert_allclose(physical_points(again), physical_points(volume), atol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(volume))


def test_fractions_are_rescaled(tmp_path):
    values = np.random.default_rng(1).uniform(-3.3, 7.7, (3, 4, 5))
    files = write_series(sitk.GetImageFromArray(values), tmp_path, STUDY, series_tags(Contrast.T1W))
    first = pydicom.dcmread(files[0])
    assert first.RescaleType == "US"
    np.testing.assert_allclose(read_volume(files)[0], values, atol=11 / 4095)


def test_implicit_little_endian_holds_the_same(tmp_path):
    volume = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5)
    tags = series_tags(Contrast.T2W)
    explicit = write_series(volume, tmp_path / "explicit", STUDY, tags)
    implicit = write_series(volume, tmp_path / "implicit", STUDY, tags, transfer_syntax=ImplicitVRLittleEndian)
    for one, other in zip(explicit, implicit, strict=True):
        first, second = pydicom.dcmread(one), pydicom.dcmread(other)
        assert second.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert first.to_json_dict() == second.to_json_dict()


def test_big_endian_and_series_of_colour_are_refused(tmp_path):
    volume = sitk.Image(4, 4, 2, sitk.sitkInt16)
    with pytest.raises(ValueError, match="little endian"):
        write_series(volume, tmp_path, STUDY, series_tags(Contrast.T1W), transfer_syntax=ExplicitVRBigEndian)
    with pytest.raises(ValueError, match="scalar"):
        write_series(sitk.Image([4, 4, 2], sitk.sitkVectorUInt8, 3), tmp_path, STUDY, series_tags(Contrast.T1W))


def test_character_set_and_contrast_agent_are_written(tmp_path):
    study = replace(STUDY, patient_name="Müller^Jürgen", character_set="ISO_IR 100")
    series = replace(series_tags(Contrast.T1W), contrast_agent="Gadobutrol", image_type=("DERIVED", "SECONDARY", "MPR"))
    dataset = pydicom.dcmread(write_series(sitk.Image(4, 4, 1, sitk.sitkInt16), tmp_path, study, series)[0])
    assert str(dataset.PatientName) == "Müller^Jürgen"
    assert dataset.ContrastBolusAgent == "Gadobutrol"
    assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "MPR"]


# --- study -----------------------------------------------------------------------------------------------------------


def test_quick_study_is_quick_and_whole(written):
    study, seconds = written
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in study.all_files]
    assert seconds < 30
    assert set(study.files) == set(Contrast)
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)
    assert {header.StudyInstanceUID for header in headers} == {study.study_uid} == {STUDY.study_uid}
    assert len({header.SeriesInstanceUID for header in headers}) == 4
    assert len({header.FrameOfReferenceUID for header in headers}) == 1
    assert {(str(header.PatientName), header.PatientID) for header in headers} == {("SEEDED^PATIENT", "SEED-ID-4711")}
    assert len(study.bystanders) == 3
    assert len({tuple(header.ImageOrientationPatient) for header in headers[:3]}) == 3


def test_same_seed_same_bytes(written, tmp_path):
    study, _ = written
    again = write_study(tmp_path, seed=3, study=STUDY, quick=True)
    assert [p.read_bytes() for p in again.all_files] == [p.read_bytes() for p in study.all_files]


def test_default_patient_is_obviously_made(tmp_path, head):
    study = write_study(tmp_path, quick=True, labels=head, bystanders=False)
    header = pydicom.dcmread(study.files[Contrast.T2W][0], stop_before_pixels=True)
    assert header.PatientName == "SYNTHETIC^HEAD"
    assert study.bystanders == ()
    assert study.study_uid.startswith("2.25.")


def test_dciodvfy_finds_no_error(written, tmp_path):
    tool = require("dciodvfy")
    study, _ = written
    chosen = [paths[len(paths) // 2] for paths in study.files.values()] + list(study.bystanders)
    fractions = sitk.GetImageFromArray(np.random.default_rng(1).uniform(0, 1, (2, 4, 5)))
    series = replace(series_tags(Contrast.T1W), contrast_agent="Gadobutrol")
    chosen += write_series(fractions, tmp_path, STUDY, series, transfer_syntax=ImplicitVRLittleEndian)
    for path in chosen:
        result = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        verdict = result.stdout + result.stderr
        assert "MRImage" in verdict
        assert "Error" not in verdict, f"{path.name}: {verdict}"


def test_real_volumes_keep_their_place(tmp_path):
    if not PATIENT_04[Contrast.T1W].exists():
        pytest.skip(f"no real scans: {DATA} has no open-ms")
    study = nifti_study(tmp_path, PATIENT_04, STUDY)
    for role, path in PATIENT_04.items():
        source = sitk.ReadImage(str(path))
        values, matrix = read_volume(list(study.files[role]))
        array = sitk.GetArrayFromImage(source)
        np.testing.assert_allclose(values, array, atol=float(np.ptp(array)) / 4000)
        corner = matrix @ (*(np.array(source.GetSize()) - 1), 1)
        expected = source.TransformIndexToPhysicalPoint([n - 1 for n in source.GetSize()])
        np.testing.assert_allclose(corner[:3], expected, atol=0.01)


def test_real_label_map_is_rendered():
    maps = sorted((DATA / "synthseg-labels").glob("*.nii.gz"))
    if not maps:
        pytest.skip(f"no label maps: {DATA} has no synthseg-labels")
    labels = sitk.ReadImage(str(maps[0]))
    volume = render(labels, Contrast.FLAIR, spacing_xyz_mm=(1, 1, 5), seed=1, brain_slices=True)
    again = sitk.GetArrayFromImage(sitk.Resample(labels, volume, sitk.Transform(), sitk.sitkNearestNeighbor))
    values = sitk.GetArrayFromImage(volume)
    assert values[np.isin(again, (2, 41))].mean() > 1.3 * values[np.isin(again, (4, 43))].mean()
