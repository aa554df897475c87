"""Grey values inside the brain have mean 0 and standard deviation 1; there is nothing outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import StudyHeld
from pipeline.intensity import standardise


def brain(seed: int = 1, shape=(12, 14, 16)) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values with bright surroundings, and a mask."""
    dice = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    mask[2:-2, 3:-3, 4:-4] = 1
    image = np.where(mask, dice.gamma(4, 100, shape), dice.uniform(5000, 9000, shape)).astype(np.float32)
    return image, mask


@settings(max_examples=30, deadline=None, database=None)
@given(seed=st.integers(0, 10**6), low=st.floats(0, 20), high=st.floats(80, 100))
def test_mean_0_and_deviation_1_inside_and_0_outside(seed, low, high):
    image, mask = brain(seed)
    tensor = standardise(image, mask, (low, high))
    assert tensor.shape == image.shape
    assert tensor.dtype == np.float32
    inside = tensor[mask > 0].astype(np.float64)
    assert inside.mean() == pytest.approx(0, abs=1e-6)
    assert inside.std() == pytest.approx(1, abs=1e-6)
    assert (tensor[mask == 0] == 0).all()


@settings(max_examples=30, deadline=None, database=None)
@given(slope=st.floats(0.01, 100), intercept=st.floats(-1000, 1000))
def test_scale_of_the_scanner_does_not_matter(slope, intercept):
    image, mask = brain()
    scaled = image.astype(np.float64) * slope + intercept
    np.testing.assert_allclose(standardise(scaled, mask), standardise(image, mask), atol=1e-3)


def test_what_lies_outside_does_not_matter():
    image, mask = brain()
    other = np.where(mask, image, 0)
    np.testing.assert_array_equal(standardise(other, mask), standardise(image, mask))


def test_values_are_clipped_at_the_percentiles_inside():
    image, mask = brain()
    low, high = np.percentile(image[mask > 0].astype(np.float64), (5, 95))
    tensor = standardise(image, mask, (5, 95))
    inside, values = tensor[mask > 0], image[mask > 0]
    assert len(set(inside[values <= low])) == len(set(inside[values >= high])) == 1
    assert inside.min() == inside[values <= low][0]
    assert inside.max() == inside[values >= high][0]
    clipped = np.clip(values.astype(np.float64), low, high)
    np.testing.assert_allclose(inside, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)


def test_one_bright_voxel_changes_little():
    image, mask = brain(shape=(40, 40, 40))
    spoilt = image.copy()
    spoilt[20, 20, 20] = 1e6
    change = np.abs(standardise(spoilt, mask) - standardise(image, mask))
    change[20, 20, 20] = 0
    assert change.max() < 0.05


def test_default_percentiles_are_those_of_the_signature():
    image, mask = brain()
    np.testing.assert_array_equal(standardise(image, mask), standardise(image, mask, (0.5, 99.5)))


@pytest.mark.parametrize("case", ["one grey value", "empty mask", "contrast in a few voxels only"])
def test_image_without_contrast_is_refused(case):
    image, mask = brain()
    if case == "one grey value":
        image[mask > 0] = 300
    elif case == "empty mask":
        mask[:] = 0
    else:
        image[mask > 0] = 300
        image[6, 7, 8] = 900
    with pytest.raises(StudyHeld) as held:
        standardise(image, mask)
    assert held.value.code == "intensity_constant"


def test_input_is_left_alone():
    image, mask = brain()
    before = image.copy()
    standardise(image, mask)
    np.testing.assert_array_equal(image, before)
