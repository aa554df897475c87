"""What a finished network leaves beside its weights: how it ended, its log, and its scores of the fold left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from models.contrast import Contrast
from models.training.fit.training_log import Epoch
from models.whole_files import write_json

RESULT: Final = "result.json"


class Ended(StrEnum):
    """What ends the training of a network: all epochs done, a loss small enough, or no progress for too long."""

    EPOCHS = "epochs"
    NETWORK_LOSS = "network_loss"
    PATIENCE = "patience"


@dataclass(frozen=True, slots=True)
class JobResult:
    """Content of ``result.json``.

    Attributes
    ----------
    epochs
        That the weights were trained for.
    ended
        What ended the training.
    history
        Every epoch; read from a file, they do not state their seconds.
    steps
        Of the optimiser that the weights were trained for.
    scores
        In [0, 1], of the fold left out: for each contrast by the names of the cases.
    """

    epochs: int
    ended: Ended
    history: tuple[Epoch, ...]
    scores: Mapping[Contrast, Mapping[str, float]]
    steps: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; they depend on the seed alone."""
        return self.training_json() | {"scores": self.scores}

    def training_json(self) -> dict[str, Any]:
        """Return what a bundle states of the training, as JSON values: all but the scores."""
        history = [epoch.as_json() for epoch in self.history]
        return {"epochs": self.epochs, "steps": self.steps, "ended": self.ended, "history": history}


def finished(folder: Path) -> bool:
    """Return whether a job's folder holds its result.

    Parameters
    ----------
    folder
        Of the job; it need not be there.
    """
    return (folder / RESULT).is_file()


def read_result(folder: Path) -> JobResult:
    """Return the result of a finished job.

    Parameters
    ----------
    folder
        Of the job.
    """
    content = json.loads((folder / RESULT).read_text("utf-8"))
    history = tuple(Epoch(**epoch) for epoch in content["history"])
    scores = {Contrast(name): found for name, found in content["scores"].items()}
    return JobResult(content["epochs"], Ended(content["ended"]), history, scores, content["steps"])


def write_result(folder: Path, result: JobResult) -> None:
    """Write the result of a job, which says that it is finished, whole or not at all.

    Parameters
    ----------
    folder
        Of the job.
    result
        Of the weights that lie there.
    """
    write_json(folder / RESULT, result.as_json())
