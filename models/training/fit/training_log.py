"""The log of a training: a line per epoch, and the curves of all networks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.whole_files import write_whole

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666")
"""Of the folds, and of a network trained on all; distinguished by colour-blind readers (Okabe and Ito)."""
_LOSS_OF_CHANCE: Final = 0.6931
"""Of a score of one half, in nats: ln 2."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known of an epoch.

    Attributes
    ----------
    epoch
        From 1.
    training_loss
        Mean binary cross-entropy of the samples as they were shown, augmented, in nats.
    validation_loss, validation_auc
        On the fold left out; None where it was not looked at.
    seconds
        Wall clock; None where it is not known.
    """

    epoch: int
    training_loss: float
    validation_loss: float | None
    validation_auc: float | None
    seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the values without the time, which does not depend on the seed."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}

    def sentence(self, epochs: int) -> str:
        """Return the line that is shown for it.

        Parameters
        ----------
        epochs
            How many there are at most.
        """
        said = f"epoch {self.epoch} of {epochs}, loss {self.training_loss:.4f}"
        if self.validation_loss is not None:
            said += f", fold left out: loss {self.validation_loss:.4f}, AUC {self.validation_auc:.3f}"
        return said if self.seconds is None else f"{said} ({self.seconds:.0f} s)"


def write_log(file: Path, history: Sequence[Epoch]) -> None:
    """Write the epochs so far as a table, whole or not at all.

    Parameters
    ----------
    file
        ``log.csv`` of a job.
    history
        One line for each.
    """
    stream = io.StringIO()
    names = [field.name for field in fields(Epoch)]
    table = csv.DictWriter(stream, names, lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(epoch) for epoch in history)
    write_whole(file, stream.getvalue().encode())


def training_plot(histories: Mapping[str, Mapping[str, Sequence[Epoch]]], notice: str) -> bytes:
    """Return the losses of all networks by epoch as PNG.

    Parameters
    ----------
    histories
        Epochs by panel and by network within it.
    notice
        Stands below the plot.

    Returns
    -------
    bytes
        Equal arguments give equal files.
    """
    figure = Figure(figsize=(4.2 * len(histories), 4), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(histories), sharey=True, squeeze=False)[0]
    for axes, (title, networks) in zip(panels, histories.items(), strict=True):
        _panel(axes, title, networks)
    panels[0].set_ylabel("Binary cross-entropy")
    figure.supxlabel(notice, fontsize=8, parse_math=False, wrap=True)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _panel(axes: Axes, title: str, networks: Mapping[str, Sequence[Epoch]]) -> None:
    for colour, (name, history) in zip(COLOURS, networks.items(), strict=False):
        axes.plot([e.epoch for e in history], [e.training_loss for e in history], color=colour, label=name)
        judged = [(e.epoch, e.validation_loss) for e in history if e.validation_loss is not None]
        axes.plot([epoch for epoch, _ in judged], [loss for _, loss in judged], "--", color=colour)
    axes.axhline(_LOSS_OF_CHANCE, color="#999999", linewidth=0.8)
    axes.set_title(f"{title}: training (lines), fold left out (dashes)", fontsize=9)
    axes.set_xlabel("Epoch")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8)
