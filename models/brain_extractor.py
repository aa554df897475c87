"""HD-BET's own nnU-Net predictor, loaded once and called in process.

HD-BET's command starts a dozen processes per call; its predictor object does not. Any folder in HD-BET's format will
do: the official weights or the embedded ones.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.bundle import SHIPPED, ModelError, verify_checksums

EMBEDDED = SHIPPED / "brain-embedded"


@dataclass(frozen=True, slots=True)
class BrainWeights:
    """A verified model folder: its name and the SHA-256 over its files."""

    name: str
    folder: Path
    digest: str


def open_brain_weights(name: str, folder: Path) -> BrainWeights:
    """Return the weights in a folder of HD-BET's format.

    Raises
    ------
    ModelError
        ``brain_weights_missing`` or ``brain_weights_changed``.
    """
    if not (folder / "fold_all" / "checkpoint_final.pth").is_file():
        raise ModelError(
            "brain_weights_missing", f"There are no '{name}' brain weights in {folder}; use weights = \"embedded\"."
        )
    return BrainWeights(name, folder, verify_checksums(folder, "brain_weights_changed"))


class BrainExtractor:
    """Finds the brain in a volume.

    Parameters
    ----------
    weights
        Verified weights: loading them unpickles the checkpoint, as HD-BET does, so the digest comes first.
    device
        Where the network runs.

    Notes
    -----
    Test-time mirroring is off, as in HD-BET's programming interface.
    """

    def __init__(self, weights: BrainWeights, device: torch.device) -> None:
        self.weights = weights
        self._predictor = _load_predictor(weights.folder, device)

    def mask(self, volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
        """Return the brain mask.

        Parameters
        ----------
        volume_zyx
            Grey values, any scale; axes inferior to superior, posterior to anterior, left to right.
        spacing_zyx_mm
            Voxel size.

        Returns
        -------
        numpy.ndarray
            uint8, the shape of `volume_zyx`, 1 inside the brain.
        """
        channel_first = np.ascontiguousarray(volume_zyx[None], np.float32)
        segmentation = self._predictor.predict_single_npy_array(channel_first, {"spacing": list(spacing_zyx_mm)})
        return np.asarray(segmentation, np.uint8)


def _load_predictor(folder: Path, device: torch.device) -> Any:
    """Return HD-BET's predictor, undoing what its import and its set-up change in the process."""
    stdout, threads = sys.stdout, torch.get_num_threads()
    # nnU-Net's own progress bars and path warnings have no place in a service's output.
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        from HD_BET import hd_bet_prediction  # noqa: PLC0415 - replaces sys.stdout when imported
    finally:
        sys.stdout = stdout
    hd_bet_prediction.folder_with_parameter_files = str(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = hd_bet_prediction.get_hdbet_predictor(use_tta=False, device=device)
    predictor.allow_tqdm = False
    torch.set_num_threads(threads)
    return predictor
