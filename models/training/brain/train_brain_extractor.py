"""Train the embedded brain extractor: ``python -m models.training.brain.train_brain_extractor --help``.

The result is a model folder in HD-BET's format (dataset.json, plans.json, fold_all/checkpoint_final.pth), so that
HD-BET's own predictor runs it. Training may be stopped at any moment and goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from models.training.brain.head_images import HeadImages
from models.training.brain.label_maps import read_label_map
from models.training.brain.mask_loss import mask_loss
from models.whole_files import write_whole

SPACING_MM = 2.5
PATCH_ZYX = (96, 96, 80)
FEATURES = (16, 32, 48, 64, 96)
PLANS_NAME = "EmbeddedBrainPlans"
_CHECKPOINT_EVERY_STEPS = _WARM_UP_STEPS = 50
_EMA_DECAY = 0.995


def plans() -> dict[str, Any]:
    """Return the nnU-Net plans of the embedded network; a pure constant, kept as code so that it can say why.

    Notes
    -----
    Linear torch resampling instead of nnU-Net's cubic default: a tenth of the time, and the mask's rim, resampled as
    logits, is as sharp. Intensities are z-scored over the image, so the foreground statistics stay unused, but
    nnU-Net reads the entry for channel 0.
    """
    resampling = "resample_torch_fornnunet"
    arguments = {"force_separate_z": False, "memefficient_seg_resampling": False}
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": len(FEATURES),
            "features_per_stage": list(FEATURES),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * len(FEATURES),
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (len(FEATURES) - 1),
            "n_conv_per_stage": [2] * len(FEATURES),
            "n_conv_per_stage_decoder": [1] * (len(FEATURES) - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    fullres = {
        "data_identifier": f"{PLANS_NAME}_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH_ZYX),
        "median_image_size_in_voxels": list(PATCH_ZYX),
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": {"is_seg": False, **arguments},
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": {"is_seg": True, **arguments},
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, **arguments},
        "batch_dice": False,
        "architecture": architecture,
    }
    unused = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 0.0)
    return {
        "dataset_name": "Dataset001_SyntheticHeads",
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [256, 256, 256],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "none",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": unused},
        "configurations": {"3d_fullres": fullres},
    }


def build_network() -> PlainConvUNet:
    """Return the untrained network that `plans` describes: one channel in, background and brain out."""
    return PlainConvUNet(
        1, len(FEATURES), FEATURES, nn.Conv3d, 3, (1, 2, 2, 2, 2), 2, 2, 1, conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, deep_supervision=False,
    )  # fmt: skip


def export(weights: dict[str, Tensor], folder: Path) -> None:
    """Write a model folder in HD-BET's format with half-precision weights.

    Parameters
    ----------
    weights
        State of `build_network`.
    folder
        Made where it is missing; files of the same names are replaced.
    """
    fold = folder / "fold_all"
    fold.mkdir(parents=True, exist_ok=True)
    dataset = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "brain": 1},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
    for name, content in (("dataset.json", dataset), ("plans.json", plans())):
        write_whole(folder / name, (json.dumps(content, indent=2) + "\n").encode())
    # nnU-Net's modules appear in the state under several names; halved once each, they are stored once.
    halves = {value.data_ptr(): value.half() for value in weights.values()}
    checkpoint = {
        "network_weights": {name: halves[value.data_ptr()] for name, value in weights.items()},
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    _write(fold / "checkpoint_final.pth", checkpoint)


def train(
    heads: HeadImages, state_file: Path, hours: float, batch: int, learning_rate: float, start: Path | None = None
) -> dict[str, Tensor]:
    """Train for a span of processor time and return the averaged weights.

    Parameters
    ----------
    heads
        Where images and masks are drawn from.
    state_file
        Checkpoint that is resumed where it exists, and written every 50 steps and at the end.
    hours
        Processor time over all resumptions, so that a busy machine shortens nothing; the learning rate falls along a
        cosine over it.
    batch
        Images of a step, at least 1.
    learning_rate
        The highest, reached after 50 steps.
    start
        Model folder whose weights a training without a state begins with; None: random ones.

    Returns
    -------
    dict of str to torch.Tensor
        State of `build_network`, averaged exponentially over the steps.
    """
    network = build_network()
    if start is not None:
        checkpoint = torch.load(start / "fold_all" / "checkpoint_final.pth", weights_only=True)
        network.load_state_dict(checkpoint["network_weights"])
    average = build_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    step, spent_s, smooth_loss = 0, 0.0, float("nan")
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent_s = state["step"], state["spent_s"]
        heads.random.manual_seed(step)
    else:
        average.load_state_dict(network.state_dict())
    while spent_s < hours * 3600:
        started_s = time.process_time()
        for group in optimiser.param_groups:
            warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
            group["lr"] = learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * spent_s / (hours * 3600)))
        images, brain = heads.draw(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        value = mask_loss(logits, brain)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        decay = min(_EMA_DECAY, step / (step + 10))
        with torch.no_grad():
            for mean, current in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(current, 1 - decay)
        cost = float(value.detach())
        smooth_loss = cost if math.isnan(smooth_loss) else 0.98 * smooth_loss + 0.02 * cost
        spent_s += time.process_time() - started_s
        if step % _CHECKPOINT_EVERY_STEPS == 0 or spent_s >= hours * 3600:
            _save(state_file, network, average, optimiser, step, spent_s)
            print(f"step {step}  {spent_s / 60:.1f} min  loss {smooth_loss:.4f}", flush=True)
    averaged: dict[str, torch.Tensor] = average.state_dict()
    return averaged


def _save(file: Path, network: nn.Module, average: nn.Module, optimiser: Any, step: int, spent_s: float) -> None:
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "spent_s": spent_s,
    }
    _write(file, state)


def _write(file: Path, content: dict[str, Any]) -> None:
    stream = io.BytesIO()
    torch.save(content, stream)
    write_whole(file, stream.getvalue())


def main() -> None:
    """Read the command line, train, and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label-maps", type=Path, nargs="+", required=True, help="NIfTI label maps to train on")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--state", type=Path, required=True, help="checkpoint to resume from and to write")
    parser.add_argument("--start", type=Path, help="model folder whose weights a new training begins with")
    parser.add_argument("--hours", type=float, default=1.0, help="of processor time")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    maps = [read_label_map(path) for path in sorted(arguments.label_maps)]
    heads = HeadImages(maps, PATCH_ZYX, SPACING_MM, arguments.seed)
    weights = train(heads, arguments.state, arguments.hours, arguments.batch, arguments.learning_rate, arguments.start)
    export(weights, arguments.out)


if __name__ == "__main__":
    main()
