"""Write a bundle in MONAI's layout; see `models.bundle` for the folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from models.bundle import INFERENCE, METADATA, SHIPPED, TRAINING, Metadata, write_checksums
from models.bundle_metadata import DataFormat, NetworkDataFormat
from models.efficientnet3d import PADDING_SIDE, block_strings
from models.outcome import UNCONTROLLED
from models.training.bundling.training_record import TrainingRecord
from models.training.fit.recipe import Recipe
from models.whole_files import ENTERED_BY_ALL, READABLE_BY_ALL, make_folder, write_json, write_whole

LICENSE: Final = SHIPPED / "untrained-demo" / "LICENSE"
SOFTWARE: Final = ("dicom-node", "torch", "monai", "numpy", "scipy", "scikit-learn", "safetensors")
_SYNTHETIC: Final = "SYNTHETIC DATA - "
_PURPOSE: Final = (
    f"Score of the risk of {UNCONTROLLED}, in tuberous sclerosis complex, from T1W, T2W and FLAIR images of the brain."
)


def write_bundle(folder: Path, metadata: Metadata, training: TrainingRecord, card: str) -> None:
    """Write all of a bundle but its ``models``, and the checksums of everything.

    Parameters
    ----------
    folder
        Its networks lie in it already.
    metadata, training
        Contents of ``configs/metadata.json``, from which that of ``configs/inference.json`` follows, and of
        ``configs/training.json``.
    card
        Model card, Markdown.
    """
    for name in ("configs", "docs"):
        make_folder(folder / name, ENTERED_BY_ALL)
    write_json(folder / METADATA, metadata.model_dump(mode="json", exclude_none=True), READABLE_BY_ALL, allow_nan=False)
    write_json(folder / INFERENCE, inference(metadata), READABLE_BY_ALL, allow_nan=False)
    write_json(folder / TRAINING, training.as_json(), READABLE_BY_ALL, allow_nan=False)
    write_whole(folder / "docs" / "README.md", card.encode(), READABLE_BY_ALL)
    write_whole(folder / "LICENSE", LICENSE.read_bytes(), READABLE_BY_ALL)
    write_checksums(folder, READABLE_BY_ALL)


def inference(metadata: Metadata) -> dict[str, Any]:
    """Return what a reader needs to run the networks without this project; plain facts, nothing to be executed.

    Parameters
    ----------
    metadata
        Of a bundle with network files.

    Returns
    -------
    dict
        Content of ``configs/inference.json``; ``network_def`` is what `monai.bundle.ConfigParser` builds.
    """
    return {
        "description": (
            "Score of a sequence: mean of sigmoid(logit) over its networks. Score of the study: weighted sum over the "
            "sequences, positive at or above the threshold."
        ),
        "network_def": {
            "_target_": "monai.networks.nets.efficientnet.EfficientNet",
            "blocks_args_str": block_strings(metadata.architecture.first_block_stride),
            "spatial_dims": 3,
            "in_channels": 1,
            "num_classes": 1,
            "image_size": PADDING_SIDE,
        },
        "first_block_stride": metadata.architecture.first_block_stride,
        "preprocessing": {
            "axes": "(z, y, x): inferior to superior, posterior to anterior, left to right",
            "grid": metadata.grid.model_dump(mode="json"),
            "averaged_over_shifts_of_voxels_xyz": metadata.averaged_shifts,
            "intensity": {**metadata.intensity.model_dump(mode="json"), "then": "z-score in the brain, 0 outside"},
        },
        "networks": metadata.model_dump(mode="json")["network_files"],
        "weights": dict(metadata.weights),
        "threshold": metadata.threshold,
    }


def with_monai_words(metadata: Metadata) -> Metadata:
    """Return metadata with the entries that MONAI's bundles have and a node does not need.

    Parameters
    ----------
    metadata
        Of a trained bundle.
    """
    image = DataFormat(
        type="image", format="magnitude", modality="MR", num_channels=1, dtype="float32",
        spatial_shape=metadata.grid.size_xyz[::-1], channel_def={"0": "one of T1W, T2W and FLAIR"},
    )  # fmt: skip
    logit = DataFormat(
        type="probabilities", format="logit", num_channels=1, dtype="float32",
        channel_def={"0": "label 1 after a sigmoid"},
    )  # fmt: skip
    return metadata.model_copy(
        update={
            "task": "Classification of a study of three MR sequences",
            "description": _PURPOSE,
            "changelog": {metadata.version: "trained"},
            "monai_version": version("monai"),
            "pytorch_version": version("torch"),
            "numpy_version": version("numpy"),
            "required_packages_version": {"safetensors": version("safetensors")},
            "network_data_format": NetworkDataFormat(inputs={"image": image}, outputs={"pred": logit}),
        }
    )


def notice(recipe: Recipe, *, synthetic: bool, patients: int) -> str:
    """Return the sentence that every result of the bundle bears, in ASCII and at most 120 characters.

    Parameters
    ----------
    recipe
        Of the training.
    synthetic
        Whether the cohort was made.
    patients
        How many trained and chose.
    """
    start = _SYNTHETIC if synthetic else ""
    if recipe.shuffle_labels:
        return f"{start}CONTROL RUN with shuffled labels; the score has no meaning"
    if recipe.reproduce_patent_selection:
        return f"{start}OPTIMISTIC: weights chosen on the test patients; not for clinical use"
    if synthetic:
        return f"{start}trained on {patients} made patients; the score says nothing about any person"
    return f"INVESTIGATIONAL - trained on {patients} patients; not validated for clinical use"


def intended_use(recipe: Recipe, *, synthetic: bool) -> str:
    """Return what the bundle is for; the wording of every output follows from it.

    Parameters
    ----------
    recipe
        Of the training.
    synthetic
        Whether the cohort was made.
    """
    if recipe.shuffle_labels:
        return (
            "FOR DEMONSTRATION ONLY - NOT FOR DIAGNOSTIC USE. A control run whose labels were exchanged between "
            "patients: it shows that training does not leak, and its score has no meaning."
        )
    if synthetic:
        return (
            "FOR DEMONSTRATION ONLY - NOT FOR DIAGNOSTIC USE. The networks were trained on synthetic data whose labels "
            "follow a made rule. The output shows that the machinery works; it says nothing about any person."
        )
    return f"FOR RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE. {_PURPOSE} Not validated in clinical use."


def software() -> dict[str, str]:
    """Return the versions that a training depends on."""
    return {name: version(name) for name in SOFTWARE}
