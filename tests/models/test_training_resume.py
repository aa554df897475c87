"""Training killed without warning and resumed ends with the weights of an uninterrupted run, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.contrast import Contrast
from models.training.cohort import Cohort
from models.training.fit.job import CHECKPOINT, NETWORK, Job, fit
from models.training.fit.job_result import finished
from models.training.fit.recipe import Recipe
from tests.support.cohorts import made_cohort

RECIPE = Recipe(epochs=3, folds=2, copies=2, mr=True, batch=4, patience=3)
_DEADLINE_S = 240.0


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The order of sums, hence their last digit, depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return made_cohort(tmp_path_factory.mktemp("cohort"), patients=6)


def job(cohort: Cohort) -> Job:
    return Job("FLAIR_fold1", (Contrast.FLAIR,), 1, cohort.included[:4], cohort.included[4:], RECIPE.epochs)


def train(cohort: Cohort, folder: Path, recipe: Recipe = RECIPE) -> list[str]:
    said: list[str] = []
    fit(job(cohort), cohort, recipe, folder, torch.device("cpu"), said.append)
    return said


@pytest.fixture(scope="module")
def whole(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(cohort, folder)
    return folder


def start_and_kill(cohort: Cohort, folder: Path) -> None:
    """Train in another process and kill it in the middle of an epoch, after the checkpoint of the first."""
    code = (
        "import sys; from pathlib import Path; from models.training.cohort import open_cohort;"
        "from tests.models.test_training_resume import train;"
        "train(open_cohort(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code, str(cohort.folder), str(folder)], env=environment)
    deadline = time.monotonic() + _DEADLINE_S
    while not (folder / CHECKPOINT).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_and_resumed_gives_the_same_weights(whole: Path, cohort: Cohort, tmp_path: Path):
    start_and_kill(cohort, tmp_path)
    assert not finished(tmp_path)
    said = train(cohort, tmp_path)
    assert said[0].startswith("FLAIR_fold1: going on after epoch ")
    assert 1 <= len(said) - 1 < RECIPE.epochs
    assert (tmp_path / NETWORK).read_bytes() == (whole / NETWORK).read_bytes()
    assert (tmp_path / "result.json").read_bytes() == (whole / "result.json").read_bytes()
    assert not (tmp_path / CHECKPOINT).exists()


def test_another_seed_gives_other_weights(whole: Path, cohort: Cohort, tmp_path: Path):
    train(cohort, tmp_path, replace(RECIPE, seed=1, epochs=1, copies=1, patience=None))
    assert (tmp_path / NETWORK).read_bytes() != (whole / NETWORK).read_bytes()
