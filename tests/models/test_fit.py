"""One network: what it is shown, how it ends, and what is left on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.averaging import SHIFTS, shifted
from models.bundle import ModelError
from models.contrast import Contrast
from models.training.cohort import Cohort
from models.training.fit.augment import CROP_MIN, SHIFT_MAX_MM, augmented
from models.training.fit.job import NETWORK, Job, autocast_dtype, fit, steps_of
from models.training.fit.job_result import JobResult, finished, read_result
from models.training.fit.recipe import Recipe
from models.training.fit.samples import Samples, divided
from models.wae_net import load_network
from tests.support.cohorts import made_cohort

CPU = torch.device("cpu")
QUICK = Recipe(epochs=2, folds=2, copies=1, augmentation=(), test_share=0.5)
SPACING = (2.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return made_cohort(tmp_path_factory.mktemp("cohort"), patients=8)


@pytest.fixture(scope="module")
def job(cohort: Cohort) -> Job:
    return Job("T1W_fold0", (Contrast.T1W,), 0, cohort.included[:6], cohort.included[6:], 2)


def run(job: Job, cohort: Cohort, folder: Path, recipe: Recipe = QUICK) -> tuple[JobResult, list[str]]:
    said: list[str] = []
    fit(job, cohort, recipe, folder, CPU, said.append)
    return read_result(folder), said


@pytest.fixture(scope="module")
def done(cohort: Cohort, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs") / job.name
    run(job, cohort, folder)
    return folder


# --- what is shown ----------------------------------------------------------------------------------------------------


def image(seed: int = 0, size_zyx: tuple[int, int, int] = (32, 48, 64)) -> np.ndarray:
    values = np.zeros(size_zyx, np.float32)
    middle = tuple(slice(side // 4, -side // 4) for side in size_zyx)
    values[middle] = np.random.default_rng(seed).normal(0, 1, values[middle].shape)
    return values


@pytest.mark.parametrize("operation", ["crop", "rotation", "flip", "shift", None])
@pytest.mark.parametrize("mr", [False, True])
def test_an_augmentation_depends_on_its_key_alone(operation: str | None, mr: bool):
    tensor = image()
    first = augmented(tensor, operation, (1, 2, 3), SPACING, mr=mr)
    np.random.seed(5)
    torch.manual_seed(5)
    assert torch.equal(augmented(tensor, operation, (1, 2, 3), SPACING, mr=mr), first)
    assert first.shape == tensor.shape
    assert first.dtype == torch.float32
    assert first.isfinite().all()
    other = augmented(tensor, operation, (1, 2, 4), SPACING, mr=mr)
    assert torch.equal(other, first) == (not mr and operation in ("flip", None))
    assert np.array_equal(tensor, image())


def test_only_left_and_right_are_exchanged():
    tensor = image()
    assert np.array_equal(augmented(tensor, "flip", (0,), SPACING, mr=False).numpy(), tensor[:, :, ::-1])


def test_a_crop_crops_the_brain_and_moves_nothing():
    tensor = image()
    kept = [augmented(tensor, "crop", (n,), SPACING, mr=False).numpy() for n in range(20)]
    shares = [np.count_nonzero(crop) / np.count_nonzero(tensor) for crop in kept]
    assert all(CROP_MIN**3 * 0.9 <= share <= 1 for share in shares)
    assert sum(share < 0.99 for share in shares) >= 18
    assert all(np.array_equal(crop[crop != 0], tensor[crop != 0]) for crop in kept)


def test_a_shift_moves_by_millimetres_and_stays_within_its_bound():
    tensor = np.zeros((32, 48, 64), np.float32)
    tensor[14:18, 22:26, 30:34] = 1
    where = [np.argwhere(augmented(tensor, "shift", (n,), SPACING, mr=False).numpy() > 0.01) for n in range(8)]
    moved_mm = [(places.mean(0) - (15.5, 23.5, 31.5)) * SPACING[::-1] for places in where]
    assert all(np.abs(moved).max() <= SHIFT_MAX_MM + max(SPACING) for moved in moved_mm)
    assert max(np.abs(moved).max() for moved in moved_mm) > SHIFT_MAX_MM / 2


def test_placement_moves_a_little_and_changes_the_border_alone():
    tensor = image()
    placed = [augmented(tensor, None, (n,), SPACING, mr=False, placement=True).numpy() for n in range(4)]
    assert len({one.tobytes() for one in placed}) == 4
    sizes = [np.count_nonzero(np.abs(one) > 0.05) / np.count_nonzero(tensor) for one in placed]
    assert all(0.7 < size < 1.5 for size in sizes)
    again = augmented(tensor, None, (0,), SPACING, mr=False, placement=True)
    assert np.array_equal(placed[0], again.numpy())


def test_a_rotation_is_rigid_in_millimetres():
    z, y, x = np.meshgrid(*[np.arange(side) - (side - 1) / 2 for side in (40, 60, 60)], indexing="ij")
    ball = ((x * 2) ** 2 + (y * 2) ** 2 + (z * 3) ** 2 < 40**2).astype(np.float32)
    turned = augmented(ball, "rotation", (3,), SPACING, mr=False).numpy()
    assert np.abs(turned - ball).mean() < 0.01
    bar = ((np.abs(x * 2) < 45) & (np.abs(y * 2) < 8) & (np.abs(z * 3) < 8)).astype(np.float32)
    moved = augmented(bar, "rotation", (3,), SPACING, mr=False).numpy()
    assert np.abs(moved - bar).mean() > 0.002
    assert moved.sum() == pytest.approx(bar.sum(), rel=0.05)


def test_another_scanner_leaves_the_outside_at_0_and_the_inside_z_scored():
    tensor = image()
    changed = [augmented(tensor, None, (n,), SPACING, mr=True).numpy() for n in range(6)]
    brain = tensor != 0
    assert all(not values[~brain].any() for values in changed)
    assert all(abs(values[brain].mean()) < 1e-3 and abs(values[brain].std() - 1) < 1e-2 for values in changed)
    assert len({values.tobytes() for values in changed}) > 3


def test_every_image_comes_as_the_original_and_with_each_augmentation(cohort: Cohort):
    cases = cohort.included[:2]
    recipe = Recipe(placement=False)
    samples = Samples(cohort, cases, (Contrast.T1W, Contrast.T2W), recipe, fold=0, epoch=0, copies=4)
    assert len(samples) == 2 * 2 * 4
    original, flipped = samples[0][0][0].numpy(), samples[3][0][0].numpy()
    assert np.array_equal(original, cohort.tensor(cases[0], Contrast.T1W))
    assert np.array_equal(flipped, original[:, :, ::-1])
    assert [float(samples[n][1]) for n in (0, 8)] == [0, 1]
    later = Samples(cohort, cases, (Contrast.T1W, Contrast.T2W), recipe, fold=0, epoch=2, copies=2)
    assert np.array_equal(later[1][0][0].numpy(), original[:, :, ::-1])


def test_the_originals_too_are_placed_anew_but_for_the_statistics_of_the_network(cohort: Cohort):
    cases = cohort.included[:1]
    wanted = cohort.tensor(cases[0], Contrast.T1W)
    placed = Samples(cohort, cases, (Contrast.T1W,), Recipe(), fold=0, epoch=0, copies=1)
    settled = Samples(cohort, cases, (Contrast.T1W,), Recipe(), fold=0, epoch=0, copies=1, as_they_are=True)
    assert not np.array_equal(placed[0][0][0].numpy(), wanted)
    assert np.array_equal(settled[0][0][0].numpy(), wanted)


@pytest.mark.parametrize(("samples", "sizes"), [(8, [4, 4]), (9, [5, 4]), (3, [3]), (2, [2]), (7, [7])])
def test_no_batch_holds_a_single_sample(samples: int, sizes: list[int]):
    assert [len(part) for part in divided(np.arange(samples), 4)] == sizes


# --- one network ------------------------------------------------------------------------------------------------------


def test_a_finished_network_leaves_weights_scores_and_a_log(done: Path, cohort: Cohort, job: Job):
    result = read_result(done)
    assert (result.epochs, result.ended) == (2, "epochs")
    assert sorted(path.name for path in done.iterdir()) == ["log.csv", NETWORK, "result.json"]
    assert len((done / "log.csv").read_text().splitlines()) == 1 + 2
    network = load_network(done / NETWORK, 2).eval()
    for case in job.validation:
        with torch.inference_mode():
            image = torch.from_numpy(cohort.tensor(case, Contrast.T1W))[None, None]
            scores = [torch.sigmoid(network(place).double()).item() for place in shifted(image, SHIFTS[QUICK.averaged])]
        assert result.scores[Contrast.T1W][case.case] == pytest.approx(np.mean(scores), abs=1e-5)


def test_kernels_are_stored_in_half_precision_and_statistics_are_not(done: Path):
    kinds = {name: value.dtype for name, value in load_file(done / NETWORK).items()}
    assert kinds["_conv_stem.weight"] == kinds["_fc.weight"] == torch.float16
    assert kinds["_bn0.running_var"] == kinds["_fc.bias"] == torch.float32
    assert (done / NETWORK).stat().st_size < 10e6


def test_batch_normalisation_is_settled_on_the_training_images(done: Path, cohort: Cohort, job: Job):
    stored = load_file(done / NETWORK)
    network = load_network(done / NETWORK, 2)
    seen: list[torch.Tensor] = []
    network.get_submodule("_conv_stem").register_forward_hook(lambda _, __, output: seen.append(output))
    images = torch.stack([torch.from_numpy(cohort.tensor(case, Contrast.T1W))[None] for case in job.training])
    with torch.inference_mode():
        network.eval()(images)
    assert torch.allclose(stored["_bn0.running_mean"], seen[0].mean((0, 2, 3, 4)), atol=1e-3)


def test_the_same_seed_gives_the_same_weights_and_a_finished_job_is_left_alone(
    done: Path, cohort: Cohort, job: Job, tmp_path: Path
):
    state = torch.random.get_rng_state()
    run(job, cohort, tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (tmp_path / "again" / NETWORK).read_bytes() == (done / NETWORK).read_bytes()
    assert run(job, cohort, done)[1] == []


def test_a_network_takes_exactly_the_steps_it_is_given_whatever_its_loss(cohort: Cohort, job: Job, tmp_path: Path):
    recipe = replace(QUICK, batch=2, copies=1, network_loss=50.0)
    assert steps_of(job, recipe) == 3
    result, said = run(replace(job, validation=(), epochs=2, steps=4), cohort, tmp_path / "job", recipe)
    assert (result.epochs, result.steps, result.ended) == (2, 4, "epochs")
    assert len([line for line in said if "epoch" in line]) == 2


def test_the_loss_of_a_network_ends_its_training(cohort: Cohort, job: Job, tmp_path: Path):
    recipe = replace(QUICK, network_loss=50.0)
    result, said = run(job, cohort, tmp_path / "job", recipe)
    assert (result.epochs, result.ended) == (1, "network_loss")
    assert "AUC" in said[-1]


def test_patience_keeps_the_best_epoch(cohort: Cohort, job: Job, tmp_path: Path):
    recipe = replace(QUICK, patience=1, learning_rate=0.02, averaged=1)
    result, _ = run(replace(job, epochs=6), cohort, tmp_path / "job", recipe)
    losses = [epoch.validation_loss for epoch in result.history]
    assert result.epochs == 1 + losses.index(min(losses))
    assert result.ended == "patience" or result.epochs == 6
    scores = [result.scores[Contrast.T1W][case.case] for case in job.validation]
    labels = [case.label for case in job.validation]
    found = np.mean([-np.log(s if label else 1 - s) for s, label in zip(scores, labels, strict=True)])
    assert found == pytest.approx(min(losses), rel=0.02, abs=0.01)


def test_a_network_without_a_fold_left_out_is_trained_to_the_end(cohort: Cohort, job: Job, tmp_path: Path):
    result, _ = run(replace(job, validation=(), epochs=1), cohort, tmp_path / "job", replace(QUICK, patience=1))
    assert (result.epochs, result.scores) == (1, {"T1W": {}})


def test_a_training_begins_with_given_weights(done: Path, cohort: Cohort, job: Job, tmp_path: Path):
    recipe = replace(QUICK, start=done / NETWORK, learning_rate=1e-12)
    run(replace(job, epochs=1), cohort, tmp_path / "job", recipe)
    given, stored = load_file(done / NETWORK), load_file(tmp_path / "job" / NETWORK)
    assert torch.equal(given["_conv_head.weight"], stored["_conv_head.weight"])


def test_a_damaged_checkpoint_is_refused(cohort: Cohort, job: Job, tmp_path: Path):
    (tmp_path / "checkpoint.pt").write_bytes(b"cut")
    with pytest.raises(ModelError) as refused:
        fit(job, cohort, QUICK, tmp_path, CPU, print)
    assert refused.value.code == "checkpoint_damaged"
    assert not finished(tmp_path)


def test_a_loss_that_is_no_number_is_refused(cohort: Cohort, job: Job, tmp_path: Path):
    recipe = replace(QUICK, learning_rate=1e30)
    with pytest.raises(ModelError) as refused:
        fit(job, cohort, recipe, tmp_path, CPU, lambda line: None)
    assert refused.value.code == "training_diverged"


def test_half_precision_passes_are_a_choice_on_a_cpu():
    chosen = {word: autocast_dtype(replace(QUICK, mixed_precision=word), CPU) for word in ("auto", "on", "off")}
    assert chosen == {"auto": None, "on": torch.bfloat16, "off": None}


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_patent():
    recipe = Recipe()
    assert (recipe.epochs, recipe.learning_rate, recipe.folds, recipe.copies) == (100, 0.001, 5, 4)
    assert recipe.augmentation == ("crop", "rotation", "flip")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"batch": 1}, {"folds": 1},
        {"folds": 6}, {"test_share": 0.0}, {"test_share": 0.6}, {"seed": -1}, {"first_block_stride": 3},
        {"members": "all"}, {"augmentation": ("mirror",)}, {"augmentation": ()}, {"augmentation": ("flip", "flip")},
        {"copies": 0}, {"network_loss": -1.0}, {"loss_threshold": 0.0}, {"patience": 0}, {"mixed_precision": "fp16"},
        {"calibrate": "isotonic"}, {"features_action": "hide"}, {"start": Path("none.safetensors")}, {"name": ""},
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_right_is_refused(wrong: dict):
    with pytest.raises(ModelError, match=next(iter(wrong))) as refused:
        Recipe(**wrong)
    assert refused.value.code == "recipe_invalid"


def test_a_recipe_is_written_without_paths(done: Path):
    values = json.loads(json.dumps(replace(QUICK, start=done / NETWORK).as_json()))
    assert values["start"].startswith(f"{NETWORK} (SHA-256 ")
    assert str(done) not in json.dumps(values)
