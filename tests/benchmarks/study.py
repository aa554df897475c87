"""Study to report with a warm worker, step by step: ``python -m tests.benchmarks.study [--against COMMIT]``.

Five studies of real scans (two patients of open-ms; the other three exchange a sequence between them, under one made
name) are read from DICOM files by a process that has its models, each once for warmth and then ROUNDS times. With
``--against`` a process of that commit takes turns with this one, study by study, so that a busy machine slows both;
Dice of the masks and differences of the scores between the two are printed. Half a minute a round on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
STUDIES: Final = (
    ("patient04-study1",) * 3,
    ("patient03-study2",) * 3,
    ("patient04-study1", "patient04-study1", "patient03-study2"),
    ("patient03-study2", "patient03-study2", "patient04-study1"),
    ("patient04-study1", "patient03-study2", "patient04-study1"),
)
"""Whose T1W, T2W and FLAIR."""
STEPS: Final = ("select", "convert", "strip", "predict", "report", "rest")
RATIO_BAR, DICE_BAR, SCORE_BAR = 0.6, 0.998, 1e-3
_LONG_S: Final = 600


class Reader:
    """A process of some commit that reads studies with models that it keeps."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-P", str(Path(__file__)), "--child"]
        environment = os.environ | {"PYTHONPATH": str(root)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, cwd=root, text=True)
        self.start_s: float = self._answer()["start"]

    def read(self, study: Path, out: Path) -> dict[str, Any]:
        """Return seconds by step, their total and the scores; the masks lie in the folder `out`."""
        assert self._process.stdin
        print(json.dumps([str(study), str(out)]), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(_LONG_S)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("The reading process ended early; what it said stands above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def child() -> None:
    """Load the models, then read one study for each line of the input."""
    began = time.perf_counter()
    import torch

    from dicom_node.engine.threads import bound_threads
    from models.brain_weights import EMBEDDED, open_brain_weights
    from models.bundle import open_bundle
    from pipeline.select import select_study
    from pipeline.study import load_models, run_study

    bound_threads()
    weights = open_brain_weights("embedded", EMBEDDED)
    models = load_models(open_bundle("synthetic-demo"), weights, torch.device("cpu"))
    say = sys.stdout
    print(json.dumps({"start": time.perf_counter() - began}), file=say, flush=True)
    for line in sys.stdin:
        study, out = map(Path, json.loads(line))
        out.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        selection = select_study([path for path in study.rglob("*") if path.is_file()])
        selected_s = time.perf_counter() - began

        def step(name: str, function: Any, out: Path = out) -> Any:
            value = function()
            if name == "strip":
                for mask in (out / "work").glob("mask_*.nrrd"):
                    os.link(mask, out / mask.name)
            return value

        result = run_study(selection, out, models, step=step)
        total = time.perf_counter() - began
        seconds = {"select": selected_s, **result.timings_s}
        seconds["rest"] = total - sum(seconds.values())
        said = result.as_json()
        answer = {"seconds": seconds, "total": total, "state": said["state"], "scores": said.get("scores") or {}}
        print(json.dumps(answer), file=say, flush=True)


def write_studies(folder: Path) -> list[Path]:
    """Return the folders of the five studies."""
    from models.contrast import Contrast
    from pipeline.synthetic import StudyTags, nifti_study
    from tests.support.services import DATA

    written = []
    for number, whose in enumerate(STUDIES):
        files = {
            role: DATA / "open-ms" / f"{patient}-{role.lower()}.nii.gz"
            for role, patient in zip(Contrast, whose, strict=True)
        }
        written.append(folder / f"study{number}")
        nifti_study(written[-1], files, StudyTags(study_uid=f"2.25.1700000000000000000000000000000{number}"))
    return written


@contextmanager
def checked_out(commit: str | None) -> Iterator[Path | None]:
    """Yield a folder with the files of a commit; None for none."""
    if commit is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="dicom-node-against-") as folder:
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--force", folder, commit], check=True, capture_output=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run([*git, "remove", "--force", folder], check=True, capture_output=True)


def compare(one: Path, other: Path) -> float:
    """Return the lowest Dice of the masks in two folders."""
    import SimpleITK as sitk

    found = []
    for file in sorted(one.glob("mask_*.nrrd")):
        masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / file.name))) > 0 for folder in (one, other)]
        found.append(2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()))
    return float(min(found))


def print_costs(what: str, start_s: float, answers: list[dict[str, Any]]) -> float:
    """Print the medians of a commit, and return that of the whole."""
    print(f"{what}: models loaded in {start_s:.1f} s")
    total = statistics.median(answer["total"] for answer in answers)
    for name in STEPS:
        seconds = statistics.median(answer["seconds"].get(name, 0.0) for answer in answers)
        print(f"  {name:8} {seconds:6.2f} s  {seconds / total:4.0%}")
    print(f"  {'total':8} {total:6.2f} s")
    return total


def main() -> int:
    """Print the medians, and whether the bars hold against another commit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="COMMIT", help="Measure a commit in the same run.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--studies", type=int, default=len(STUDIES), help="How many of the five.")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child()
        return 0
    with tempfile.TemporaryDirectory(prefix="dicom-node-study-") as temporary, checked_out(asked.against) as other:
        folder = Path(temporary)
        studies = write_studies(folder)[: asked.studies]
        readers = {"now": Reader(ROOT)} | ({asked.against: Reader(other)} if other else {})
        answers: dict[str, list[dict[str, Any]]] = {what: [] for what in readers}
        dices, scores = [], []
        for turn in range(asked.rounds + 1):
            for number, study in enumerate(studies):
                outs = [folder / f"{what}-{number}-{turn}" for what in readers]
                said = [reader.read(study, out) for reader, out in zip(readers.values(), outs, strict=True)]
                if turn == 0:
                    continue
                for what, answer in zip(readers, said, strict=True):
                    answers[what].append(answer)
                if other:
                    dices.append(compare(*outs))
                    scores += [abs(said[0]["scores"][role] - value) for role, value in said[1]["scores"].items()]
        for reader in readers.values():
            reader.close()
    totals = [print_costs(what, readers[what].start_s, found) for what, found in answers.items()]
    print(f"states: {', '.join(sorted({answer['state'] for found in answers.values() for answer in found}))}")
    if not other:
        return 0
    ratio, dice, difference = totals[0] / totals[1], min(dices), max(scores, default=0.0)
    print(f"ratio {ratio:.2f} (bar {RATIO_BAR}), masks: lowest Dice {dice:.4f} (bar {DICE_BAR}), "
          f"scores: largest difference {difference:.1e} (bar {SCORE_BAR:.0e})")  # fmt: skip
    return 0 if ratio <= RATIO_BAR and dice >= DICE_BAR and difference <= SCORE_BAR else 1


if __name__ == "__main__":
    sys.exit(main())
