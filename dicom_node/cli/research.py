"""The research side of ``dicom-node``: make or build a cohort, train a bundle on it, test a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from dicom_node.cli.printing import print_json, print_line, print_lines, print_table, progress
from dicom_node.cli.settings import HELD, ConfigOption, JsonOption, load_config, quiet, refusing
from dicom_node.cli.training_options import TrainingOptions, with_training_options
from dicom_node.errors import CommandError
from models.contrast import Contrast

if TYPE_CHECKING:
    from models.bundle import Grid, Intensity
    from models.training.evaluation.evaluated import Evaluation
    from models.training.evaluation.metrics import Summary

cohort_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Build the cohort that a bundle is trained on."
)

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
    drawn_heads: Annotated[int, typer.Option(min=0, help="Drawn heads besides those of the label maps.")] = 0,
    hard_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of patients with faint tubers, lines, cysts, motion or shading.")
    ] = 0,
) -> None:
    """Make a cohort of synthetic patients; it tests the machinery and says nothing about patients."""
    quiet()
    shown = _contrasts(signal)
    with refusing(), progress() as tell:
        tell("loading")
        from pipeline.synthetic.made_cohort import STATEMENT, synthesize_cohort

        labels = synthesize_cohort(
            label_maps, patients, out, seed=seed, signal=shown, workers=workers, drawn_heads=drawn_heads,
            hard_share=hard_share, tell=tell,
        )  # fmt: skip
    print_line(f"Wrote {labels}. {STATEMENT}")


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
    with refusing(), progress() as tell:
        # What is cheap to refuse is refused before the seconds that torch takes; the other verbs do the same.
        from pipeline.cohort.labels import read_labels

        read_labels(labels)
        tell("loading the models")
        from dicom_node.engine.installed import brain_weights, device
        from dicom_node.engine.threads import bound_threads
        from models.brain_extractor import BrainExtractor
        from pipeline.cohort.build import build_cohort
        from pipeline.cohort.summary import summarise_cohort

        bound_threads()
        cohort = build_cohort(
            labels,
            out,
            extractor=BrainExtractor(brain_weights(settings), device(settings.model.device)),
            **tensors_of(grid, bundle),
            rules=settings.selection.rules(),
            workers=workers,
            tell=tell,
        )
    summary = summarise_cohort(cohort)
    if as_json:
        print_json(summary.as_json())
    else:
        print_lines(summary.sentences(cohort.folder))
    raise typer.Exit(0 if cohort.included else HELD)


@with_training_options
def train(
    cohort: CohortArgument,
    out: Annotated[Path, typer.Option(help="Folder of the bundle; training goes on where it stopped.")],
    *,
    repeatability: Annotated[
        bool, typer.Option(help="Score perturbed copies of test heads too, which takes minutes.")
    ] = True,
    controls: Annotated[
        str, typer.Option(help="A sentence for the card on what exchanged labels reached on this cohort.")
    ] = "",
    options: TrainingOptions,
) -> None:
    """Train a bundle on a cohort; the defaults are those of CN114170162A where it says them."""
    quiet()
    with refusing(), _progress_of_first() as tell:
        from models.training.cohort import open_cohort

        opened = open_cohort(cohort)
        tell("loading")
        recipe = options.recipe()
        from dicom_node.engine.threads import bound_threads
        from models.training.train import train as run_training
        from pipeline.repeatability import of_cohort

        bound_threads()
        bundle = run_training(opened, out, recipe, tell, of_cohort(opened) if repeatability else None, controls)
    if first_process():
        print_line(f"Wrote {bundle}. Test it with `dicom-node evaluate {bundle} {cohort}`.")


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
    with refusing(), progress() as tell:
        from models.bundle import open_bundle
        from models.training.cohort import open_cohort

        opened = open_bundle(bundle), open_cohort(cohort)
        tell("loading the models")
        from dicom_node.engine.installed import device as find_device
        from dicom_node.engine.threads import bound_threads
        from models.training.evaluation.evaluate import evaluate as run_evaluation
        from pipeline.repeatability import of_cohort

        bound_threads()
        evaluation = run_evaluation(
            *opened, out, tell, device=find_device(device), seed=seed, resamples=resamples,
            variants=of_cohort(opened[1]),
        )  # fmt: skip
    if as_json:
        print_json(evaluation.as_json())
    else:
        _print_evaluation(evaluation, out)


# --- arguments --------------------------------------------------------------------------------------------------------


def _contrasts(names: str) -> tuple[Contrast, ...]:
    wanted = {name.strip().upper() for name in names.split(",")}
    if not wanted <= set(Contrast):
        raise CommandError(f"--signal takes {', '.join(Contrast)}, separated by commas, not '{names}'.")
    return tuple(contrast for contrast in Contrast if contrast in wanted)


class Tensors(TypedDict):
    """What the tensors of a cohort are made on and how their grey values are clipped."""

    grid: Grid
    intensity: Intensity


def tensors_of(grid: GridName | None, bundle: str | None) -> Tensors:
    """Return grid and intensity of a bundle, or of a name."""
    from models.bundle import open_bundle
    from pipeline.cohort.build import FULL, PERCENTILES, SMALL

    if bundle:
        metadata = open_bundle(bundle).metadata
        return {"grid": metadata.grid, "intensity": metadata.intensity}
    return {"grid": SMALL if grid is GridName.SMALL else FULL, "intensity": PERCENTILES}


# --- results ----------------------------------------------------------------------------------------------------------


def _print_evaluation(evaluation: Evaluation, out: Path) -> None:
    from models.training.evaluation.cautions import cautions
    from models.training.evaluation.figures import counts_text, estimate_text, looks_text, subgroup_rows

    print_lines(caution.sentence for caution in cautions(evaluation))
    rows: list[tuple[str, Summary]] = [("ensemble", evaluation.ensemble), *evaluation.sequences.items()]
    if evaluation.calibrated:
        rows.append(("calibrated", evaluation.calibrated))
    print_table(
        ("", "AUC", "sensitivity", "specificity"),
        [(n, *(estimate_text(found) for found in (s.auc, s.sensitivity, s.specificity))) for n, s in rows],
    )
    print_line(f"{counts_text(evaluation.ensemble)}; intervals of 95 %.")
    if evaluation.repeatability:
        found = evaluation.repeatability.stated
        print_line(f"Repeatability: SD {found.sd:.3f}, largest difference {found.largest:.3f} ({found.heads} heads)")
    if subgroups := subgroup_rows(evaluation):
        print_table(("subgroup", "studies", "with the event", "AUC"), subgroups)
    print_line(looks_text(evaluation.looks))
    print_line(f"Equal weights: AUC {estimate_text(evaluation.equal_weights_auc)}")
    print_line(f"{out / 'evaluation.html'} has the rest.")


@contextmanager
def _progress_of_first() -> Iterator[Any]:
    """Yield `progress`, silent in all processes of torchrun but the first."""
    if first_process():
        with progress() as tell:
            yield tell
    else:
        yield lambda _: None


def first_process() -> bool:
    """Return whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
