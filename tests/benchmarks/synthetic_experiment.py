"""Does the machinery learn, and does it not leak? ``python -m tests.benchmarks.synthetic_experiment --out DIR``.

Three trainings on made patients, by the command line alone: all sequences carry signal; the same cohort with labels
exchanged between patients; a cohort in which FLAIR alone carries signal. Bars: ensemble AUC of at least 0.90 on unseen
patients of at least 8 unseen anatomies; an interval that covers 0.5; the largest weight for FLAIR; a mean SD of at most
0.01 of the scores of one head where the images stay as they are, and no head above 0.03. The seed is fixed. What is
finished in DIR is not done again, down to the epochs of a network. Takes hours on two cores, so it is no test; it says
nothing about patients. The first bundle is what ships as ``synthetic-demo``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.services import DATA

AUC_BAR = 0.90
ANATOMIES_BAR = 8
DRAWN_HEADS = 25
"""Besides the 15 label maps: a fifth of 40 anatomies are tested on."""
MEAN_SD_BAR, WORST_SD_BAR = 0.01, 0.03
RECIPE = (
    "--folds", "2", "--batch", "12", "--loss-threshold", "0.25", "--copies", "2", "--averaged", "8"
)  # fmt: skip
"""A sample costs a third of a second of one core, with its placement; a reading 0.03 s, so that eight are cheap.

On the small grid the last maps have 2 x 2 x 1 places: batch normalisation needs 12 images to know their spread."""
PROCESSES = 2
"""Two processes of one thread train twice as many networks as one of two threads trains faster."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training: the sequences with signal, how many patients and epochs, and further options of ``train``."""

    name: str
    signal: str
    patients: int
    epochs: int
    options: tuple[str, ...] = ()


def runs(patients: int, epochs: int) -> list[Run]:
    """Return the three runs; only the first ends in a bundle that is small enough to keep."""
    return [
        Run("synthetic-demo", "T1W,T2W,FLAIR", patients, epochs, ("--members", "refit")),
        Run("shuffled", "T1W,T2W,FLAIR", patients, max(2, epochs // 2), ("--shuffle-labels",)),
        Run("flair-only", "FLAIR", 3 * patients // 5, epochs),
    ]


def carry_out(run: Run, label_maps: Path, out: Path, seed: int) -> dict[str, Any]:
    """Return the test result of a run, its weights and its split."""
    cohort = build(run, label_maps, out, seed)
    bundle = out / run.name
    if not bundle.exists():
        recipe = ["--epochs", str(run.epochs), *RECIPE, "--seed", str(seed), *run.options]
        train(["train", str(cohort), "--out", str(bundle), "--name", run.name, *recipe])
    training = json.loads((bundle / "configs" / "training.json").read_text("utf-8"))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text("utf-8"))
    return {
        "run": run.name,
        "weights": metadata["weights"],
        **metadata["evidence"],
        "split": split(training, cohort),
        "cross_validation": training["cross_validation"],
        "repeatability": metadata.get("repeatability"),
    }


def build(run: Run, label_maps: Path, out: Path, seed: int) -> Path:
    """Return the cohort of a run, made where it is not there yet."""
    name = run.signal.replace(",", "-").lower()
    made, cohort = out / f"studies-{name}", out / f"cohort-{name}"
    workers = ["--workers", str(PROCESSES)]
    if not (made / "labels.csv").exists():
        shutil.rmtree(made, ignore_errors=True)  # the table is written last: what is there was cut off
        heads = ["--drawn-heads", str(DRAWN_HEADS)]
        choice = [*heads, "--signal", run.signal, "--patients", str(run.patients), "--seed", str(seed)]
        dicom_node(["synthesize", "--label-maps", str(label_maps), "--out", str(made), *choice, *workers])
    if not (cohort / "cases.csv").exists():
        labels = str(made / "labels.csv")
        dicom_node(["cohort", "build", "--labels", labels, "--out", str(cohort), "--grid", "small", *workers])
    return cohort


def split(training: dict[str, Any], cohort: Path) -> dict[str, Any]:
    """Return how many patients and base anatomies development and test have, and what they share: nothing."""
    from models.training.cohort import open_cohort

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
    """Run a verb; the benchmark ends with it if it fails."""
    subprocess.run([sys.executable, "-P", "-m", "dicom_node", *arguments], check=True, stdout=sys.stderr)


def train(arguments: list[str]) -> None:
    """Run ``train`` in several processes, as torchrun would on several GPUs."""
    command = [sys.executable, "-P", "-m", "dicom_node", *arguments]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(PROCESSES), "OMP_NUM_THREADS": "1"},
            stdout=sys.stderr,
        )
        for rank in range(PROCESSES)
    ]
    # Each waits for the networks of the other, so one that ended with an error must end both.
    while any(process.poll() is None for process in processes) and not any(process.poll() for process in processes):
        time.sleep(1)
    for process in processes:
        process.terminate()
    if any(process.wait() for process in processes):
        raise SystemExit("training failed")


def claim(out: Path, choices: dict[str, Any]) -> None:
    """Make the folder that of these choices, or end if it is that of others: their results would be judged again."""
    out.mkdir(parents=True, exist_ok=True)
    file, said = out / "experiment.json", json.dumps(choices) + "\n"
    if file.exists() and file.read_text("utf-8") != said:
        raise SystemExit(f"{out} holds another experiment: {file.read_text('utf-8').strip()}")
    file.write_text(said, "utf-8")


def verdicts(results: list[dict[str, Any]]) -> dict[str, bool]:
    """Return whether each bar is met."""
    full, shuffled, flair = results
    low, high = shuffled["auc_interval"]
    weights = flair["weights"]
    return {
        f"ensemble AUC of at least {AUC_BAR} on unseen patients": full["auc"] >= AUC_BAR,
        "shuffled labels: the interval covers 0.5": low <= 0.5 <= high,
        "signal in FLAIR alone: FLAIR has the largest weight": weights["FLAIR"] > max(weights["T1W"], weights["T2W"]),
        f"at least {ANATOMIES_BAR} unseen anatomies": full["split"]["group"]["test"] >= ANATOMIES_BAR,
        f"one head, one score: mean SD of at most {MEAN_SD_BAR}, no head above {WORST_SD_BAR}": (
            full["repeatability"]["place_sd"] <= MEAN_SD_BAR and full["repeatability"]["place_worst_sd"] <= WORST_SD_BAR
        ),
        "no patient and no anatomy on both sides": not any(
            part["shared"] for result in results for part in result["split"].values()
        ),
    }


def main() -> None:
    """Carry out the three runs and print results and verdicts; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for cohorts and bundles; a second call goes on")
    parser.add_argument("--label-maps", type=Path, default=DATA / "synthseg-labels")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    claim(arguments.out, {key: getattr(arguments, key) for key in ("patients", "epochs", "seed")})
    results = [
        carry_out(run, arguments.label_maps, arguments.out.absolute(), arguments.seed)
        for run in runs(arguments.patients, arguments.epochs)
    ]
    judged = verdicts(results)
    if arguments.json:
        print(json.dumps({"runs": results, "verdicts": judged}, indent=2))
    else:
        for result in results:
            low, high = result["auc_interval"]
            weights = ", ".join(f"{sequence} {weight:g}" for sequence, weight in result["weights"].items())
            print(f"{result['run']}: AUC {result['auc']:.3f} ({low:.3f} to {high:.3f}) on {result['test_patients']} "
                  f"unseen patients, weights {weights}")  # fmt: skip
            for name, areas in result["cross_validation"]["auc_by_fold"].items():
                print(f"  out of fold, {name}: AUC {', '.join(f'{area:.3f}' for area in areas)}")
            if found := result["repeatability"]:
                print(f"  one head: SD {found['sd']:.4f}, grid and mask alone {found['place_sd']:.4f}, "
                      f"worst head {found['place_worst_sd']:.4f}")  # fmt: skip
        for bar, met in judged.items():
            print(f"{'met' if met else 'MISSED'}: {bar}")
    sys.exit(0 if all(judged.values()) else 1)


if __name__ == "__main__":
    main()
