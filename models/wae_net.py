"""WAE-net: EfficientNet3D-B0 networks for T1W, T2W and FLAIR (CN114170162A), each contrast with a score of its own.

A contrast has one network, or one for each fold of its training; its score is their mean. One network may stand under
all three contrasts (patent [0065]); it is loaded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from models import inference
from models.averaging import shifted
from models.bundle import Bundle, ModelError
from models.contrast import Contrast
from models.efficientnet3d import SIDE_MULTIPLE, demonstration_network, efficientnet3d_b0
from models.feature_space import distance, load_axes
from models.saliency import ClassActivation, grad_cam, mean_activation


@dataclass(frozen=True, slots=True)
class Reading:
    """What the networks of one contrast say of one volume.

    Attributes
    ----------
    member_scores
        Of each network, in [0, 1], in the order of the folds; its mean over the shifts that the bundle states.
    features
        float32 (1280,): what the last layer sees, averaged over the volume, the networks and the shifts.
    """

    member_scores: tuple[float, ...]
    features: npt.NDArray[np.float32]

    @property
    def score(self) -> float:
        """Mean over the networks, in [0, 1]."""
        return sum(self.member_scores) / len(self.member_scores)


class WaeNet:
    """The networks of a bundle on one device.

    Parameters
    ----------
    bundle
        Verified bundle.
    device
        Where the networks run.

    Attributes
    ----------
    reading, explained
        The networks of each contrast, in the order of the folds: arranged for scores, and as they were trained, with
        which gradients can be taken. A file that stands under several contrasts is one network.

    Raises
    ------
    ModelError
        ``weights_unfit`` if a weights file does not fit the architecture, ``feature_space_unfit`` if the axes of its
        feature space cannot be right, ``torch_unfit`` on torch 2.9, whose three-dimensional convolutions are wrong or
        slow, ``grid_unfit`` if a side of the grid is not a multiple of 64.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        refuse_torch_2_9(torch.__version__)
        sides = bundle.metadata.grid.size_xyz
        if any(side % SIDE_MULTIPLE for side in sides):
            raise ModelError(
                "grid_unfit", f"The grid {sides} of the bundle is not a multiple of {SIDE_MULTIPLE} voxels."
            )
        self.bundle = bundle
        self.device = device
        space = bundle.metadata.range.features
        self._axes = load_axes(bundle.folder / space.file) if space else {}
        # Both are kept: what reads fast has no gradients, and files may be replaced while this process lives.
        self.explained = {
            contrast: tuple(network.to(device).eval().requires_grad_(requires_grad=False) for network in networks)
            for contrast, networks in _networks(bundle)
        }
        arranged = {id(n): inference.for_inference(n, device) for networks in self.explained.values() for n in networks}
        self.reading = {s: tuple(arranged[id(n)] for n in networks) for s, networks in self.explained.items()}

    @torch.inference_mode()
    @inference.full_float32()
    def read(self, contrast: Contrast, tensor_zyx: np.ndarray) -> Reading:
        """Return the scores and the features of one contrast.

        Parameters
        ----------
        contrast
            Which networks.
        tensor_zyx
            float32 on the bundle's grid, z-scored inside the brain, 0 outside.

        Raises
        ------
        RuntimeError
            If a network returns a number that is not finite.
        """
        batch = torch.from_numpy(tensor_zyx)[None, None].to(self.device)
        places = tuple(shifted(batch, self.bundle.metadata.averaged_shifts))
        read = [[inference.read(network, place) for place in places] for network in self.reading[contrast]]
        logits = torch.stack([torch.cat([logit for logit, _ in member]).flatten() for member in read])
        scores = torch.sigmoid(logits.double()).mean(dim=1).tolist()
        pooled = torch.cat([features for member in read for _, features in member]).float().mean(dim=0).cpu().numpy()
        if not np.isfinite(scores).all() or not np.isfinite(pooled).all():
            raise RuntimeError(f"a network of {contrast} returned a number that is not finite")
        return Reading(tuple(scores), pooled)

    def score(self, contrast: Contrast, tensor_zyx: np.ndarray) -> float:
        """Return one contrast's score in [0, 1].

        Parameters
        ----------
        contrast
            Which networks.
        tensor_zyx
            float32 on the bundle's grid, z-scored inside the brain, 0 outside.

        Raises
        ------
        RuntimeError
            If a network returns a number that is not finite.
        """
        return self.read(contrast, tensor_zyx).score

    def distance(self, contrast: Contrast, features: np.ndarray) -> float | None:
        """Return how far features lie from those of the cohort; None where the bundle has no feature space.

        Parameters
        ----------
        contrast
            Which feature space.
        features
            float32 (1280,), as `read` returns them.

        See Also
        --------
        models.feature_space.distance
        """
        axes = self._axes.get(contrast)
        return None if axes is None else distance(axes, features)

    @inference.full_float32()
    def saliency(self, contrast: Contrast, tensor_zyx: np.ndarray) -> ClassActivation:
        """Return what one contrast's score depends on, as the mean over its networks, as the score is one.

        Parameters
        ----------
        contrast
            Which networks.
        tensor_zyx
            float32 on the bundle's grid, z-scored inside the brain, 0 outside.
        """
        batch = torch.from_numpy(tensor_zyx)[None, None].to(self.device)
        return mean_activation([grad_cam(network, batch) for network in self.explained[contrast]])


def refuse_torch_2_9(version: str) -> None:
    """Raise for torch 2.9, whose 3-D convolutions are wrong or slow (pytorch issues 163539, 166122, 166643).

    Parameters
    ----------
    version
        Of torch.

    Raises
    ------
    ModelError
        ``torch_unfit``
    """
    if version.split(".")[:2] == ["2", "9"]:
        raise ModelError("torch_unfit", f"torch {version} computes 3-D convolutions wrongly; install the pinned one.")


def load_network(path: Path, first_block_stride: int) -> nn.Module:
    """Return an EfficientNet3D-B0 with the weights of a safetensors file, as float32.

    Parameters
    ----------
    path
        Safetensors file, of half or single precision.
    first_block_stride
        1 or 2; the file does not say it.

    Raises
    ------
    ModelError
        ``weights_unfit`` if the file does not hold them, or a number in it is not finite.
    """
    network = efficientnet3d_b0(first_block_stride)
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        network.load_state_dict(weights)
    except Exception as error:
        raise ModelError(
            "weights_unfit", f"'{path.name}' does not contain weights of EfficientNet3D-B0 ({type(error).__name__})."
        ) from None
    if not all(value.isfinite().all() for value in weights.values()):
        raise ModelError("weights_unfit", f"'{path.name}' contains numbers that are not finite: do not use it.")
    return network


def _networks(bundle: Bundle) -> Iterator[tuple[Contrast, tuple[nn.Module, ...]]]:
    """Yield the networks of each contrast; a file that stands under several is read once."""
    stride = bundle.metadata.architecture.first_block_stride
    files = bundle.metadata.network_files
    loaded: dict[str, nn.Module] = {}
    for contrast in Contrast:
        if files is None:
            yield contrast, (demonstration_network(stride, bundle.network_seed(contrast)),)
            continue
        for name in files[contrast]:
            if name not in loaded:
                loaded[name] = load_network(bundle.folder / name, stride)
        yield contrast, tuple(loaded[name] for name in files[contrast])
