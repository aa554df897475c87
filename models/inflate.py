"""A 2-D EfficientNet-B0 made three-dimensional (I3D, Carreira and Zisserman, CVPR 2017): the start from ImageNet.

The patent starts from weights "pre-trained on ImageNet"; there are none for three dimensions. A 2-D kernel repeated
along depth and divided by its depth answers a volume that does not change along depth as the 2-D network answers a
slice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from models.bundle import ModelError, sha256
from models.efficientnet3d import efficientnet3d_b0
from models.whole_files import write_whole

_NEW_LAYER: Final = "_fc."
"""ImageNet's 1000 classes say nothing about the one logit."""

_INFLATION: Final = "inflation"

_KERNEL_3D: Final = 5
"""Dimensions of a kernel (out, in, z, y, x); all other tensors of the network have fewer."""
_COLOURS: Final = 3
"""Input channels of ImageNet's networks: red, green and blue."""

_COUNTER: Final = "num_batches_tracked"
"""Of batches seen in training; nothing is computed from it, and older checkpoints lack it."""

# MONAI numbers stages and blocks (_blocks.3.5.), the checkpoints of EfficientNet-PyTorch blocks only (_blocks.5.).
_STAGE = re.compile(r"^(_blocks)\.\d+(\.\d+\..+)$")


@dataclass(frozen=True, slots=True)
class InflationReport:
    """The names of the 3-D network's tensors by where their values come from.

    Attributes
    ----------
    copied
        From the 2-D network, unchanged.
    inflated
        Kernels repeated along depth and divided by their depth.
    reinitialised
        Random, or zero for a counter that the checkpoint lacks.
    """

    copied: tuple[str, ...]
    inflated: tuple[str, ...]
    reinitialised: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.copied)} tensors copied, {len(self.inflated)} kernels inflated, "
            f"{len(self.reinitialised)} re-initialised ({', '.join(self.reinitialised)})"
        )


def inflate(state_2d: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], InflationReport]:
    """Return the weights of `efficientnet3d_b0` that follow from those of a 2-D EfficientNet-B0.

    Parameters
    ----------
    state_2d
        Of three input channels, under MONAI's names or those of EfficientNet-PyTorch
        (``efficientnet-b0-355c32eb.pth``); any number of classes.

    Returns
    -------
    tuple
        State of the 3-D network (float32, CPU, equal for both strides of the first block), and what became of each
        tensor. The last layer is random from a fixed seed.

    Raises
    ------
    ModelError
        ``checkpoint_unfit`` if a tensor is missing, unknown, of another shape or not finite.
    """
    fresh = _fresh()
    sources = _sources(fresh, state_2d)
    state: dict[str, torch.Tensor] = {}
    places: dict[str, list[str]] = {"copied": [], "inflated": [], "reinitialised": []}
    for name, example in fresh.items():
        source = sources.get(name)
        place = "reinitialised" if source is None else "inflated" if example.dim() == _KERNEL_3D else "copied"
        state[name] = example if source is None else _inflated(name, source, example)
        places[place].append(name)
    return state, InflationReport(**{place: tuple(names) for place, names in places.items()})


def inflate_checkpoint(checkpoint: Path, out: Path) -> InflationReport:
    """Write the inflated weights of a checkpoint file and return what became of each tensor.

    Parameters
    ----------
    checkpoint
        ``.pth``, of which nothing but tensors is read, or ``.safetensors``.
    out
        New ``.safetensors`` file; its metadata hold the report and the checkpoint's SHA-256.

    Raises
    ------
    ModelError
        ``checkpoint_unreadable`` if it is missing, of another kind or contains more than tensors,
        ``checkpoint_unfit`` as for `inflate`, ``output_exists`` if `out` is there.
    """
    if out.exists():
        raise ModelError("output_exists", f"'{out.name}' is there already; remove it or name another file.")
    state, report = inflate(_load(checkpoint))
    metadata = {_INFLATION: json.dumps(asdict(report)), "checkpoint_sha256": sha256(checkpoint)}
    write_whole(out, save(state, metadata))
    return report


def refuse_unless_inflated(start: Path) -> None:
    """Raise unless a file is one that `inflate_checkpoint` wrote, whose weights have seen no patient.

    Parameters
    ----------
    start
        Safetensors file; nothing but its header is read.

    Raises
    ------
    ModelError
        ``start_unknown`` if the header does not say so, or there is no such file.
    """
    try:
        with safe_open(start, framework="pt") as tensors:
            said = tensors.metadata() or {}
    except (OSError, SafetensorError):
        said = {}
    if _INFLATION not in said:
        raise ModelError(
            "start_unknown",
            f"'{start.name}' does not say that it was inflated from 2-D weights, and weights of unknown origin may "
            "have seen the test patients: start from a file of `dicom-node models inflate`.",
        )


def _load(checkpoint: Path) -> dict[str, torch.Tensor]:
    if not checkpoint.is_file():
        raise ModelError(
            "checkpoint_unreadable", f"There is no file '{checkpoint.name}'; give the path of a checkpoint."
        )
    if checkpoint.suffix not in {".pth", ".safetensors"}:
        raise ModelError("checkpoint_unreadable", f"'{checkpoint.name}' is neither .pth nor .safetensors.")
    try:
        if checkpoint.suffix == ".safetensors":
            return load_file(checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError):
        raise ModelError("checkpoint_unreadable", f"'{checkpoint.name}' is damaged; fetch it again.") from None
    except Exception:  # torch.load raises whatever its unpickler meets
        raise ModelError(
            "checkpoint_unreadable",
            f"'{checkpoint.name}' is damaged or contains more than tensors; nothing of it was run. Fetch it again.",
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(
            "checkpoint_unreadable", f"'{checkpoint.name}' does not contain a plain state dictionary; save one."
        )
    return state


def _fresh() -> dict[str, torch.Tensor]:
    """Return a random 3-D state whose last layer does not saturate.

    MONAI draws it from -1 to 1 whatever its inputs (no upstream issue known).
    """
    fresh = efficientnet3d_b0(1, seed=0).state_dict()
    last = fresh[f"{_NEW_LAYER}weight"]
    reach = last.shape[1] ** -0.5
    nn.init.uniform_(last, -reach, reach, generator=torch.Generator().manual_seed(0))
    return fresh


def _sources(fresh: Mapping[str, torch.Tensor], state_2d: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the 2-D tensors by the names of the 3-D ones; refuse unless all are accounted for."""
    short = {_STAGE.sub(r"\1\2", name): name for name in fresh}
    full = {name: short.get(name, name) for name in state_2d}
    unknown = sorted(name for name, ours in full.items() if ours not in fresh)
    if unknown:
        raise _unfit(f"has the unknown tensor '{unknown[0]}'{_more(unknown)}")
    sources = {ours: state_2d[name] for name, ours in full.items() if not ours.startswith(_NEW_LAYER)}
    missing = [n for n in fresh if n not in sources and not n.startswith(_NEW_LAYER) and not n.endswith(_COUNTER)]
    if missing:
        raise _unfit(f"lacks the tensor '{missing[0]}'{_more(missing)}")
    return sources


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _inflated(name: str, source: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """Return the 3-D tensor of a 2-D one; the colours of the first kernel are summed, as for a grey image."""
    colours = _COLOURS if name == "_conv_stem.weight" else None
    shape = list(example.shape)
    if example.dim() == _KERNEL_3D:
        shape = [shape[0], colours or shape[1], *shape[3:]]
    if list(source.shape) != shape:
        raise _unfit(f"has '{name}' of shape {tuple(source.shape)} instead of {tuple(shape)}")
    if not source.isfinite().all():
        raise _unfit(f"has values in '{name}' that are not finite")
    values = source.detach().to("cpu", example.dtype)
    if example.dim() != _KERNEL_3D:
        return values.clone()
    if colours:
        values = values.sum(dim=1, keepdim=True)
    depth = example.shape[2]
    return (values[:, :, None] / depth).repeat(1, 1, depth, 1, 1)


def _unfit(what: str) -> ModelError:
    return ModelError(
        "checkpoint_unfit", f"The checkpoint {what}; give one of a 2-D EfficientNet-B0 with three input channels."
    )
