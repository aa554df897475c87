"""Masks of one brain agree wherever it lies; masks of different things do not."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.mask_agreement import agreement, compare_masks

RADII_MM = (65.0, 85.0, 60.0)


def scan(
    middle_mm=(0.0, 0.0, 0.0),
    radii_mm=RADII_MM,
    spacing_mm=(2.0, 2.0, 4.0),
    size_mm=(200.0, 220.0, 180.0),
    turn_deg=0.0,
) -> sitk.Image:
    """Return the mask of an ellipsoid in patient space, on a grid turned about the long axis of the body."""
    angle = np.deg2rad(turn_deg)
    direction = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    size = np.round(np.array(size_mm) / spacing_mm).astype(int)
    origin = -direction @ ((size - 1) * spacing_mm / 2)
    indices = np.moveaxis(np.indices(size[::-1])[::-1], 0, -1)
    points = (indices * spacing_mm) @ direction.T + origin - middle_mm
    image = sitk.GetImageFromArray((((points / radii_mm) ** 2).sum(-1) <= 1).astype(np.uint8))
    image.SetSpacing(spacing_mm)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel())
    return image


def compared(*masks: sitk.Image) -> list[tuple[str, ...]]:
    return list(compare_masks(dict(zip(Contrast, masks, strict=True))).values())


def test_one_brain_on_three_grids_agrees():
    masks = scan(), scan(spacing_mm=(1.0, 4.0, 1.5), turn_deg=20), scan(spacing_mm=(0.9, 0.9, 5.0))
    assert compared(*masks) == [(), (), ()]
    found = agreement(masks[0], masks[1])
    assert found.dice > 0.97
    assert found.distance_mm < 1
    assert found.volume_ratio > 0.97


def test_a_brain_that_moved_is_told_and_no_more():
    assert compared(scan(), scan(), scan((10, 0, 0))) == [(), (), ()]
    assert compared(scan(), scan(), scan((0, 25, 10))) == [(), (), ("apart_from_others",)]
    found = agreement(scan(), scan((0, 20, 0)))
    assert found.distance_mm == pytest.approx(20, abs=0.5)
    assert found.dice > 0.97


def test_slices_that_end_early_do_not_disagree():
    assert compared(scan(), scan(), scan(size_mm=(200.0, 220.0, 90.0))) == [(), (), ()]


def test_a_mask_unlike_the_others_is_told():
    assert compared(scan(), scan(), scan(radii_mm=(55.0, 75.0, 52.0))) == [(), (), ("unlike_others",)]


@pytest.mark.parametrize("radii_mm", [(40.0, 50.0, 60.0), (65.0, 85.0, 34.0), (98.0, 48.0, 45.0)])
def test_a_mask_of_something_else_is_held(radii_mm):
    with pytest.raises(StudyHeld) as error:
        compared(scan(), scan(), scan(radii_mm=radii_mm))
    assert error.value.code == "brain_masks_disagree"
    assert "T1W and FLAIR" in error.value.sentence


def test_scans_far_apart_are_compared_by_shape():
    found = agreement(scan(), scan((400, 0, 0), size_mm=(1000.0, 220.0, 180.0)))
    assert found.dice > 0.97
