"""The trainings of the synthetic experiment: made studies, their tensors, and a bundle, each by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from models.training.cohort import open_cohort
from tests.benchmarks.experiment.stages import Tell

PROCESSES = 2
"""Two processes of one thread train twice as many networks as one of two threads trains faster."""
FOLDS, COPIES, AVERAGED = 2, 2, 8
RECIPE = (
    "--folds", f"{FOLDS}", "--batch", "12", "--network-loss", "0.25", "--loss-threshold", "0.5", "--copies", f"{COPIES}"
)  # fmt: skip
"""On the small grid the last maps have 2 x 2 x 1 places: batch normalisation needs 12 images to know their spread."""
HARD_SHARE = 0.5
SAMPLE_S, SETTLED_S, READING_S = 0.35, 0.09, 0.03
"""Seconds of one core for a training step's image with its placement, an image for batch normalisation, a reading."""
MADE_S, TENSORS_S, HEAD_S = 1.2, 6.0, 16.0
"""Seconds of one core for a patient's studies, its masks and tensors, and the perturbed copies of one head."""
PYTHON = (*("setpriv", "--pdeathsig", "KILL", "--") * bool(which("setpriv")), sys.executable)
"""A process that ends with the experiment, however that ends: no second call meets the processes of the first."""
NODE = (*PYTHON, "-P", "-m", "dicom_node")
_POLL_S, _TOLD_EVERY_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One training: the sequences with signal, patients, base anatomies besides the label maps, epochs, options."""

    name: str
    signal: str
    patients: int
    drawn_heads: int
    epochs: int
    options: tuple[str, ...] = ()

    @property
    def cohort(self) -> str:
        """Name of its cohort; runs may share one."""
        return self.signal.replace(",", "-").lower()

    @property
    def refit(self) -> bool:
        """Whether networks are trained anew on all development patients."""
        return "refit" in self.options

    @property
    def expected_s(self) -> float:
        """How long the training takes on two quiet cores, the bundle included."""
        development = round(0.8 * self.patients)
        trained, left_out = development * (FOLDS - 1) // FOLDS, development // FOLDS
        epoch = trained * COPIES * SAMPLE_S + trained * SETTLED_S + left_out * 2 * READING_S
        folds = 3 * FOLDS * self.epochs * epoch / PROCESSES
        # Three networks on two processes take two rounds, and as many steps as those of the folds.
        refit = 2 * (self.epochs * trained * COPIES * SAMPLE_S + development * SETTLED_S) if self.refit else 0.0
        reading = READING_S if "1" in self.options[-1:] else AVERAGED * READING_S
        networks = 3 * (FOLDS + self.refit)
        heads = 0 if "--no-repeatability" in self.options else min(20, self.patients - development) * HEAD_S
        return folds + refit + self.patients * networks * reading + heads + 30


def make(run: Run, label_maps: Path, out: Path, seed: int) -> None:
    """Make the studies of a run; what was cut off goes on."""
    made = out / f"studies-{run.cohort}"
    if (made / "labels.csv").exists():
        return
    choice = ["--signal", run.signal, "--patients", f"{run.patients}", "--seed", f"{seed}"]
    heads = ["--label-maps", f"{label_maps}", "--drawn-heads", f"{run.drawn_heads}", "--hard-share", f"{HARD_SHARE}"]
    dicom_node(["synthesize", "--out", f"{made}", *choice, *heads, "--workers", f"{PROCESSES}"])


def build(run: Run, out: Path) -> None:
    """Build the tensors of a run; what was cut off goes on."""
    cohort = out / f"cohort-{run.cohort}"
    if not (cohort / "cases.csv").exists():
        labels = out / f"studies-{run.cohort}" / "labels.csv"
        choice = ["--grid", "small", "--workers", f"{PROCESSES}"]
        dicom_node(["cohort", "build", "--labels", f"{labels}", "--out", f"{cohort}", *choice])


def train(run: Run, out: Path, seed: int, tell: Tell, processes: int = PROCESSES) -> None:
    """Train in several processes, as torchrun would on several GPUs; what was cut off goes on."""
    bundle = out / run.name
    if bundle.exists():
        return
    recipe = ["--epochs", f"{run.epochs}", *RECIPE, "--seed", f"{seed}", "--averaged", f"{AVERAGED}", *run.options]
    control = out / "permutations.json"
    if control.exists():
        recipe += ["--controls", json.loads(control.read_text("utf-8"))["permutations"]["sentence"]]
    arguments = ["train", f"{out / f'cohort-{run.cohort}'}", "--out", f"{bundle}", "--name", run.name, *recipe]
    networks = 3 * (FOLDS + run.refit)
    _together([arguments] * processes, lambda: tell(f"{epochs_done(bundle)} epochs of at most {networks * run.epochs}"))


def epochs_done(bundle: Path) -> int:
    """Return how many epochs of all networks of a bundle are done."""
    logs = bundle.with_name(f"{bundle.name}.work").glob("*/log.csv")
    return sum(max(0, len(log.read_text("utf-8").splitlines()) - 1) for log in logs)


def result(run: Run, out: Path) -> dict[str, Any]:
    """Return the test result of a run, its weights, its split, its folds."""
    bundle = out / run.name
    training = json.loads((bundle / "configs" / "training.json").read_text("utf-8"))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text("utf-8"))
    evaluation = json.loads((out / f"{run.name}.work" / "evaluation" / "evaluation.json").read_text("utf-8"))
    return {
        "run": run.name,
        "weights": metadata["weights"],
        **metadata["evidence"],
        "groups": evaluation["groups"],
        "subgroups": evaluation["subgroups"],
        "sequences": {name: found["auc"] for name, found in evaluation["sequences"].items()},
        "method": evaluation["ensemble"]["auc"]["method"],
        "looks": evaluation["looks"],
        "split": split(training, out / f"cohort-{run.cohort}"),
        "cross_validation": training["cross_validation"],
        "repeatability": evaluation["repeatability"],
    }


def split(training: dict[str, Any], cohort: Path) -> dict[str, Any]:
    """Return how many patients and base anatomies development and test have, and what they share: nothing."""
    cases = {case.case: case for case in open_cohort(cohort).included}
    sides = [[cases[name] for name in training[key]] for key in ("development_cases", "test_cases")]
    return {
        what: {
            "development": len(development := {getattr(case, what) for case in sides[0]}),
            "test": len(test := {getattr(case, what) for case in sides[1]}),
            "shared": len(development & test),
        }
        for what in ("patient", "group")
    }


def dicom_node(arguments: list[str]) -> None:
    """Run a verb; the experiment ends with it if it fails."""
    subprocess.run([*NODE, *arguments], check=True, stdout=sys.stderr)


def _together(commands: list[list[str]], tell: Callable[[], None]) -> None:
    """Run verbs side by side, each with one thread and a rank of its own."""
    processes = [
        subprocess.Popen(
            [*NODE, *arguments],
            env={**os.environ, "RANK": f"{rank}", "WORLD_SIZE": f"{len(commands)}", "OMP_NUM_THREADS": "1"},
            stdout=sys.stderr,
        )
        for rank, arguments in enumerate(commands)
    ]
    told = time.monotonic()
    # Each waits for the networks of the other, so one that ended with an error must end both.
    while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
        time.sleep(_POLL_S)
        if time.monotonic() - told > _TOLD_EVERY_S:
            told = time.monotonic()
            tell()
    for process in processes:
        process.terminate()
    if any(process.wait() for process in processes):
        raise SystemExit("training failed")
