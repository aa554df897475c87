"""Brain weights on disk: a folder of HD-BET's format, verified by SHA-256 and read without unpickling code.

A folder is one of two::

    dataset.json  plans.json  SHA256SUMS
    fold_all/checkpoint_final.pth               as nnU-Net writes it: the embedded weights
    fold_all/network_weights.safetensors,
    fold_all/checkpoint.json                    the same, converted once: installed weights

Either gives the same `Checkpoint`, and from there on everything is one path.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from models.bounded_json import read_json
from models.bundle import SHIPPED, ModelError, sha256, verify_checksums
from models.whole_files import make_folder, write_whole

EMBEDDED = SHIPPED / "brain-embedded"
PICKLED = Path("fold_all", "checkpoint_final.pth")
CONVERTED = Path("fold_all", "network_weights.safetensors")
STATED = Path("fold_all", "checkpoint.json")
MAX_CHECKPOINT_BYTES = 2 * 10**9
"""HD-BET's network with its optimiser's state takes 0.4 GB; whatever is larger is something else."""

_make_scalar = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS: list[Any] = [
    np.dtype,
    (_make_scalar, "numpy.core.multiarray.scalar"),  # as NumPy 1 named it
    (_make_scalar, "numpy._core.multiarray.scalar"),
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)),
]
"""What nnU-Net's log of losses and Dice values needs beside tensors and plain values; none of it runs code."""


@dataclass(frozen=True, slots=True)
class BrainWeights:
    """Verified weights: what the outputs call them, where they lie, and the SHA-256 over their files."""

    name: str
    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What inference needs of an nnU-Net checkpoint.

    Attributes
    ----------
    tensors
        The network's state by name; names may share a tensor.
    trainer
        Name of the nnU-Net trainer class that builds the network.
    configuration
        Name of the configuration in ``plans.json``.
    mirroring_axes
        Axes that test-time mirroring would be allowed to use; None where it is not.
    """

    tensors: dict[str, Tensor]
    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...] | None


def open_brain_weights(name: str, folder: Path, pinned: str | None = None) -> BrainWeights:
    """Return the weights in a folder of HD-BET's format after every file was checked against its SHA-256.

    Parameters
    ----------
    name
        What the outputs call them: ``embedded`` or ``hd-bet``.
    folder
        Where they lie.
    pinned
        The only digest that is accepted; None: any that the folder proves.

    Returns
    -------
    BrainWeights
        With the digest over all files of the folder.

    Raises
    ------
    ModelError
        ``brain_weights_missing``, ``brain_weights_changed`` (a file is absent, extra or differs) or
        ``brain_weights_not_pinned``.
    """
    if not any((folder / file).is_file() for file in (PICKLED, CONVERTED)):
        raise ModelError(
            "brain_weights_missing",
            f"There are no '{name}' brain weights in {folder}: install them with `dicom-node models install hd-bet "
            'release_v1.5.0.zip`, or set weights = "embedded".',
        )
    weights = BrainWeights(name, folder, verify_checksums(folder, "brain_weights_changed"))
    refuse_other_digest(weights, pinned)
    return weights


def refuse_other_digest(weights: BrainWeights, pinned: str | None) -> None:
    """Refuse weights that are not the ones that the configuration pins.

    Parameters
    ----------
    weights
        Verified.
    pinned
        The only digest that is accepted; None: any.

    Raises
    ------
    ModelError
        ``brain_weights_not_pinned``.
    """
    if pinned is not None and weights.digest != pinned:
        raise ModelError(
            "brain_weights_not_pinned",
            f"The '{weights.name}' brain weights have the digest {weights.digest}, but [brain] digest is {pinned}: "
            "install the right release, or change the key.",
        )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint of a model folder, pickled or converted.

    Parameters
    ----------
    folder
        In HD-BET's format, its files verified.

    Returns
    -------
    Checkpoint
        Its tensors on the CPU, in the type that they are stored in.

    Raises
    ------
    ModelError
        As `read_pickled`; ``brain_weights_invalid`` where the converted form cannot be read.
    """
    if not (folder / CONVERTED).is_file():
        return read_pickled(folder / PICKLED)
    try:
        stated = read_json(folder / STATED)
        tensors = load_file(folder / CONVERTED)
        tensors |= {name: tensors[first] for name, first in stated["same_tensors"].items()}
        return _checkpoint(tensors, stated)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _invalid(f"'{folder.name}' cannot be read ({type(error).__name__})") from None


def read_pickled(file: Path) -> Checkpoint:
    """Return the checkpoint that nnU-Net wrote to a file, unpickling tensors and plain values only.

    nnU-Net itself unpickles anything (nnUNet#2681).

    Parameters
    ----------
    file
        ``.pth`` of at most `MAX_CHECKPOINT_BYTES`, unpacked.

    Returns
    -------
    Checkpoint
        Its tensors on the CPU, in the type that they are stored in.

    Raises
    ------
    ModelError
        ``brain_weights_unsafe``: the file needs anything else, which is never loaded; ``brain_weights_invalid``: it is
        no checkpoint, or larger than any network of this kind.
    """
    _refuse_large(file)
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            "brain_weights_unsafe",
            f"{file.name} holds more than tensors and plain values, so it was not loaded: get the release from its "
            "source again.",
        ) from None
    except Exception as error:  # any damaged file: PyTorch raises what it stumbled over
        raise _invalid(f"{file.name} cannot be read ({type(error).__name__})") from None
    try:
        stated = {**content, "configuration": content["init_args"]["configuration"]}
        return _checkpoint(content["network_weights"], stated)
    except (KeyError, TypeError):
        raise _invalid(f"{file.name} is not a checkpoint of nnU-Net") from None


def write_converted(checkpoint: Checkpoint, folder: Path, source: Path) -> None:
    """Write a checkpoint as tensors and JSON, naming the SHA-256 of the pickle that it came from.

    The same checkpoint gives the same bytes, so that the digest of the folder identifies the weights on any machine.

    Parameters
    ----------
    checkpoint
        Tensors that are the same memory are written once.
    folder
        Model folder; made where it is missing.
    source
        The pickle.
    """
    first: dict[tuple[Any, ...], str] = {}
    same = {}
    for name, tensor in sorted(checkpoint.tensors.items()):
        known = first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), name)
        if known != name:
            same[name] = known
    make_folder((folder / CONVERTED).parent)
    kept = {name: checkpoint.tensors[name].contiguous().clone() for name in sorted(first.values())}
    write_whole(folder / CONVERTED, save(kept))
    stated = {
        "trainer_name": checkpoint.trainer,
        "configuration": checkpoint.configuration,
        "inference_allowed_mirroring_axes": checkpoint.mirroring_axes,
        "same_tensors": same,
        "converted_from": {PICKLED.as_posix(): sha256(source)},
    }
    write_whole(folder / STATED, (json.dumps(stated, indent=2, sort_keys=True) + "\n").encode())


def converted_from(weights: BrainWeights) -> str:
    """Return the SHA-256 of the checkpoint that installed weights were made from.

    Parameters
    ----------
    weights
        In the converted form.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    stated = read_json(weights.folder / STATED)
    return str(stated["converted_from"][PICKLED.as_posix()])


def _refuse_large(file: Path) -> None:
    """Refuse a file that unpacks to more than any network of this kind: the .pth is a zip archive itself."""
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        raise _invalid(f"{file.name} is not a checkpoint of nnU-Net") from None
    if unpacked_bytes > MAX_CHECKPOINT_BYTES:
        raise _invalid(f"{file.name} unpacks to {unpacked_bytes / 1e9:.0f} GB")


def _checkpoint(tensors: Any, stated: dict[str, Any]) -> Checkpoint:
    """Return a checkpoint of the right types.

    Raises
    ------
    TypeError
        If a value has another type, or a tensor is not dense floating-point numbers of a bounded size.
    """
    axes = stated.get("inference_allowed_mirroring_axes")
    checkpoint = Checkpoint(
        dict(tensors), stated["trainer_name"], stated["configuration"], None if axes is None else tuple(axes)
    )
    if not all(isinstance(text, str) for text in (checkpoint.trainer, checkpoint.configuration)):
        raise TypeError("trainer and configuration are texts")
    if not all(isinstance(axis, int) for axis in checkpoint.mirroring_axes or ()):
        raise TypeError("mirroring axes are numbers")
    if not all(isinstance(name, str) and _is_dense(tensor) for name, tensor in checkpoint.tensors.items()):
        raise TypeError("the network's state consists of named tensors")
    return checkpoint


def _is_dense(tensor: Any) -> bool:
    # An expanded tensor may claim more numbers than the file holds.
    return (
        isinstance(tensor, Tensor)
        and tensor.layout is torch.strided
        and tensor.is_floating_point()
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _invalid(what: str) -> ModelError:
    return ModelError("brain_weights_invalid", f"{what}: get the release from its source again.")
