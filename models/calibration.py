"""From score to probability, by the calibration that a bundle carries."""

from __future__ import annotations

import math
from typing import Final

from models.bundle import Calibration

SCORE_MARGIN: Final = 1e-6
"""Scores are kept this far from 0 and 1 before their logit is taken, in fitting as in use."""


def score_logit(score: float) -> float:
    """Return the logit of a score in [0, 1]; it is finite at the ends too.

    Parameters
    ----------
    score
        At 0 and 1 it is moved inwards by `SCORE_MARGIN`.
    """
    kept = min(max(score, SCORE_MARGIN), 1 - SCORE_MARGIN)
    return math.log(kept / (1 - kept))


def calibrated(calibration: Calibration, score: float) -> float:
    """Return the probability of label 1 for an ensemble score.

    Parameters
    ----------
    calibration
        Of the bundle: ``sigmoid(slope * logit(score) + intercept)``.
    score
        Weighted sum of the contrasts' scores, in [0, 1].
    """
    z = calibration.slope * score_logit(score) + calibration.intercept
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))
