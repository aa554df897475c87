"""WAE-net: one EfficientNet3D-B0 per sequence (CN114170162A), each with a score of its own."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from models.bundle import SEQUENCES, Bundle, ModelError, Sequence
from models.efficientnet3d import SIDE_MULTIPLE, demonstration_network, efficientnet3d_b0
from models.saliency import ClassActivation, grad_cam


class WaeNet:
    """The networks of a bundle on one device.

    Parameters
    ----------
    bundle
        Verified bundle.
    device
        Where the networks run.

    Raises
    ------
    ModelError
        ``weights_unfit`` if a weights file does not fit the architecture, ``torch_unfit`` on torch 2.9, whose
        three-dimensional convolutions are wrong or slow, ``grid_unfit`` if a side of the grid is no multiple of 64.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        refuse_torch_2_9(torch.__version__)
        sides = bundle.metadata.grid.size_xyz
        if any(side % SIDE_MULTIPLE for side in sides):
            raise ModelError("grid_unfit", f"The grid {sides} of the bundle is no multiple of {SIDE_MULTIPLE} voxels.")
        self.bundle = bundle
        self.device = device
        self._networks: dict[str, nn.Module] = {
            sequence: _network(bundle, sequence).to(device).eval().requires_grad_(requires_grad=False)
            for sequence in SEQUENCES
        }

    @torch.inference_mode()
    def score(self, sequence: str, tensor_zyx: np.ndarray) -> float:
        """Return one sequence's score in [0, 1].

        Parameters
        ----------
        sequence
            Which network.
        tensor_zyx
            float32 on the bundle's grid, z-scored inside the brain, 0 outside.
        """
        batch = torch.from_numpy(tensor_zyx)[None, None].to(self.device)
        logit = self._networks[sequence](batch).double()
        return float(torch.sigmoid(logit))

    def saliency(self, sequence: str, tensor_zyx: np.ndarray) -> ClassActivation:
        """Return what one sequence's score depends on; the parameters are those of `score`."""
        batch = torch.from_numpy(tensor_zyx)[None, None].to(self.device)
        return grad_cam(self._networks[sequence], batch)


def refuse_torch_2_9(version: str) -> None:
    """Raise `ModelError` for torch 2.9 (pytorch issues 163539, 166122, 166643)."""
    if version.split(".")[:2] == ["2", "9"]:
        raise ModelError("torch_unfit", f"torch {version} computes 3-D convolutions wrongly; install the pinned one.")


def _network(bundle: Bundle, sequence: Sequence) -> nn.Module:
    stride = bundle.metadata.architecture.first_block_stride
    files = bundle.metadata.network_files
    if files is None:
        return demonstration_network(stride, bundle.network_seed(sequence))
    network = efficientnet3d_b0(stride)
    try:
        weights = {name: value.float() for name, value in load_file(bundle.folder / files[sequence]).items()}
        network.load_state_dict(weights)
    except Exception as error:
        raise ModelError(
            "weights_unfit", f"'{files[sequence]}' does not hold weights of EfficientNet3D-B0 ({type(error).__name__})."
        ) from None
    return network
