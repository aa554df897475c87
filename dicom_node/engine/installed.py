"""What a configuration means on this machine: its bundle, its brain weights, its device; nothing of queues."""

from __future__ import annotations

import torch

from dicom_node.config import Config
from dicom_node.engine.threads import bound_threads
from dicom_node.errors import WorkerError
from dicom_node.watch.pulse import Memory
from models.brain_weights import EMBEDDED, BrainWeights, open_brain_weights
from models.bundle import ModelError, open_bundle
from models.hd_bet_v1 import Mode, open_hd_bet_v1
from pipeline.study import Models, load_models


def open_models(config: Config) -> Models:
    """Return the configured models on the configured device.

    Raises
    ------
    WorkerError
        With the code of the model's refusal, or ``device_missing``.
    """
    bound_threads()
    try:
        bundle = open_bundle(config.model.bundle)
        return load_models(bundle, brain_weights(config), device(config.model.device))
    except ModelError as error:
        raise WorkerError(str(error), error.code) from None


def brain_weights(config: Config) -> BrainWeights:
    """Return the configured brain weights, verified.

    Raises
    ------
    ModelError
        If they are not there, or not the ones that their digest names.
    """
    if config.brain.weights == "hd-bet-v1":
        return open_hd_bet_v1(Mode(config.brain.mode), config.brain.digest)
    folder = EMBEDDED if config.brain.weights == "embedded" else config.node.data_dir / "hd-bet"
    return open_brain_weights(config.brain.weights, folder, config.brain.digest)


def device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the first GPU, or the CPU of a machine without one.

    Raises
    ------
    WorkerError
        ``device_missing``: a device that was named is never replaced by another.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    wanted = torch.device(name)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise WorkerError(f"Device {name} of [model] is not there: name another, or cpu.", "device_missing")
    return wanted


def gpu_memory(device: torch.device) -> Memory | None:
    """Return how much memory of a GPU is in use, by whomever; None of a CPU."""
    if device.type != "cuda":
        return None
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return Memory(total_bytes - free_bytes, total_bytes)
