"""One study from its files to its report: the chain that the worker and ``dicom-node run`` share.

`run_study` goes through four steps; each leaves its output in files, written whole or not at all, and returns a small
JSON value. Who calls it may pass a `step` that remembers those values: a step that is remembered is not run again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.brain_weights import BrainWeights
from models.bundle import Bundle, Grid, Intensity, Metadata, TwoSequences
from models.contrast import Contrast
from models.wae_net import WaeNet
from models.whole_files import write_json
from pipeline.activation import activation_image
from pipeline.brain import MaskFacts, WeightsIdentity, extract_brain
from pipeline.errors import HoldReason, StudyHeld
from pipeline.grid import ModelGrid, canonical
from pipeline.mask_agreement import compare_masks
from pipeline.out_of_range import OutOfRange, check_brain_weights, check_features, check_headers
from pipeline.patient_age import read_age_years
from pipeline.predict import Finding, ModelIdentity, combine, model_tensor
from pipeline.report import (
    Predecessor,
    Provenance,
    header_of_study,
    tri_planar,
    write_held,
    write_results,
    write_saliency,
)
from pipeline.result import describe_study, finding_values
from pipeline.select import Selection
from pipeline.volume import read_volume

SOFTWARE = f"dicom-node {version('dicom-node')}"
RESULT_FILE = "result.json"

Step = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""Runs a named step, or returns what it returned before."""


@dataclass(frozen=True, slots=True)
class Models:
    """Everything that is loaded once and used for many studies."""

    ensemble: WaeNet
    extractor: BrainExtractor

    @property
    def bundle(self) -> Bundle:
        """The ensemble's bundle."""
        return self.ensemble.bundle

    @property
    def brain_weights(self) -> WeightsIdentity:
        """Name and digest of the brain weights."""
        return WeightsIdentity(self.extractor.weights.name, self.extractor.weights.digest)

    @property
    def identity(self) -> ModelIdentity:
        """What the outputs say of the ensemble."""
        metadata = self.bundle.metadata
        stride = metadata.architecture.first_block_stride
        return ModelIdentity(
            name=metadata.name,
            version=metadata.version,
            digest=self.bundle.digest,
            notice=metadata.notice,
            intended_use=metadata.intended_use,
            architecture=f"{metadata.architecture.name}, first-block stride {stride}",
            network_digests={role: self.bundle.network_digest(role) for role in Contrast},
            evidence=metadata.evidence,
        )


def load_models(bundle: Bundle, brain_weights: BrainWeights, device: torch.device) -> Models:
    """Return the verified models on a device, ready for work."""
    return Models(WaeNet(bundle, device), BrainExtractor(brain_weights, device))


def run_now(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG001
    """Run a step and remember nothing."""
    return function()


def run_study(
    selection: Selection,
    out: Path,
    models: Models,
    *,
    title: str = "private",
    started: datetime | None = None,
    predecessor: Predecessor | None = None,
    held_report: bool = False,
    saliency: bool = False,
    step: Step = run_now,
) -> dict[str, Any]:
    """Score a study and write its report.

    Parameters
    ----------
    selection
        Of the study's series; where it lacks one sequence the models decide whether the other two are scored.
    out
        Folder for ``result.json``, the result objects (:mod:`pipeline.report.files`) and their pictures.
    models
        Loaded models.
    title
        Document title of the report: ``private`` or ``126000``.
    started
        When the analysis began; becomes the report's content time. Default: now.
    predecessor
        An earlier report of the study that this one revises.
    held_report
        Whether a study that gets no score gets a report that says why.
    saliency
        Whether maps of what the scores depend on are made and written too.
    step
        Runs each step, or recalls its value.

    Returns
    -------
    dict
        The content of ``result.json``; `state` is ``scored`` or ``held``.
    """
    metadata = models.bundle.metadata
    selection = scorable(selection, metadata)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    timings_s: dict[str, float] = {}
    limits = metadata.range

    def take(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        value = step(name, lambda: _timed(function))
        timings_s[name] = value["seconds"]
        if "held" in value:
            code, sentence = value["held"]
            raise StudyHeld(HoldReason(code), sentence)
        return value

    result = describe_study(selection, models.identity, models.brain_weights, SOFTWARE)
    provenance = Provenance(
        selection.digest,
        started or datetime.now().astimezone(),
        SOFTWARE,
        models.brain_weights,
        title,
        predecessor,
    )
    try:
        if selection.held:
            raise selection.held
        doubts = check_brain_weights(models.brain_weights.digest, limits)
        doubts += check_headers(selection.volumes, selection.candidates, limits)
        take("convert", lambda: convert(selection, work))
        brain = _mask_facts(take("strip", lambda: strip(selection, work, models.extractor)))
        read = take("predict", lambda: predict(work, models, selection.roles))
        doubts += check_features({Contrast(name): far for name, far in read["distances"].items()}, limits)
        finding = _finding(read["members"], doubts, models, _mode(selection, metadata))
        explained = models if saliency else None
        take("report", lambda: report(finding, selection, brain, provenance, work, out, explained))
        result |= {"state": "scored", "reason": None, "sentence": None} | finding_values(finding, brain)
    except StudyHeld as held:
        result |= {"state": "held", "reason": held.code.value, "sentence": held.sentence}
        header = header_of_study(selection.files, selection.study_uid) if held_report else None
        if header is not None:
            write_held(held, header, selection.roles, models.identity, provenance, out)
    result["timings_s"] = timings_s
    write_json(out / RESULT_FILE, result)
    shutil.rmtree(work, ignore_errors=True)
    return result


# --- steps ------------------------------------------------------------------------------------------------------------


def convert(selection: Selection, work: Path) -> dict[str, Any]:
    """Write the selected volumes, on canonical axes, as ``volume_<role>.nrrd``."""
    for role, volume in selection.volumes.items():
        with _naming(role):
            _write_image(work / f"volume_{role}.nrrd", canonical(read_volume(volume)))
    return {}


def strip(selection: Selection, work: Path, extractor: BrainExtractor) -> dict[str, Any]:
    """Write the brain masks as ``mask_<role>.nrrd`` and return what is to be said about them."""
    facts, masks = {}, {}
    for role, volume in selection.volumes.items():
        with _naming(role):
            image = sitk.ReadImage(str(work / f"volume_{role}.nrrd"))
            masks[role], facts[role] = extract_brain(image, extractor, read_age_years(volume.files[0]))
        _write_image(work / f"mask_{role}.nrrd", masks[role])
    compared = compare_masks(masks)
    return {"brain": {r.value: {"volume_ml": f.volume_ml, "flags": [*f.flags, *compared[r]]} for r, f in facts.items()}}


def tensors(
    work: Path, grid: Grid, intensity: Intensity, roles: Iterable[Contrast] = tuple(Contrast)
) -> Iterator[tuple[Contrast, np.ndarray]]:
    """Yield the network input of each sequence, float32 (z, y, x), one at a time; the node and cohorts share it."""
    model_grid = ModelGrid(grid.size_xyz, grid.spacing_xyz_mm)
    for role in roles:
        volume, mask = _read_images(work, role)
        with _naming(role):
            yield role, model_tensor(volume, mask, model_grid, intensity.clip_percentiles)


def predict(work: Path, models: Models, roles: Iterable[Contrast]) -> dict[str, Any]:
    """Return the scores of each sequence's networks, and how far its features lie from the cohort's if that is told."""
    metadata, members, distances = models.bundle.metadata, {}, {}
    for role, tensor_zyx in tensors(work, metadata.grid, metadata.intensity, roles):
        reading = models.ensemble.read(role, tensor_zyx)
        members[role.value] = list(reading.member_scores)
        far = models.ensemble.distance(role, reading.features)
        if far is not None:
            distances[role.value] = far
    return {"members": members, "distances": distances}


def report(
    finding: Finding,
    selection: Selection,
    brain: dict[Contrast, MaskFacts],
    provenance: Provenance,
    work: Path,
    out: Path,
    explained: Models | None = None,
) -> dict[str, Any]:
    """Write the result objects and pictures; with models also what their scores depend on."""
    roles = finding.sequences
    views = {role: tri_planar(*_read_images(work, role)) for role in roles}
    write_results(finding, selection.roles, brain, provenance, views, out)
    if explained:
        activations = {role: _activation(role, work, explained) for role in roles}
        views = {role: tri_planar(*_read_images(work, role), activations[role]) for role in roles}
        write_saliency(finding, selection.roles, provenance, activations, views, out)
    return {}


def _activation(role: Contrast, work: Path, models: Models) -> sitk.Image:
    metadata = models.bundle.metadata
    grid = ModelGrid(metadata.grid.size_xyz, metadata.grid.spacing_xyz_mm)
    images = _read_images(work, role)
    return activation_image(role, *images, grid, metadata.intensity.clip_percentiles, models.ensemble)


@contextmanager
def _naming(role: Contrast) -> Iterator[None]:
    """Say in a refusal which sequence it is about."""
    try:
        yield
    except StudyHeld as held:
        raise StudyHeld(held.code, f"{role}: {held.sentence}") from None


def _timed(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a step's value with its duration; a refusal is a value too, so that it is remembered."""
    started_s = time.monotonic()
    try:
        value = function()
    except StudyHeld as held:
        value = {"held": [held.code.value, held.sentence]}
    return value | {"seconds": round(time.monotonic() - started_s, 3)}


# --- result -----------------------------------------------------------------------------------------------------------


def scorable(selection: Selection, metadata: Metadata) -> Selection:
    """Return what can be scored: of a study without a third sequence the other two, if the bundle was tested on these.

    Parameters
    ----------
    selection
        Of a study; held ones are returned as they are where two sequences do not help.
    metadata
        Of the bundle.
    """
    found = selection.without
    return found if found is not None and _mode(found, metadata) else selection


def _mode(selection: Selection, metadata: Metadata) -> TwoSequences | None:
    """Return by what a bundle scores two sequences; None for three, and for two that it was not tested on."""
    return next((mode for mode in metadata.two_sequences if set(mode.weights) == set(selection.roles)), None)


def _finding(
    members: dict[str, list[float]], doubts: tuple[OutOfRange, ...], models: Models, mode: TwoSequences | None
) -> Finding:
    metadata = models.bundle.metadata
    weights, threshold = (mode or metadata).weights, (mode or metadata).threshold
    return combine(
        {Contrast(name): fmean(scores) for name, scores in members.items()},
        {Contrast(name): weight for name, weight in weights.items()},
        threshold,
        models.identity,
        two_sequences=mode,
        members={Contrast(name): tuple(scores) for name, scores in members.items()},
        calibration=None if mode else metadata.calibration,
        out_of_range=doubts,
    )


def _mask_facts(value: dict[str, Any]) -> dict[Contrast, MaskFacts]:
    return {
        Contrast(name): MaskFacts(facts["volume_ml"], tuple(facts["flags"])) for name, facts in value["brain"].items()
    }


# --- files ------------------------------------------------------------------------------------------------------------


def _read_images(work: Path, role: Contrast) -> tuple[sitk.Image, sitk.Image]:
    """Return volume and mask of a role."""
    return sitk.ReadImage(str(work / f"volume_{role}.nrrd")), sitk.ReadImage(str(work / f"mask_{role}.nrrd"))


def _write_image(path: Path, image: sitk.Image) -> None:
    temporary = path.with_name(f"part-{path.name}")
    sitk.WriteImage(image, str(temporary))
    temporary.replace(path)
