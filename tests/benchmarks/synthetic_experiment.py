"""Does the machinery learn, and does it not leak? ``python -m tests.benchmarks.synthetic_experiment --out DIR``.

Three trainings on made patients, half of them hard: all sequences carry signal; the same cohort and recipe with labels
exchanged between patients; a cohort in which FLAIR alone carries signal. Beside them exchanges of labels with cheap
figures in place of networks, the repeatability of the bundle and of the one that ships, on drawn heads and on real
ones, and the coverage of intervals. The bars stand in `verdicts`. The seed is fixed. What is finished in DIR is not
done again, down to the patients and the epochs of a network, so that a call that was killed is called again.

It takes under 150 minutes on two quiet cores (``--plan`` says how long each stage), and leaves in DIR the bundle
``synthetic-demo``, ``results.json`` and ``tables.md``. ``--quick`` is the same in miniature, of which nothing can be
expected. It says nothing about patients.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from models.bundle import open_bundle
from models.contrast import Contrast
from models.training.cohort import open_cohort
from models.wae_net import WaeNet
from tests.benchmarks.experiment import runs
from tests.benchmarks.experiment.runs import HEAD_S, MADE_S, PROCESSES, PYTHON, TENSORS_S, Run
from tests.benchmarks.experiment.stages import Stage, Tell, carry_out, plan
from tests.benchmarks.experiment.tables import tables
from tests.support.services import DATA

AUC_BAR = 0.90
ANATOMIES_BAR = 8
MEAN_SD_BAR, WORST_SD_BAR = 0.01, 0.03
SHIPPED = "synthetic-demo"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is made: patients, base anatomies besides the 15 label maps, epochs, repeated heads, permutations."""

    patients: int = 200
    drawn_heads: int = 35
    epochs: int = 8
    heads: int = 20
    permutations: int = 200
    coverage_runs: int = 2000


QUICK = Sizes(patients=24, drawn_heads=0, epochs=1, heads=1, permutations=20, coverage_runs=50)


def trainings(sizes: Sizes) -> tuple[Run, ...]:
    """Return the three runs; controls are read once instead of over shifts, which is for repeatability alone."""
    full = Run(SHIPPED, "T1W,T2W,FLAIR", sizes.patients, sizes.drawn_heads, sizes.epochs, ("--members", "refit"))
    once = ("--no-repeatability", "--averaged", "1")
    return (
        full,
        replace(full, name="shuffled", options=(*full.options, "--shuffle-labels", *once)),
        replace(full, name="flair-only", signal="FLAIR", patients=max(24, sizes.patients // 2), options=once),
    )


def stages(sizes: Sizes, label_maps: Path, out: Path, seed: int) -> list[Stage]:
    """Return the stages; the bundle that ships comes first."""
    full, shuffled, flair = trainings(sizes)

    def prepared(run: Run) -> list[Stage]:
        count = run.patients / PROCESSES
        return [
            Stage(f"make {run.patients} patients", count * MADE_S, lambda _: runs.make(run, label_maps, out, seed)),
            Stage(f"build {run.patients} tensors", count * TENSORS_S, lambda _: runs.build(run, out)),
        ]

    def trained(run: Run) -> Stage:
        return Stage(f"train {run.name}", run.expected_s, partial(runs.train, run, out, seed))

    cohort, heads = f"{out / f'cohort-{full.cohort}'}", ["--heads", f"{sizes.heads}"]
    permuted = ["permutations", cohort, "--permutations", f"{sizes.permutations}"]
    repeated = sizes.heads * (HEAD_S + TENSORS_S + MADE_S)
    return [
        *prepared(full),
        Stage("exchange labels", 0.4 * sizes.permutations + 15, partial(measure, out, "permutations", permuted)),
        trained(full),
        Stage("repeat, before and after", repeated, partial(repeat, out, heads)),
        Stage("simulate coverage", 0.03 * sizes.coverage_runs,
              partial(measure, out, "coverage", ["coverage", "--runs", f"{sizes.coverage_runs}"])),
        trained(shuffled),
        *prepared(flair),
        trained(flair),
        Stage("write tables", 10, lambda _: write(sizes, out)),
    ]  # fmt: skip


def measure(out: Path, name: str, command: list[str], tell: Tell) -> None:
    """Run a benchmark and keep what it prints as JSON; its exit code says whether its own bars are met."""
    file = out / f"{name}.json"
    if file.exists():
        return
    module, *arguments = command
    done = subprocess.run(
        [*PYTHON, "-m", f"tests.benchmarks.{module}", *arguments, "--json"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    try:
        content = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"{module} failed with {done.returncode}") from None
    tell(f"{module} ended with {done.returncode}")
    _write(file, json.dumps(content, indent=1))


def repeat(out: Path, heads: list[str], tell: Tell) -> None:
    """Measure the repeatability of the new bundle and of the one that ships, side by side."""

    def both(name: str, bundle: str) -> None:
        given = ["repeatability", "--bundle", bundle, "--out", f"{out / f'heads-{name}'}"]
        measure(out, f"repeatability-{name}", [*given, *heads], tell)
        measure(out, f"resliced-{name}", [*given, "--resliced"], tell)

    with ThreadPoolExecutor(PROCESSES) as pool:
        for done in [pool.submit(both, "after", f"{out / SHIPPED}"), pool.submit(both, "before", SHIPPED)]:
            done.result()


def write(sizes: Sizes, out: Path) -> None:
    """Write results, verdicts and tables."""
    given = {run.name: runs.result(run, out) for run in trainings(sizes)}
    permutations = _read(out, "permutations")
    repeatability = {name: _read(out, f"repeatability-{name}") for name in ("before", "after")}
    found = {
        "runs": list(given.values()),
        **permutations,
        "repeatability": {"test heads": given[SHIPPED]["repeatability"]} | repeatability,
        "resliced": {name: _read(out, f"resliced-{name}") for name in ("before", "after")},
        "coverage": _read(out, "coverage"),
        "seconds_a_study": seconds_a_study(out),
        "verdicts": verdicts(given, permutations["permutations"], repeatability["after"]),
    }
    _write(out / "results.json", json.dumps(found, indent=1))
    _write(out / "tables.md", tables(found))


def seconds_a_study(out: Path) -> float:
    """Return how long the scores of a study take on one core."""
    torch.set_num_threads(1)
    networks = WaeNet(open_bundle(f"{out / SHIPPED}"), torch.device("cpu"))
    cohort = open_cohort(out / "cohort-t1w-t2w-flair")
    case = cohort.included[0]
    images = {contrast: cohort.tensor(case, contrast) for contrast in Contrast}
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        for contrast, image in images.items():
            networks.score(contrast, image)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def verdicts(given: dict[str, dict[str, Any]], permutations: dict[str, Any], after: dict[str, Any]) -> dict[str, bool]:
    """Return whether each bar is met."""
    full, shuffled, flair = given.values()
    low, high = shuffled["auc_interval"]
    weights, place = flair["weights"], after["table"]["place"]["ensemble"]
    return {
        f"ensemble AUC of at least {AUC_BAR} on unseen patients": full["auc"] >= AUC_BAR,
        f"at least {ANATOMIES_BAR} unseen anatomies": full["split"]["group"]["test"] >= ANATOMIES_BAR,
        "shuffled labels: the interval covers 0.5": low <= 0.5 <= high,
        "exchanged labels on cheap figures: no sign of a leak": permutations["sentence"].startswith("No sign"),
        "signal in FLAIR alone: FLAIR has the largest weight": weights["FLAIR"] > max(weights["T1W"], weights["T2W"]),
        f"one head, one score: mean SD of at most {MEAN_SD_BAR}, no head above {WORST_SD_BAR}": (
            place["mean_sd"] <= MEAN_SD_BAR and place["worst_sd"] <= WORST_SD_BAR
        ),
        "no patient and no anatomy on both sides": not any(
            part["shared"] for result in given.values() for part in result["split"].values()
        ),
    }


def claim(out: Path, choices: dict[str, Any]) -> None:
    """Make the folder that of these choices, or end if it is that of others: their results would be judged again."""
    out.mkdir(parents=True, exist_ok=True)
    file, said = out / "experiment.json", json.dumps(choices) + "\n"
    if file.exists() and file.read_text("utf-8") != said:
        raise SystemExit(f"{out} holds another experiment: {file.read_text('utf-8').strip()}")
    file.write_text(said, "utf-8")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep every other call out of the folder until this one ends, in whatever way."""
    with (out / "experiment.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"another call is at work in {out}") from None
        yield


def _read(out: Path, name: str) -> Any:
    return json.loads((out / f"{name}.json").read_text("utf-8"))


def _write(file: Path, content: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(content + "\n", "utf-8")
    part.replace(file)


def main() -> None:
    """Carry out all stages and print the tables; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything; a second call goes on")
    parser.add_argument("--label-maps", type=Path, default=DATA / "synthseg-labels")
    parser.add_argument("--patients", type=int, default=Sizes().patients)
    parser.add_argument("--epochs", type=int, default=Sizes().epochs)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="everything in miniature; no bar is judged")
    parser.add_argument("--plan", action="store_true", help="say how long each stage takes, and do nothing")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes(patients=arguments.patients, epochs=arguments.epochs)
    out = arguments.out.absolute()
    known = stages(sizes, arguments.label_maps, out, arguments.seed)
    if arguments.plan:
        print("\n".join(plan(known)))
        return
    claim(out, asdict(sizes) | {"seed": arguments.seed})
    with alone(out):
        carry_out(known, lambda line: print(line, file=sys.stderr, flush=True))
    print((out / "tables.md").read_text("utf-8"))
    met = all(json.loads((out / "results.json").read_text("utf-8"))["verdicts"].values())
    sys.exit(0 if met or arguments.quick else 1)


if __name__ == "__main__":
    main()
