"""The studies of a cohort, one after the other or several at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.brain_weights import BrainWeights
from models.bundle import ModelError
from pipeline.cohort.record import Making, Record, read_study

_extractor: BrainExtractor | None = None
"""Of a process of the pool; loaded once."""


def read_all(
    folders: dict[str, Path], making: Making, extractor: BrainExtractor, workers: int
) -> Iterator[tuple[str, Record]]:
    """Yield the record of every study with its case, as each becomes known; see `read_study`.

    Parameters
    ----------
    folders
        By case.
    making
        How the tensors are made.
    extractor
        Finds the brain; other processes load the same weights on the same device.
    workers
        Processes; 1: this one.

    Raises
    ------
    ModelError
        ``cohort_worker_ended`` if a process was ended from outside.
    """
    if workers <= 1:
        for case, folder in folders.items():
            yield case, read_study(case, folder, making, extractor)
        return
    # Forked processes would share the locks of PyTorch's threads.
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_load,
        initargs=(extractor.weights, extractor.device, threads),
    ) as pool:
        futures = {pool.submit(_read_in_process, case, folder, making): case for case, folder in folders.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise ModelError(
                "cohort_worker_ended", "A process ended, perhaps for want of memory: call again with fewer --workers."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _load(weights: BrainWeights, device: torch.device, threads: int) -> None:
    global _extractor  # noqa: PLW0603 - an initializer has no other way to leave something to its process
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    _extractor = BrainExtractor(weights, device)


def _read_in_process(case: str, folder: Path, making: Making) -> Record:
    assert _extractor is not None
    return read_study(case, folder, making, _extractor)
