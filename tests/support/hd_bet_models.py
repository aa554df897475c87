"""Model folders in HD-BET's format with random weights, and releases of them, for the tests."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

FILES = ("dataset.json", "plans.json", "fold_all/checkpoint_final.pth")
OFFICIAL_FEATURES = (32, 64, 128, 256, 320, 320)
"""nnU-Net's default widths of six stages: 31.2 million parameters, as HD-BET's network has."""
DATASET = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "brain": 1},
    "numTraining": 0,
    "file_ending": ".nii.gz",
}


def plans(features: Sequence[int], patch_voxels: int, spacing_mm: float) -> dict[str, Any]:
    """Return nnU-Net plans of the architecture that HD-BET has, with nnU-Net's default resampling."""
    stages = len(features)
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    fullres = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch_voxels] * 3,
        "median_image_size_in_voxels": [patch_voxels] * 3,
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities_kwargs": resampling,
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": list(features),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    unused = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 0.0)
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [160, 200, 160],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": unused},
        "configurations": {"3d_fullres": fullres},
    }


def write_model(
    folder: Path, features: Sequence[int] = (4, 8, 8), patch_voxels: int = 32, spacing_mm: float = 2.0, seed: int = 0
) -> Path:
    """Write a model folder as nnU-Net leaves it after training, with its log and its optimiser's state."""
    (folder / "fold_all").mkdir(parents=True)
    content = plans(features, patch_voxels, spacing_mm)
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    (folder / "plans.json").write_text(json.dumps(content))
    torch.manual_seed(seed)
    stages = len(features)
    network = PlainConvUNet(
        1, stages, features, nn.Conv3d, 3, (1, *[2] * (stages - 1)), 2, 2, 2, conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99)
    init_args = {"plans": content, "configuration": "3d_fullres", "fold": "all", "device": torch.device("cpu")}
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.5)], "lrs": [0.01]},
        "_best_ema": np.float64(0.9),
        "current_epoch": 1,
        "init_args": init_args,
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")
    return folder


def write_release(folder: Path, archive: Path, root: str = "") -> Path:
    """Zip a model folder as HD-BET publishes it; `root` is a folder in front of every name."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in FILES:
            zipped.write(folder / name, root + name)
    return archive
