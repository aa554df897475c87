"""The verbs of the research side, as a shell sees them: from made patients to a page about a bundle."""

from __future__ import annotations

import csv
import inspect
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from monai.networks.nets import EfficientNetBN

from dicom_node.cli import research as research_verbs
from dicom_node.cli.training_options import TrainingOptions
from models.bundle import open_bundle
from models.contrast import Contrast
from models.training.cohort import open_cohort
from models.training.fit.recipe import Recipe
from pipeline.cohort.build import FULL, PERCENTILES, SMALL
from pipeline.cohort.labels import CRITERIA_COLUMNS
from pipeline.cohort.summary import summarise_cohort
from tests.node.test_cli import refused
from tests.support.cohorts import made_cohort
from tests.support.services import command
from tests.support.shadows import write_shadows

QUICK = ("--shared", "--epochs", "1", "--folds", "2", "--copies", "1", "--augmentation", "none", "--test-share", "0.34")


# --- synthesize, cohort build -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the table of two made patients, the second of which was operated on."""
    out = tmp_path_factory.mktemp("synthetic") / "sent"
    told = command("synthesize", "--patients", "2", "--out", str(out), "--seed", "5", "--signal", "T2W,FLAIR")
    assert f"Wrote {out / 'labels.csv'}" in told
    assert "no patient" in told
    file = out / "labels.csv"
    with file.open(newline="") as stream:
        header, first, second = csv.reader(stream)
    second[header.index("resected")] = "yes"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, first, second])
    return file


def test_made_patients_become_a_cohort_that_says_so(labels: Path, tmp_path: Path):
    out = tmp_path / "cohort"
    build = ("cohort", "build", "--labels", str(labels), "--out", str(out), "--grid", "small")
    told = command(*build)
    statement = json.loads((labels.parent / "synthetic.json").read_text())["statement"]
    assert told.startswith(f"SYNTHETIC DATA: {statement}")
    assert "1 studies of 1 patients" in told
    assert "Left out, excluded_resected: 1" in told
    assert "Not checked" not in told
    cohort = open_cohort(out)
    assert (cohort.description.grid, cohort.description.synthetic) == (SMALL, statement)
    (case,) = cohort.included
    assert [cohort.tensor(case, sequence).shape for sequence in Contrast] == [(64, 128, 128)] * 3


def test_criteria_that_were_not_checked_are_named(cohort: Path):
    told = list(summarise_cohort(open_cohort(cohort)).sentences(cohort))
    assert told[0].startswith("SYNTHETIC DATA: ")
    assert "12 studies of 12 patients, 6 with label 1." in told
    missing = ", ".join(CRITERIA_COLUMNS)
    assert f"Not checked, as the table has no such column: {missing}" in told


def test_a_grid_by_name_or_by_bundle():
    assert research_verbs.tensors_of(research_verbs.GridName.SMALL, None) == {"grid": SMALL, "intensity": PERCENTILES}
    assert research_verbs.tensors_of(None, None) == {"grid": FULL, "intensity": PERCENTILES}
    metadata = open_bundle("untrained-demo").metadata
    adopted = {"grid": metadata.grid, "intensity": metadata.intensity}
    assert research_verbs.tensors_of(None, "untrained-demo") == adopted


def test_refusals_of_a_cohort(tmp_path: Path):
    file = tmp_path / "labels.csv"
    file.write_text("patient,study,label\nP1,a,2\n")
    build = ("cohort", "build", "--labels", str(file), "--out", str(tmp_path / "cohort"))
    code, line = refused(*build)
    assert (code, line.split(":")[0]) == (1, "labels_invalid")
    assert "labels.csv, line 2" in line
    code, line = refused(*build, "--grid", "small", "--bundle", "untrained-demo")
    assert (code, line.split(":")[0]) == (2, "command_invalid")
    assert not (tmp_path / "cohort").exists()


def test_refusals_of_synthesize(tmp_path: Path):
    (tmp_path / "mine").write_text("x")
    line = refused("synthesize", "--patients", "2", "--out", str(tmp_path))[1]
    assert line.startswith("cohort_folder_not_empty:")
    code, line = refused("synthesize", "--patients", "2", "--out", str(tmp_path / "new"), "--signal", "T1W,CT")
    assert (code, line.split(":")[0]) == (2, "command_invalid")


# --- train, evaluate --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_cohort(tmp_path_factory.mktemp("made") / "cohort", patients=12).folder


@pytest.fixture(scope="module")
def bundle(cohort: Path) -> Path:
    """Return a bundle that two processes of torchrun have trained together, where others' packages have our names."""
    out = cohort.parent / "bundle"
    elsewhere = write_shadows(cohort.parent / "elsewhere")
    ours = [sys.executable, "-P", "-m"]
    shared = [*ours, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    train = [*ours, "dicom_node", "train", str(cohort), "--out", str(out), "--name", "tried", *QUICK]
    done = subprocess.run([*shared, *train], cwd=elsewhere, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"Wrote {out}") == 1
    return out


def test_every_choice_of_a_recipe_is_an_option_with_the_same_default():
    options = inspect.signature(research_verbs.train).parameters
    beside = {"cohort", "out", "repeatability", "controls"}
    assert set(options) - beside == {field.name for field in fields(Recipe)}
    assert TrainingOptions().recipe() == Recipe()
    assert TrainingOptions(augmentation=" flip , crop ").recipe().augmentation == ("flip", "crop")
    assert TrainingOptions(augmentation="none", copies=1).recipe().augmentation == ()


def test_training_writes_a_bundle_that_opens(bundle: Path):
    metadata = open_bundle(bundle).metadata
    assert metadata.name == "tried"
    assert metadata.evidence
    assert metadata.evidence.synthetic
    assert {len(files) for files in (metadata.network_files or {}).values()} == {2}


def test_evaluating_says_what_the_figures_are_worth(bundle: Path, cohort: Path, tmp_path: Path):
    evaluate = ("evaluate", str(bundle), str(cohort), "--out", str(tmp_path / "page"), "--resamples", "100")
    told = command(*evaluate)
    assert told.startswith("SYNTHETIC DATA, NO EVIDENCE ABOUT PATIENTS")
    for name in ("ensemble", *tuple(Contrast), "Equal weights"):
        assert name in told
    content = json.loads((tmp_path / "page" / "evaluation.json").read_text())
    assert content["basis"] == "held_out"
    assert (tmp_path / "page" / "evaluation.html").is_file()


def test_refusals_of_training_and_evaluation(cohort: Path, tmp_path: Path):
    out = ("--out", str(tmp_path / "new"))
    assert refused("train", str(tmp_path), *out)[1].startswith("cohort_missing:")
    assert refused("train", str(cohort), *out, "--epochs", "0")[1].startswith("recipe_invalid:")
    assert refused("evaluate", "no-such-bundle", str(cohort), *out)[1].startswith("bundle_missing:")
    assert not (tmp_path / "new").exists()


def test_only_the_first_process_of_torchrun_speaks(monkeypatch: pytest.MonkeyPatch):
    assert research_verbs.first_process()
    monkeypatch.setenv("RANK", "1")
    assert not research_verbs.first_process()


# --- models inflate ---------------------------------------------------------------------------------------------------


def test_inflating_says_what_became_of_every_tensor(tmp_path: Path):
    checkpoint, out = tmp_path / "b0.pth", tmp_path / "start.safetensors"
    torch.save(EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2).state_dict(), checkpoint)
    told = command("models", "inflate", str(checkpoint), "--out", str(out))
    assert "277 tensors copied, 81 kernels inflated, 2 re-initialised" in told
    assert out.is_file()


def test_helping_loads_no_network():
    code = (
        "import sys; from typer.testing import CliRunner; from dicom_node.cli.app import app\n"
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0\n"
        "print(sorted({'torch', 'monai', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
