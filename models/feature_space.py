"""How far a study's pooled features lie from those that a network was developed on.

The features of a cohort are taken as a normal distribution: a mean, and principal axes with a variance each. What lies
outside of the axes counts with the smallest of these variances, so that a study which leaves their span is far away,
not invisible. The distance is Mahalanobis', without unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from models.bundle import ModelError
from models.contrast import Contrast
from models.whole_files import READABLE_BY_ALL, write_whole

EXPLAINED: Final = 0.9
"""Share of the variance that the axes hold where their number is not given."""
_FLOOR: Final = 1e-3
"""Smallest variance of an axis, as a share of the largest: few patients make the last axes too narrow."""
_TINY: Final = 1e-12
"""Smallest variance where all patients are alike: far below any that float32 features have."""
_MATRIX: Final = 2
_ROWS_MIN: Final = 2
"""A variance needs two patients."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The feature space of one contrast; C features, k axes, all float32.

    Attributes
    ----------
    mean
        (C,)
    axes
        (k, C), orthonormal, the one with the largest variance first.
    variances
        (k,), above 0; the last one is also that of every direction outside of the axes.
    """

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]
    variances: npt.NDArray[np.float32]


def fit_feature_space(features: np.ndarray, components: int | None = None) -> Axes:
    """Return mean, principal axes and variances of the features of a cohort.

    Parameters
    ----------
    features
        (n, C), a row for each patient; n is at least 2.
    components
        Number of axes, at most n - 1 and C are used; None for as many as hold 90 % of the variance.

    Raises
    ------
    ValueError
        For fewer than two rows, numbers that are not finite, or no component.
    """
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != _MATRIX or len(values) < _ROWS_MIN or not np.isfinite(values).all():
        raise ValueError(f"features of shape {values.shape}; two or more rows of finite numbers are needed")
    if components is not None and components < 1:
        raise ValueError(f"{components} components; at least one is needed")
    mean = values.mean(axis=0)
    _, singular, axes = np.linalg.svd(values - mean, full_matrices=False)
    variances = singular**2 / (len(values) - 1)
    kept = min(len(values) - 1, values.shape[1], components or _enough(variances))
    floor = max(_FLOOR * variances[0], _TINY)
    return Axes(
        mean.astype(np.float32),
        np.ascontiguousarray(axes[:kept], dtype=np.float32),
        np.maximum(variances[:kept], floor).astype(np.float32),
    )


def distance(axes: Axes, features: np.ndarray) -> float:
    """Return the Mahalanobis distance of one study's features from the mean.

    Parameters
    ----------
    axes
        Of the same contrast.
    features
        (C,), finite.
    """
    away = np.asarray(features, dtype=np.float64) - axes.mean
    along = axes.axes.astype(np.float64) @ away
    beyond = max(float(away @ away - along @ along), 0.0)
    return float(np.sqrt((along**2 / axes.variances).sum() + beyond / axes.variances[-1]))


def save_axes(path: Path, spaces: Mapping[Contrast, Axes]) -> None:
    """Write the feature spaces of T1W, T2W and FLAIR as one safetensors file, whole or not at all.

    Parameters
    ----------
    path
        In a folder that exists.
    spaces
        Of every contrast.

    Raises
    ------
    ValueError
        If a contrast is missing.
    """
    if set(spaces) != set(Contrast):
        raise ValueError(f"a bundle has the feature spaces of {tuple(Contrast)}, not {sorted(spaces)}")
    tensors: dict[str, np.ndarray] = {}
    for contrast in Contrast:
        space = spaces[contrast]
        parts = {"mean": space.mean, "axes": space.axes, "variances": space.variances}
        tensors |= {f"{contrast}.{name}": np.ascontiguousarray(value) for name, value in parts.items()}
    write_whole(path, save(tensors), READABLE_BY_ALL)


def load_axes(path: Path) -> dict[Contrast, Axes]:
    """Return the feature spaces that `save_axes` wrote.

    Parameters
    ----------
    path
        Safetensors file of a verified bundle.

    Raises
    ------
    ModelError
        ``feature_space_unfit`` if the file holds others, or numbers that cannot be right.
    """
    try:
        tensors = load_file(path)
        spaces = {s: Axes(*(tensors[f"{s}.{part}"] for part in ("mean", "axes", "variances"))) for s in Contrast}
    except (OSError, SafetensorError, KeyError) as error:
        raise _unfit(path, type(error).__name__) from None
    for space in spaces.values():
        finite = all(np.isfinite(part).all() for part in (space.mean, space.axes, space.variances))
        if not finite or space.axes.shape != (*space.variances.shape, *space.mean.shape) or not space.variances.size:
            raise _unfit(path, "shapes or numbers")
        if space.variances.min() <= 0:
            raise _unfit(path, "a variance that is not above 0")
    return spaces


def _enough(variances: np.ndarray) -> int:
    """Return how many axes hold the share `EXPLAINED` of the variance; one where there is none."""
    total = variances.sum()
    return 1 if total <= 0 else int(np.searchsorted(np.cumsum(variances) / total, EXPLAINED)) + 1


def _unfit(path: Path, what: str) -> ModelError:
    return ModelError("feature_space_unfit", f"'{path.name}' does not contain the feature spaces of a bundle ({what}).")
