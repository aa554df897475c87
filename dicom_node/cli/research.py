"""The research side of ``dicom-node``: make or build a cohort, train a bundle on it, test a bundle."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import typer

from dicom_node.cli.printing import print_json, print_lines, print_table, progress
from dicom_node.cli.settings import HELD, ConfigOption, JsonOption, load_config, quiet
from dicom_node.errors import CommandError, NodeError
from models.contrast import Contrast

if TYPE_CHECKING:
    from models.bundle import Grid, Intensity
    from models.training.cohort import Cohort
    from models.training.evaluation.evaluate import Evaluation

cohort_app = typer.Typer(no_args_is_help=True, help="Build the cohort that a bundle is trained on.")

DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda:0; a device that is named and missing is an error.")]
CohortArgument = Annotated[Path, typer.Argument(metavar="COHORT", help="Folder that `cohort build` wrote.")]


class GridName(StrEnum):
    """The grids that a cohort can be built on without a bundle."""

    SMALL = "small"
    FULL = "full"


def synthesize(
    patients: Annotated[int, typer.Option(min=2, help="How many patients.")],
    out: Annotated[Path, typer.Option(help="New folder for labels.csv, synthetic.json and the studies.")],
    label_maps: Annotated[
        Path | None, typer.Option(help="Folder of label maps (NIfTI) of whole heads; without it heads are drawn.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and label maps give the same studies.")] = 0,
    signal: Annotated[str, typer.Option(help="Sequences that show the tubers, separated by commas.")] = "T1W,T2W,FLAIR",
    workers: Annotated[int, typer.Option(min=1, help="Patients made at the same time.")] = 1,
) -> None:
    """Make a cohort of synthetic patients; it tests the machinery and says nothing about patients."""
    quiet()
    roles = _roles(signal)
    with _refusing(), progress() as tell:
        tell("loading")
        from pipeline.synthetic.cohort import STATEMENT, synthesize_cohort

        labels = synthesize_cohort(label_maps, patients, out, seed=seed, signal=roles, workers=workers, tell=tell)
    print(f"Wrote {labels}. {STATEMENT}")


@cohort_app.command()
def build(
    labels: Annotated[Path, typer.Option(help="Table of the studies and their labels, labels.csv.")],
    out: Annotated[Path, typer.Option(help="Folder of the cohort; a second call goes on where the first one stopped.")],
    grid: Annotated[
        GridName | None,
        typer.Option(help="full: 256 x 256 x 128 voxels of 1 x 1 x 1.5 mm; small: half of each. Default full."),
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="Take grid and clip percentiles of this bundle instead.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Studies read at the same time.")] = 1,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read labelled studies as the node does, up to the model's input; exit 3 if none could be used."""
    if grid and bundle:
        raise CommandError("Give --grid or --bundle, not both.")

    quiet()
    settings = load_config(config, offline=True)
    with _refusing(), progress() as tell:
        # What is cheap to refuse is refused before the seconds that torch takes; the other verbs do the same.
        from pipeline.cohort.labels import read_labels

        read_labels(labels)
        tell("loading the models")
        from dicom_node.engine.threads import bound_threads
        from dicom_node.engine.worker import brain_weights, device
        from models.brain_extractor import BrainExtractor
        from pipeline.cohort.build import build_cohort

        bound_threads()
        cohort = build_cohort(
            labels,
            out,
            extractor=BrainExtractor(brain_weights(settings), device(settings.model.device)),
            **_making(grid, bundle),
            rules=settings.selection.rules(),
            workers=workers,
            tell=tell,
        )
    facts = _facts(cohort)
    if as_json:
        print_json(facts)
    else:
        print_lines(_told(facts, cohort.folder))
    raise typer.Exit(0 if cohort.included else HELD)


def train(
    cohort: CohortArgument,
    out: Annotated[Path, typer.Option(help="Folder of the bundle; training goes on where it stopped.")],
    name: Annotated[str, typer.Option(help="Of the bundle.")] = "wae-net",
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1.0.0",
    epochs: Annotated[int, typer.Option(help="Passes over the training patients.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3,
    batch: Annotated[int, typer.Option(help="Images in a step.")] = 4,
    folds: Annotated[int, typer.Option(help="Parts of the patients that are not set aside for the test.")] = 5,
    test_share: Annotated[float, typer.Option(help="Share of the patients set aside for the test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    first_block_stride: Annotated[int, typer.Option(help="Of the networks: 2, or 1 (five times the work).")] = 2,
    shared: Annotated[bool, typer.Option("--shared", help="One network for all sequences.")] = False,
    members: Annotated[
        Literal["folds", "refit"], typer.Option(help="Keep a network of each fold, or train one anew on all.")
    ] = "folds",
    start: Annotated[Path | None, typer.Option(help="Weights to start from, of `models inflate`.")] = None,
    augmentation: Annotated[
        str, typer.Option(help="Some of crop, rotation and flip, separated by commas, or none.")
    ] = "crop,rotation,flip",
    mr: Annotated[bool, typer.Option("--mr", help="Also draw bias fields, noise and gamma.")] = False,
    copies: Annotated[int, typer.Option(help="Samples of each image in an epoch; the first is the original.")] = 4,
    loss_threshold: Annotated[float | None, typer.Option(help="End training at this mean loss.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="End training after so many epochs without progress on the fold left out.")
    ] = None,
    mixed_precision: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="bfloat16: auto on a GPU only.")
    ] = "auto",
    half: Annotated[bool, typer.Option(help="Store the weights in half precision.")] = True,
    calibrate: Annotated[
        Literal["temperature", "platt"] | None, typer.Option(help="Fit a calibration of the score.")
    ] = None,
    two_sequences: Annotated[
        bool, typer.Option("--two-sequences", help="Also weigh each pair, for studies that lack the third.")
    ] = False,
    reproduce_patent_selection: Annotated[
        bool, typer.Option("--reproduce-patent-selection", help="Choose the weights on the test patients: biased.")
    ] = False,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="A control: exchange the labels between patients first.")
    ] = False,
    features_action: Annotated[
        Literal["flag", "withhold"], typer.Option(help="What a study unlike those of the cohort gets.")
    ] = "flag",
) -> None:
    """Train a bundle on a cohort; the defaults are those of CN114170162A where it says them."""
    choices = {key: value for key, value in locals().items() if key not in ("cohort", "out", "augmentation")}
    choices["augmentation"] = _augmentation(augmentation)
    quiet()
    with _refusing(), _progress_of_first() as tell:
        from models.training.cohort import open_cohort

        opened = open_cohort(cohort)
        tell("loading")
        from models.training.fit.recipe import Recipe

        recipe = Recipe(**choices)
        from dicom_node.engine.threads import bound_threads
        from models.training.train import train as run_training

        bound_threads()
        bundle = run_training(opened, out, recipe, tell)
    if _first_process():
        print(f"Wrote {bundle}. Test it with `dicom-node evaluate {bundle} {cohort}`.")


def evaluate(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Name of a bundle or its folder.")],
    cohort: CohortArgument,
    out: Annotated[Path, typer.Option(help="Folder for evaluation.html, evaluation.json and plots.")] = Path(
        "evaluation"
    ),
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Test a bundle on patients that it was not developed on."""
    quiet()
    with _refusing(), progress() as tell:
        from models.bundle import open_bundle
        from models.training.cohort import open_cohort

        opened = open_bundle(bundle), open_cohort(cohort)
        tell("loading the models")
        from dicom_node.engine.threads import bound_threads
        from dicom_node.engine.worker import device as find_device
        from models.training.evaluation.evaluate import evaluate as run_evaluation

        bound_threads()
        evaluation = run_evaluation(*opened, out, tell, device=find_device(device), seed=seed, resamples=resamples)
    if as_json:
        print_json(asdict(evaluation))
    else:
        _print_evaluation(evaluation, out)


# --- arguments --------------------------------------------------------------------------------------------------------


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn a refusal of models or pipeline, and of the disk, into an error that the command line prints."""
    from models.bundle import ModelError

    try:
        yield
    except ModelError as error:
        raise NodeError(str(error), error.code) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise NodeError(f"The disk refuses{where}: {error.strerror}.", "file_refused") from None


def _roles(names: str) -> tuple[Contrast, ...]:

    wanted = {name.strip().upper() for name in names.split(",")}
    if not wanted <= set(Contrast):
        raise CommandError(f"--signal takes {', '.join(Contrast)}, separated by commas, not '{names}'.")
    return tuple(role for role in Contrast if role in wanted)


class _Making(TypedDict):
    grid: Grid
    intensity: Intensity


def _making(grid: GridName | None, bundle: str | None) -> _Making:
    """Return grid and intensity of a bundle, or of a name."""
    from models.bundle import open_bundle
    from pipeline.cohort.build import FULL, PERCENTILES, SMALL

    if bundle:
        metadata = open_bundle(bundle).metadata
        return {"grid": metadata.grid, "intensity": metadata.intensity}
    return {"grid": SMALL if grid is GridName.SMALL else FULL, "intensity": PERCENTILES}


def _augmentation(names: str) -> tuple[str, ...]:
    return () if names.strip() in ("", "none") else tuple(name.strip() for name in names.split(","))


# --- results ----------------------------------------------------------------------------------------------------------


def _facts(cohort: Cohort) -> dict[str, Any]:
    """Return what a cohort consists of."""
    from pipeline.cohort.labels import CRITERIA_COLUMNS

    taken = cohort.included
    description = cohort.description
    return {
        "digest": cohort.digest,
        "synthetic": description.synthetic,
        "size_xyz": description.grid.size_xyz,
        "spacing_xyz_mm": description.grid.spacing_xyz_mm,
        "brain_weights": description.brain_weights,
        "studies": len(taken),
        "patients": len({case.patient for case in taken}),
        "patients_with_event": len({case.patient for case in taken if case.label == 1}),
        "left_out": dict(sorted(Counter(case.status for case in cohort.cases if not case.included).items())),
        "criteria": description.criteria,
        "criteria_not_checked": [name for name in CRITERIA_COLUMNS if name not in description.criteria],
    }


def _told(facts: dict[str, Any], folder: Path) -> Iterator[str]:
    if facts["synthetic"]:
        yield f"SYNTHETIC DATA: {facts['synthetic']}"
    yield f"{facts['studies']} studies of {facts['patients']} patients, {facts['patients_with_event']} with label 1."
    for code, count in facts["left_out"].items():
        yield f"Left out, {code}: {count}"
    if facts["left_out"]:
        yield f"{folder / 'cases.csv'} says why, study by study."
    if facts["criteria_not_checked"]:
        yield f"Not checked, as the table has no such column: {', '.join(facts['criteria_not_checked'])}"
    size, spacing_mm = (" x ".join(f"{side:g}" for side in facts[key]) for key in ("size_xyz", "spacing_xyz_mm"))
    yield f"{folder}: {size} voxels of {spacing_mm} mm, brain weights {facts['brain_weights']['name']}"


def _print_evaluation(evaluation: Evaluation, out: Path) -> None:
    from models.training.evaluation.figures import cautions, counts_text, estimate_text

    content = asdict(evaluation)
    print_lines(cautions(content))
    rows = [(name, summary) for name, summary in (("ensemble", content["ensemble"]), *content["sequences"].items())]
    if content["calibrated"]:
        rows.append(("calibrated", content["calibrated"]))
    print_table(
        ("", "AUC", "sensitivity", "specificity"),
        [(n, *(estimate_text(s[key]) for key in ("auc", "sensitivity", "specificity"))) for n, s in rows],
    )
    print(f"{counts_text(content['ensemble'])}; intervals of 95 %.")
    print(f"Equal weights: AUC {estimate_text(content['equal_weights_auc'])}")
    print(f"{out / 'evaluation.html'} has the rest.")


@contextmanager
def _progress_of_first() -> Iterator[Any]:
    """Yield `progress`, silent in all processes of torchrun but the first."""
    if _first_process():
        with progress() as tell:
            yield tell
    else:
        yield lambda _: None


def _first_process() -> bool:
    """Return whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
