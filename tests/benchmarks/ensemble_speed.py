"""Seconds and memory of three networks on one study: ``python -m tests.benchmarks.ensemble_speed [--stride 1|2]``.

The networks as trained (MONAI's, bit for bit) in eager float32 against the same arranged for reading
(`models.inference`), on 256 x 256 x 128 voxels of real brains. Each kind lives in a process of its own and they take
turns, so that a busy machine slows both. With a CUDA device the same on it, with half precision as a third kind, and
the share of the card's memory bandwidth that a pass reaches.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from tests.support.services import DATA

BAR_RATIO, BAR_DIFFERENCE = 4.0, 1e-3
STEEP = 2.0
"""Logits of an untrained network lie close together; scaled to this standard deviation they do as after training."""
_SEQUENCES = ("t1w", "t2w", "flair")
_CUDA_BATCH = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process measures."""

    what: str
    arranged: bool
    device: str
    stride: int
    threads: int
    half: bool = False


@dataclass(slots=True)
class Cost:
    """What a kind took for the ensemble: seconds of each round, memory before and at its peak, logits."""

    what: str
    logits: list[float] = field(default_factory=list)
    rounds_s: list[float] = field(default_factory=list)
    before_gb: float = 0.0
    peak_gb: float = 0.0
    volumes_per_s: float | None = None
    moved_gb: float | None = None

    @property
    def seconds(self) -> float:
        """Median for three volumes."""
        return statistics.median(self.rounds_s)


class _Kind:
    """Three loaded networks and what is measured of them; lives in a process of its own."""

    def __init__(self, plan: Plan, tensors: Path) -> None:
        import torch

        from models.efficientnet3d import demonstration_network
        from models.inference import for_inference

        torch.set_num_threads(plan.threads)
        self.plan, self.device = plan, torch.device(plan.device)
        networks = [demonstration_network(plan.stride, seed).eval() for seed in range(len(_SEQUENCES))]
        arrange = for_inference if plan.arranged else lambda network, device: network.to(device)
        self.networks = [arrange(network, self.device) for network in networks]
        self.volumes = torch.from_numpy(np.load(tensors))[:, None, None].to(self.device)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on: proc(5)
        self.cost = Cost(plan.what, before_gb=_held_gb("VmRSS"))

    def round(self) -> None:
        """Read the study once more."""
        started_s = time.perf_counter()
        self.cost.logits = [self._logits(n, v)[0] for n, v in zip(self.networks, self.volumes, strict=True)]
        self.cost.rounds_s.append(time.perf_counter() - started_s)

    def finish(self) -> Cost:
        """Return the cost; the first round warmed up and is left out."""
        self.cost.rounds_s = self.cost.rounds_s[1:]
        if self.device.type == "cuda":
            self._finish_cuda()
        else:
            self.cost.peak_gb = _held_gb("VmHWM")
        return self.cost

    def _logits(self, network: Callable, batch) -> list[float]:
        import torch

        from models.inference import full_float32

        half = torch.autocast(self.device.type, torch.float16, enabled=self.plan.half)
        with torch.no_grad(), full_float32(), half:
            return network(batch).float().flatten().tolist()

    def _finish_cuda(self) -> None:
        import torch

        self.cost.peak_gb = torch.cuda.max_memory_allocated() / 1e9
        self.cost.moved_gb = sum(moved_bytes(n, partial(self._logits, n, self.volumes[0])) for n in self.networks) / 1e9
        batch = self.volumes[0].expand(_CUDA_BATCH, -1, -1, -1, -1).contiguous()
        self._logits(self.networks[0], batch)
        started_s = time.perf_counter()
        for network in self.networks:
            self._logits(network, batch)
        self.cost.volumes_per_s = len(self.networks) * _CUDA_BATCH / (time.perf_counter() - started_s)


def moved_bytes(network, run: Callable[[], object]) -> int:
    """Return the bytes that the layers of a network read and write in a pass: inputs, outputs and weights of each.

    What happens between layers (gates, skips) is left out, so the share of the bandwidth is rather too small.
    """
    import torch

    total = 0

    def count(module, inputs, output) -> None:
        nonlocal total
        weights = list(module.parameters(recurse=False))
        total += sum(t.numel() * t.element_size() for t in (*inputs, output, *weights) if isinstance(t, torch.Tensor))

    leaves = [m for m in network.modules() if not list(m.children()) and not isinstance(m, torch.nn.Identity)]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return total


def bandwidth_gb_s(rounds: int = 20) -> float:
    """Return what a CUDA device reaches when it copies a gigabyte: bytes read and written per second."""
    import torch

    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize()
    started_s = time.perf_counter()
    for _ in range(rounds):
        target.copy_(source)
    torch.cuda.synchronize()
    return 2 * rounds * source.numel() / (time.perf_counter() - started_s) / 1e9


def _held_gb(line: str) -> float:
    """Return memory of this process as its status tells; VmHWM is the largest VmRSS so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(entry.split()[1]) * 1024 / 1e9 for entry in status if entry.startswith(f"{line}:"))


def write_tensors(path: Path) -> None:
    """Write the model tensors of one real patient with the given brain masks: float32 (3, 128, 256, 256)."""
    import SimpleITK as sitk

    from models.bundle import Grid
    from pipeline.grid import brain_centred, canonical, resample
    from pipeline.intensity import standardise

    tensors = []
    for sequence in _SEQUENCES:
        names = (f"patient04-study1-{sequence}.nii.gz", f"patient04-study1-{sequence}-brainmask.nii.gz")
        image, mask = (canonical(sitk.ReadImage(str(DATA / "open-ms" / name), sitk.sitkFloat32)) for name in names)
        mask = sitk.Cast(mask > 0, sitk.sitkUInt8)
        model_grid = Grid(size_xyz=(256, 256, 128), spacing_xyz_mm=(1.0, 1.0, 1.5), centre="brain")
        grid = brain_centred(mask, model_grid)
        volume, brain = (sitk.GetArrayFromImage(resample(one, grid, nearest=one is mask)) for one in (image, mask))
        tensors.append(standardise(volume, brain))
    np.save(path, np.stack(tensors))


_here: _Kind | None = None


def _start(plan: Plan, tensors: Path) -> None:
    global _here  # noqa: PLW0603 - the state of a process that does nothing else
    _here = _Kind(plan, tensors)


def _call(method: str):
    return getattr(_here, method)()


def measure(plans: list[Plan], tensors: Path, rounds: int) -> list[Cost]:
    """Return the cost of each kind; they take turns, round by round."""
    spawn = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, spawn, _start, (plan, tensors)) for plan in plans]
    try:
        for _ in range(rounds + 1):
            for pool in pools:
                pool.submit(_call, "round").result()
        return [pool.submit(_call, "finish").result() for pool in pools]
    finally:
        for pool in pools:
            pool.shutdown()


def difference(first: Cost, second: Cost, factor: float = 1.0) -> float:
    """Return the largest absolute difference of two kinds' scores, their logits multiplied by `factor`."""
    scores = [1 / (1 + np.exp(-factor * np.array(cost.logits))) for cost in (first, second)]
    return float(np.abs(scores[0] - scores[1]).max())


def compare(costs: list[Cost], bandwidth: float | None) -> list[dict]:
    """Return one row for each kind, compared with the first."""
    base, factor = costs[0], STEEP / float(np.std(costs[0].logits))
    return [
        {
            **asdict(cost),
            "seconds": cost.seconds,
            "ratio": base.seconds / cost.seconds,
            "difference": difference(base, cost),
            "difference_steep": difference(base, cost, factor),
            "bandwidth_share": cost.moved_gb / cost.seconds / bandwidth if cost.moved_gb and bandwidth else None,
        }
        for cost in costs
    ]


def _print(rows: list[dict]) -> None:
    for row in rows:
        print(
            f"{row['what']}: {row['seconds']:.3f} s for three volumes, {row['ratio']:.2f} times as fast, "
            f"{row['peak_gb']:.2f} GB peak ({row['before_gb']:.2f} before), score differs by at most "
            f"{row['difference']:.1e} ({row['difference_steep']:.1e} with logits as spread as after training)"
        )
        if row["volumes_per_s"]:
            share = f"{row['bandwidth_share']:.0%} of the memory bandwidth"
            print(f"    {row['volumes_per_s']:.1f} volumes/s in batches of {_CUDA_BATCH}, {share} at batch 1")


def main() -> None:
    """Measure and print; the bar is that of issue 5 for the CPU."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, choices=(1, 2), default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), action="append", help="both where there is a card")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # Threads that wait by spinning keep a busy machine from the very thread they wait for: ten times slower then.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        tensors = Path(folder) / "tensors.npy"
        write_tensors(tensors)
        for device in arguments.device or _devices():
            kinds = [("as trained, eager float32", False, False), ("arranged for reading", True, False)]
            kinds += [("arranged, float16 autocast", True, True)] if device == "cuda" else []
            plans = [Plan(what, arr, device, arguments.stride, arguments.threads, half) for what, arr, half in kinds]
            costs = measure(plans, tensors, arguments.rounds)
            report[device] = compare(costs, bandwidth_gb_s() if device == "cuda" else None)
    if arguments.json:
        print(json.dumps({"stride": arguments.stride, "devices": report}, indent=2))
        return
    for device, rows in report.items():
        print(f"{device}, first-block stride {arguments.stride}")
        _print(rows)
    if "cpu" in report:
        ours = report["cpu"][1]
        good = ours["ratio"] >= BAR_RATIO and ours["difference_steep"] <= BAR_DIFFERENCE
        print(f"bar of {BAR_RATIO:.0f} times and {BAR_DIFFERENCE} on the CPU: {'met' if good else 'MISSED'}")


def _devices() -> list[str]:
    """Look for a card in a process of its own: this one stays small."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return ["cpu", "cuda"] if pool.submit(_has_cuda).result() else ["cpu"]


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    main()
