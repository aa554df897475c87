"""A process computes on the cores it was given, not on all that the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.engine.threads import physical_cores


def test_affinity_and_environment_bound_the_threads():
    """In a fresh process that may run on one CPU: what is bound, PyTorch's number, SimpleITK's."""
    code = (
        "import os, torch, SimpleITK as sitk; from dicom_node.engine.threads import bound_threads\n"
        "for stated in ('', '3', '0', 'many'):\n"
        "    os.environ['OMP_NUM_THREADS'] = stated\n"
        "    print(bound_threads(), torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads())"
    )
    one = {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, one),
    )  # fmt: skip
    assert done.stdout.split() == [*["1"] * 3, *["3"] * 3, *["1"] * 6]


@pytest.mark.parametrize(("cpus", "cores"), [({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({0, 9}, 2)])
def test_threads_of_one_core_count_once(tmp_path: Path, cpus: set[int], cores: int):
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{cpu % 2}\n")
    assert physical_cores(cpus, tmp_path) == cores
