"""ROC and reliability plots as PNG, in colours that colour-blind readers distinguish (Okabe and Ito)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
LINES: Final = ((ORANGE, "--"), (GREEN, "-."), (VERMILION, ":"))
GROUPS_MAX: Final = 10
"""Tenths, as Hosmer and Lemeshow have them."""
GROUP_SIZE_MIN: Final = 8
"""Studies of a group: with fewer the interval of a share is most of the axis."""


def roc_plot(
    labels: np.ndarray, ensemble: np.ndarray, contrasts: Mapping[str, np.ndarray], threshold: float, notice: str
) -> bytes:
    """Return the ROC curves of the ensemble and of each contrast, with the operating point.

    Parameters
    ----------
    labels
        (n,), 0 or 1; both are there.
    ensemble, contrasts
        Scores (n,) in [0, 1].
    threshold
        Whose sensitivity and specificity are marked.
    notice
        Stands below the plot.
    """
    figure, axes = _plot(f"ROC, n = {_n(labels)}", notice)
    for (name, scores), (colour, style) in zip(contrasts.items(), LINES, strict=False):
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
        axes.plot(false, true, style, color=colour, linewidth=1.4, label=name)
    false, true, _ = roc_curve(labels, ensemble, drop_intermediate=False)
    axes.plot(false, true, color=BLUE, linewidth=2.4, label="Ensemble")
    called, positive = ensemble >= threshold, labels.astype(bool)
    point = (called[~positive].mean(), called[positive].mean())
    axes.plot(*point, "o", color=BLUE, markersize=9, markeredgecolor="black", label=f"Threshold {threshold:.3g}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="Chance")
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("Sensitivity")
    axes.legend(loc="lower right", fontsize=9)
    return _png(figure)


def reliability_plot(labels: np.ndarray, scores: Mapping[str, np.ndarray], notice: str) -> bytes:
    """Return how often the event came in groups of equal size, against the mean score.

    Bars are Wilson's intervals over studies; of patients with several studies they are too short.

    Parameters
    ----------
    labels
        (n,), 0 or 1.
    scores
        One or two scores (n,) in [0, 1], by name.
    notice
        Stands below the plot.
    """
    figure, axes = _plot(f"Reliability, n = {_n(labels)}", notice)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="Perfect")
    for (name, values), (colour, marker) in zip(scores.items(), ((BLUE, "o"), (VERMILION, "s")), strict=False):
        means, shares, below, above = _groups(labels, values)
        axes.errorbar(means, shares, [below, above], fmt=f"{marker}-", color=colour, capsize=3, label=name)
        axes.plot(values, np.full(len(values), -0.03), "|", color=colour, alpha=0.5, markersize=8)
    axes.set_ylim(-0.06, 1.02)
    axes.set_xlabel("Mean score of the group (strokes: single studies)")
    axes.set_ylabel("Share of studies with the event")
    axes.legend(loc="upper left", fontsize=9)
    return _png(figure)


def _groups(labels: np.ndarray, scores: np.ndarray) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return mean score, share of events, and the reach of its interval below and above, for each group."""
    count = int(np.clip(len(scores) // GROUP_SIZE_MIN, 2, GROUPS_MAX))
    rows = [group for group in np.array_split(np.argsort(scores, kind="stable"), count) if len(group)]
    shares = [float(labels[group].mean()) for group in rows]
    wilson = [binomtest(int(labels[g].sum()), len(g)).proportion_ci(method="wilson") for g in rows]
    below = [max(0.0, share - found.low) for share, found in zip(shares, wilson, strict=True)]
    above = [max(0.0, found.high - share) for share, found in zip(shares, wilson, strict=True)]
    return [float(scores[group].mean()) for group in rows], shares, below, above


def _plot(title: str, notice: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 6.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    figure.supxlabel(notice, fontsize=8, parse_math=False, wrap=True)
    return figure, axes


def _n(labels: np.ndarray) -> str:
    return f"{len(labels)} studies, {int(labels.sum())} with the event"


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
