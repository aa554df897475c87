"""A brain extractor, loaded once and called in process: HD-BET's own nnU-Net predictor, or HD-BET v1.

HD-BET's command starts a dozen processes per call; its predictor object does not. Any folder in HD-BET's format will
do: the official weights or the embedded ones.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import torch

from models.brain_weights import BrainWeights
from models.hd_bet_v1 import FoldWeights, HdBetV1

Mask = Callable[[np.ndarray, tuple[float, float, float]], np.ndarray]
"""Volume and voxel size in mm, both z-y-x, to uint8 of the volume's shape."""


class BrainExtractor:
    """Finds the brain in a volume.

    Parameters
    ----------
    weights
        Verified: a folder in HD-BET's format, or the folds of HD-BET v1.
    device
        Where the network runs.

    Raises
    ------
    ModelError
        ``brain_weights_invalid`` or ``brain_weights_unsafe``.

    Notes
    -----
    Test-time mirroring is off, as in HD-BET's programming interface. No process is started, nothing is written to
    stdout, and no more threads compute than PyTorch has been given.
    """

    def __init__(self, weights: BrainWeights, device: torch.device) -> None:
        self.weights = weights
        self.device = device
        self._mask = HdBetV1(weights, device).mask if isinstance(weights, FoldWeights) else self._nnunet()

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
        return self._mask(volume_zyx, spacing_zyx_mm)

    def _nnunet(self) -> Mask:
        hd_bet = hd_bet_module()
        with _silenced():
            predictor = hd_bet.hd_bet_predictor(self.weights.folder, self.device)
        predictor.allow_tqdm = False

        def mask(volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
            channel_first = np.ascontiguousarray(volume_zyx[None], np.float32)
            segmentation = predictor.predict_single_npy_array(channel_first, {"spacing": list(spacing_zyx_mm)})
            return np.asarray(segmentation, np.uint8)

        return mask


def hd_bet_module() -> ModuleType:
    """Return :mod:`models.hd_bet_predictor`, whose import replaces ``sys.stdout``; it is put back."""
    with _silenced():
        from models import hd_bet_predictor  # noqa: PLC0415 - see above
    return hd_bet_predictor


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Let HD-BET and nnU-Net be imported or set up without a trace in the process.

    Importing HD-BET replaces ``sys.stdout``; setting it up prints, takes all cores of the machine, and lets cuDNN
    choose other algorithms from run to run. No upstream issue is known of any of it.
    """
    stdout, threads, benchmark = sys.stdout, torch.get_num_threads(), torch.backends.cudnn.benchmark
    # nnU-Net's own progress bars have no place in a service's output, nor has its default of 8 threads.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("nnUNet_def_n_proc", str(threads))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.stdout = stdout
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
