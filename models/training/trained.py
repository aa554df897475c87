"""Finished networks and all that belongs to them: what a bundle is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.training.cohort import Cohort
from models.training.fit.folds import Split
from models.training.fit.job import NETWORK, Job
from models.training.fit.job_result import JobResult, read_result
from models.training.fit.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """Finished networks and all that belongs to them.

    Attributes
    ----------
    cohort, parts, recipe
        What they were trained on, and how.
    fold_jobs
        Each leaves a fold out.
    member_jobs
        Whose networks the bundle holds.
    work
        Folder with a folder of each job's name.
    controls
        A sentence on what exchanged labels reached on this cohort; empty where no control was made.
    """

    cohort: Cohort
    parts: Split
    recipe: Recipe
    fold_jobs: tuple[Job, ...]
    member_jobs: tuple[Job, ...]
    work: Path
    controls: str = ""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job once."""
        return tuple(dict.fromkeys((*self.fold_jobs, *self.member_jobs)))

    @property
    def synthetic(self) -> bool:
        """Whether the cohort was made."""
        return self.cohort.description.synthetic is not None

    def network_file(self, job: Job) -> Path:
        """Return where the weights of a job lie.

        Parameters
        ----------
        job
            Of this training.
        """
        return self.work / job.name / NETWORK

    def results(self, jobs: tuple[Job, ...]) -> dict[str, JobResult]:
        """Return the results of jobs by name.

        Parameters
        ----------
        jobs
            Finished.
        """
        return {job.name: read_result(self.work / job.name) for job in jobs}
