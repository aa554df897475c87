"""Hard cases of a made cohort: what keeps a tuber from being the only bright thing in a brain."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final

import numpy as np
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.synthetic.canvas import RIGHT_OF_LEFT, Label
from pipeline.synthetic.rendering import BIAS
from pipeline.synthetic.tubers import CORTEX, WHITE_MATTER, TuberLoad, ellipsoid


class Difficulty(StrEnum):
    """What makes a patient hard: tubers like their surroundings in T1W, what looks like tubers, or a poor image.

    It is drawn for a pair of patients, one with few tubers and one with many, and so says nothing about the label.
    """

    PLAIN = "plain"
    ISOINTENSE = "isointense T1W"
    LINES = "white-matter lines"
    CYSTS = "cysts"
    MOTION = "motion"
    BIAS = "bias field"


HARD: Final = tuple(kind for kind in Difficulty if kind is not Difficulty.PLAIN)
ISOINTENSE_SHARE: Final = 0.1
"""Of the contrast that tubers have in T1W elsewhere."""
LINES: Final = 10, 16
LINE_MM: Final = 15.0, 30.0
LINE_CONTRAST: Final = {Contrast.T1W: 0.0, Contrast.T2W: 0.7, Contrast.FLAIR: 0.7}
"""Radial migration lines run from the cortex towards the ventricles, bright in T2W and FLAIR."""
CYSTS: Final = 4, 8
CYST_MM: Final = 7.0, 13.0
MOTION_SHARE: Final = 0.15
"""Of the signal that stands in ghosts."""
STRONG_BIAS: Final = 0.35
"""Standard deviation of the logarithm of the coil's sensitivity."""


def difficulty_of(pair: int, seed: int, hard_share: float) -> Difficulty:
    """Return the difficulty of a pair of patients.

    Parameters
    ----------
    pair
        Its number, from 0.
    seed
        Of the cohort.
    hard_share
        Of the pairs that are hard in one of the ways, each as likely.
    """
    random = np.random.default_rng([seed, pair, 5])
    hard = random.random() < hard_share
    return HARD[int(random.integers(len(HARD)))] if hard else Difficulty.PLAIN


def image_faults(difficulty: Difficulty) -> dict[str, float]:
    """Return what the scanner does to the images, as `render` takes it.

    Parameters
    ----------
    difficulty
        Of the patient.
    """
    return {
        "bias": STRONG_BIAS if difficulty is Difficulty.BIAS else BIAS,
        "motion": MOTION_SHARE if difficulty is Difficulty.MOTION else 0.0,
    }


def made_hard(
    difficulty: Difficulty, head: sitk.Image, load: TuberLoad, random: np.random.Generator
) -> tuple[sitk.Image, TuberLoad]:
    """Return head and tubers of a patient as its difficulty has them; what is no tuber adds no burden.

    Parameters
    ----------
    difficulty
        Of the patient.
    head, load
        Labels, and the tubers placed in them.
    random
        Source of places and sizes.
    """
    if difficulty is Difficulty.ISOINTENSE:
        return head, _faded(load)
    if difficulty is Difficulty.LINES:
        return head, _with_lines(head, load, random)
    if difficulty is Difficulty.CYSTS:
        return _with_cysts(head, random), load
    return head, load


def _faded(load: TuberLoad) -> TuberLoad:
    """Return tubers that are hardly seen in T1W."""
    faded = load.shares[Contrast.T1W] * ISOINTENSE_SHARE
    tubers = [
        replace(
            tuber, contrast=tuber.contrast | {Contrast.T1W: round(ISOINTENSE_SHARE * tuber.contrast[Contrast.T1W], 4)}
        )
        for tuber in load.tubers
    ]
    return TuberLoad(tuple(tubers), load.shares | {Contrast.T1W: sitk.Cast(faded, sitk.sitkFloat32)})


def _with_lines(head: sitk.Image, load: TuberLoad, random: np.random.Generator) -> TuberLoad:
    """Return tubers and lines through the white matter, a voxel thick."""
    label_zyx = sitk.GetArrayViewFromImage(head)
    step_mm, white = float(head.GetSpacing()[0]), np.isin(label_zyx, WHITE_MATTER)
    shares = {role: sitk.GetArrayFromImage(image) for role, image in load.shares.items()}
    starts, middle = np.argwhere(np.isin(label_zyx, CORTEX)), np.argwhere(white).mean(axis=0)
    for _ in range(int(random.integers(LINES[0], LINES[1] + 1))):
        start = starts[int(random.integers(len(starts)))]
        inwards = (middle - start) / np.linalg.norm(middle - start)
        along = np.arange(0, random.uniform(*LINE_MM) / step_mm, 0.5)
        places = tuple(np.rint(start + along[:, None] * inwards).astype(int).T)
        for role, contrast in LINE_CONTRAST.items():
            drawn = np.float32(contrast) * white[places]
            shares[role][places] = np.maximum(shares[role][places], drawn)
    images = {role: sitk.GetImageFromArray(share) for role, share in shares.items()}
    for image in images.values():
        image.CopyInformation(head)
    return TuberLoad(load.tubers, images)


def _with_cysts(head: sitk.Image, random: np.random.Generator) -> sitk.Image:
    """Return the head with fluid in places of its white matter."""
    label_zyx = sitk.GetArrayFromImage(head)
    step_mm, white = float(head.GetSpacing()[0]), np.isin(label_zyx, WHITE_MATTER)
    seats = np.argwhere(white)
    for _ in range(int(random.integers(CYSTS[0], CYSTS[1] + 1))):
        radii_mm = random.uniform(*CYST_MM) / 2 * random.uniform(0.8, 1.2, 3)
        cut, share = ellipsoid(label_zyx.shape, seats[int(random.integers(len(seats)))], radii_mm, step_mm)
        for side, fluid in (
            (Label.WHITE_MATTER, Label.LATERAL_VENTRICLE),
            (RIGHT_OF_LEFT[Label.WHITE_MATTER], RIGHT_OF_LEFT[Label.LATERAL_VENTRICLE]),
        ):
            label_zyx[cut][(share > 0.5) & (label_zyx[cut] == side)] = fluid
    changed: sitk.Image = sitk.GetImageFromArray(label_zyx)
    changed.CopyInformation(head)
    return changed
