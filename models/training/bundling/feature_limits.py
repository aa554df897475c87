"""The feature space of a training: its axes, its limits, and how many test studies lie beyond them.

A network draws the patients that trained it closer together than others. A limit is therefore the distance of patients
that neither the network nor the axes have seen: those of each fold, by the network of the training that left it out.
Those networks and axes are not the bundle's, and their distances may be smaller: a limit is never below that of the
same patients by the bundle itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from models import inference
from models.averaging import SHIFTS, shifted
from models.contrast import Contrast
from models.feature_space import Axes, distance, fit_feature_space
from models.training.cohort import Case
from models.training.fit.job import Job
from models.training.trained import Trained
from models.wae_net import load_network

WITHIN: Final = 0.975
"""Share of the development studies that lie within the limit."""
_LIMIT_MIN: Final = 1e-6
_Features = dict[Contrast, np.ndarray]


@dataclass(frozen=True, slots=True)
class FeatureCounts:
    """How many test studies lie beyond the limits.

    Attributes
    ----------
    within
        Share of the development studies that a limit holds.
    test_studies
        How many there are.
    test_studies_beyond, test_studies_beyond_any
        How many lie beyond the limit of each contrast, and beyond one at least.
    """

    within: float
    test_studies: int
    test_studies_beyond: dict[Contrast, int]
    test_studies_beyond_any: int


@dataclass(frozen=True, slots=True)
class FeatureLimits:
    """The feature space of each contrast.

    Attributes
    ----------
    spaces
        Of the bundle's features of the development studies.
    limits
        Mahalanobis distance, without unit, that few development studies exceed.
    beyond
        Which test studies lie beyond, bool (n,).
    """

    spaces: dict[Contrast, Axes]
    limits: dict[Contrast, float]
    beyond: dict[Contrast, np.ndarray]

    @property
    def counts(self) -> FeatureCounts:
        """How many test studies lie beyond the limits."""
        outside = np.stack(list(self.beyond.values()))
        return FeatureCounts(
            WITHIN,
            int(outside.shape[1]),
            {contrast: int(found.sum()) for contrast, found in self.beyond.items()},
            int(outside.any(axis=0).sum()),
        )


def measure_feature_space(trained: Trained, device: torch.device) -> FeatureLimits:
    """Return the feature space of finished networks; the test patients set nothing in it.

    Parameters
    ----------
    trained
        All jobs are finished.
    device
        Where the networks run.
    """
    development, test = trained.parts.development, trained.parts.test
    cases = (*development, *test)
    read = {job.name: _features(trained, job, cases, device) for job in trained.jobs}
    spaces, limits, beyond = {}, {}, {}
    for contrast in Contrast:
        members = [read[job.name][contrast] for job in trained.member_jobs if contrast in job.contrasts]
        bundle = np.mean(members, axis=0)
        spaces[contrast] = fit_feature_space(bundle[: len(development)])
        left_out = [
            left_out_distances(read[job.name][contrast][: len(development)], job, development)
            for job in trained.fold_jobs
            if contrast in job.contrasts
        ]
        own = _distances(spaces[contrast], bundle)
        limits[contrast] = max(_limit(np.concatenate(left_out)), _limit(own[: len(development)]))
        beyond[contrast] = own[len(development) :] > limits[contrast]
    return FeatureLimits(spaces, limits, beyond)


@torch.inference_mode()
@inference.full_float32()
def _features(trained: Trained, job: Job, cases: tuple[Case, ...], device: torch.device) -> _Features:
    """Return what one network makes of some cases, float32 (n, 1280) for each of its contrasts."""
    network = load_network(trained.network_file(job), trained.recipe.first_block_stride).to(device).eval()
    reading = inference.for_inference(network, device)

    def pooled(case: Case, contrast: Contrast) -> np.ndarray:
        batch = torch.from_numpy(trained.cohort.tensor(case, contrast))[None, None].to(device)
        places = shifted(batch, SHIFTS[trained.recipe.averaged])
        features = torch.cat([inference.read(reading, place)[1] for place in places]).float().mean(dim=0)
        return np.asarray(features.cpu().numpy())

    return {contrast: np.stack([pooled(case, contrast) for case in cases]) for contrast in job.contrasts}


def left_out_distances(features: np.ndarray, job: Job, cases: tuple[Case, ...]) -> np.ndarray:
    """Return how far the fold that a job left out lies from the cases that trained it.

    Parameters
    ----------
    features
        float32 (n, C), by the job's network.
    job
        Which fold it left out.
    cases
        The n development cases.

    Returns
    -------
    numpy.ndarray
        float64, a Mahalanobis distance for each case of the fold, in the order of `cases`.
    """
    names = {case.case for case in job.validation}
    unseen = np.array([case.case in names for case in cases])
    return _distances(fit_feature_space(features[~unseen]), features[unseen])


def _distances(axes: Axes, features: np.ndarray) -> np.ndarray:
    return np.array([distance(axes, row) for row in features])


def _limit(distances: np.ndarray) -> float:
    return max(float(np.quantile(distances, WITHIN, method="higher")), _LIMIT_MIN)
