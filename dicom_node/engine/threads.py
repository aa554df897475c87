"""How many threads a process computes with: the physical cores that it may use, or what the environment says."""

from __future__ import annotations

import os
from pathlib import Path

import SimpleITK as sitk
import torch

_CPUS = Path("/sys/devices/system/cpu")


def bound_threads() -> int:
    """Return how many threads PyTorch, nnU-Net and SimpleITK use from here on in this process.

    ``OMP_NUM_THREADS`` has its usual meaning. Without it: the physical cores that the process may run on, which
    taskset, systemd's CPUAffinity and containers restrict; two threads on one core only take turns.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(stated) if stated.isdecimal() and int(stated) > 0 else physical_cores(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return threads


def physical_cores(cpus: set[int], folder: Path = _CPUS) -> int:
    """Return the number of physical cores that some logical ones lie on; their own where nothing reports it."""
    try:
        places = {
            tuple((folder / f"cpu{cpu}" / "topology" / name).read_text() for name in ("physical_package_id", "core_id"))
            for cpu in cpus
        }
    except OSError:
        return len(cpus)
    return len(places)
