"""The options of ``train`` as one record, which has the fields of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from models.training.fit.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train, as a command line says it; see `models.training.fit.recipe.Recipe`, which loads torch."""

    name: Annotated[str, typer.Option(help="Of the bundle.")] = "wae-net"
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1.0.0"
    epochs: Annotated[int, typer.Option(help="Passes over the training patients.")] = 100
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3
    batch: Annotated[int, typer.Option(help="Images in a step.")] = 4
    folds: Annotated[int, typer.Option(help="Parts of the patients that are not set aside for the test.")] = 5
    test_share: Annotated[float, typer.Option(help="Share of the patients set aside for the test.")] = 0.2
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0
    first_block_stride: Annotated[int, typer.Option(help="Of the networks: 2, or 1 (five times the work).")] = 2
    shared: Annotated[bool, typer.Option("--shared", help="One network for all sequences.")] = False
    members: Annotated[
        Literal["folds", "refit"], typer.Option(help="Keep a network of each fold, or train one anew on all.")
    ] = "folds"
    start: Annotated[Path | None, typer.Option(help="Weights to start from, of `models inflate`.")] = None
    augmentation: Annotated[
        str, typer.Option(help="Some of crop, rotation, flip and shift, separated by commas, or none.")
    ] = "crop,rotation,flip"
    placement: Annotated[
        bool, typer.Option(help="Also move each sample by parts of a voxel, and the border of its mask.")
    ] = True
    mr: Annotated[bool, typer.Option("--mr", help="Also draw bias fields, noise and gamma.")] = False
    copies: Annotated[int, typer.Option(help="Samples of each image in an epoch; the first is the original.")] = 4
    network_loss: Annotated[
        float | None, typer.Option(help="End the training of a network at this mean loss of its own.")
    ] = None
    loss_threshold: Annotated[
        float | None, typer.Option(help="Claim 7: the card says whether the ensemble's log-loss is at most this.")
    ] = None
    patience: Annotated[
        int | None, typer.Option(help="End training after so many epochs without progress on the fold left out.")
    ] = None
    mixed_precision: Annotated[Literal["auto", "on", "off"], typer.Option(help="bfloat16: auto on a GPU only.")] = (
        "auto"
    )
    half: Annotated[bool, typer.Option(help="Store the weights in half precision.")] = True
    averaged: Annotated[int, typer.Option(help="Shifts that a score is averaged over: 1, 2, 4 or 8.")] = 4
    calibrate: Annotated[
        Literal["temperature", "platt"] | None, typer.Option(help="Fit a calibration of the score.")
    ] = None
    two_sequences: Annotated[
        bool, typer.Option("--two-sequences", help="Also weigh each pair, for studies that lack the third.")
    ] = False
    reproduce_patent_selection: Annotated[
        bool, typer.Option("--reproduce-patent-selection", help="Choose the weights on the test patients: biased.")
    ] = False
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="A control: exchange the labels between patients first.")
    ] = False
    features_action: Annotated[
        Literal["flag", "withhold"], typer.Option(help="What a study unlike those of the cohort gets.")
    ] = "flag"

    def recipe(self) -> Recipe:
        """Return the recipe; what cannot be right raises `ModelError`."""
        from models.training.fit.recipe import Recipe

        names = [name.strip() for name in self.augmentation.split(",")]
        return Recipe(**asdict(self) | {"augmentation": () if names in ([""], ["none"]) else tuple(names)})


def with_training_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb whose last parameter Typer sees as the options of `TrainingOptions`.

    Typer has no options in a record (its issue 154): it reads a signature, so it is given one.
    """
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[:-1]
    chosen = inspect.signature(TrainingOptions, eval_str=True).parameters.values()

    @wraps(verb)
    def with_record(**given: Any) -> None:
        options = TrainingOptions(**{field.name: given.pop(field.name) for field in fields(TrainingOptions)})
        verb(**given, options=options)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *chosen)]
    with_record.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return with_record
