"""A brain mask is one whole piece of a plausible size, or the study is held."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation

from models.contrast import Contrast
from models.training.brain.label_maps import brain_mask
from pipeline.brain import extract_brain
from pipeline.errors import StudyHeld
from pipeline.grid import canonical
from pipeline.plausibility import LARGEST_ML, SMALLEST_ML
from pipeline.synthetic import procedural_head, render

SIZE_XYZ, SPACING_XYZ_MM = (50, 60, 40), (4.0, 4.0, 5.0)


class Drawn:
    """An extractor that returns what it was given, and remembers what it was asked."""

    def __init__(self, mask_zyx: np.ndarray) -> None:
        self.mask_zyx = mask_zyx.astype(np.uint8)
        self.asked: list[tuple[tuple[int, ...], tuple[float, float, float]]] = []

    def mask(self, volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
        self.asked.append((volume_zyx.shape, spacing_zyx_mm))
        return self.mask_zyx


def head(middle_xyz_mm=(0.0, 0.0, 0.0), brain_zyx: np.ndarray | None = None) -> sitk.Image:
    """Return a round head, its tissue in patches of 12 mm alike left and right, a dark skull around the brain."""
    brain_zyx = ball(65, middle_xyz_mm) if brain_zyx is None else brain_zyx
    skull_zyx = binary_dilation(brain_zyx, np.ones((3, 3, 3))) & ~brain_zyx
    z, y, x = np.indices(SIZE_XYZ[::-1])
    aside = np.abs(x - (SIZE_XYZ[0] - 1) / 2 - middle_xyz_mm[0] / SPACING_XYZ_MM[0]).astype(int)
    patches_zyx = np.random.default_rng(0).uniform(80, 120, (14, 20, 17))[z // 3, y // 3, aside // 3]
    image = sitk.GetImageFromArray((patches_zyx * (ball(88, middle_xyz_mm) & ~skull_zyx)).astype(np.float32))
    image.SetSpacing(SPACING_XYZ_MM)
    image.SetOrigin((90.0, 110.0, -80.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def ball(radius_mm: float, middle_xyz_mm=(0.0, 0.0, 0.0)) -> np.ndarray:
    z, y, x = np.indices(SIZE_XYZ[::-1]).astype(float)
    square = np.zeros_like(x)
    for axis, n, step, middle in zip((x, y, z), SIZE_XYZ, SPACING_XYZ_MM, middle_xyz_mm, strict=True):
        square += ((axis - (n - 1) / 2) * step - middle) ** 2
    return square <= radius_mm**2


def held(mask_zyx: np.ndarray) -> StudyHeld:
    with pytest.raises(StudyHeld) as error:
        extract_brain(head(), Drawn(mask_zyx))
    return error.value


def test_plausible_brain_comes_back_with_its_volume_and_no_flag():
    drawn = ball(65)
    mask, facts = extract_brain(head(), Drawn(drawn))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), drawn)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert facts.volume_ml == pytest.approx(4 / 3 * np.pi * 65**3 / 1000, rel=0.02)
    assert facts.volume_ml == pytest.approx(drawn.sum() * 0.08, abs=0.06)
    assert facts.flags == ()


def test_mask_lies_on_the_voxels_of_the_volume():
    volume = head()
    mask, _ = extract_brain(volume, Drawn(ball(65)))
    assert (mask.GetOrigin(), mask.GetSpacing()) == (volume.GetOrigin(), volume.GetSpacing())
    assert (mask.GetDirection(), mask.GetSize()) == (volume.GetDirection(), volume.GetSize())


def test_extractor_is_asked_in_z_y_x():
    extractor = Drawn(ball(65))
    extract_brain(head(), extractor)
    assert extractor.asked == [((40, 60, 50), (5.0, 4.0, 4.0))]


def test_holes_are_filled():
    drawn = ball(65)
    mask, facts = extract_brain(head(), Drawn(drawn & ~ball(15)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), drawn)
    assert facts.flags == ()


def test_crumbs_are_dropped_without_a_word():
    drawn, crumb = ball(65), ball(7, (85, 95, 0))
    assert crumb.any()
    mask, facts = extract_brain(head(), Drawn(drawn | crumb))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), drawn)
    assert facts.flags == ()


def test_second_large_piece_is_dropped_and_told():
    main = ball(55, (0, -35, 0))
    mask, facts = extract_brain(head(), Drawn(main | ball(30, (0, 75, 0))))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), main)
    assert facts.flags == ("fragmented",)


@pytest.mark.parametrize(
    ("middle_mm", "flags"),
    [
        ((50.0, 0.0, 0.0), ("touches_border",)),
        ((-50.0, 0.0, 0.0), ("touches_border",)),
        ((0.0, 70.0, 0.0), ("touches_border",)),
        ((0.0, -70.0, 0.0), ("touches_border",)),
        ((0.0, 0.0, 50.0), ("touches_border",)),
        ((0.0, 0.0, -50.0), ()),  # slices often end below the cerebellum
    ],
)
def test_brain_cut_by_the_border_is_told(middle_mm, flags):
    _, facts = extract_brain(head(middle_mm), Drawn(ball(65, middle_mm)))
    assert facts.flags == flags


def test_nothing_found_is_held():
    assert held(np.zeros(SIZE_XYZ[::-1])).code == "brain_mask_empty"


def test_everything_found_is_held():
    error = held(np.ones(SIZE_XYZ[::-1]))
    assert error.code == "brain_mask_implausible"
    assert "9600 ml" in error.sentence


def test_limits_of_the_volume():
    radius_mm = {ml: (ml * 1000 * 3 / 4 / np.pi) ** (1 / 3) for ml in (SMALLEST_ML, LARGEST_ML)}
    for limit, inwards in ((SMALLEST_ML, 1), (LARGEST_ML, -1)):
        brain_zyx = ball(radius_mm[limit] + inwards)
        _, facts = extract_brain(head(brain_zyx=brain_zyx), Drawn(brain_zyx))
        # Around the smaller one is more than a scalp.
        assert facts.flags == (("much_of_the_head",) if limit == LARGEST_ML else ("little_of_the_head", "no_skull"))
        assert held(ball(radius_mm[limit] - inwards)).code == "brain_mask_implausible"


def test_many_pieces_of_which_none_is_a_brain_are_held():
    pieces = np.zeros(SIZE_XYZ[::-1], bool)
    pieces[::3, ::3, ::3] = True
    assert held(pieces).code == "brain_mask_implausible"


def test_an_empty_volume_is_held_before_the_network_sees_it():
    extractor = Drawn(ball(65))
    for value in (0, 7):
        with pytest.raises(StudyHeld) as error:
            extract_brain(head() * 0 + value, extractor)
        assert error.value.code == "brain_mask_empty"
    assert extractor.asked == []


def test_age_decides_what_is_too_small():
    drawn = Drawn(ball(52))
    for age_years, flags in ((None, ()), (0.1, ()), (0.6, ()), (1.9, ("small_for_age",)), (3, ("small_for_age",))):
        assert extract_brain(head(), drawn, age_years)[1].flags == flags, age_years
    with pytest.raises(StudyHeld) as error:
        extract_brain(head(), drawn, 30.0)
    assert error.value.code == "brain_mask_implausible"
    assert not {"30", "650"} & set(error.value.sentence.split()), "the sentence tells the age"


def test_half_a_brain_is_held():
    for radius_mm in (60, 70):
        half = ball(radius_mm) & (np.indices(SIZE_XYZ[::-1])[2] < 25)
        assert held(half).code == "brain_mask_implausible"


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("upper", [False, True])
def test_a_mask_that_ends_in_a_large_section_is_told_or_held(axis: int, upper: bool):
    """Whatever the images show beyond it; at half of the radius a section has three quarters of the largest."""

    def cut(at_mm: float) -> np.ndarray:
        step_mm, size = SPACING_XYZ_MM[::-1][axis], SIZE_XYZ[::-1][axis]
        place_mm = (np.indices(SIZE_XYZ[::-1])[axis] - (size - 1) / 2) * step_mm
        return ball(65) & ((place_mm if upper else -place_mm) < at_mm)

    assert extract_brain(head(), Drawn(cut(60)))[1].flags == ()
    assert extract_brain(head(), Drawn(cut(40)))[1].flags == ("cut_off",)
    assert held(cut(10)).code == "brain_mask_implausible"


@pytest.mark.parametrize(("axis", "upper"), [(0, False), (0, True), (1, False), (1, True), (2, True)])
def test_a_head_that_the_images_cut_through_the_brain_is_told_or_held(axis: int, upper: bool):
    """A mask that is rounded off before the images end does not hide it."""

    def rounded(beyond_mm: float) -> tuple[sitk.Image, Drawn]:
        middle_mm = [0.0, 0.0, 0.0]
        reach_mm = SIZE_XYZ[axis] * SPACING_XYZ_MM[axis] / 2
        middle_mm[axis] = (1 if upper else -1) * (reach_mm + beyond_mm - 65)
        short_mm = [value - (1 if upper else -1) * 12 * (index == axis) for index, value in enumerate(middle_mm)]
        edge = np.indices(SIZE_XYZ[::-1])[2 - axis]
        inner = (edge < SIZE_XYZ[axis] - 2) if upper else (edge >= 2)
        return head(tuple(middle_mm)), Drawn(ball(65, middle_mm) & ball(65, short_mm) & inner)

    volume, drawn = rounded(0)
    assert "cut_off" not in extract_brain(volume, drawn)[1].flags
    volume, drawn = rounded(25)
    assert "cut_off" in extract_brain(volume, drawn)[1].flags
    volume, drawn = rounded(55)
    with pytest.raises(StudyHeld) as error:
        extract_brain(volume, drawn)
    assert error.value.code == "brain_mask_implausible"


@pytest.mark.parametrize("left_mm", [0, 2])
def test_a_brain_without_its_skull_is_told(left_mm: int):
    brain = ball(65)
    stripped = sitk.GetArrayFromImage(head()) * ball(65 + left_mm)
    volume = sitk.GetImageFromArray(stripped.astype(np.float32))
    volume.CopyInformation(head())
    assert set(extract_brain(volume, Drawn(brain))[1].flags) == {"much_of_the_head", "no_skull"}


@pytest.mark.parametrize("role", Contrast)
def test_a_made_head_has_a_skull(role: Contrast):
    """Thick slices, a child's skull and many tubers leave enough of it to see."""
    labels = procedural_head(3, spacing_mm=1.5, scale=0.8, tubers=60)
    volume = canonical(sitk.Cast(render(labels, role, spacing_xyz_mm=(1.5, 1.5, 5.0), seed=3), sitk.sitkFloat32))
    brain = sitk.Resample(brain_mask(labels), volume, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert extract_brain(volume, Drawn(sitk.GetArrayFromImage(brain)))[1].flags == ()


def painted(paint_zyx: np.ndarray) -> sitk.Image:
    """Return a round head whose brain is painted over."""
    return like(np.where(ball(65), paint_zyx, sitk.GetArrayFromImage(head())), head())


def like(array_zyx: np.ndarray, image: sitk.Image) -> sitk.Image:
    volume = sitk.GetImageFromArray(array_zyx.astype(np.float32))
    volume.CopyInformation(image)
    return volume


def test_halves_that_differ_are_told_where_no_skull_is_seen():
    patches = np.kron(np.random.default_rng(1).uniform(60, 140, (14, 20, 17)), np.ones((3, 3, 3)))[:40, :60, :50]
    assert extract_brain(painted(patches), Drawn(ball(65)))[1].flags == ("round",)
    bare = painted(patches)
    stripped = sitk.Mask(bare, sitk.Cast(like(ball(65), bare), sitk.sitkUInt8))
    assert "halves_differ" in extract_brain(stripped, Drawn(ball(65)))[1].flags


def test_a_ball_of_shells_is_told():
    z, y, x = ((np.indices(SIZE_XYZ[::-1])[a] - (SIZE_XYZ[2 - a] - 1) / 2) * SPACING_XYZ_MM[2 - a] for a in range(3))
    shells = 100 + 40 * np.sin(np.sqrt(z**2 + y**2 + x**2) / 6)
    assert extract_brain(painted(shells), Drawn(ball(65)))[1].flags == ("round", "alike_all_ways")


@pytest.mark.parametrize("role", Contrast)
def test_a_made_head_is_no_other_thing_however_it_lies_and_however_many_tubers_it_has(role: Contrast):
    labels = procedural_head(3, spacing_mm=2.0, tubers=60)
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, np.deg2rad(15), np.deg2rad(25))
    turned = sitk.Resample(labels, labels, turn, sitk.sitkNearestNeighbor)
    volume = canonical(sitk.Cast(render(turned, role, spacing_xyz_mm=(2.0, 2.0, 5.0), seed=3), sitk.sitkFloat32))
    brain = sitk.Resample(brain_mask(turned), volume, sitk.Transform(), sitk.sitkNearestNeighbor)
    flags = set(extract_brain(volume, Drawn(sitk.GetArrayFromImage(brain)))[1].flags)
    assert not flags & {"round", "halves_differ", "alike_all_ways"}


def test_a_lopsided_mask_is_told():
    brain = ball(62, (-12, 0, 0)) | ball(30, (50, 40, 30)) | ball(30, (50, -40, -30))
    assert extract_brain(head(brain_zyx=brain), Drawn(brain))[1].flags == ("asymmetric",)


def test_a_mask_beside_the_head_is_held():
    assert held(ball(48, (50, 60, 40))).code == "brain_mask_implausible"


@pytest.mark.parametrize("shading", [0.0, 0.4])
def test_a_bottle_is_held_however_round_its_mask_is(shading):
    random = np.random.default_rng(1)
    x = np.indices(SIZE_XYZ[::-1])[2].astype(float)
    bottle = ball(80) * (1000 + shading * 1000 * np.cos(x / 20)) + random.normal(0, 30, x.shape)
    volume = sitk.GetImageFromArray(bottle.astype(np.float32))
    volume.CopyInformation(head())
    with pytest.raises(StudyHeld) as error:
        extract_brain(volume, Drawn(ball(65)))
    assert error.value.code == "brain_mask_implausible"
    assert "tissue" in error.value.sentence


def test_noise_is_held_however_round_its_mask_is():
    random = np.random.default_rng(2)
    volume = sitk.GetImageFromArray(np.abs(random.normal(0, 100, SIZE_XYZ[::-1])).astype(np.float32))
    volume.CopyInformation(head())
    with pytest.raises(StudyHeld) as error:
        extract_brain(volume, Drawn(ball(65)))
    assert "tissue" in error.value.sentence
