"""One study from its files to its report: the chain that the worker and ``dicom-node run`` share.

`run_study` goes through four steps; each leaves its output in files, written whole or not at all, and returns a small
JSON value. Who calls it may pass a `step` that remembers those values: a step that is remembered is not run again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.brain_weights import BrainWeights
from models.bundle import Bundle
from models.wae_net import WaeNet
from pipeline.brain import MaskFacts, WeightsIdentity, extract_brain
from pipeline.errors import StudyHeld
from pipeline.explain import describe, ignored_files
from pipeline.grid import ModelGrid, canonical
from pipeline.mask_agreement import compare_masks
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
from pipeline.saliency import activation_image
from pipeline.select import BUILT_IN, Role, Selection, SiteRules, select_study
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
            network_digests={role: self.bundle.network_digest(role.value) for role in Role},
        )


def load_models(bundle: Bundle, brain_weights: BrainWeights, device: torch.device) -> Models:
    """Return the verified models on a device, ready for work."""
    return Models(WaeNet(bundle, device), BrainExtractor(brain_weights, device))


def run_now(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG001
    """Run a step and remember nothing."""
    return function()


def run_study(
    paths: Iterable[Path],
    out: Path,
    models: Models,
    *,
    rules: SiteRules = BUILT_IN,
    choices: Mapping[Role, str] | None = None,
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
    paths
        All files of the study.
    out
        Folder for ``result.json``, the result objects (:mod:`pipeline.report.files`) and their pictures.
    models
        Loaded models.
    rules
        What the site knows of its own series.
    choices
        Series Instance UIDs that a human chose for a role.
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
    files = list(paths)
    selection = select_study(files, rules, choices)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    timings_s: dict[str, float] = {}

    def take(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        value = step(name, lambda: _timed(function))
        timings_s[name] = value["seconds"]
        if "held" in value:
            raise StudyHeld(*value["held"])
        return value

    result = _describe(selection, models)
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
        take("convert", lambda: convert(selection, work))
        brain = _mask_facts(take("strip", lambda: strip(selection, work, models)))
        scores = take("predict", lambda: predict(work, models))["scores"]
        finding = _finding(scores, models)
        explained = models if saliency else None
        take("report", lambda: report(finding, selection, brain, provenance, work, out, explained))
        result |= {"state": "scored", "reason": None, "sentence": None} | _numbers(finding, brain)
    except StudyHeld as held:
        result |= {"state": "held", "reason": held.code, "sentence": held.sentence}
        header = header_of_study(files, selection.study_uid) if held_report else None
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


def strip(selection: Selection, work: Path, models: Models) -> dict[str, Any]:
    """Write the brain masks as ``mask_<role>.nrrd`` and return what is to be said about them."""
    facts, masks = {}, {}
    for role, volume in selection.volumes.items():
        with _naming(role):
            image = sitk.ReadImage(str(work / f"volume_{role}.nrrd"))
            masks[role], facts[role] = extract_brain(image, models.extractor, read_age_years(volume.files[0]))
        _write_image(work / f"mask_{role}.nrrd", masks[role])
    compared = compare_masks(masks)
    return {"brain": {r.value: {"volume_ml": f.volume_ml, "flags": [*f.flags, *compared[r]]} for r, f in facts.items()}}


def predict(work: Path, models: Models) -> dict[str, Any]:
    """Return the score of each sequence."""
    metadata = models.bundle.metadata
    grid = ModelGrid(metadata.grid.size_xyz, metadata.grid.spacing_xyz_mm)
    scores = {}
    for role in Role:
        volume, mask = _read_images(work, role)
        with _naming(role):
            tensor_zyx = model_tensor(volume, mask, grid, metadata.intensity.clip_percentiles)
        scores[role.value] = models.ensemble.score(role.value, tensor_zyx)
    return {"scores": scores}


def report(
    finding: Finding,
    selection: Selection,
    brain: dict[Role, MaskFacts],
    provenance: Provenance,
    work: Path,
    out: Path,
    explained: Models | None = None,
) -> dict[str, Any]:
    """Write the result objects and pictures; with models also what their scores depend on."""
    views = {role: tri_planar(*_read_images(work, role)) for role in Role}
    write_results(finding, selection.roles, brain, provenance, views, out)
    if explained:
        activations = {role: _activation(role, work, explained) for role in Role}
        views = {role: tri_planar(*_read_images(work, role), activations[role]) for role in Role}
        write_saliency(finding, selection.roles, provenance, activations, views, out)
    return {}


def _activation(role: Role, work: Path, models: Models) -> sitk.Image:
    metadata = models.bundle.metadata
    grid = ModelGrid(metadata.grid.size_xyz, metadata.grid.spacing_xyz_mm)
    images = _read_images(work, role)
    return activation_image(role, *images, grid, metadata.intensity.clip_percentiles, models.ensemble)


@contextmanager
def _naming(role: Role) -> Iterator[None]:
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
        value = {"held": [held.code, held.sentence]}
    return value | {"seconds": round(time.monotonic() - started_s, 3)}


# --- result -----------------------------------------------------------------------------------------------------------


def _finding(scores: dict[str, float], models: Models) -> Finding:
    metadata = models.bundle.metadata
    return combine(
        {role: scores[role.value] for role in Role},
        {role: metadata.weights[role.value] for role in Role},
        metadata.threshold,
        models.identity,
    )


def _describe(selection: Selection, models: Models) -> dict[str, Any]:
    """Return the part of the result that holds for scored and held studies alike."""
    identity = models.identity
    return {
        "notice": identity.notice,
        "study_uid": selection.study_uid,
        "state": None,
        "reason": None,
        "sentence": None,
        "roles": {role.value: describe(series) for role, series in selection.roles.items()},
        "ignored_files": ignored_files(selection),
        "input_digest": selection.digest,
        "model": {
            "name": identity.name,
            "version": identity.version,
            "digest": identity.digest,
            "intended_use": identity.intended_use,
        },
        "brain_weights": asdict(models.brain_weights),
        "software": SOFTWARE,
    }


def _numbers(finding: Finding, brain: dict[Role, MaskFacts]) -> dict[str, Any]:
    return {
        "scores": {role.value: finding.scores[role] for role in Role},
        "weights": {role.value: finding.weights[role] for role in Role},
        "score": finding.score,
        "score_patent": finding.score_patent,
        "threshold": finding.threshold,
        "category": finding.category.value,
        "brain": {role.value: {"volume_ml": brain[role].volume_ml, "flags": list(brain[role].flags)} for role in Role},
    }


def _mask_facts(value: dict[str, Any]) -> dict[Role, MaskFacts]:
    return {Role(name): MaskFacts(facts["volume_ml"], tuple(facts["flags"])) for name, facts in value["brain"].items()}


# --- files ------------------------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_images(work: Path, role: Role) -> tuple[sitk.Image, sitk.Image]:
    """Return volume and mask of a role."""
    return sitk.ReadImage(str(work / f"volume_{role}.nrrd")), sitk.ReadImage(str(work / f"mask_{role}.nrrd"))


def _write_image(path: Path, image: sitk.Image) -> None:
    temporary = path.with_name(f"part-{path.name}")
    sitk.WriteImage(image, str(temporary))
    temporary.replace(path)
