"""Fit the one or two figures that turn an ensemble's score into a probability.

A cohort of a hundred patients supports no more (arXiv 2007.08792: average first, then calibrate). The scores must be
out-of-fold: those of networks that have not seen the patient.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression

from models.bundle import Calibration, ModelError
from models.training.evaluation.metrics import logits, separated

Method = Literal["temperature", "platt"]


def fit_calibration(method: Method, scores: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> Calibration:
    """Return the calibration of the largest likelihood; each patient counts once, however many studies there are.

    Parameters
    ----------
    method
        ``"temperature"`` fits a slope, ``"platt"`` a slope and an intercept.
    scores
        (n,) out-of-fold ensemble scores in [0, 1].
    labels, patients
        (n,) label (0 or 1) and patient of each study.

    Raises
    ------
    ModelError
        ``calibration_unfit`` if one class is missing, if the scores separate the classes, which leaves the slope
        without bound, or if higher scores do not mean more events.
    """
    positive, x = np.asarray(labels).astype(bool), logits(scores)
    _, which, studies = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    if positive.all() or not positive.any():
        raise _unfit("all studies have the same label")
    if _unbounded(method, positive, x):
        raise _unfit("the scores separate the classes completely")
    platt = method == "platt"
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, fit_intercept=platt)
    model.fit(x[:, None], positive, sample_weight=1 / studies[which])
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        raise _unfit("higher scores do not mean more events")
    intercept = float(model.intercept_[0]) if platt else 0.0
    return Calibration(method=method, slope=slope, intercept=intercept, patients=len(studies))


def _unbounded(method: Method, positive: np.ndarray, x: np.ndarray) -> bool:
    if method == "platt":
        return separated(positive, x)
    towards = np.where(positive, x, -x)
    return bool((towards >= 0).all() or (towards <= 0).all())


def _unfit(reason: str) -> ModelError:
    return ModelError("calibration_unfit", f"No calibration can be fitted, since {reason}: train without calibration.")
