"""Test a bundle on labelled patients it has not been developed on, and say what the result is worth."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.bundle import Bundle, Metadata, ModelError
from models.calibration import calibrated
from models.contrast import Contrast
from models.perturbation import Variants
from models.training.cohort import Case, Cohort
from models.training.evaluation.evaluated import Evaluation, Subgroup
from models.training.evaluation.held_out import EvaluationSet, choose_evaluation_set
from models.training.evaluation.intervals import RESAMPLES, Estimate
from models.training.evaluation.looks import count_look, judged_by
from models.training.evaluation.metrics import Summary, summarise
from models.training.evaluation.page import evaluation_page
from models.training.evaluation.plots import reliability_plot, roc_plot
from models.training.evaluation.predictions import Predictions
from models.training.evaluation.repeatability import HEADS_MAX, Measured, measure_cases
from models.training.evaluation.roc_area import auc_estimate, gain_estimate
from models.wae_net import WaeNet
from models.whole_files import make_folder, write_json, write_whole

EQUAL: Final[dict[Contrast, float]] = dict.fromkeys(tuple(Contrast), 1 / len(tuple(Contrast)))
_SOFTWARE: Final = ("torch", "monai", "numpy", "scipy", "scikit-learn")
_REPORT_EVERY: Final = 10
"""Studies."""


def evaluate(
    bundle: Bundle,
    cohort: Cohort,
    out: Path,
    tell: Callable[[str], None],
    cases: Iterable[Case] | None = None,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    resamples: int = RESAMPLES,
    variants: Variants | None = None,
    counted: bool = True,
) -> Evaluation:
    """Test a bundle and write ``evaluation.json``, ``predictions.csv``, the plots and ``evaluation.html``.

    Parameters
    ----------
    bundle, cohort
        What is tested, and on whom; cases of patients that the bundle was developed on are refused.
    out
        Folder for the result; made if missing.
    tell
        Takes a line about the progress.
    cases
        Test on these alone; None means those held out in training, or all of another cohort.
    device
        Where the networks run.
    seed, resamples
        Of the bootstrap.
    variants
        Perturbs the images of a case, to measure repeatability; None: it is not measured.
    counted
        Whether this is a look at the test patients; one at exchanged labels is none.

    Raises
    ------
    ModelError
        ``grid_unfit`` if the cohort's tensors were made for another grid or intensity, ``evaluation_no_cases`` or
        ``evaluation_one_class`` if the cases do not suffice, and what `WaeNet` and `Cohort.tensor` raise.
    """
    refuse_other_tensors(bundle.metadata, cohort)
    chosen = choose_evaluation_set(bundle, cohort, cases)
    if chosen.left_out:
        tell(f"{chosen.left_out} cases are left out: their patients or groups took part in training")
    networks = WaeNet(bundle, torch.device(device))
    predictions = _read(networks, cohort, chosen.cases, tell)
    repeated = _repeated(networks, chosen, variants, tell) if variants else None
    tell(f"computing intervals for {len(chosen.cases)} studies")
    evaluation = replace(
        judge(bundle, cohort, chosen, predictions, seed=seed, resamples=resamples),
        repeatability=repeated,
        looks=count_look(cohort, chosen.cases, judged_by(bundle)) if counted else None,
    )
    write_evaluation(out, evaluation, predictions, bundle.metadata)
    return evaluation


def refuse_other_tensors(metadata: Metadata, cohort: Cohort) -> None:
    """Raise unless the cohort's tensors are what the bundle's networks expect.

    Parameters
    ----------
    metadata
        Of the bundle that is to read them.
    cohort
        Its grid and clip percentiles are compared.

    Raises
    ------
    ModelError
        ``grid_unfit``
    """
    description = cohort.description
    if (description.grid, description.intensity) != (metadata.grid, metadata.intensity):
        raise ModelError(
            "grid_unfit",
            "The cohort was built for another grid or other clip percentiles than the bundle's: build it again with "
            f"{metadata.grid.size_xyz} voxels of {metadata.grid.spacing_xyz_mm} mm.",
        )


def predict(
    bundle: Bundle, cohort: Cohort, cases: tuple[Case, ...], tell: Callable[[str], None], device: torch.device | str
) -> Predictions:
    """Return the scores of the bundle's networks for cases.

    Parameters
    ----------
    bundle
        Verified bundle.
    cohort, cases
        Whose tensors are read; they fit the bundle.
    tell
        Takes a line about the progress.
    device
        Where the networks run.
    """
    return _read(WaeNet(bundle, torch.device(device)), cohort, cases, tell)


def _read(networks: WaeNet, cohort: Cohort, cases: tuple[Case, ...], tell: Callable[[str], None]) -> Predictions:
    scores = np.empty((len(tuple(Contrast)), len(cases)))
    for number, case in enumerate(cases):
        if number % _REPORT_EVERY == 0:
            tell(f"reading study {number + 1} of {len(cases)}")
        scores[:, number] = [networks.score(contrast, cohort.tensor(case, contrast)) for contrast in Contrast]
    return Predictions(cases, dict(zip(tuple(Contrast), scores, strict=True)))


def _repeated(
    networks: WaeNet, chosen: EvaluationSet, variants: Variants, tell: Callable[[str], None]
) -> Measured | None:
    """Return the repeatability over patients of the test, one study of each."""
    firsts = {case.patient: case.case for case in reversed(chosen.cases)}
    tell(f"scoring perturbed copies of {min(len(firsts), HEADS_MAX)} studies")
    return measure_cases(sorted(firsts.values()), variants, networks.score, networks.bundle.metadata.weights)


def judge(
    bundle: Bundle, cohort: Cohort, chosen: EvaluationSet, predictions: Predictions, *, seed: int, resamples: int
) -> Evaluation:
    """Return the evaluation of predictions.

    Parameters
    ----------
    bundle
        Whose weights, threshold and calibration are judged.
    cohort, chosen
        Where the cases come from, and how they were chosen.
    predictions
        Of the chosen cases, of both classes.
    seed, resamples
        Of the bootstrap.

    Raises
    ------
    ValueError
        Unless both classes are there.
    """
    metadata, labels, blocks = bundle.metadata, predictions.labels, predictions.blocks
    ensemble, equal = predictions.ensemble(metadata.weights), predictions.ensemble(EQUAL)

    def summary(scores: np.ndarray, threshold: float = metadata.threshold) -> Summary:
        return summarise(labels, scores, predictions.patients, threshold, seed, blocks=blocks, count=resamples)

    probability = calibrated_scores(metadata, ensemble)
    return Evaluation(
        bundle=metadata.name,
        version=metadata.version,
        digest=bundle.digest,
        notice=metadata.notice,
        intended_use=metadata.intended_use,
        cohort_digest=cohort.digest,
        synthetic=cohort.description.synthetic,
        basis=chosen.basis,
        left_out=chosen.left_out,
        groups=len({case.group or case.patient for case in chosen.cases}),
        other_brain_weights=metadata.range.other_brain_weights(cohort.description.brain_weights.get("digest")),
        weights=dict(metadata.weights),
        weights_chosen_on=metadata.evidence.weights_chosen_on if metadata.evidence else None,
        ensemble=summary(ensemble),
        sequences={contrast: summary(scores) for contrast, scores in predictions.scores.items()},
        calibrated=None if probability is None else summary(probability, _calibrated_threshold(metadata)),
        two_sequences={
            " + ".join(mode.weights): summary(predictions.ensemble(mode.weights), mode.threshold)
            for mode in metadata.two_sequences
        },
        equal_weights_auc=auc_estimate(labels, equal, blocks),
        gain_over_equal_weights=gain_estimate(labels, ensemble, equal, blocks),
        subgroups=dict(_subgroups(predictions, ensemble)),
        looks=None,
        repeatability=None,
        resamples=resamples,
        seed=seed,
        software={name: version(name) for name in _SOFTWARE},
    )


def _subgroups(predictions: Predictions, ensemble: np.ndarray) -> Iterator[tuple[str, Subgroup]]:
    names, labels, blocks = (
        np.array([case.subgroup for case in predictions.cases]),
        predictions.labels,
        predictions.blocks,
    )
    for name in sorted({*names} - {""}):
        rows = np.flatnonzero(names == name)
        events = int(labels[rows].sum())
        both = 0 < events < len(rows)
        found = auc_estimate(labels[rows], ensemble[rows], blocks[rows]) if both else Estimate(None)
        yield str(name), Subgroup(len(rows), events, found)


def _calibrated_threshold(metadata: Metadata) -> float:
    return float(np.asarray(calibrated_scores(metadata, np.array([metadata.threshold])))[0])


def calibrated_scores(metadata: Metadata, scores: np.ndarray) -> np.ndarray | None:
    """Return calibrated scores (n,); None if the bundle has no calibration.

    Parameters
    ----------
    metadata
        Of the bundle.
    scores
        (n,) ensemble scores in [0, 1].
    """
    calibration = metadata.calibration
    return None if calibration is None else np.array([calibrated(calibration, float(score)) for score in scores])


def write_evaluation(out: Path, evaluation: Evaluation, predictions: Predictions, metadata: Metadata) -> None:
    """Write everything that a reader or a later analysis needs, each file whole or not at all.

    Parameters
    ----------
    out
        Folder; made if missing.
    evaluation, predictions
        Of the same cases.
    metadata
        Of the bundle.
    """
    labels, ensemble = predictions.labels, predictions.ensemble(metadata.weights)
    notice = f"{evaluation.bundle} {evaluation.version}: {evaluation.notice}"
    if evaluation.synthetic is not None:
        notice += " - tested on SYNTHETIC DATA"
    curves = {"Score": ensemble}
    if (probability := calibrated_scores(metadata, ensemble)) is not None:
        curves["Calibrated"] = probability
    roc = roc_plot(labels, ensemble, dict(predictions.scores.items()), metadata.threshold, notice)
    reliability = reliability_plot(labels, curves, notice)
    page = evaluation_page(evaluation, {"ROC curves": roc, "Reliability": reliability})
    make_folder(out)
    write_whole(out / "roc.png", roc)
    write_whole(out / "reliability.png", reliability)
    write_whole(out / "predictions.csv", _table(evaluation, predictions, ensemble).encode())
    write_whole(out / "evaluation.html", page.encode())
    write_json(out / "evaluation.json", evaluation.as_json(), allow_nan=False)


def _table(evaluation: Evaluation, predictions: Predictions, ensemble: np.ndarray) -> str:
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["case", "label", *tuple(Contrast), "score", "data"])
    data = "patients" if evaluation.synthetic is None else "synthetic"
    columns = [predictions.scores[contrast] for contrast in Contrast]
    for case, *scores in zip(predictions.cases, *columns, ensemble, strict=True):
        table.writerow([case.case, case.label, *(repr(float(score)) for score in scores), data])
    return stream.getvalue()
