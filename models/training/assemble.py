"""Make a bundle of trained networks.

Weights, threshold, calibration and range come from the development patients; the test patients are looked at once.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sklearn.metrics import log_loss

from models.bundle import (
    SEQUENCES,
    Action,
    Architecture,
    Bundle,
    Check,
    Evidence,
    FeatureSpace,
    Metadata,
    Range,
    Sequence,
    TwoSequences,
    open_bundle,
)
from models.feature_space import distance, fit_feature_space, save_axes
from models.training.calibration import fit_calibration
from models.training.card import model_card
from models.training.cohort import Cohort
from models.training.cohort_facts import cohort_facts
from models.training.ensemble_weights import STEPS, Choice, choose_weights
from models.training.evaluate import Evaluation, evaluate, predict
from models.training.fit import NETWORK, Job, Tell, read_result
from models.training.folds import Split
from models.training.held_out import development_record
from models.training.metrics import auc, youden_threshold
from models.training.predictions import Predictions
from models.training.recipe import Recipe
from models.training.training_log import training_plot
from models.training.write_bundle import intended_use, monai_words, notice, software, write_bundle
from models.wae_net import WaeNet

FEATURES: Final = "models/features.safetensors"
FEATURES_WITHIN: Final = 0.975
"""Share of the development cases that lie within the limit of the feature space, each measured by the other folds."""
_LIMIT_MIN = 1e-6


@dataclass(frozen=True, slots=True)
class Trained:
    """Finished networks and all that belongs to them.

    Attributes
    ----------
    cohort, parts, recipe
        What they were trained on, and how.
    fold_jobs
        Each leaves a fold out.
    member_jobs
        Whose networks the bundle holds.
    work
        Folder with a folder of each job's name.
    """

    cohort: Cohort
    parts: Split
    recipe: Recipe
    fold_jobs: tuple[Job, ...]
    member_jobs: tuple[Job, ...]
    work: Path

    @property
    def synthetic(self) -> bool:
        """Whether the cohort was made."""
        return self.cohort.description.synthetic is not None

    def results(self, jobs: tuple[Job, ...]) -> dict[str, dict[str, Any]]:
        """Return the results of jobs by name."""
        return {job.name: read_result(self.work / job.name) for job in jobs}


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
        shutil.copyfile(trained.work / job.name / NETWORK, folder / "models" / f"{job.name}.safetensors")
    choice = choose_weights(predictions)
    record = _record(trained, choice)
    metadata = _metadata(trained, predictions, choice)
    write_bundle(folder, metadata, record, "")
    if trained.recipe.reproduce_patent_selection:
        tell("choosing the weights on the test patients, as the patent does")
        choice = choose_weights(predict(open_bundle(folder), trained.cohort, trained.parts.test, tell, device))
        record, metadata = _record(trained, choice), _metadata(trained, predictions, choice)
    metadata = _with_features(trained, open_bundle(folder), metadata, device, tell)
    write_bundle(folder, metadata, record, "")
    tested = trained.work / "evaluation"
    evaluation = evaluate(
        open_bundle(folder), trained.cohort, tested, tell, trained.parts.test, device=device, seed=trained.recipe.seed
    )
    metadata = _with_evidence(metadata, evaluation)
    _write_plot(trained, folder, metadata)
    card = model_card(metadata, record, json.loads((tested / "evaluation.json").read_text("utf-8")))
    write_bundle(folder, metadata, record, card)
    open_bundle(folder)
    return folder.rename(out)


def out_of_fold(trained: Trained) -> Predictions:
    """Return the scores of the development cases, each of the network that has not seen its patient."""
    cases = trained.parts.development
    scores: dict[Sequence, dict[str, float]] = {sequence: {} for sequence in SEQUENCES}
    for result in trained.results(trained.fold_jobs).values():
        for sequence, found in result["scores"].items():
            scores[sequence] |= found
    return Predictions(cases, {s: np.array([found[case.case] for case in cases]) for s, found in scores.items()})


def two_sequences(predictions: Predictions) -> tuple[TwoSequences, ...]:
    """Return weights and threshold of every pair, chosen as those of the three sequences are."""
    return tuple(_pair(predictions, first, second) for first, second in combinations(SEQUENCES, 2))


def _pair(predictions: Predictions, first: Sequence, second: Sequence) -> TwoSequences:
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


def _weights(first: Sequence, second: Sequence, tenths: int) -> dict[Sequence, float]:
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
            for s in SEQUENCES
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
        age_years=(min(ages), max(ages)) if len(set(ages)) > 1 else None,
        field_strength_t=tuple(fields) or None,
        contrast_agent="never" if all(case.contrast_agent is False for case in cases) else "unchecked",
        actions=_actions(trained),
    )


def _actions(trained: Trained) -> dict[Check, Action]:
    """Return what a study outside the range gets; made patients set no limit to whom a demonstration may be shown."""
    flags: dict[Check, Action] = dict.fromkeys(("age", "contrast", "field_strength"), "flag")
    return (flags if trained.synthetic else {}) | {"features": trained.recipe.features_action}


def _with_features(trained: Trained, bundle: Bundle, metadata: Metadata, device: torch.device, tell: Tell) -> Metadata:
    """Write the feature space of the development cases into the bundle and return metadata that name it."""
    tell("measuring the feature space of the development patients")
    networks, spaces, limits = WaeNet(bundle, device), {}, {}
    folds = np.repeat(np.arange(len(trained.parts.folds)), [len(fold) for fold in trained.parts.folds])
    for sequence in SEQUENCES:
        read = (networks.read(sequence, trained.cohort.tensor(c, sequence)) for c in trained.parts.development)
        features = np.stack([reading.features for reading in read])
        spaces[sequence] = fit_feature_space(features)
        limits[sequence] = _limit(features, folds)
    save_axes(bundle.folder / FEATURES, spaces)
    space = FeatureSpace(file=FEATURES, limits=limits)
    return metadata.model_copy(update={"range": metadata.range.model_copy(update={"features": space})})


def _limit(features: np.ndarray, folds: np.ndarray) -> float:
    """Return the distance that few cases exceed when each is measured in the space of the other folds."""
    distances: list[float] = []
    for fold in np.unique(folds):
        axes = fit_feature_space(features[folds != fold])
        distances += [distance(axes, row) for row in features[folds == fold]]
    return max(float(np.quantile(distances, FEATURES_WITHIN, method="higher")), _LIMIT_MIN)


def _with_evidence(metadata: Metadata, evaluation: Evaluation) -> Metadata:
    """Return metadata with the AUC on the test patients, of the ensemble and of every pair."""
    assert metadata.evidence is not None
    found = evaluation.ensemble.auc
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    pairs = tuple(
        pair.model_copy(
            update={
                "auc": evaluation.two_sequences[" + ".join(pair.weights)].auc.value,
                "patients": evaluation.ensemble.patients,
            }
        )
        for pair in metadata.two_sequences
    )
    evidence = metadata.evidence.model_copy(update={"auc": found.value, "auc_interval": interval})
    return metadata.model_copy(update={"evidence": evidence, "two_sequences": pairs})


def _record(trained: Trained, choice: Choice) -> dict[str, Any]:
    """Return ``configs/training.json``: enough to train again, and to know whom the bundle must not be tested on."""
    jobs = dict.fromkeys((*trained.fold_jobs, *trained.member_jobs))
    results = {
        name: {key: value for key, value in result.items() if key != "scores"}
        for name, result in trained.results(tuple(jobs)).items()
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
    for name, result in trained.results(tuple(dict.fromkeys((*trained.fold_jobs, *trained.member_jobs)))).items():
        panel, _, network = name.partition("_")
        panels.setdefault(panel, {})[network] = result["history"]
    line = f"{metadata.name} {metadata.version}: {metadata.notice}"
    (folder / "docs" / "training.png").write_bytes(training_plot(panels, line))
