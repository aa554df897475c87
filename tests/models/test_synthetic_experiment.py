"""The twin of ``tests.benchmarks.synthetic_experiment``: its plan and stages, its controls, one run, its tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import open_bundle
from models.contrast import Contrast
from models.training.cohort import Cohort, open_cohort, write_cases
from tests.benchmarks.coverage import DESIGNS, coverage, found_by, met
from tests.benchmarks.experiment import runs
from tests.benchmarks.experiment.stages import Stage, carry_out, plan
from tests.benchmarks.permutations import Permutations, brightness, figures_of, permuted
from tests.benchmarks.synthetic_experiment import QUICK, Sizes, alone, claim, stages, trainings, write
from tests.support.cohorts import made_cohort

DIFFICULTIES = ("plain", "motion")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Return 24 patients, two of each group, a third of them with motion, where the experiment would build them."""
    folder = tmp_path_factory.mktemp("experiment") / "cohort-t1w-t2w-flair"
    made = made_cohort(folder, patients=24)
    write_cases(
        folder,
        [
            replace(case, group=f"G{n // 2}", subgroup=DIFFICULTIES[n // 2 % 3 == 0])
            for n, case in enumerate(made.cases)
        ],
    )
    return open_cohort(folder)


@pytest.fixture(scope="module")
def figures(cohort: Cohort) -> dict[str, dict[Contrast, np.ndarray]]:
    return figures_of(cohort)


@pytest.fixture(scope="module")
def found(cohort: Cohort) -> dict[str, Any]:
    """Return the result of one run of one epoch."""
    full = replace(trainings(QUICK)[0], options=("--no-repeatability", "--averaged", "1"))
    told: list[str] = []
    runs.train(full, cohort.folder.parent, 1, told.append, processes=1)
    runs.train(full, cohort.folder.parent, 1, told.append, processes=1)  # does nothing
    assert runs.epochs_done(cohort.folder.parent / full.name) == 3 * runs.FOLDS
    return runs.result(full, cohort.folder.parent)


def test_the_whole_experiment_fits_into_150_minutes():
    known = stages(Sizes(), Path("maps"), Path("out"), 1)
    assert sum(stage.expected_s for stage in known) <= 150 * 60
    assert plan(known)[-1].startswith("all: ")
    assert [stage.name for stage in known if stage.name.startswith("train")] == [
        "train synthetic-demo", "train shuffled", "train flair-only",
    ]  # fmt: skip


def test_the_control_has_the_recipe_of_the_bundle():
    full, shuffled, _ = trainings(Sizes())
    assert (shuffled.patients, shuffled.epochs, shuffled.cohort) == (full.patients, full.epochs, full.cohort)
    assert shuffled.options[: len(full.options)] == full.options
    assert "--shuffle-labels" in shuffled.options


def test_stages_are_done_in_order_and_say_how_long_the_rest_takes():
    clock = iter(range(0, 10_000, 60))
    done: list[str] = []
    said: list[str] = []

    def stage(name: str) -> Stage:
        def do(tell: Callable[[str], None]) -> None:
            done.append(name)
            tell("half done")

        return Stage(name, 120, do)

    carry_out([stage("a"), stage("b")], said.append, lambda: float(next(clock)))
    assert done == ["a", "b"]
    assert said[0] == "stage 1 of 2, a: 1.0 min gone, about 4.0 min left on two quiet cores"
    assert said[1] == "stage 1 of 2, a: half done; 2.0 min gone"
    assert "about 2.0 min left" in said[2]
    assert said[-1].startswith("done after")


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path):
    claim(tmp_path, {"seed": 1})
    claim(tmp_path, {"seed": 1})
    with pytest.raises(SystemExit, match="another experiment"):
        claim(tmp_path, {"seed": 2})


def test_two_calls_do_not_meet_in_a_folder(tmp_path: Path):
    with alone(tmp_path), pytest.raises(SystemExit, match="another call"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_exchanged_labels_are_not_learnt_and_true_ones_are(cohort: Cohort, figures: dict):
    found = permuted(cohort, figures, 20)
    assert found.auc == 1
    assert found.p <= 3 / 21
    assert found.permutations == 20
    assert not found.leaks
    assert found.sentence().startswith("No sign of a leak: over 20 exchanges")
    assert f"below AUC {found.unseen_below:.2f} would go unseen in half of the cases" in found.sentence()


def test_labels_that_are_learnt_though_exchanged_are_a_sign():
    leaking = Permutations(0.99, 100, 0.60, 0.1, 0.9, 0.01, 0.8)
    assert leaking.leaks
    assert leaking.sentence().startswith("A sign of a leak")
    assert not replace(leaking, mean=0.52).leaks


def test_the_share_of_bright_voxels_is_said_by_difficulty(cohort: Cohort, figures: dict):
    table = brightness(cohort, figures)
    assert list(table) == ["all", "motion", "plain"]
    assert table["all"]["patients"] == 24
    assert table["all"]["FLAIR"] > 0.9  # blobs


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_intervals_hold_the_truth_about_as_often_as_they_say(design):
    for name, share in coverage(design, 60).items():
        assert met(design, share, 60), name
        assert found_by(design, np.random.default_rng(0))[name].low is not None


def test_the_tables_have_every_run_fold_difficulty_and_bar(
    cohort: Cohort, figures: dict, found: dict, monkeypatch: pytest.MonkeyPatch
):
    out = cohort.folder.parent
    assert open_bundle(f"{out / found['run']}").metadata.averaged_shifts == ()
    assert found["split"]["group"]["shared"] == found["split"]["patient"]["shared"] == 0
    variation = {s: {"sd": 0.01, "mean_sd": 0.005, "worst_sd": 0.04, "largest": 0.1} for s in (*Contrast, "ensemble")}
    repeated = {"heads": 20, "table": {"half_voxel": variation, "place": variation}}
    given = {name: found | {"run": name} for name in ("synthetic-demo", "shuffled", "flair-only")}
    given["synthetic-demo"] |= {"repeatability": repeated}
    given["shuffled"] |= {"auc_interval": [0.6, 0.9], "looks": None}
    monkeypatch.setattr(runs, "result", lambda run, _: given[run.name])
    permutations = permuted(cohort, figures, 5)
    measured = {
        "permutations": {
            "permutations": asdict(permutations) | {"sentence": permutations.sentence()},
            "brightness": brightness(cohort, figures),
        },
        "coverage": {"patients": {"AUC": 0.95}},
        **{f"repeatability-{name}": repeated for name in ("before", "after")},
        **{f"resliced-{name}": {"patient03": variation} for name in ("before", "after")},
    }
    for name, content in measured.items():
        (out / f"{name}.json").write_text(json.dumps(content))
    write(QUICK, out)
    judged = json.loads((out / "results.json").read_text())["verdicts"]
    missed = {bar.split(":")[0] for bar, met in judged.items() if not met}
    assert {"shuffled labels", "one head, one score"} <= missed
    assert "no patient and no anatomy on both sides" not in missed
    text = (out / "tables.md").read_text()
    for said in ("| shuffled |", "| motion |", "| half_voxel |", "| patients | 95.0% |", "MISSED: one head"):
        assert said in text
    assert "none: labels exchanged" in text
    assert not list(out.glob("*.part"))
