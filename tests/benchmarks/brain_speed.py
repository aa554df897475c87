"""Seconds and memory of brain extraction: ``python -m tests.benchmarks.brain_speed [--volumes FILE ...]``.

Three sequences with the embedded weights, in process as the worker does it; then the same volumes with the ``hd-bet``
command and weights of the official size (random: the time does not depend on the numbers). Takes ten minutes and more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.hd_bet_models import OFFICIAL_FEATURES, write_model
from tests.support.services import DATA

VOLUMES = tuple(DATA / "open-ms" / f"patient04-study1-{role}.nii.gz" for role in ("t1w", "t2w", "flair"))
BAR_S, BAR_GB = 30.0, 3.0
_POLL_S = 3.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took: with the start of its processes, and without where that can be told apart."""

    what: str
    seconds: float
    peak_gb: float
    start_s: float = 0.0


def embedded(volumes: list[Path]) -> Cost:
    """Return what a worker pays for some volumes, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_extract, volumes).result()


def _extract(volumes: list[Path]) -> Cost:
    started_s = time.perf_counter()
    import SimpleITK as sitk
    import torch

    from dicom_node.engine.threads import bound_threads
    from models.brain_extractor import BrainExtractor
    from models.brain_weights import EMBEDDED, open_brain_weights
    from pipeline.brain import extract_brain
    from pipeline.grid import canonical

    bound_threads()
    extractor = BrainExtractor(open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))
    loaded_s = time.perf_counter()
    for path in volumes:
        extract_brain(canonical(sitk.ReadImage(str(path), sitk.sitkFloat32)), extractor)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Cost("embedded, in process", time.perf_counter() - loaded_s, peak_gb, loaded_s - started_s)


def hd_bet(volumes: list[Path], home: Path) -> Cost:
    """Return what the command takes for the same volumes, one call for all."""
    write_model(home / "hd-bet_params" / "release_2.0.0", OFFICIAL_FEATURES, patch_voxels=128, spacing_mm=1.0)
    images = home / "images"
    _write_canonical(volumes, images)
    command = [str(Path(sys.executable).with_name("hd-bet")), "-i", str(images), "-o", str(home / "out")]
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [*command, "-device", "cpu", "--disable_tta", "--save_bet_mask", "--no_bet_image"],
        env={**os.environ, "HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with _peak_of_tree(process.pid) as peak:
        code = process.wait()
    if code:
        raise SystemExit(f"hd-bet ended with {code}")
    return Cost("hd-bet command, official size", time.perf_counter() - started_s, peak[0] / 1e9)


def _write_canonical(volumes: list[Path], folder: Path) -> None:
    import SimpleITK as sitk

    from pipeline.grid import canonical

    folder.mkdir()
    for number, path in enumerate(volumes):
        image = canonical(sitk.ReadImage(str(path), sitk.sitkFloat32))
        sitk.WriteImage(image, str(folder / f"{number}.nii.gz"))


@contextmanager
def _peak_of_tree(pid: int) -> Iterator[list[int]]:
    """Yield a list whose only number becomes the largest memory, in bytes, of a process and its descendants."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(_POLL_S):
            peak[0] = max(peak[0], sum(_bytes(one) for one in _tree(pid)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _bytes(pid: int) -> int:
    """Return the memory of a process, shared pages by their share (PSS)."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def main() -> None:
    """Measure both and print seconds, peak memory and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=Path, nargs="+", default=list(VOLUMES))
    parser.add_argument("--without-command", action="store_true", help="measure the embedded weights alone")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    costs = [embedded(arguments.volumes)]
    if not arguments.without_command:
        with tempfile.TemporaryDirectory() as home:
            costs.append(hd_bet(arguments.volumes, Path(home)))
    good = costs[0].seconds <= BAR_S and costs[0].peak_gb <= BAR_GB
    ratio = costs[-1].seconds / costs[0].seconds if len(costs) == 2 else None
    if arguments.json:
        print(json.dumps({"costs": [asdict(cost) for cost in costs], "ratio": ratio, "bar_met": good}, indent=2))
        return
    for cost in costs:
        start = f", and {cost.start_s:.1f} s once to load" if cost.start_s else ""
        print(
            f"{cost.what}: {len(arguments.volumes)} volumes in {cost.seconds:.1f} s{start}, {cost.peak_gb:.2f} GB peak"
        )
    print(f"bar of {BAR_S:.0f} s and {BAR_GB:.0f} GB for three sequences: {'met' if good else 'MISSED'}")
    if ratio:
        print(f"the command takes {ratio:.1f} times as long")


if __name__ == "__main__":
    main()
