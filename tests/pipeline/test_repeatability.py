"""The same head, the same score: what moves the grid, what the score says of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from models.averaging import SHIFTS, shifted
from models.bundle import Grid, Intensity, Repeatability
from models.contrast import Contrast
from models.perturbation import PLACE, Perturbation
from models.training.evaluation.repeatability import ENSEMBLE, HeadScores, measured, score_variants
from pipeline.grid import brain_centred
from pipeline.predict import combine, model_tensor
from pipeline.repeatability import Head, perturbed, variants
from pipeline.report.wording import near_words, repeatability_words, result_sentence
from pipeline.result import NEAR_THRESHOLD
from tests.support.reports import FINDING, MODE, MODEL, TWO

BEFORE = Grid(size_xyz=(64, 64, 64), spacing_xyz_mm=(4.0, 4.0, 4.0), centre="brain")
AFTER = BEFORE.model_copy(update={"centre": "brain_mass", "low_pass_voxels": 0.6})
CLIP = (0.5, 99.5)
KNOWN = Repeatability(
    heads=20, sd=0.02, largest=0.09, sequences=dict.fromkeys(Contrast, 0.03), place_sd=0.008, place_worst_sd=0.02
)


def head(spacing_mm: float = 3.0) -> Head:
    """Return an ellipsoid of fine texture in a brighter shell."""
    z, y, x = np.indices((50, 60, 56)) - np.reshape([25, 30, 28], (3, 1, 1, 1))
    mask_zyx = (x / 22) ** 2 + (y / 26) ** 2 + (z / 21) ** 2 < 1
    random = np.random.default_rng(3)
    image_zyx = np.where(mask_zyx, 100 + 30 * random.standard_normal(mask_zyx.shape), 200).astype(np.float32)
    image, mask = sitk.GetImageFromArray(image_zyx), sitk.GetImageFromArray(mask_zyx.astype(np.uint8))
    for one in (image, mask):
        one.SetSpacing((spacing_mm,) * 3)
        one.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return Head(image, mask)


def changes(grid: Grid, perturbation: Perturbation) -> float:
    one = head()
    plain = one.tensor(grid, Intensity(clip_percentiles=CLIP))
    others = [h.tensor(grid, Intensity(clip_percentiles=CLIP)) for p, h in perturbed(one, 0) if p is perturbation]
    return max(float(np.abs(other - plain).mean()) for other in others)


def test_three_voxels_of_a_mask_no_longer_move_the_grid():
    assert changes(AFTER, Perturbation.MASK_TIPS) < changes(BEFORE, Perturbation.MASK_TIPS) / 20


def test_grey_values_depend_less_on_where_between_two_voxels_the_grid_falls():
    """The energy of the texture on the grid: what a half-voxel shift blurs away, or not."""

    def energies(grid: Grid) -> list[float]:
        one = head(4.0)
        shifts = ((0.0, 0.0, 0.0), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5))
        tensors = [model_tensor(one.volume, one.mask, grid, CLIP, shift) for shift in shifts]
        return [float(np.abs(np.diff(tensor[28:36, 24:40, 24:40], axis=2)).mean()) for tensor in tensors]

    assert np.ptp(energies(AFTER)) < 0.6 * np.ptp(energies(BEFORE))


def test_a_grid_about_the_centre_of_mass_still_holds_the_whole_brain():
    mask_zyx = np.zeros((40, 60, 60), np.uint8)
    mask_zyx[2:6, 20:40, 20:40] = 1
    mask_zyx[6:38, 29:31, 29:31] = 1
    mask = sitk.GetImageFromArray(mask_zyx)
    mask.SetSpacing((4.0, 4.0, 6.0))
    grid = Grid(size_xyz=(64, 64, 64), spacing_xyz_mm=(4.0, 4.0, 3.5), centre="brain_mass")
    target = brain_centred(mask, grid)
    lowest, highest = (mask.TransformContinuousIndexToPhysicalPoint((30, 30, z)) for z in (2, 37))
    places = [target.TransformPhysicalPointToContinuousIndex(point)[2] for point in (lowest, highest)]
    assert min(places) >= -0.5 - 1e-6
    assert max(places) <= 63.5 + 1e-6


def test_every_perturbation_is_made_and_the_head_itself_comes_first():
    found = list(variants({Contrast.T1W: head()}, AFTER, Intensity(clip_percentiles=CLIP)))
    assert found[0].perturbation is None
    assert set(Counter(one.perturbation for one in found[1:])) == set(Perturbation)
    assert [one.number for one in found] == list(range(len(found)))
    assert all(not np.array_equal(one.tensor_zyx, found[0].tensor_zyx) for one in found[1:])
    assert set(Perturbation) > PLACE


def test_the_table_is_that_of_the_scores():
    names = (None, Perturbation.HALF_VOXEL, Perturbation.NOISE)
    rows = {str(c): np.array([0.4, 0.5, 0.3]) for c in Contrast} | {ENSEMBLE: np.array([0.4, 0.5, 0.3])}
    found = measured([HeadScores(names, rows), HeadScores(names, {n: row * 0 for n, row in rows.items()})])
    place, everything = found.table["place"][ENSEMBLE], found.table["all"][ENSEMBLE]
    assert place.mean_sd == pytest.approx(np.std([0.4, 0.5], ddof=1) / 2)
    assert everything.sd == pytest.approx(np.sqrt(np.var([0.4, 0.5, 0.3], ddof=1) / 2))
    assert everything.largest == pytest.approx(0.2)
    assert found.stated.sd == everything.sd


def test_the_ensemble_is_weighed_variant_by_variant():
    tensors = variants(dict.fromkeys(Contrast, head()), AFTER, Intensity(clip_percentiles=CLIP))
    weights = {Contrast.T1W: 0.5, Contrast.T2W: 0.3, Contrast.FLAIR: 0.2}
    found = score_variants(tensors, lambda contrast, tensor: float(contrast == Contrast.T1W) * tensor.std(), weights)
    np.testing.assert_allclose(found.scores[ENSEMBLE], 0.5 * found.scores["T1W"])


@pytest.mark.parametrize("count", SHIFTS)
def test_shifts_move_whole_voxels_and_wrap_nothing(count: int):
    import torch

    batch = torch.rand(1, 1, 4, 4, 4)
    moved = list(shifted(batch, SHIFTS[count]))
    assert len(moved) == count
    assert torch.equal(moved[0], batch)
    for (x, y, z), one in zip(SHIFTS[count], moved, strict=False):
        assert torch.equal(one[:, :, z:, y:, x:], batch[:, :, : 4 - z, : 4 - y, : 4 - x])
        assert float(one.sum()) == pytest.approx(float(batch[:, :, : 4 - z, : 4 - y, : 4 - x].sum()), rel=1e-5)


def test_a_score_says_how_well_it_repeats_and_when_it_is_near_the_threshold():
    model = replace(MODEL, repeatability=KNOWN)
    far = replace(FINDING, model=model)
    near = replace(far, threshold=far.score - 0.039)
    assert not far.near_threshold
    assert near.near_threshold
    assert not replace(far, threshold=far.score - 0.041).near_threshold
    assert "+-0.020" in repeatability_words(far)
    assert "other category" in near_words(near)
    assert near.contradicting == (Contrast.T1W,)
    assert "with 2 cautions" in result_sentence(near)


def test_a_bundle_that_was_never_measured_says_nothing_of_it():
    assert not FINDING.near_threshold
    assert repeatability_words(FINDING) == ""
    two = combine(TWO.scores, TWO.weights, TWO.score, replace(MODEL, repeatability=KNOWN), two_sequences=MODE)
    assert two.repeatability is None
    assert not two.near_threshold
    assert NEAR_THRESHOLD == "near_threshold"
