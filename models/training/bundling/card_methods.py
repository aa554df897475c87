"""Rows of the model card about participants and methods, from the record of the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from models.bundle import ChosenOn, Metadata
from models.contrast import Contrast
from models.training.bundling.cohort_facts import CohortFacts, PartFacts
from models.training.bundling.cross_validation import CrossValidation
from models.training.bundling.feature_limits import FeatureCounts
from models.training.bundling.training_record import DroppedPair, TrainingRecord
from models.training.fit.recipe import Recipe

NOT_STATED: Final = "not stated"
Row = tuple[str, str, str]


def participants(training: TrainingRecord) -> Iterator[Row]:
    """Yield the rows about the source of the data and the patients: item, subject, and what is known.

    Parameters
    ----------
    training
        Of the bundle; what is absent is said to be not stated.
    """
    cohort, made = training.cohort, training.synthetic
    development, test = (cohort.development, cohort.test) if cohort else (None, None)
    yield "5a", "Source of data", f"Made, not scanned: {made}" if made is not None else _source(training)
    yield "5b", "Dates", "Not applicable: made data" if made is not None else NOT_STATED
    yield "6a", "Setting and sites", "Not applicable: made data" if made is not None else NOT_STATED
    yield "6b", "Inclusion criteria of CN114170162A [0056]", _criteria(cohort)
    yield "6b, 20a", "Exclusions, studies by reason", _excluded(cohort)
    yield "6c", "Treatments", NOT_STATED
    yield "10, 21", "Sample size: development", _part(development)
    yield "10, 21", "Sample size: test", _part(test)
    yield "10", "How the sample size was arrived at", NOT_STATED
    yield "20b", "Ages, field strengths, contrast: development", _characteristics(development)
    yield "20b", "Ages, field strengths, contrast: test", _characteristics(test)
    yield "20b", "Sex, ethnicity, genotype", NOT_STATED
    yield "CLAIM", "De-identification", "How images were de-identified: not stated; the bundle names cases by digests"


def methods(metadata: Metadata, training: TrainingRecord) -> Iterator[Row]:
    """Yield the rows about preprocessing, networks, training and choices: item, subject, and what is known.

    Parameters
    ----------
    metadata, training
        Of the bundle; what is absent is said to be not stated.
    """
    yield "7", "Preprocessing", _preprocessing(metadata, training)
    yield "9a, 9b", "Predictors", "T1W, T2W and FLAIR images alone; no clinical data"
    yield "11", "Missing data", "Studies without all three sequences are excluded; nothing is imputed"
    yield "12a", "Partition", _partition(training)
    yield "12c", "Model", _model(metadata)
    yield "12c", "Training", _training(training.recipe)
    yield "12c", "Choice of the epoch", _epoch(training.recipe)
    yield "12c", "Choice of the ensemble's weights", _weights(metadata)
    yield "12c", "Cross-validation", training.cross_validation.sentence() if training.cross_validation else NOT_STATED
    yield "12c", "Looks at the test patients", _looks(training.test_looks)
    yield "12d", "Controls with exchanged labels", training.controls or NOT_STATED
    yield "12c", "Claim 7: log-loss of the ensemble against the loss threshold", _claim_7(training)
    yield "12c", "What was fixed on which scores", _fixed_on(metadata, training.recipe, training.cross_validation)
    yield "12c", "Limits of the feature space", _feature_space(metadata, training.feature_space)
    yield "12c", "Pairs of sequences", _pairs_of_sequences(metadata, training.two_sequences_dropped or {})
    yield "12f", "Calibration", _calibration(metadata)
    yield "13", "Class imbalance", "The split is stratified by outcome; no resampling of classes"
    yield "CLAIM", "Initialisation", _start(training.recipe)
    yield "CLAIM", "Software", _pairs(training.software)


def _source(training: TrainingRecord) -> str:
    digest = training.cohort_digest
    return f"A research group's cohort (SHA-256 {digest}); source not stated" if digest else NOT_STATED


def _excluded(cohort: CohortFacts | None) -> str:
    if cohort is None:
        return NOT_STATED
    return _pairs(cohort.excluded) if cohort.excluded else "none"


def _criteria(cohort: CohortFacts | None) -> str:
    if cohort is None:
        return NOT_STATED
    checked, unchecked = ", ".join(cohort.criteria), ", ".join(cohort.criteria_not_checked)
    return f"Checked: {checked or 'none'}; not checked: {unchecked or 'none'}"


def _part(part: PartFacts | None) -> str:
    if part is None:
        return NOT_STATED
    return (
        f"{part.patients} patients ({part.patients_with_event} with the event), {part.studies} studies "
        f"({part.events} with the event)"
    )


def _characteristics(part: PartFacts | None) -> str:
    if part is None or not part.studies:
        return NOT_STATED
    fields = ", ".join(f"{n} x {name}{'' if name == 'unknown' else ' T'}" for name, n in part.field_strength_t.items())
    agent = ", ".join(f"{n} {answer}" for answer, n in part.contrast_agent.items())
    return f"{_ages(part)}; field strength: {fields}; contrast agent: {agent}"


def _ages(part: PartFacts) -> str:
    if part.age_years is None:
        return "age not stated"
    youngest, middle, oldest = part.age_years
    unknown = f" (unknown in {part.age_unknown})" if part.age_unknown else ""
    return f"age {youngest:g} to {oldest:g} years, median {middle:g}{unknown}"


def _preprocessing(metadata: Metadata, training: TrainingRecord) -> str:
    grid = metadata.grid
    size, spacing = " x ".join(map(str, grid.size_xyz)), " x ".join(f"{mm:g}" for mm in grid.spacing_xyz_mm)
    low, high = metadata.intensity.clip_percentiles
    weights = training.cohort.brain_weights if training.cohort else {}
    extractor = _pairs(weights) if weights else "weights not stated"
    return (
        f"Brain extraction ({extractor}); {size} voxels of {spacing} mm about the brain; clipped at "
        f"percentiles {low:g} and {high:g} of the brain, z-scored there, 0 outside; the node uses the same code"
    )


def _partition(training: TrainingRecord) -> str:
    recipe = training.recipe
    if recipe is None:
        return NOT_STATED
    return (
        f"By patient and group, stratified by outcome: {_set_aside(training.cohort)} set aside first (a share of "
        f"{recipe.test_share} was asked for), the rest in {recipe.folds} folds; seed {recipe.seed}"
    )


def _set_aside(cohort: CohortFacts | None) -> str:
    if cohort is None:
        return "a share that is not stated"
    patients = cohort.test.patients + cohort.development.patients
    return f"{cohort.test.patients} of {patients} patients ({cohort.test.patients / patients:.1%})"


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


def _training(recipe: Recipe | None) -> str:
    if recipe is None:
        return NOT_STATED
    # A path does not belong in a bundle; the name of the start weights stands under initialisation.
    return _pairs({name: value for name, value in recipe.as_json().items() if name != "start"})


def _epoch(recipe: Recipe | None) -> str:
    if recipe is None:
        return NOT_STATED
    if recipe.patience is None:
        return "The last; no data were looked at to choose it"
    return (
        "The best on the fold left out, so that out-of-fold scores, and with them weights, threshold and calibration, "
        "are slightly optimistic; the test patients had no part in it"
    )


def _weights(metadata: Metadata) -> str:
    weights = ", ".join(f"{contrast} {weight:g}" for contrast, weight in metadata.weights.items())
    basis: dict[ChosenOn, str] = {
        "out_of_fold": "chosen by AUC over pairs within a fold, then log-loss, on out-of-fold predictions of "
        "development patients",
        "test": "chosen on the test patients (optimistic)",
        "nothing": "not chosen on data",
    }
    return f"{weights}; {basis[metadata.evidence.weights_chosen_on] if metadata.evidence else NOT_STATED}"


def _looks(looks: int | None) -> str:
    return NOT_STATED if looks is None else f"{looks}: so many bundles, this one included, were judged on any of them"


def _claim_7(training: TrainingRecord) -> str:
    """Return whether the ensemble's log-loss is within the threshold; each network's own loss is another thing."""
    search, recipe = training.weight_search, training.recipe
    threshold = recipe.loss_threshold if recipe else None
    if search is None:
        return NOT_STATED
    found = f"{search.choice.log_loss:.3f} on the scores that the weights were chosen on"
    if threshold is None:
        return f"No threshold was set; log-loss {found}"
    return f"{'Met' if search.choice.log_loss <= threshold else 'Not met'}: log-loss {found}, threshold {threshold:g}"


def _fixed_on(metadata: Metadata, recipe: Recipe | None, found: CrossValidation | None) -> str:
    if recipe is None or metadata.network_files is None:
        return NOT_STATED
    on_test = metadata.evidence is not None and metadata.evidence.weights_chosen_on == "test"
    count = len(metadata.network_files[Contrast.T1W])
    ships = {
        "folds": f"averages {count} networks, whose mean varies less than the scores of one",
        "refit": "uses one network, trained anew on all of them for as many steps as those of the folds in the median, "
        "so that its scores are as sure of themselves",
    }
    return (
        f"{'Threshold' if on_test else 'Threshold, weights'} and calibration come from out-of-fold scores of "
        f"development patients, each of a single network; for each sequence the bundle {ships[recipe.members]}"
        f"{_at_threshold(found)}"
    )


def _at_threshold(found: CrossValidation | None) -> str:
    if found is None or found.sensitivity is None or found.specificity is None:
        return ""
    return (
        f". At the threshold sensitivity {found.sensitivity:.3f} and specificity {found.specificity:.3f} out of fold: "
        "those of the test, by the networks that ship, stand under Performance"
    )


def _feature_space(metadata: Metadata, found: FeatureCounts | None) -> str:
    if metadata.range.features is None:
        return "none"
    if found is None:
        return NOT_STATED
    beyond = ", ".join(f"{contrast} {count}" for contrast, count in found.test_studies_beyond.items())
    return (
        f"For each sequence the distance within which {found.within:.1%} of the development studies lie, each "
        "measured by the network, and in the axes, of the training that left its fold out, or by the "
        "bundle's own where that is more; of "
        f"{found.test_studies} test studies lie beyond: {beyond}, any {found.test_studies_beyond_any}"
    )


def _pairs_of_sequences(metadata: Metadata, dropped: Mapping[str, DroppedPair]) -> str:
    kept = [" + ".join(pair.weights) for pair in metadata.two_sequences]
    if not kept and not dropped:
        return "none"
    left = "; ".join(f"{name} ({_bound(pair)})" for name, pair in dropped.items()) or "none"
    return (
        f"Kept: {', '.join(kept) or 'none'}; dropped, as the lower bound of the out-of-fold AUC does not exceed 0.5: "
        f"{left}"
    )


def _bound(pair: DroppedPair) -> str:
    if pair.auc is None or pair.low is None:
        return "no interval"
    return f"AUC {pair.auc:.3f}, lower bound {pair.low:.3f}"


def _calibration(metadata: Metadata) -> str:
    if metadata.calibration is None:
        return "none"
    return f"{metadata.calibration.method}, on out-of-fold scores of {metadata.calibration.patients} patients"


def _start(recipe: Recipe | None) -> str:
    if recipe is None:
        return NOT_STATED
    return f"Inflated 2-D weights: {recipe.stated_start}" if recipe.start else "Random, from the stated seed"


def _pairs(entries: Mapping[str, object] | None) -> str:
    if not entries:
        return NOT_STATED
    return ", ".join(f"{name}: {'none' if value is None else value}" for name, value in entries.items())
