"""A process computes on the cores it was given, not on all that the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.threads import physical_cores


def bound(environment: dict[str, str], cpus: set[int]) -> list[int]:
    """Return what a fresh process on some CPUs bounds: the number itself, PyTorch's, SimpleITK's."""
    code = (
        "import torch, SimpleITK as sitk; from dicom_node.threads import bound_threads;"
        "print(bound_threads(), torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads())"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )  # fmt: skip
    return [int(number) for number in done.stdout.split()]


def test_affinity_and_environment_bound_the_threads():
    one = {min(os.sched_getaffinity(0))}
    assert bound({}, one) == [1, 1, 1]
    assert bound({"OMP_NUM_THREADS": "3"}, one) == [3, 3, 3]
    assert bound({"OMP_NUM_THREADS": "0"}, one) == [1, 1, 1]


@pytest.mark.parametrize(("cpus", "cores"), [({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({0, 9}, 2)])
def test_threads_of_one_core_count_once(tmp_path: Path, cpus: set[int], cores: int):
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{cpu % 2}\n")
    assert physical_cores(cpus, tmp_path) == cores
