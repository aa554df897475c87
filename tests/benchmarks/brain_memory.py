"""Memory of one worker from study to study: ``python -m tests.benchmarks.brain_memory [--studies 50] [--masks]``.

Whole studies by default; with ``--masks`` brain extraction alone, for a quick look. Exit code 1 if the memory after all
studies is more than 5 % above that after 5.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from dicom_node.engine.threads import bound_threads
from models.brain_extractor import BrainExtractor
from models.brain_weights import EMBEDDED, open_brain_weights
from models.bundle import open_bundle
from models.contrast import Contrast
from pipeline.brain import extract_brain
from pipeline.grid import canonical
from pipeline.mask_agreement import compare_masks
from pipeline.select import select_study
from pipeline.study import load_models, run_study
from pipeline.synthetic import write_study
from pipeline.synthetic.anatomy import procedural_head
from pipeline.synthetic.rendering import render

FIRST_MARK = 5
MAX_GROWTH = 0.05


def resident_mb() -> float:
    """Return the resident memory of this process after a garbage collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def grown(read_one: Callable[[int], object], studies: int) -> list[float]:
    """Return the memory in MB after each study."""
    memory_mb = []
    for number in range(studies):
        read_one(number)
        memory_mb.append(resident_mb())
    return memory_mb


def whole_studies(folder: Path) -> Callable[[int], object]:
    """Return a function that reads one of two made studies as a worker does."""
    weights = open_brain_weights("embedded", EMBEDDED)
    models = load_models(open_bundle("untrained-demo"), weights, torch.device("cpu"))
    studies = [write_study(folder / str(seed), seed=seed, quick=True) for seed in (1, 2)]

    def read(number: int) -> object:
        result = run_study(select_study(studies[number % 2].all_files), folder / "out", models)
        assert result.finding is not None, result.held
        return result

    return read


def masks_alone() -> Callable[[int], object]:
    """Return a function that extracts the brain of three sequences of a made head, each time with other noise."""
    extractor = BrainExtractor(open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))
    labels = procedural_head(1, spacing_mm=2.0)
    images = {
        role: render(labels, role, spacing_xyz_mm=(2.0, 2.0, 4.0), seed=1, brain_slices=True) for role in Contrast
    }
    volumes = {role: canonical(sitk.Cast(image, sitk.sitkFloat32)) for role, image in images.items()}

    def read(number: int) -> object:
        random, masks = np.random.default_rng(number), {}
        for role, volume in volumes.items():
            noisy = sitk.GetImageFromArray(sitk.GetArrayFromImage(volume) + random.normal(0, 5, volume.GetSize()[::-1]))
            noisy.CopyInformation(volume)
            masks[role], _ = extract_brain(sitk.Cast(noisy, sitk.sitkFloat32), extractor)
        return compare_masks(masks)

    return read


def main() -> None:
    """Read studies and print the memory after some of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--masks", action="store_true", help="brain extraction alone")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bound_threads()
    with tempfile.TemporaryDirectory() as folder:
        memory_mb = grown(masks_alone() if arguments.masks else whole_studies(Path(folder)), arguments.studies)
    growth = memory_mb[-1] / memory_mb[FIRST_MARK - 1] - 1
    if arguments.json:
        print(json.dumps({"memory_mb": memory_mb, "growth": growth}))
    else:
        print(f"after {FIRST_MARK} studies {memory_mb[FIRST_MARK - 1]:.0f} MB, after {len(memory_mb)} "
              f"{memory_mb[-1]:.0f} MB: {100 * growth:+.1f} %")  # fmt: skip
    sys.exit(1 if growth > MAX_GROWTH else 0)


if __name__ == "__main__":
    main()
