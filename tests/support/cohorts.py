"""Small made cohorts, straight as tensors: a smooth ellipsoid of noise whose label is a bright blob."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.bundle import Grid, Intensity
from models.contrast import Contrast
from models.training.cohort import (
    INCLUDED,
    Case,
    Cohort,
    CohortDescription,
    case_name,
    open_cohort,
    write_cases,
    write_description,
    write_tensors,
)


def made_cohort(
    folder: Path,
    patients: int = 12,
    seed: int = 0,
    size_xyz: tuple[int, int, int] = (64, 64, 64),
    signal: Iterable[Contrast] = tuple(Contrast),
) -> Cohort:
    """Write and return a cohort of one study per patient, labels alternating; `signal` sequences show the label."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid(size_xyz=size_xyz, spacing_xyz_mm=(4.0, 4.0, 4.0), centre="brain")
    description = CohortDescription(
        grid=grid,
        intensity=Intensity(clip_percentiles=(0.5, 99.5)),
        brain_weights={"name": "none", "digest": "0" * 64},
        software="tests",
        synthetic="labels alternate; a bright blob shows label 1",
    )
    shown = set(signal)
    cases = []
    for number in range(patients):
        patient = f"P{number:03d}"
        case = Case(
            case=case_name(patient, "study"), patient=patient, label=number % 2, status=INCLUDED, group=patient,
            age_years=1.0 + number % 15, field_strength_t=(1.5, 3.0)[number % 3 > 0],
        )  # fmt: skip
        random = np.random.default_rng([seed, number])
        tensors = {s: _tensor(random, size_xyz[::-1], blob=s in shown and case.label == 1) for s in Contrast}
        write_tensors(folder, case.case, tensors)
        cases.append(case)
    write_description(folder, description)
    write_cases(folder, cases)
    return open_cohort(folder)


def _tensor(random: np.random.Generator, size_zyx: tuple[int, ...], *, blob: bool) -> np.ndarray:
    """Return noise z-scored inside an ellipsoid, 0 outside, with a bright ball at a random place where wanted."""
    axes = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32) for side in size_zyx], indexing="ij")
    brain = sum((axis / 0.8) ** 2 for axis in axes) < 1
    image = random.normal(0, 0.5, size_zyx).astype(np.float32)
    centre = random.uniform(-0.3, 0.3, 3)
    if blob:
        image[sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < 0.3**2] += 4
    inside = image[brain]
    return np.where(brain, (image - inside.mean()) / inside.std(), 0).astype(np.float32)
