"""HD-BET's predictor, fed with tensors instead of a pickle.

HD-BET builds its predictor itself, so its settings stay its own; only nnU-Net's reading of the checkpoint, which would
unpickle anything, is replaced. Importing this module imports HD-BET, which replaces ``sys.stdout``: the importer puts
it back. No issue is known in which HD-BET is asked not to (hd-bet 2.0.1, ``hd_bet_prediction.py``), nor one for another
model folder than the one that its modules bind at import; nnU-Net's unpickling is nnUNet#2681.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from HD_BET import hd_bet_prediction
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from models.bounded_json import read_json
from models.brain_weights import Checkpoint, read_checkpoint
from models.bundle import ModelError

_MAX_PLANS_BYTES = 10**7
_MOST_PATCH_VOXELS = 2**24
"""Eight times HD-BET's patch."""
_FINEST_MM = 0.2
"""Of the voxels that an image is resampled to before it is read; HD-BET has 1 mm."""
_ARCHITECTURES = re.compile(r"dynamic_network_architectures\.architectures(\.\w+)+")
_LAYERS = re.compile(r"torch\.nn(\.\w+)+")
_TRAINERS = re.compile(r"nnUNetTrainer\w*")


@dataclass(frozen=True, slots=True)
class Plans:
    """What ``plans.json`` and ``dataset.json`` say, as nnU-Net reads it."""

    manager: Any
    configuration: Any
    dataset: dict[str, Any]


def hd_bet_predictor(folder: Path, device: torch.device) -> Any:
    """Return what ``get_hdbet_predictor`` returns for a model folder, test-time mirroring off.

    Parameters
    ----------
    folder
        Model folder, its files verified.
    device
        Where the network runs.

    Returns
    -------
    nnunetv2.inference.predict_from_raw_data.nnUNetPredictor
        Whose ``predict_single_npy_array`` takes float32 (1, z, y, x) and the spacing in mm in the same order.

    Raises
    ------
    ModelError
        ``brain_weights_invalid`` or ``brain_weights_unsafe``.
    """
    original = hd_bet_prediction.nnUNetPredictor
    hd_bet_prediction.nnUNetPredictor = _TensorPredictor
    hd_bet_prediction.folder_with_parameter_files = str(folder)
    try:
        return hd_bet_prediction.get_hdbet_predictor(use_tta=False, device=device)
    finally:
        hd_bet_prediction.nnUNetPredictor = original


def check_fit(folder: Path) -> None:
    """Refuse a model folder whose network cannot be built from its plans or does not fit its tensors.

    No memory is taken for the network: only names and shapes are compared.

    Parameters
    ----------
    folder
        Model folder in HD-BET's format.

    Raises
    ------
    ModelError
        ``brain_weights_invalid`` or ``brain_weights_unsafe``.
    """
    checkpoint = read_checkpoint(folder)
    _refuse_unfit(read_plans(folder, checkpoint), checkpoint)


def _refuse_unfit(plans: Plans, checkpoint: Checkpoint) -> None:
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in _network(plans, checkpoint).state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in checkpoint.tensors.items()}:
        raise _invalid("The tensors do not fit the network of plans.json")


def read_plans(folder: Path, checkpoint: Checkpoint) -> Plans:
    """Return the plans of a model folder that names nothing but nnU-Net's own networks and PyTorch's layers.

    nnU-Net imports and calls whatever the plans name, so other names are refused first; no issue of nnU-Net about it
    is known.

    Parameters
    ----------
    folder
        Model folder in HD-BET's format.
    checkpoint
        Of this folder: it names configuration and trainer.

    Returns
    -------
    Plans
        Of a network of one channel in, background and brain out.

    Raises
    ------
    ModelError
        ``brain_weights_invalid``, ``brain_weights_unsafe``.
    """
    try:
        dataset, plans = (_read_json(folder / name) for name in ("dataset.json", "plans.json"))
        manager = PlansManager(plans)
        configuration = manager.get_configuration(checkpoint.configuration)
        arguments = configuration.network_arch_init_kwargs
        imported = [arguments[key] for key in configuration.network_arch_init_kwargs_req_import]
        named = [
            (_ARCHITECTURES, configuration.network_arch_class_name),
            (_TRAINERS, checkpoint.trainer),
            *((_LAYERS, name) for name in imported if name is not None),
        ]
        safe = all(pattern.fullmatch(name) for pattern, name in named)
        heads = manager.get_label_manager(dataset).num_segmentation_heads
        small = math.prod(configuration.patch_size) <= _MOST_PATCH_VOXELS and min(configuration.spacing) >= _FINEST_MM
        inputs = determine_num_input_channels(manager, configuration, dataset)
    except Exception as error:  # any malformed plans: nnU-Net raises what it stumbled over
        raise _invalid(f"plans.json or dataset.json cannot be used ({type(error).__name__})") from None
    if not safe:
        raise ModelError(
            "brain_weights_unsafe",
            "plans.json names code that is no network of nnU-Net, so nothing was loaded: get the release from its "
            "source again.",
        )
    if not small:
        raise _invalid("plans.json asks for patches or voxels that no machine has the memory for")
    if (inputs, heads) != (1, 2):
        raise _invalid("The network does not tell brain from background in one image")
    return Plans(manager, configuration, dataset)


class _TensorPredictor(nnUNetPredictor):  # type: ignore[misc]
    """nnU-Net's predictor that reads tensors where the original unpickles."""

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Any,  # noqa: ARG002 - the signature is nnU-Net's; HD-BET has one fold
        checkpoint_name: str = "",  # noqa: ARG002
    ) -> None:
        """Take network, plans and weights from a model folder."""
        folder = Path(model_training_output_dir)
        checkpoint = read_checkpoint(folder)
        plans = read_plans(folder, checkpoint)
        _refuse_unfit(plans, checkpoint)  # Before memory is taken for whatever network the plans name.
        network = _network(plans, checkpoint)
        network.load_state_dict(checkpoint.tensors)
        self.manual_initialization(
            network,
            plans.manager,
            plans.configuration,
            [network.state_dict()],
            plans.dataset,
            checkpoint.trainer,
            checkpoint.mirroring_axes,
        )


def _network(plans: Plans, checkpoint: Checkpoint) -> nn.Module:
    """Return the network as nnU-Net builds it for inference."""
    configuration = plans.configuration
    try:
        trainer = recursive_find_trainer_class_by_name(checkpoint.trainer)
        network: nn.Module = trainer.build_network_architecture(
            plans.manager, configuration, 1, 2, enable_deep_supervision=False
        )
    except Exception as error:  # any malformed plans: layers raise what they stumbled over
        raise _invalid(f"The network of plans.json cannot be built ({type(error).__name__})") from None
    return network


def _read_json(file: Path) -> dict[str, Any]:
    content = read_json(file, _MAX_PLANS_BYTES)
    if not isinstance(content, dict):
        raise TypeError(f"{file.name} is no object")
    return content


def _invalid(what: str) -> ModelError:
    return ModelError("brain_weights_invalid", f"{what}: get the release from its source again.")
