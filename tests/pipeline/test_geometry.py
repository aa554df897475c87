"""Planes are a regular stack of a head's size, or are refused by name."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import StudyHeld
from pipeline.geometry import MAX_STEP_MM, MIN_COVERAGE_MM, MIN_SLICES, axes_of, ordered_frames, stacked_frames
from pipeline.headers import Frame, read_headers
from tests.support.dicom_files import AXIAL, SAGITTAL
from tests.support.services import real_data


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
        ordered_frames(frames)
    assert held.value.sentence.endswith(".")
    assert held.value.sentence.count(". ") >= 1, "what is wrong, and what to do"
    return held.value.code


def shifted(frame: Frame, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Frame:
    assert frame.position_mm is not None
    return replace(frame, position_mm=tuple(a + b for a, b in zip(frame.position_mm, (x, y, z), strict=True)))


def rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    euler = sitk.Euler3DTransform((0, 0, 0), *np.deg2rad([x_deg, y_deg, z_deg]).tolist())
    return np.reshape(euler.GetMatrix(), (3, 3))


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)])
def test_faultless_planes_are_ordered_along_their_normal(orientation):
    frames = stack(orientation=orientation)
    shuffled = random.Random(1).sample(frames, len(frames))
    ordered, step_mm = ordered_frames(shuffled)
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


def _far_away(f):
    return [*f[:-1], replace(f[-1], position_mm=(0.0, 1e300, 0.0))]


def _no_position(f):
    return [*f[:4], replace(f[4], position_mm=None), *f[5:]]


def _no_orientation(f):
    return [*f[:4], replace(f[4], orientation=None), *f[5:]]


def _no_directions(f):
    return [replace(frame, orientation=(0.0,) * 6) for frame in f]


def _endless_directions(f):
    return [replace(frame, orientation=(1e200, 0.0, 0.0, 0.0, 1e200, 0.0)) for frame in f]


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
        (_endless_directions, "geometry_orientation"),
        (_not_perpendicular, "geometry_orientation"),
        (_other_spacing, "geometry_spacing"),
        (_no_spacing, "geometry_spacing"),
        (_metres, "geometry_spacing"),
        (_other_matrix, "geometry_matrix"),
        (_no_position, "geometry_position"),
        (_far_away, "geometry_position"),
        (_no_orientation, "geometry_position"),
        (_tilted, "geometry_tilt"),
        (_tilted_a_little, "geometry_tilt"),
        (_one_slice_aside, "geometry_tilt"),
    ],
)
def test_defect_is_refused_by_its_name(defect, code):
    frames = stack()
    ordered_frames(frames)
    assert refusal(defect(frames)) == code
    assert refusal(defect(frames)[::-1]) == code


def test_limits_of_count_distance_and_coverage():
    enough = int(MIN_COVERAGE_MM / MAX_STEP_MM) + 1
    assert enough == MIN_SLICES
    ordered_frames(stack(MIN_SLICES, MAX_STEP_MM))
    assert refusal(stack(MIN_SLICES - 1, MAX_STEP_MM)) == "geometry_too_few"
    assert refusal(stack(1)) == "geometry_too_few"
    assert refusal(stack(30, MAX_STEP_MM + 0.1)) == "geometry_thick"
    ordered_frames(stack(110, 1.0))
    assert refusal(stack(109, 1.0)) == "geometry_coverage"


def test_stack_of_anything_needs_two_slices_and_no_head():
    assert stacked_frames(stack(2, 9.0)) == (stack(2, 9.0), pytest.approx(9.0))
    with pytest.raises(StudyHeld, match="geometry_too_few"):
        stacked_frames(stack(1))
    with pytest.raises(StudyHeld, match="geometry_gap"):
        stacked_frames(_gap(stack(12)))


def test_axes_are_perpendicular_and_right_handed():
    (frame,) = stack(1, orientation=(0.9999, 0.012, 0.0, 0.0, 1.0, 0.001))
    axes = np.array(axes_of(frame))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


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
    ordered, found_mm = ordered_frames(shuffled)
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
    _, step_mm = ordered_frames(long_ones)
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
    _, step_mm = ordered_frames(_real_frames("ge-pd"))
    assert step_mm == pytest.approx(7.0, abs=0.01)


def test_real_mprage_without_one_slice_is_a_gap():
    (volume,) = read_headers(real_data("philips-mprage").iterdir()).volumes
    ordered, _ = ordered_frames(volume.frames)
    assert refusal(ordered[:80] + ordered[81:]) == "geometry_gap"
    assert len(ordered_frames(ordered[1:])[0]) == 169, "a slice that is missing at the edge cannot be known"
