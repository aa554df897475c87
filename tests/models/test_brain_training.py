"""What the embedded brain weights are trained on, and what a mask costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from models.training.brain.head_images import HeadImages
from models.training.brain.label_maps import TISSUE_NAMES, LabelMap, brain_mask, read_label_map
from models.training.brain.mask_loss import far_from, mask_loss
from models.training.brain.non_heads import NonHeads
from models.training.brain.train_brain_extractor import train
from pipeline.synthetic import procedural_head

SIZE_ZYX = (48, 48, 40)
BONE = TISSUE_NAMES.index("cortical bone")


@pytest.fixture(scope="module")
def labels() -> sitk.Image:
    return procedural_head(11, spacing_mm=2.0)


@pytest.fixture(scope="module")
def head(labels: sitk.Image, tmp_path_factory: pytest.TempPathFactory) -> LabelMap:
    file: Path = tmp_path_factory.mktemp("maps") / "head.nii.gz"
    sitk.WriteImage(labels, str(file))
    return read_label_map(file)


def ball(radius_voxels: float, shift_voxels: float = 0.0) -> torch.Tensor:
    """Return a brain of a batch of one."""
    z, y, x = (torch.arange(n) - (n - 1) / 2 for n in SIZE_ZYX)
    square = (z[:, None, None] - shift_voxels) ** 2 + y[:, None] ** 2 + x**2
    return (square < radius_voxels**2).float()[None, None]


def cost(mask: torch.Tensor, brain: torch.Tensor) -> float:
    """Return what a network pays that is sure of a mask."""
    return float(mask_loss(torch.cat([0 * mask, 20 * mask - 10], 1), brain))


def test_the_right_mask_costs_nothing_and_no_mask_is_right_where_no_brain_is():
    for brain in (ball(15), 0 * ball(15)):
        assert cost(brain, brain) < 0.001
    assert cost(ball(15), 0 * ball(15)) > 1


def test_a_leak_costs_more_the_farther_it_is_from_the_brain():
    brain, leak = ball(10, -8), ball(4)
    beside = [torch.roll(leak, shift, 2) for shift in (6, 9, 15)]
    assert all(not (one * brain).any() for one in beside)
    costs = [cost((brain + one).clamp_max(1), brain) for one in beside]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_far_is_nowhere_near_a_brain_and_everywhere_without_one():
    far = far_from(ball(10))
    assert far.unique().tolist() == [0, 0.5, 1]
    assert not (far * ball(12)).any()
    assert far_from(0 * ball(10)).min() == 1


def test_the_rim_of_a_brain_is_fluid(labels: sitk.Image):
    numbers = sitk.GetArrayFromImage(labels)
    narrow, wide = (sitk.GetArrayFromImage(brain_mask(labels, rim_mm=rim_mm)) > 0 for rim_mm in (0.0, 2.5))
    assert (narrow <= wide).all()
    rim = set(np.unique(numbers[wide & ~narrow]))
    assert rim
    assert rim <= {24, 85, 502, 514}


def test_images_show_heads_and_other_things(head: LabelMap):
    """The right mask of the other things is empty; every image has zero mean and unit variance in its field of view."""
    images, brains = zip(*(HeadImages([head], SIZE_ZYX, 5.0, seed, 0.3).draw(1) for seed in range(20)), strict=True)
    empty = [not brain.any() for brain in brains]
    assert 0 < sum(empty) < len(empty) / 2
    for image, brain in zip(images, brains, strict=True):
        assert image.shape == brain.shape == (1, 1, *SIZE_ZYX)
        assert 0 <= brain.min() <= brain.max() <= 1
        values = image[image != 0]
        assert abs(float(values.mean())) < 0.1
        assert float(values.std()) == pytest.approx(1, abs=0.1)


def test_fat_outshines_the_brain_in_some_images_and_the_brain_is_seen_in_all(head: LabelMap):
    """A coil beside the scalp makes fat several times as bright as brain; noise is measured by the brain, not by it."""
    brighter, noise = [], []
    for seed in range(30):
        (image,), (brain,) = HeadImages([head], SIZE_ZYX, 5.0, seed, 0.0).draw(1)
        inside = brain > 0.99
        air = image[image != 0].min()
        shown = image[inside] - air
        brighter.append(float((image[brain == 0].quantile(0.99) - air) / shown.median()))
        neighbours = inside[:, :, :, 1:] & inside[:, :, :, :-1]
        steps = (image[:, :, :, 1:] - image[:, :, :, :-1])[neighbours]
        noise.append(float(steps.abs().median() / shown.median()))
    assert sum(share > 2 for share in brighter) > len(brighter) / 10
    assert sum(share < 1 for share in brighter) > len(brighter) / 10
    assert max(noise) < 0.5, sorted(noise)[-3:]


def test_training_takes_the_processor_time_it_is_given_and_goes_on_from_its_state(head: LabelMap, tmp_path: Path):
    """Another start with the same time finds it spent, and returns the same weights; more time trains them further."""
    heads, state = HeadImages([head], (48, 48, 48), 5.0, 0), tmp_path / "state.pth"
    first = train(heads, state, 1e-9, 1, 1e-3)
    again = train(heads, state, 1e-9, 1, 1e-3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.load(state, weights_only=True)["step"] == 1
    spent_hours = torch.load(state, weights_only=True)["spent_s"] / 3600
    train(heads, state, spent_hours + 1e-9, 1, 1e-3)
    assert torch.load(state, weights_only=True)["step"] == 2


def test_the_same_seed_draws_the_same(head: LabelMap):
    one, other = (HeadImages([head], SIZE_ZYX, 5.0, 3).draw(2) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_things_are_of_a_heads_size_and_no_head():
    brain = torch.nn.functional.interpolate(ball(12), scale_factor=2).to(torch.uint8)
    tissue = brain * 3
    tissue[brain == 0] = BONE
    random = torch.Generator().manual_seed(0)
    for _ in range(30):
        thing = NonHeads(len(TISSUE_NAMES), random).draw(tissue, brain)
        assert thing.shape == tissue.shape
        assert int(thing.max()) < len(TISSUE_NAMES)
        assert not torch.equal(thing, tissue)
