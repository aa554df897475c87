"""What a GPU gives, and that it says the same: ``python -m tests.benchmarks.gpu [--dry-run] [--only PART]``.

Made to run once where a GPU is lent, in less than eight minutes: masks and scores against those of the CPU; the
ensemble as it is, with channels last, as a CUDA graph and, for information only, in bfloat16; brain networks of the
embedded and of the official size (random weights: the time does not depend on the numbers); a study with a warm worker;
and what becomes of a study when the memory runs out. ``--dry-run`` goes the same way on the CPU with small volumes, and
leaves out what only a GPU has.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from dicom_node.engine.threads import bound_threads
from models.brain_extractor import BrainExtractor
from models.brain_weights import EMBEDDED, BrainWeights, open_brain_weights
from models.bundle import open_bundle, write_checksums
from models.contrast import Contrast
from models.efficientnet3d import demonstration_network
from models.inference import for_inference, full_float32
from pipeline.select import select_study
from pipeline.study import Models, load_models, run_study
from tests.benchmarks.study import compare, write_studies
from tests.support.hd_bet_models import OFFICIAL_FEATURES, write_model

DICE_BAR, SCORE_BAR = 0.999, 1e-3
CPU: Final = torch.device("cpu")
NO_GPU: Final = "PyTorch finds no GPU here: run this where there is one, or try the script itself with --dry-run."
_FULL_SHAPE, _SMALL_SHAPE = (128, 256, 256), (64, 64, 64)
_STUDIES, _ROUNDS = 2, 5
_LITTLE: Final = 0.002
"""Share of the card's memory that a process without enough of it may take."""

_Network = Callable[[torch.Tensor], torch.Tensor]


class Part(StrEnum):
    """What is tried."""

    EQUAL = "equal"
    ENSEMBLE = "ensemble"
    BRAIN = "brain"
    STUDY = "study"
    MEMORY = "memory"


class Bench:
    """One device, and what is measured on it.

    Parameters
    ----------
    device
        A GPU, or the CPU in a dry run.
    folder
        Empty.
    """

    def __init__(self, device: torch.device, folder: Path) -> None:
        self._device, self._folder = device, folder
        self._gpu = device.type == "cuda"
        self._count = _STUDIES if self._gpu else 1
        self._loaded: dict[torch.device, Models] = {}
        self._studies: list[Path] = []

    def run(self, part: Part) -> dict[str, Any]:
        """Return what a part found."""
        parts: dict[Part, Callable[[], dict[str, Any]]] = {
            Part.EQUAL: self.equal,
            Part.ENSEMBLE: self.ensemble,
            Part.BRAIN: self.brain,
            Part.STUDY: self.study,
            Part.MEMORY: self.memory,
        }
        return parts[part]()

    def equal(self) -> dict[str, Any]:
        """Return the lowest Dice of the masks and the largest difference of the scores to those of the CPU."""
        dices, differences = [], []
        for study in self.studies():
            outs = [self._folder / f"{study.name}-{what}" for what in ("cpu", "device")]
            said = [self._read(study, out, device)[0] for out, device in zip(outs, (CPU, self._device), strict=True)]
            dices.append(compare(*outs))
            differences += [abs(said[0][role] - said[1][role]) for role in said[0]]
        found = {"dice": min(dices), "score_difference": max(differences)}
        return found | {"good": found["dice"] >= DICE_BAR and found["score_difference"] <= SCORE_BAR}

    def ensemble(self) -> dict[str, Any]:
        """Return median milliseconds of three passes, and how far each way's logits lie from the first one's."""
        networks = [demonstration_network(2, seed).eval().to(self._device) for seed in range(len(Contrast))]
        folded = [for_inference(network, self._device) for network in networks]
        shape = _FULL_SHAPE if self._gpu else _SMALL_SHAPE
        volume = torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(1)).to(self._device)
        ways: dict[str, Sequence[_Network]] = {
            "eager": networks,
            "folded": folded,
            "bfloat16": [_in_bfloat16(each, self._device) for each in networks],
        }
        if self._gpu:
            ways["channels last"] = [_channels_last(each) for each in folded]
            ways["CUDA graph"] = [_as_graph(each, volume) for each in folded]
        found: dict[str, Any] = {}
        with torch.inference_mode(), full_float32():
            first = [float(network(volume)) for network in networks]
            for what, ensemble in ways.items():
                milliseconds = self._median_ms(partial(_read_all, ensemble, volume))
                logits = [float(network(volume)) for network in ensemble]
                apart = max(abs(one - other) for one, other in zip(first, logits, strict=True))
                found[what] = {"ms": milliseconds, "logits_apart": apart}
        return found

    def brain(self) -> dict[str, Any]:
        """Return seconds and peak memory of the brain networks of both sizes on one volume of 1 mm."""
        shape, patch = ((176, 224, 192), 128) if self._gpu else ((40, 48, 40), 32)
        volume = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
        features = OFFICIAL_FEATURES if self._gpu else (4, 8)
        official = write_model(self._folder / "official", features, patch_voxels=patch, spacing_mm=1.0)
        write_checksums(official)
        found = {}
        for what, folder in (("embedded", EMBEDDED), ("official size", official)):
            found[what] = self._brain(open_brain_weights(what, folder), volume)
        return found

    def _brain(self, weights: BrainWeights, volume: np.ndarray) -> dict[str, Any]:
        extractor = BrainExtractor(weights, self._device)
        extractor.mask(volume, (1.0, 1.0, 1.0))
        with self._peak() as peak_gb:
            began = time.perf_counter()
            extractor.mask(volume, (1.0, 1.0, 1.0))
            seconds = time.perf_counter() - began
        return {"seconds": seconds, "peak_gb": peak_gb()}

    def study(self) -> dict[str, Any]:
        """Return median seconds from files to report with a warm worker, by step, and the peak memory."""
        study, taken = self.studies()[0], []
        with self._peak() as peak_gb:
            for turn in range(_ROUNDS if self._gpu else 2):
                _, seconds = self._read(study, self._folder / f"warm{turn}", self._device)
                taken.append(seconds)
        medians = {step: statistics.median(each[step] for each in taken[1:]) for step in taken[0]}
        return {"seconds": medians, "peak_gb": peak_gb()}

    def memory(self) -> dict[str, Any]:
        """Return what a study comes to without enough memory, and whether the same process reads it afterwards."""
        if not self._gpu:
            return {"left out": "only a GPU has memory of its own"}
        study = self.studies()[0]
        self._read(study, self._folder / "enough", self._device)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(_LITTLE, self._device)
        try:
            self._read(study, self._folder / "little", self._device)
            outcome = "read all the same"
        except torch.OutOfMemoryError:
            outcome = "OutOfMemoryError leaves the step"
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)
        scores, _ = self._read(study, self._folder / "again", self._device)
        return {"without enough": outcome, "read afterwards": bool(scores)}

    def studies(self) -> list[Path]:
        """Return folders of real studies, written once."""
        self._studies = self._studies or write_studies(self._folder / "studies")[: self._count]
        return self._studies

    def _models(self, device: torch.device) -> Models:
        if device not in self._loaded:
            weights = open_brain_weights("embedded", EMBEDDED)
            self._loaded[device] = load_models(open_bundle("synthetic-demo"), weights, device)
        return self._loaded[device]

    def _read(self, study: Path, out: Path, device: torch.device) -> tuple[dict[str, float], dict[str, float]]:
        """Return scores, and seconds by step; the masks lie in `out`."""
        models = self._models(device)
        out.mkdir()
        began = time.perf_counter()
        selection = select_study([path for path in study.rglob("*") if path.is_file()])

        def step(name: str, function: Any) -> Any:
            value = function()
            if name == "strip":
                for mask in (out / "work").glob("mask_*.nrrd"):
                    (out / mask.name).hardlink_to(mask)
            return value

        result = run_study(selection, out, models, step=step)
        seconds = {**result.timings_s, "total": time.perf_counter() - began}
        return {str(role): score for role, score in (result.as_json().get("scores") or {}).items()}, seconds

    def _median_ms(self, function: Callable[[], object]) -> float:
        taken = []
        for _ in range(_ROUNDS + 1):
            self._wait()
            began = time.perf_counter()
            function()
            self._wait()
            taken.append(1000 * (time.perf_counter() - began))
        return statistics.median(taken[1:])

    def _wait(self) -> None:
        if self._gpu:
            torch.cuda.synchronize(self._device)

    @contextmanager
    def _peak(self) -> Iterator[Callable[[], float | None]]:
        """Yield what returns the most memory that the device has held since, in GB; None on a CPU."""
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        yield lambda: torch.cuda.max_memory_allocated(self._device) / 1e9 if self._gpu else None


def _read_all(ensemble: Sequence[_Network], volume: torch.Tensor) -> None:
    for network in ensemble:
        network(volume)


def _channels_last(network: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def _in_bfloat16(network: torch.nn.Module, device: torch.device) -> _Network:
    def read(volume: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits: torch.Tensor = network(volume)
        return logits

    return read


def _as_graph(network: torch.nn.Module, volume: torch.Tensor) -> _Network:
    """Return a pass that was recorded once and is played again."""
    held = volume.clone()
    with torch.inference_mode(), full_float32():
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                network(held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = network(held)

    def read(given: torch.Tensor) -> torch.Tensor:
        held.copy_(given)
        graph.replay()
        return logits

    return read


def main(words: list[str] | None = None) -> int:
    """Print what each part found; exit 1 if masks or scores are not those of the CPU, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, to try the script")
    parser.add_argument("--only", type=Part, choices=list(Part), action="append")
    parser.add_argument("--json", type=Path, help="write what was found to this file too")
    asked = parser.parse_args(words)
    if not asked.dry_run and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    bound_threads()
    device = CPU if asked.dry_run else torch.device("cuda:0")
    print(f"device: {'the CPU, a dry run' if asked.dry_run else torch.cuda.get_device_name(device)}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="dicom-node-gpu-") as folder:
        bench = Bench(device, Path(folder))
        for part in asked.only or Part:
            began = time.perf_counter()
            found[str(part)] = bench.run(part)
            print(f"{part} ({time.perf_counter() - began:.0f} s): {json.dumps(found[part])}", flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=2), "utf-8")
    return 0 if found.get(Part.EQUAL, {}).get("good", True) else 1


if __name__ == "__main__":
    sys.exit(main())
