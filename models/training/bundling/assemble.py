"""Make a bundle of trained networks.

Weights, threshold, calibration and range come from the development patients; the test patients are looked at once.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sklearn.metrics import log_loss

from models.bundle import (
    Action,
    Architecture,
    Check,
    Evidence,
    FeatureSpace,
    Metadata,
    Range,
    TwoSequences,
    open_bundle,
)
from models.contrast import Contrast
from models.feature_space import save_axes
from models.training.bundling.card import model_card
from models.training.bundling.cohort_facts import cohort_facts
from models.training.bundling.ensemble_weights import STEPS, Choice, choose_weights
from models.training.bundling.feature_limits import measure_feature_space
from models.training.bundling.fit_calibration import fit_calibration
from models.training.bundling.write_bundle import intended_use, monai_words, notice, software, write_bundle
from models.training.evaluation.evaluate import Evaluation, evaluate, predict
from models.training.evaluation.held_out import development_record
from models.training.evaluation.metrics import auc, youden_threshold
from models.training.evaluation.predictions import Predictions
from models.training.fit.job import Tell
from models.training.fit.training_log import training_plot
from models.training.trained import Trained

FEATURES: Final = "models/features.safetensors"
_CHANCE: Final = 0.5
"""AUC of a score that says nothing."""


def assemble(trained: Trained, out: Path, device: torch.device, tell: Tell) -> Path:
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

    Raises
    ------
    ModelError
        ``calibration_unfit`` if no calibration can be fitted; what `evaluate` raises.
    """
    predictions = out_of_fold(trained)
    folder = trained.work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    for job in trained.member_jobs:
        shutil.copyfile(trained.network_file(job), folder / "models" / f"{job.name}.safetensors")
    choice = choose_weights(predictions)
    record = _record(trained, choice)
    metadata = _metadata(trained, predictions, choice)
    write_bundle(folder, metadata, record, "")
    if trained.recipe.reproduce_patent_selection:
        tell("choosing the weights on the test patients, as the patent does")
        choice = choose_weights(predict(open_bundle(folder), trained.cohort, trained.parts.test, tell, device))
        record, metadata = _record(trained, choice), _metadata(trained, predictions, choice)
    tell("measuring the feature space of the development patients")
    measured = measure_feature_space(trained, device)
    save_axes(folder / FEATURES, measured.spaces)
    metadata = _with_features(metadata, measured.limits)
    record |= {"feature_space": measured.as_json()}
    write_bundle(folder, metadata, record, "")
    tested = trained.work / "evaluation"
    evaluation = evaluate(
        open_bundle(folder), trained.cohort, tested, tell, trained.parts.test, device=device, seed=trained.recipe.seed
    )
    record |= {"two_sequences_dropped": _dropped(metadata, evaluation)}
    metadata = _with_evidence(metadata, evaluation)
    _write_plot(trained, folder, metadata)
    card = model_card(metadata, record, json.loads((tested / "evaluation.json").read_text("utf-8")))
    write_bundle(folder, metadata, record, card)
    open_bundle(folder)
    return folder.rename(out)


def out_of_fold(trained: Trained) -> Predictions:
    """Return the scores of the development cases, each of the network that has not seen its patient."""
    cases = trained.parts.development
    scores: dict[Contrast, dict[str, float]] = {sequence: {} for sequence in Contrast}
    for result in trained.results(trained.fold_jobs).values():
        for sequence, found in result["scores"].items():
            scores[sequence] |= found
    return Predictions(cases, {s: np.array([found[case.case] for case in cases]) for s, found in scores.items()})


def two_sequences(predictions: Predictions) -> tuple[TwoSequences, ...]:
    """Return weights and threshold of every pair, chosen as those of the three sequences are."""
    return tuple(_pair(predictions, first, second) for first, second in combinations(tuple(Contrast), 2))


def _pair(predictions: Predictions, first: Contrast, second: Contrast) -> TwoSequences:
    labels = predictions.labels

    def rank(tenths: int) -> tuple[float, float, int, int]:
        scores = predictions.ensemble(_weights(first, second, tenths))
        return -auc(labels, scores), float(log_loss(labels, scores)), abs(2 * tenths - STEPS), tenths

    weights = _weights(first, second, min(range(1, STEPS), key=rank))
    scores = predictions.ensemble(weights)
    return TwoSequences(
        weights=weights,
        threshold=youden_threshold(labels, scores),
        patients=len(set(predictions.patients)),
        auc=auc(labels, scores),
    )


def _weights(first: Contrast, second: Contrast, tenths: int) -> dict[Contrast, float]:
    return {first: tenths / STEPS, second: (STEPS - tenths) / STEPS}


def _metadata(trained: Trained, predictions: Predictions, choice: Choice) -> Metadata:
    recipe, description = trained.recipe, trained.cohort.description
    scores, labels = predictions.ensemble(choice.weights), predictions.labels
    patients = len({case.patient for case in trained.parts.development})
    return Metadata(
        name=recipe.name,
        version=recipe.version,
        notice=notice(recipe, synthetic=trained.synthetic, patients=patients),
        intended_use=intended_use(recipe, synthetic=trained.synthetic),
        architecture=Architecture(name="EfficientNet3D-B0", first_block_stride=recipe.first_block_stride),
        grid=description.grid,
        intensity=description.intensity,
        weights=choice.weights,
        threshold=youden_threshold(labels, scores),
        network_files={
            s: tuple(f"models/{job.name}.safetensors" for job in trained.member_jobs if s in job.sequences)
            for s in Contrast
        },
        calibration=recipe.calibrate and fit_calibration(recipe.calibrate, scores, labels, predictions.patients),
        range=_range(trained),
        two_sequences=two_sequences(predictions) if recipe.two_sequences else (),
        evidence=Evidence(
            synthetic=trained.synthetic,
            development_patients=patients,
            test_patients=len({case.patient for case in trained.parts.test}),
            weights_chosen_on="test" if recipe.reproduce_patent_selection else "out_of_fold",
        ),
        **monai_words(description.grid.size_xyz, recipe.version),
    )


def _range(trained: Trained) -> Range:
    """Return where the development cases lay; what is not known of them all sets no limit on contrast."""
    cases = trained.parts.development
    ages = [case.age_years for case in cases if case.age_years is not None]
    fields = sorted({round(case.field_strength_t, 1) for case in cases if case.field_strength_t is not None})
    return Range(
        age_years=_whole_years(ages) if ages else None,
        field_strength_t=tuple(fields) or None,
        contrast_agent="never" if all(case.contrast_agent is False for case in cases) else "unchecked",
        brain_weights_digest=trained.cohort.description.brain_weights.get("digest"),
        actions=_actions(trained),
    )


def _whole_years(ages: list[float]) -> tuple[float, float]:
    """Return the range of ages in whole years, as headers state them; it holds a year at least."""
    youngest = math.floor(min(ages))
    return youngest, max(math.ceil(max(ages)), youngest + 1)


def _actions(trained: Trained) -> dict[Check, Action]:
    """Return what a study outside the range gets; made patients set no limit to whom a demonstration may be shown."""
    flags: dict[Check, Action] = dict.fromkeys(("age", "contrast", "field_strength"), "flag")
    return (flags if trained.synthetic else {}) | {"features": trained.recipe.features_action}


def _with_features(metadata: Metadata, limits: dict[Contrast, float]) -> Metadata:
    space = FeatureSpace(file=FEATURES, limits=limits)
    return metadata.model_copy(update={"range": metadata.range.model_copy(update={"features": space})})


def _with_evidence(metadata: Metadata, evaluation: Evaluation) -> Metadata:
    """Return metadata with the AUC on the test patients, of the ensemble and of every pair that is kept."""
    assert metadata.evidence is not None
    found = evaluation.ensemble.auc
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    pairs = tuple(
        pair.model_copy(
            update={
                "auc": evaluation.two_sequences[_pair_name(pair)].auc.value,
                "patients": evaluation.ensemble.patients,
            }
        )
        for pair in metadata.two_sequences
        if _informs(evaluation, pair)
    )
    evidence = metadata.evidence.model_copy(update={"auc": found.value, "auc_interval": interval})
    return metadata.model_copy(update={"evidence": evidence, "two_sequences": pairs})


def _informs(evaluation: Evaluation, pair: TwoSequences) -> bool:
    """Return whether a pair tells the test patients apart better than chance, as far as their number can show it."""
    low = evaluation.two_sequences[_pair_name(pair)].auc.low
    return low is not None and low > _CHANCE


def _dropped(metadata: Metadata, evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """Return AUC and lower bound of every pair that a node must not score by."""
    found = {_pair_name(p): evaluation.two_sequences[_pair_name(p)].auc for p in metadata.two_sequences}
    names = [_pair_name(pair) for pair in metadata.two_sequences if not _informs(evaluation, pair)]
    return {name: {"auc": found[name].value, "low": found[name].low} for name in names}


def _pair_name(pair: TwoSequences) -> str:
    return " + ".join(pair.weights)


def _record(trained: Trained, choice: Choice) -> dict[str, Any]:
    """Return ``configs/training.json``: enough to train again, and to know whom the bundle must not be tested on."""
    results = {
        name: {key: value for key, value in result.items() if key != "scores"}
        for name, result in trained.results(trained.jobs).items()
    }
    return {
        "recipe": trained.recipe.as_json(),
        "seed": trained.recipe.seed,
        "cohort_digest": trained.cohort.digest,
        "cohort": cohort_facts(trained.cohort, trained.parts.development, trained.parts.test),
        **development_record(trained.parts.development),
        "test_cases": sorted(case.case for case in trained.parts.test),
        "folds": [sorted(case.case for case in fold) for fold in trained.parts.folds],
        "networks": results,
        "weight_search": {
            "chosen_on": "test" if trained.recipe.reproduce_patent_selection else "out_of_fold",
            "auc": choice.auc,
            "log_loss": choice.log_loss,
            "table": [asdict(candidate) for candidate in choice.table],
        },
        "software": software(),
    }


def _write_plot(trained: Trained, folder: Path, metadata: Metadata) -> None:
    panels: dict[str, dict[str, Any]] = {}
    for name, result in trained.results(trained.jobs).items():
        panel, _, network = name.partition("_")
        panels.setdefault(panel, {})[network] = result["history"]
    line = f"{metadata.name} {metadata.version}: {metadata.notice}"
    (folder / "docs" / "training.png").write_bytes(training_plot(panels, line))
