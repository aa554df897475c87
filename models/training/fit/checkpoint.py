"""Write and read what a training keeps on disk, each file whole or not at all."""

from __future__ import annotations

import io
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from models.bundle import ModelError
from models.training.fit.training_log import Epoch
from models.whole_files import write_whole


@dataclass(frozen=True, slots=True)
class Progress:
    """A training between two epochs.

    Attributes
    ----------
    network, optimiser
        State dictionaries.
    history
        The epochs done.
    best
        State of the network after its best epoch; None where the last one counts.
    """

    network: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    history: list[Epoch]
    best: dict[str, torch.Tensor] | None


def save_progress(file: Path, progress: Progress) -> None:
    """Write a checkpoint: tensors, numbers and strings alone.

    Parameters
    ----------
    file
        Replaced if it is there.
    progress
        Of one network.
    """
    stream = io.BytesIO()
    history = [asdict(epoch) for epoch in progress.history]
    torch.save(
        {"network": progress.network, "optimiser": progress.optimiser, "history": history, "best": progress.best},
        stream,
    )
    write_whole(file, stream.getvalue())


def load_progress(file: Path) -> Progress | None:
    """Return the checkpoint of a file; None if there is none. Nothing in it is executed.

    Parameters
    ----------
    file
        Of `save_progress`.

    Raises
    ------
    ModelError
        ``checkpoint_damaged`` if it cannot be read.
    """
    if not file.is_file():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        history = [Epoch(**epoch) for epoch in state["history"]]
        return Progress(state["network"], state["optimiser"], history, state["best"])
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(
            "checkpoint_damaged",
            f"The checkpoint {file} cannot be read ({type(error).__name__}): delete it to begin this network again.",
        ) from None


def save_network(file: Path, network: nn.Module, *, half: bool) -> None:
    """Write a network's weights as safetensors.

    Parameters
    ----------
    half
        Kernels become float16; the statistics of batch normalisation, whose range is not bounded, stay float32.
    """
    tensors = {
        name: value.detach().cpu().to(torch.float16 if half and value.ndim > 1 else value.dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    write_whole(file, save(tensors))
