"""Rows of the model card about participants and methods, from the record of the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from models.bundle import Metadata
from models.contrast import Contrast

NOT_STATED = "not stated"
Row = tuple[str, str, str]


def participants(training: Mapping[str, Any]) -> Iterable[Row]:
    """Yield the rows about the source of the data and the patients.

    Parameters
    ----------
    training
        Content of ``configs/training.json``; `models.training.bundling.cohort_facts` makes its entry ``cohort``.
    """
    cohort = training.get("cohort") or {}
    made = cohort.get("synthetic")
    yield "5a", "Source of data", f"Made, not scanned: {made}" if made is not None else _source(training)
    yield "5b", "Dates", "Not applicable: made data" if made is not None else NOT_STATED
    yield "6a", "Setting and sites", "Not applicable: made data" if made is not None else NOT_STATED
    yield "6b", "Inclusion criteria of CN114170162A [0056]", _criteria(cohort)
    yield "6b, 20a", "Exclusions, studies by reason", _excluded(cohort)
    yield "6c", "Treatments", NOT_STATED
    yield "10, 21", "Sample size: development", _part(cohort.get("development"))
    yield "10, 21", "Sample size: test", _part(cohort.get("test"))
    yield "10", "How the sample size was arrived at", NOT_STATED
    yield "20b", "Ages, field strengths, contrast: development", _characteristics(cohort.get("development"))
    yield "20b", "Ages, field strengths, contrast: test", _characteristics(cohort.get("test"))
    yield "20b", "Sex, ethnicity, genotype", NOT_STATED
    yield "CLAIM", "De-identification", "How images were de-identified: not stated; the bundle names cases by digests"


def methods(metadata: Metadata, training: Mapping[str, Any]) -> Iterable[Row]:
    """Yield the rows about preprocessing, networks, training and choices."""
    grid = metadata.grid
    size, spacing = " x ".join(map(str, grid.size_xyz)), " x ".join(f"{mm:g}" for mm in grid.spacing_xyz_mm)
    low, high = metadata.intensity.clip_percentiles
    yield (
        "7",
        "Preprocessing",
        (
            f"Brain extraction{_extractor(training)}; {size} voxels of {spacing} mm about the brain; clipped at "
            f"percentiles {low:g} and {high:g} of the brain, z-scored there, 0 outside; the node uses the same code"
        ),
    )
    yield "9a, 9b", "Predictors", "T1W, T2W and FLAIR images alone; no clinical data"
    yield "11", "Missing data", "Studies without all three sequences are excluded; nothing is imputed"
    yield "12a", "Partition", _partition(training)
    yield "12c", "Model", _model(metadata)
    yield "12c", "Training", _training(training)
    yield "12c", "Choice of the epoch", _epoch(training)
    yield "12c", "Choice of the ensemble's weights", _weights(metadata)
    yield "12c", "What was fixed on which scores", _fixed_on(metadata, training)
    yield "12c", "Limits of the feature space", _feature_space(metadata, training)
    yield "12c", "Pairs of sequences", _pairs_of_sequences(metadata, training)
    yield "12f", "Calibration", _calibration(metadata)
    yield "13", "Class imbalance", "The split is stratified by outcome; no resampling of classes"
    yield "CLAIM", "Initialisation", _start(training)
    yield "CLAIM", "Software", _pairs(training.get("software"))


def _source(training: Mapping[str, Any]) -> str:
    digest = training.get("cohort_digest")
    return f"A research group's cohort (SHA-256 {digest}); source not stated" if digest else NOT_STATED


def _excluded(cohort: Mapping[str, Any]) -> str:
    excluded = cohort.get("excluded")
    if excluded is None:
        return NOT_STATED
    return _pairs(excluded) if excluded else "none"


def _criteria(cohort: Mapping[str, Any]) -> str:
    checked, unchecked = cohort.get("criteria"), cohort.get("criteria_not_checked")
    if checked is None or unchecked is None:
        return NOT_STATED
    return f"Checked: {', '.join(checked) or 'none'}; not checked: {', '.join(unchecked) or 'none'}"


def _part(part: Mapping[str, Any] | None) -> str:
    if not part:
        return NOT_STATED
    return (
        f"{part['patients']} patients ({part['patients_with_event']} with the event), {part['studies']} studies "
        f"({part['events']} with the event)"
    )


def _characteristics(part: Mapping[str, Any] | None) -> str:
    if not part or not part["studies"]:
        return NOT_STATED
    ages = part["age_years"]
    age = "age not stated" if ages is None else f"age {ages[0]:g} to {ages[2]:g} years, median {ages[1]:g}"
    unknown = f" (unknown in {part['age_unknown']})" if ages is not None and part["age_unknown"] else ""
    fields = ", ".join(
        f"{n} x {name}{'' if name == 'unknown' else ' T'}" for name, n in part["field_strength_t"].items()
    )
    contrast = ", ".join(f"{n} {answer}" for answer, n in part["contrast_agent"].items())
    return f"{age}{unknown}; field strength: {fields}; contrast agent: {contrast}"


def _extractor(training: Mapping[str, Any]) -> str:
    weights = (training.get("cohort") or {}).get("brain_weights")
    return f" ({_pairs(weights)})" if weights else " (weights not stated)"


def _partition(training: Mapping[str, Any]) -> str:
    recipe = training.get("recipe")
    if not recipe:
        return NOT_STATED
    return (
        f"By patient and group, stratified by outcome: {_set_aside(training)} set aside first (a share of "
        f"{recipe.get('test_share', NOT_STATED)} was asked for), the rest in {recipe.get('folds', NOT_STATED)} folds; "
        f"seed {recipe.get('seed', NOT_STATED)}"
    )


def _set_aside(training: Mapping[str, Any]) -> str:
    cohort = training.get("cohort") or {}
    test, development = cohort.get("test"), cohort.get("development")
    if not test or not development:
        return "a share that is not stated"
    patients = test["patients"] + development["patients"]
    return f"{test['patients']} of {patients} patients ({test['patients'] / patients:.1%})"


def _model(metadata: Metadata) -> str:
    files = metadata.network_files
    if files is None:
        return f"{metadata.architecture.name}, one network per sequence with random weights"
    members = len(files[Contrast.T1W])
    mean = "" if members == 1 else f", each the mean of {members}"
    shared = "networks shared by all sequences" if len(set(files.values())) == 1 else "own networks for each sequence"
    return (
        f"{metadata.architecture.name}, first-block stride {metadata.architecture.first_block_stride}; {shared}{mean}; "
        "the score is the weighted sum of the sequences' scores"
    )


def _training(training: Mapping[str, Any]) -> str:
    recipe = training.get("recipe")
    # Where the start weights lay is nobody's business; their name stands under initialisation.
    return _pairs({key: value for key, value in recipe.items() if key != "start"}) if recipe else NOT_STATED


def _epoch(training: Mapping[str, Any]) -> str:
    recipe = training.get("recipe")
    if not recipe or "patience" not in recipe:
        return NOT_STATED
    if recipe["patience"] is None:
        return "The last; no data were looked at to choose it"
    return (
        "The best on the fold left out, so that out-of-fold scores, and with them weights, threshold and calibration, "
        "are slightly optimistic; the test patients had no part in it"
    )


def _weights(metadata: Metadata) -> str:
    weights = ", ".join(f"{sequence} {weight:g}" for sequence, weight in metadata.weights.items())
    basis = {
        "out_of_fold": "chosen by AUC, then log-loss, on out-of-fold predictions of development patients",
        "test": "chosen on the test patients (optimistic)",
        "nothing": "not chosen on data",
    }
    return f"{weights}; {basis[metadata.evidence.weights_chosen_on] if metadata.evidence else NOT_STATED}"


def _fixed_on(metadata: Metadata, training: Mapping[str, Any]) -> str:
    members = (training.get("recipe") or {}).get("members")
    if members is None or metadata.network_files is None:
        return NOT_STATED
    on_test = metadata.evidence is not None and metadata.evidence.weights_chosen_on == "test"
    count = len(metadata.network_files[Contrast.T1W])
    bundle = f"averages {count} networks" if members == "folds" else "uses one network, trained anew on all of them"
    return (
        f"{'Threshold' if on_test else 'Threshold, weights'} and calibration come from out-of-fold scores of "
        f"development patients, each of a single network; for each sequence the bundle {bundle}, whose scores may be "
        "distributed otherwise"
    )


def _feature_space(metadata: Metadata, training: Mapping[str, Any]) -> str:
    if metadata.range.features is None:
        return "none"
    found = training.get("feature_space")
    if not found:
        return NOT_STATED
    beyond = ", ".join(f"{sequence} {count}" for sequence, count in found["test_studies_beyond"].items())
    return (
        f"For each sequence the distance within which {found['within']:.1%} of the development studies lie, each "
        "measured by the network, and in the axes, of the training that left its fold out, or by the "
        "bundle's own where that is more; of "
        f"{found['test_studies']} test studies lie beyond: {beyond}, any {found['test_studies_beyond_any']}"
    )


def _pairs_of_sequences(metadata: Metadata, training: Mapping[str, Any]) -> str:
    dropped = training.get("two_sequences_dropped") or {}
    kept = [" + ".join(pair.weights) for pair in metadata.two_sequences]
    if not kept and not dropped:
        return "none"
    left = "; ".join(f"{pair} ({_bound(entry)})" for pair, entry in dropped.items()) or "none"
    return (
        f"Kept: {', '.join(kept) or 'none'}; dropped, as the lower bound of the AUC on the test patients does not "
        f"exceed 0.5: {left}"
    )


def _bound(entry: Mapping[str, Any]) -> str:
    if entry["auc"] is None or entry["low"] is None:
        return "no interval"
    return f"AUC {entry['auc']:.3f}, lower bound {entry['low']:.3f}"


def _calibration(metadata: Metadata) -> str:
    if metadata.calibration is None:
        return "none"
    return f"{metadata.calibration.method}, on out-of-fold scores of {metadata.calibration.patients} patients"


def _start(training: Mapping[str, Any]) -> str:
    recipe = training.get("recipe")
    if not recipe or "start" not in recipe:
        return NOT_STATED
    return (
        f"Inflated 2-D weights: {PurePath(recipe['start']).name}" if recipe["start"] else "Random, from the stated seed"
    )


def _pairs(entries: Mapping[str, Any] | None) -> str:
    if not entries:
        return NOT_STATED
    return ", ".join(f"{name}: {'none' if value is None else value}" for name, value in entries.items())
