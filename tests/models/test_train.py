"""A whole training on a tiny cohort: what the bundle says is true, and what is finished is not done again."""

from __future__ import annotations

import json
import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.averaging import SHIFTS, shifted
from models.bundle import ModelError, open_bundle
from models.contrast import Contrast
from models.feature_space import distance, fit_feature_space, load_axes
from models.inference import read
from models.training.bundling import feature_limits
from models.training.bundling.write_bundle import intended_use, notice
from models.training.cohort import Cohort, open_cohort, tensor_file
from models.training.fit.recipe import Recipe
from models.training.fit.training_log import Epoch, training_plot
from models.training.train import shuffled, tensors_digest, train
from models.wae_net import WaeNet, load_network
from tests.support.cohorts import made_cohort

QUICK = Recipe(
    name="tiny", version="0.1.0", epochs=1, folds=2, copies=1, augmentation=(), test_share=0.25, two_sequences=True
)
# Exchanged labels must leave both outcomes in every fold, hence the seed.
CONTROL = replace(QUICK, shared=True, two_sequences=False, shuffle_labels=True, seed=3)
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return made_cohort(tmp_path_factory.mktemp("cohort") / "cohort", patients=8)


@pytest.fixture(scope="module")
def trained(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(cohort, tmp_path_factory.mktemp("trained") / "bundle", QUICK, lambda line: None)


@pytest.fixture(scope="module")
def control(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with shuffled labels and one network for all sequences, made by two processes in turn."""
    out = tmp_path_factory.mktemp("control") / "bundle"
    said: list[str] = []
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WORLD_SIZE", "2")
        environment.setenv("RANK", "1")
        train(cohort, out, CONTROL, said.append)
        assert not out.exists()
        assert {line.partition(":")[0] for line in said} == {"shared_fold1"}
        first = out.with_name("bundle.work") / "shared_fold1"
        moved = first.rename(out.with_name("later"))
        environment.setenv("RANK", "0")
        # The other process finishes only after this one has begun to wait.
        threading.Timer(3, lambda: moved.rename(first)).start()
        assert train(cohort, out, CONTROL, said.append) == out
    assert [line.partition(":")[0] for line in said if "epoch" in line] == ["shared_fold1", "shared_fold0"]
    return out


def record(bundle: Path) -> dict:
    return json.loads((bundle / "configs" / "training.json").read_text())


# --- the bundle -------------------------------------------------------------------------------------------------------


def test_the_bundle_is_valid_and_complete(trained: Path, cohort: Cohort):
    metadata = open_bundle(trained).metadata
    assert (metadata.name, metadata.version) == ("tiny", "0.1.0")
    assert metadata.grid == cohort.description.grid
    assert {len(files) for files in metadata.network_files.values()} == {2}
    assert len(set(metadata.named_files)) == 3 * 2 + 1
    assert len(metadata.two_sequences) + len(record(trained)["two_sequences_dropped"]) == 3
    assert (trained / "docs" / "training.png").read_bytes().startswith(PNG)
    assert not list(trained.rglob("*.part"))


def test_test_patients_took_no_part(trained: Path, cohort: Cohort):
    said = record(trained)
    test, development = set(said["test_cases"]), set(said["development_cases"])
    assert len(test) == 2
    assert test | development == {case.case for case in cohort.included}
    assert not test & development
    assert sorted(case for fold in said["folds"] for case in fold) == sorted(development)
    work = trained.with_name("bundle.work")
    scored = {
        case
        for path in work.glob("*/result.json")
        for scores in json.loads(path.read_text())["scores"].values()
        for case in scores
    }
    assert scored == development


def test_each_network_is_judged_on_the_fold_it_has_not_seen(trained: Path):
    folds = record(trained)["folds"]
    for path in trained.with_name("bundle.work").glob("*/result.json"):
        left_out = folds[int(path.parent.name[-1])]
        assert all(sorted(scores) == left_out for scores in json.loads(path.read_text())["scores"].values())


def test_the_evidence_is_that_of_the_evaluation(trained: Path):
    evidence = open_bundle(trained).metadata.evidence
    evaluation = json.loads((trained.with_name("bundle.work") / "evaluation" / "evaluation.json").read_text())
    assert (evidence.development_patients, evidence.test_patients) == (6, 2)
    assert evidence.weights_chosen_on == "out_of_fold"
    assert evidence.auc == evaluation["ensemble"]["auc"]["value"]
    assert evaluation["basis"] == "held_out"
    for pair in open_bundle(trained).metadata.two_sequences:
        assert " + ".join(pair.weights) in evaluation["two_sequences"]
        assert pair.patients == 6  # those of the development: the test has no say
    assert evaluation["looks"] == record(trained)["test_looks"] >= 1


def test_the_weights_are_the_best_of_the_search_and_the_record_repeats_the_recipe(trained: Path):
    said = record(trained)
    assert len(said["weight_search"]["table"]) == 36
    best = said["weight_search"]["table"][0]["tenths"]
    assert list(open_bundle(trained).metadata.weights.values()) == [tenths / 10 for tenths in best]
    assert said["recipe"] == QUICK.as_json()
    assert said["networks"]["T2W_fold1"]["history"][0]["epoch"] == 1
    assert "torch" in said["software"]


def test_synthetic_data_say_so_first(trained: Path):
    metadata = open_bundle(trained).metadata
    assert metadata.notice.startswith("SYNTHETIC DATA")
    assert metadata.evidence.synthetic
    assert "SYNTHETIC DATA" in (trained / "docs" / "README.md").read_text()


def test_the_range_is_where_the_development_patients_lay(trained: Path, cohort: Cohort):
    limits = open_bundle(trained).metadata.range
    cases = [case for case in cohort.included if case.case in record(trained)["development_cases"]]
    ages = [case.age_years for case in cases]
    assert limits.age_years == (math.floor(min(ages)), math.ceil(max(ages)))
    assert set(limits.field_strength_t) == {case.field_strength_t for case in cases}
    assert limits.contrast_agent == "unchecked"
    assert limits.action("features") == "flag"
    assert limits.brain_weights_digest == cohort.description.brain_weights["digest"]
    networks = WaeNet(open_bundle(trained), torch.device("cpu"))
    axes = load_axes(trained / limits.features.file)
    features = [networks.read(Contrast.FLAIR, cohort.tensor(case, Contrast.FLAIR)).features for case in cases]
    assert np.allclose(axes[Contrast.FLAIR].mean, np.mean(features, axis=0), rtol=1e-3, atol=1e-3)
    assert limits.features.limits[Contrast.FLAIR] > 0


def test_the_feature_space_ends_where_patients_lie_whom_neither_network_nor_axes_have_seen(
    trained: Path, cohort: Cohort
):
    said, distances = record(trained), []
    for fold, left_out in enumerate(said["folds"]):
        file = trained.with_name("bundle.work") / f"FLAIR_fold{fold}" / "network.safetensors"
        network = load_network(file, QUICK.first_block_stride).eval()

        def pooled(name: str, network: nn.Module = network) -> np.ndarray:
            case = next(case for case in cohort.included if case.case == name)
            volume = torch.from_numpy(cohort.tensor(case, Contrast.FLAIR))[None, None]
            with torch.inference_mode():
                places = shifted(volume, SHIFTS[QUICK.averaged])
                return torch.cat([read(network, place)[1] for place in places]).mean(dim=0).numpy()

        axes = fit_feature_space(np.stack([pooled(n) for n in said["development_cases"] if n not in left_out]))
        distances += [distance(axes, pooled(name)) for name in left_out]
    limit = open_bundle(trained).metadata.range.features.limits[Contrast.FLAIR]
    own = own_distances(trained, cohort)
    assert limit == pytest.approx(max(*distances, *own), rel=1e-2)
    found = said["feature_space"]
    assert found["test_studies"] == 2
    assert 0 <= max(found["test_studies_beyond"].values()) <= found["test_studies_beyond_any"] <= 2
    card = (trained / "docs" / "README.md").read_text()
    assert f"any {found['test_studies_beyond_any']} |" in card


def test_the_feature_space_holds_the_patients_that_the_bundle_was_made_with(
    trained: Path, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the networks of the folds say: their distances are not the bundle's, and may be far smaller."""
    shutil.copytree(trained.with_name("bundle.work"), tmp_path / "bundle.work")
    monkeypatch.setattr(feature_limits, "left_out_distances", lambda *_: np.zeros(3))
    bundle = train(cohort, tmp_path / "bundle", QUICK, lambda line: None)
    limit = open_bundle(bundle).metadata.range.features.limits[Contrast.FLAIR]
    assert limit == pytest.approx(max(own_distances(bundle, cohort)), rel=1e-2)


def own_distances(bundle: Path, cohort: Cohort) -> list[float]:
    """Return how far the bundle itself finds the FLAIR images of the patients that it was made with."""
    networks, cases = WaeNet(open_bundle(bundle), torch.device("cpu")), record(bundle)["development_cases"]
    tensors = (cohort.tensor(case, Contrast.FLAIR) for case in cohort.included if case.case in cases)
    return [networks.distance(Contrast.FLAIR, networks.read(Contrast.FLAIR, tensor).features) for tensor in tensors]


def test_no_pseudonym_travels(trained: Path, cohort: Cohort):
    names = [f'"{case.patient}"' for case in cohort.included]
    for path in trained.rglob("*"):
        if path.is_file():
            assert not [name for name in names if name.encode() in path.read_bytes()], path


# --- choices made afterwards ------------------------------------------------------------------------------------------


def test_one_network_for_all_sequences(control: Path):
    files = open_bundle(control).metadata.network_files
    assert set(files.values()) == {("models/shared_fold0.safetensors", "models/shared_fold1.safetensors")}


def test_shuffled_labels_are_a_control_run(control: Path, cohort: Cohort):
    metadata = open_bundle(control).metadata
    assert metadata.notice.startswith("SYNTHETIC DATA")
    assert "shuffled labels" in metadata.notice
    assert record(control)["cohort_digest"] != cohort.digest
    assert "CONTROL RUN" in (control / "docs" / "README.md").read_text()


def test_finished_networks_are_used_again_for_other_choices(control: Path, cohort: Cohort, tmp_path: Path):
    shutil.copytree(control.with_name("bundle.work"), tmp_path / "bundle.work")
    said: list[str] = []
    recipe = replace(CONTROL, version="0.2.0", members="refit", reproduce_patent_selection=True)
    bundle = train(cohort, tmp_path / "bundle", recipe, said.append)
    assert [line.partition(":")[0] for line in said if "epoch" in line] == ["shared_refit"]
    metadata = open_bundle(bundle).metadata
    assert set(metadata.network_files.values()) == {("models/shared_refit.safetensors",)}
    networks = record(bundle)["networks"]
    assert set(networks) == {"shared_fold0", "shared_fold1", "shared_refit"}
    assert networks["shared_refit"]["steps"] == np.median([networks[f"shared_fold{fold}"]["steps"] for fold in (0, 1)])
    assert metadata.evidence.weights_chosen_on == record(bundle)["weight_search"]["chosen_on"] == "test"
    assert record(bundle)["weight_search"]["auc"] == metadata.evidence.auc
    assert "OPTIMISTIC BIAS" in (bundle / "docs" / "README.md").read_text()


def test_a_look_at_exchanged_labels_is_none(control: Path):
    assert "test_looks" not in record(control)


def test_exchanged_labels_are_the_same_labels(cohort: Cohort):
    exchanged = shuffled(cohort, 3)
    assert sorted(case.label for case in exchanged.cases) == sorted(case.label for case in cohort.cases)
    assert [case.label for case in exchanged.cases] != [case.label for case in cohort.cases]
    assert [replace(case, label=0) for case in exchanged.cases] == [replace(case, label=0) for case in cohort.cases]
    assert shuffled(cohort, 3) == exchanged


# --- refusals ---------------------------------------------------------------------------------------------------------


def refusal(cohort: Cohort, out: Path, recipe: Recipe = QUICK) -> str:
    with pytest.raises(ModelError) as refused:
        train(cohort, out, recipe, lambda line: None)
    return refused.value.code


def test_an_existing_bundle_is_never_replaced(trained: Path, cohort: Cohort):
    before = (trained / "SHA256SUMS").read_bytes()
    assert refusal(cohort, trained) == "bundle_exists"
    assert (trained / "SHA256SUMS").read_bytes() == before


@pytest.mark.parametrize("other", [{"epochs": 2}, {"seed": 1}, {"shuffle_labels": True}, {"half": False}])
def test_the_networks_of_another_training_are_refused(trained: Path, cohort: Cohort, tmp_path: Path, other: dict):
    (tmp_path / "bundle.work").mkdir()
    shutil.copy(trained.with_name("bundle.work") / "training.json", tmp_path / "bundle.work")
    assert refusal(cohort, tmp_path / "bundle", replace(QUICK, **other)) == "work_folder_other"


def test_networks_of_other_images_are_refused(trained: Path, cohort: Cohort, tmp_path: Path):
    (tmp_path / "bundle.work").mkdir()
    shutil.copy(trained.with_name("bundle.work") / "training.json", tmp_path / "bundle.work")
    rebuilt = open_cohort(Path(shutil.copytree(cohort.folder, tmp_path / "cohort")))
    assert tensors_digest(rebuilt) == tensors_digest(cohort)
    first, second, *_ = (tensor_file(rebuilt.folder, case.case) for case in rebuilt.included)
    shutil.copy(second, first)
    assert rebuilt.digest == cohort.digest
    with pytest.raises(ModelError, match="differs in the images of the cohort") as refused:
        train(rebuilt, tmp_path / "bundle", QUICK, lambda line: None)
    assert refused.value.code == "work_folder_other"
    first.unlink()
    assert refusal(rebuilt, tmp_path / "bundle") == "cohort_damaged"


def test_weights_of_unknown_origin_are_no_start(trained: Path, cohort: Cohort, tmp_path: Path):
    start = next((trained / "models").glob("T1W*"))
    assert refusal(cohort, tmp_path / "bundle", replace(QUICK, start=start)) == "start_unknown"
    (tmp_path / "start.safetensors").write_bytes(b"cut")
    assert refusal(cohort, tmp_path / "bundle", replace(QUICK, start=tmp_path / "start.safetensors")) == "start_unknown"


def test_cohorts_that_cannot_be_trained_on_are_refused(cohort: Cohort, tmp_path: Path):
    assert refusal(cohort, tmp_path / "bundle", replace(QUICK, folds=5)) == "cohort_too_small"
    ones = replace(cohort, cases=tuple(case for case in cohort.cases if case.label))
    assert refusal(ones, tmp_path / "bundle") == "cohort_one_class"
    odd = cohort.description.grid.model_copy(update={"size_xyz": (64, 64, 60)})
    described = cohort.description.model_copy(update={"grid": odd})
    assert refusal(replace(cohort, description=described), tmp_path / "bundle") == "grid_unfit"
    assert not (tmp_path / "bundle.work").exists()


def test_a_damaged_case_stops_the_training_and_no_bundle_appears(cohort: Cohort, tmp_path: Path):
    folder = Path(shutil.copytree(cohort.folder, tmp_path / "cohort"))
    for file in (folder / "tensors").iterdir():
        file.write_bytes(b"cut")
    assert refusal(open_cohort(folder), tmp_path / "bundle") == "cohort_damaged"
    assert not (tmp_path / "bundle").exists()


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("patent", [False, True])
@pytest.mark.parametrize("synthetic", [False, True])
def test_notices_fit_and_say_what_matters(shuffle: bool, patent: bool, synthetic: bool):
    recipe = replace(QUICK, shuffle_labels=shuffle, reproduce_patent_selection=patent)
    line = notice(recipe, synthetic=synthetic, patients=12345)
    assert line.isascii()
    assert len(line) <= 120
    assert line.startswith("SYNTHETIC DATA") == synthetic
    assert ("CONTROL" in line) == shuffle
    assert ("OPTIMISTIC" in line) == (patent and not shuffle)
    assert "NOT FOR DIAGNOSTIC USE" in intended_use(recipe, synthetic=synthetic)


def test_curves_are_drawn_for_unfinished_looks_at_the_fold():
    history = [Epoch(1, 0.7, None, None), Epoch(2, 0.6, 0.65, 0.5)]
    assert training_plot({s: {"fold0": history} for s in Contrast}, "notice").startswith(PNG)
