"""Train a bundle on a cohort: test patients aside, a network for every fold and contrast, then the bundle.

Several processes may share the work (``torchrun``, or the environment that it sets): process r of W takes every W-th
network from the r-th on. They speak to each other through files alone, and what is finished is never done again.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch

from models.bundle import ModelError, sha256
from models.contrast import Contrast
from models.efficientnet3d import SIDE_MULTIPLE
from models.inflate import refuse_unless_inflated
from models.perturbation import Variants
from models.training.bundling.assemble import assemble
from models.training.cohort import Case, Cohort, tensor_file
from models.training.fit.folds import Split, split
from models.training.fit.job import Job, fit, group_name, steps_of
from models.training.fit.job_result import finished, read_result
from models.training.fit.recipe import Recipe
from models.training.trained import Trained
from models.wae_net import refuse_torch_2_9
from models.whole_files import make_folder, write_json

IDENTITY: Final = "training.json"
_POLL_S: Final = 0.5
_REPORT_EVERY_S: Final = 60.0
# mallopt(3): M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _NEVER = -1, -3, 2**31 - 1


def train(
    cohort: Cohort,
    out: Path,
    recipe: Recipe,
    tell: Callable[[str], None],
    variants: Variants | None = None,
    controls: str = "",
) -> Path:
    """Train, or go on training, and write a bundle; what is unfinished lies in ``<out>.work``.

    Parameters
    ----------
    cohort
        Included cases with a label take part.
    out
        Folder of the bundle; must not exist. It appears complete or not at all.
    recipe
        How to train.
    tell
        Takes a line about the progress.
    variants
        Perturbs the images of a case, to measure repeatability; None: the bundle states none.
    controls
        A sentence for record and card on what exchanged labels reached on this cohort.

    Returns
    -------
    pathlib.Path
        `out`. Only the first of several processes waits until the bundle is there.

    Raises
    ------
    ModelError
        ``bundle_exists``, ``work_folder_other`` if the work folder belongs to another cohort, other images or another
        recipe, ``grid_unfit``, ``torch_unfit``, ``start_unknown`` if the weights to begin with are not inflated ones,
        ``cohort_damaged``; what `split`, `fit` and `assemble` raise.
    """
    _refuse(cohort, out, recipe)
    cohort = shuffled(cohort, recipe.seed) if recipe.shuffle_labels else cohort
    parts = split(cohort.included, test_share=recipe.test_share, folds=recipe.folds, seed=recipe.seed)
    work = out.with_name(f"{out.name}.work")
    claim(work, cohort, recipe, parts)
    keep_memory()
    device = _device()
    if recipe.shared:
        groups: tuple[tuple[Contrast, ...], ...] = (tuple(Contrast),)
    else:
        groups = tuple((contrast,) for contrast in Contrast)
    fold_jobs = [_fold_job(group, fold, parts, recipe) for fold in range(recipe.folds) for group in groups]
    run_jobs(fold_jobs, cohort, recipe, work, device, tell)
    member_jobs = fold_jobs
    if recipe.members == "refit":
        _await(fold_jobs, work, tell)
        member_jobs = [_refit_job(group, fold_jobs, parts, recipe, work) for group in groups]
        run_jobs(member_jobs, cohort, recipe, work, device, tell)
    if _rank() != 0:
        return out
    _await([*fold_jobs, *member_jobs], work, tell)
    trained = Trained(cohort, parts, recipe, tuple(fold_jobs), tuple(member_jobs), work, controls)
    return assemble(trained, out, device, tell, variants)


def run_jobs(
    jobs: Iterable[Job], cohort: Cohort, recipe: Recipe, work: Path, device: torch.device, tell: Callable[[str], None]
) -> None:
    """Train those networks of a list that fall to this process.

    Parameters
    ----------
    jobs
        Every process has the same list.
    cohort, recipe
        On what to train, and how.
    work
        With a folder for each job.
    device
        Where the networks are trained.
    tell
        Takes a line about each epoch.

    Raises
    ------
    ModelError
        What `fit` raises.
    """
    for number, job in enumerate(jobs):
        if number % _world() == _rank():
            fit(job, cohort, recipe, work / job.name, device, tell)


def shuffled(cohort: Cohort, seed: int) -> Cohort:
    """Return the cohort with labels exchanged between patients.

    Parameters
    ----------
    cohort
        Included cases with a label take part.
    seed
        Of the draw.

    Returns
    -------
    Cohort
        Every patient has the label of another one, or by chance its own, in all of its cases.
    """
    labels: dict[str, int | None] = {}
    for case in cohort.included:
        if case.label is not None:
            labels.setdefault(case.patient, case.label)
    patients = sorted(labels)
    drawn = np.random.default_rng([seed, len(patients)]).permutation(len(patients))
    given = {patient: labels[patients[other]] for patient, other in zip(patients, drawn, strict=True)}

    def relabelled(case: Case) -> Case:
        return replace(case, label=given[case.patient]) if case.included and case.label is not None else case

    return replace(cohort, cases=tuple(relabelled(case) for case in cohort.cases))


def keep_memory() -> None:
    """Let this process keep the memory it frees.

    Torch frees every activation and asks for it again; given back to the kernel in between, it must be cleared page by
    page, which takes half of the time of a training step. Without glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_THRESHOLD, _NEVER)


def _refuse(cohort: Cohort, out: Path, recipe: Recipe) -> None:
    refuse_torch_2_9(torch.__version__)
    if out.exists():
        raise ModelError("bundle_exists", f"{out} exists already: delete it or name another folder for the bundle.")
    sides = cohort.description.grid.size_xyz
    if any(side % SIDE_MULTIPLE for side in sides):
        raise ModelError(
            "grid_unfit", f"The cohort's grid {sides} is not a multiple of {SIDE_MULTIPLE} voxels: build it on another."
        )
    if recipe.start is not None:
        refuse_unless_inflated(recipe.start)


def tensors_digest(cohort: Cohort) -> str:
    """Return the SHA-256 over the files of the included cases' tensors, in the order of their names.

    Parameters
    ----------
    cohort
        All tensor files are read.

    Raises
    ------
    ModelError
        ``cohort_damaged`` if a file cannot be read.
    """
    try:
        names = sorted(case.case for case in cohort.included)
        lines = [f"{name} {sha256(tensor_file(cohort.folder, name))}" for name in names]
    except OSError as error:
        raise ModelError(
            "cohort_damaged",
            f"The cohort is damaged: its tensors cannot be read ({type(error).__name__}). Build it again.",
        ) from None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def claim(work: Path, cohort: Cohort, recipe: Recipe, parts: Split) -> None:
    """Write into the work folder what its networks depend on, or refuse it if they depend on something else.

    Parameters
    ----------
    work
        Made if missing; several processes may claim it at the same time.
    cohort, recipe, parts
        What the networks are trained on, and how.

    Raises
    ------
    ModelError
        ``work_folder_other`` if it belongs to other images, another cohort or another recipe; ``cohort_damaged``.
    """
    identity = {
        "cohort": cohort.digest,
        "tensors": tensors_digest(cohort),
        "recipe": recipe.networks_json(),
        "test": [case.case for case in parts.test],
        "folds": [[case.case for case in fold] for fold in parts.folds],
    }
    make_folder(work)
    file = work / IDENTITY
    if not file.exists():
        write_json(file, identity)
    # Read even if just written: another process may have written its own at the same time.
    try:
        known = json.loads(file.read_text("utf-8"))
    except ValueError:
        known = {}
    words = {"tensors": "the images of the cohort"}
    differing = [words.get(key, key) for key in identity if known.get(key) != identity[key]]
    if differing:
        raise ModelError(
            "work_folder_other",
            f"{work} holds the networks of another training (it differs in {', '.join(differing)}): delete it, or "
            "name another folder for the bundle.",
        )


def _fold_job(contrasts: tuple[Contrast, ...], fold: int, parts: Split, recipe: Recipe) -> Job:
    name = f"{group_name(contrasts)}_fold{fold}"
    return Job(name, contrasts, fold, parts.training(fold), parts.folds[fold], recipe.epochs)


def _refit_job(contrasts: tuple[Contrast, ...], done: list[Job], parts: Split, recipe: Recipe, work: Path) -> Job:
    """Return a job on all development patients, for as many steps as the folds needed in the median.

    As many epochs would be more steps on more patients, and a network that is surer of itself than those whose scores
    chose weights and threshold.
    """
    steps = round(median(read_result(work / job.name).steps for job in done if job.contrasts == contrasts))
    job = Job(f"{group_name(contrasts)}_refit", contrasts, recipe.folds, parts.development, (), 1, steps)
    return replace(job, epochs=math.ceil(steps / steps_of(job, recipe)))


def _await(jobs: Iterable[Job], work: Path, tell: Callable[[str], None]) -> None:
    """Wait until the networks of the other processes are finished."""
    told = time.monotonic()
    for job in jobs:
        while not finished(work / job.name):
            if time.monotonic() - told > _REPORT_EVERY_S:
                told = time.monotonic()
                tell(f"waiting for another process to finish {job.name}")
            time.sleep(_POLL_S)


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _rank() -> int:
    return int(os.environ.get("RANK", "0")) % _world()


def _world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
