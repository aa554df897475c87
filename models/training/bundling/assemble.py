"""Make a bundle of trained networks.

Weights, threshold, calibration and range come from the development patients; the test patients are looked at once.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.averaging import SHIFTS
from models.bundle import (
    Action,
    Architecture,
    Check,
    ChosenOn,
    Evidence,
    FeatureSpace,
    Metadata,
    Range,
    open_bundle,
)
from models.contrast import Contrast
from models.feature_space import save_axes
from models.perturbation import Variants
from models.training.bundling.card import model_card
from models.training.bundling.cohort_facts import cohort_facts
from models.training.bundling.cross_validation import cross_validation
from models.training.bundling.ensemble_weights import Choice, choose_weights
from models.training.bundling.feature_limits import measure_feature_space
from models.training.bundling.fit_calibration import fit_calibration
from models.training.bundling.pairs import Pairs, choose_pairs
from models.training.bundling.training_record import TrainingRecord, WeightSearch
from models.training.bundling.write_bundle import intended_use, notice, software, with_monai_words, write_bundle
from models.training.evaluation.evaluate import evaluate, predict
from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.looks import count_look
from models.training.evaluation.metrics import youden_threshold
from models.training.evaluation.predictions import Predictions
from models.training.fit.job import Tell
from models.training.fit.recipe import Recipe
from models.training.fit.training_log import Epoch, training_plot
from models.training.trained import Trained
from models.whole_files import ENTERED_BY_ALL, READABLE_BY_ALL, make_folder, sync_folder, write_whole

FEATURES: Final = "models/features.safetensors"


def assemble(trained: Trained, out: Path, device: torch.device, tell: Tell, variants: Variants | None = None) -> Path:
    """Write the bundle of trained networks and return its folder.

    Parameters
    ----------
    trained
        All jobs are finished.
    out
        Does not exist; appears complete or not at all.
    device
        Where the networks run.
    tell
        Takes a line about the progress.
    variants
        Perturbs the images of a case, to measure repeatability; None: the bundle states none.

    Raises
    ------
    ModelError
        ``calibration_unfit`` if no calibration can be fitted; what `evaluate` raises.
    """
    predictions = out_of_fold(trained)
    folder = _begin(trained)
    choice = choose_weights(predictions)
    pairs = choose_pairs(predictions) if trained.recipe.two_sequences else Pairs((), {})
    record = _record(trained, choice, pairs)
    metadata = _metadata(trained, predictions, choice, pairs)
    write_bundle(folder, metadata, record, "")
    if trained.recipe.reproduce_patent_selection:
        tell("choosing the weights on the test patients, as the patent does")
        choice = choose_weights(predict(open_bundle(folder), trained.cohort, trained.parts.test, tell, device))
        if not trained.recipe.shuffle_labels:
            count_look(trained.cohort, trained.parts.test, "choice of the weights")
        record, metadata = _record(trained, choice, pairs), _metadata(trained, predictions, choice, pairs)
    tell("measuring the feature space of the development patients")
    measured = measure_feature_space(trained, device)
    save_axes(folder / FEATURES, measured.spaces)
    metadata = _with_features(metadata, measured.limits)
    folds = cross_validation(predictions, choice.weights, metadata.threshold)
    record = replace(record, feature_space=measured.counts, cross_validation=folds)
    write_bundle(folder, metadata, record, "")
    evaluation = _tested(trained, folder, device, tell, variants)
    record = replace(record, test_looks=evaluation.looks)
    metadata = with_evidence(metadata, evaluation)
    write_whole(folder / "docs" / "training.png", _plot(trained, metadata), READABLE_BY_ALL)
    write_bundle(folder, metadata, record, model_card(metadata, record, evaluation))
    open_bundle(folder)
    folder.rename(out)
    sync_folder(out.parent)
    return out


def out_of_fold(trained: Trained) -> Predictions:
    """Return the scores of the development cases, each of the network that has not seen its patient.

    Parameters
    ----------
    trained
        All jobs that leave a fold out are finished.
    """
    cases = trained.parts.development
    scores: dict[Contrast, dict[str, float]] = {contrast: {} for contrast in Contrast}
    for result in trained.results(trained.fold_jobs).values():
        for contrast, found in result.scores.items():
            scores[contrast] |= found
    folds = np.repeat(np.arange(len(trained.parts.folds)), [len(fold) for fold in trained.parts.folds])
    by_contrast = {c: np.array([found[case.case] for case in cases]) for c, found in scores.items()}
    return Predictions(cases, by_contrast, folds)


def _begin(trained: Trained) -> Path:
    """Return a folder in which the networks lie, and nothing else yet."""
    folder = trained.work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder / "models", ENTERED_BY_ALL)
    for job in trained.member_jobs:
        weights = trained.network_file(job).read_bytes()
        write_whole(folder / "models" / f"{job.name}.safetensors", weights, READABLE_BY_ALL)
    return folder


def _tested(trained: Trained, folder: Path, device: torch.device, tell: Tell, variants: Variants | None) -> Evaluation:
    out, bundle = trained.work / "evaluation", open_bundle(folder)
    return evaluate(
        bundle, trained.cohort, out, tell, trained.parts.test,
        device=device, seed=trained.recipe.seed, variants=variants, counted=not trained.recipe.shuffle_labels,
    )  # fmt: skip


def _metadata(trained: Trained, predictions: Predictions, choice: Choice, pairs: Pairs) -> Metadata:
    recipe, description = trained.recipe, trained.cohort.description
    scores, labels = predictions.ensemble(choice.weights), predictions.labels
    patients = len({case.patient for case in trained.parts.development})
    metadata = Metadata(
        name=recipe.name,
        version=recipe.version,
        notice=notice(recipe, synthetic=trained.synthetic, patients=patients),
        intended_use=intended_use(recipe, synthetic=trained.synthetic),
        architecture=Architecture(name="EfficientNet3D-B0", first_block_stride=recipe.first_block_stride),
        grid=description.grid,
        intensity=description.intensity,
        weights=choice.weights,
        threshold=youden_threshold(labels, scores),
        averaged_shifts=SHIFTS[recipe.averaged],
        network_files={
            s: tuple(f"models/{job.name}.safetensors" for job in trained.member_jobs if s in job.contrasts)
            for s in Contrast
        },
        calibration=recipe.calibrate and fit_calibration(recipe.calibrate, scores, labels, predictions.patients),
        range=_range(trained),
        two_sequences=pairs.kept,
        evidence=Evidence(
            synthetic=trained.synthetic,
            development_patients=patients,
            test_patients=len({case.patient for case in trained.parts.test}),
            weights_chosen_on=_chosen_on(recipe),
        ),
    )
    return with_monai_words(metadata)


def _range(trained: Trained) -> Range:
    """Return where the development cases lay; what is not known of them all sets no limit on contrast."""
    cases = trained.parts.development
    ages = [case.age_years for case in cases if case.age_years is not None]
    fields = sorted({round(case.field_strength_t, 1) for case in cases if case.field_strength_t is not None})
    return Range(
        age_years=whole_years(ages) if ages else None,
        field_strength_t=tuple(fields) or None,
        contrast_agent="never" if all(case.contrast_agent is False for case in cases) else "unchecked",
        brain_weights_digest=trained.cohort.description.brain_weights.get("digest"),
        actions=_actions(trained),
    )


def whole_years(ages: Sequence[float]) -> tuple[float, float]:
    """Return the range of ages in whole years, as headers state them; it holds a year at least.

    Parameters
    ----------
    ages
        In years, one at least.
    """
    youngest = math.floor(min(ages))
    return youngest, max(math.ceil(max(ages)), youngest + 1)


def _actions(trained: Trained) -> dict[Check, Action]:
    """Return what a study outside the range gets; made patients set no limit to whom a demonstration may be shown."""
    flags: dict[Check, Action] = dict.fromkeys(("age", "contrast", "field_strength"), "flag")
    return (flags if trained.synthetic else {}) | {"features": trained.recipe.features_action}


def _with_features(metadata: Metadata, limits: dict[Contrast, float]) -> Metadata:
    space = FeatureSpace(file=FEATURES, limits=limits)
    return metadata.model_copy(update={"range": metadata.range.model_copy(update={"features": space})})


def with_evidence(metadata: Metadata, evaluation: Evaluation) -> Metadata:
    """Return metadata with the AUC on the test patients and the repeatability that was measured on them.

    Parameters
    ----------
    metadata
        Of a trained bundle.
    evaluation
        Of that bundle on the test patients.
    """
    assert metadata.evidence is not None
    found = evaluation.ensemble.auc
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    evidence = metadata.evidence.model_copy(update={"auc": found.value, "auc_interval": interval})
    found_again = evaluation.repeatability.stated if evaluation.repeatability else None
    return metadata.model_copy(update={"evidence": evidence, "repeatability": found_again})


def _record(trained: Trained, choice: Choice, pairs: Pairs) -> TrainingRecord:
    return TrainingRecord(
        recipe=trained.recipe,
        cohort_digest=trained.cohort.digest,
        cohort=cohort_facts(trained.cohort, trained.parts.development, trained.parts.test),
        parts=trained.parts,
        networks=trained.results(trained.jobs),
        weight_search=WeightSearch(_chosen_on(trained.recipe), choice),
        software=software(),
        two_sequences_dropped=pairs.dropped,
        controls=trained.controls,
    )


def _chosen_on(recipe: Recipe) -> ChosenOn:
    return "test" if recipe.reproduce_patent_selection else "out_of_fold"


def _plot(trained: Trained, metadata: Metadata) -> bytes:
    panels: dict[str, dict[str, tuple[Epoch, ...]]] = {}
    results = trained.results(trained.jobs)
    for job in trained.jobs:
        network = f"fold{job.fold}" if job.validation else "refit"
        panels.setdefault(job.group, {})[network] = results[job.name].history
    return training_plot(panels, f"{metadata.name} {metadata.version}: {metadata.notice}")
