"""One study from its selected series to its report: the chain that the worker and ``dicom-node run`` share.

`run_study` goes through the steps of :mod:`pipeline.steps`; each leaves its output in files, written whole or not at
all, and returns a small JSON value. Who calls it may pass a `step` that remembers those values: a step that is
remembered is not run again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Final, TypeVar

import torch
from pydantic import TypeAdapter

from models.brain_extractor import BrainExtractor
from models.brain_weights import BrainWeights
from models.bundle import Bundle, Metadata, TwoSequences
from models.contrast import Contrast
from models.result_records import Record
from models.wae_net import WaeNet
from models.whole_files import make_folder, write_json
from pipeline import steps
from pipeline.brain import WeightsIdentity
from pipeline.errors import HoldReason, StudyHeld
from pipeline.out_of_range import OutOfRange, check_brain_weights, check_features, check_headers
from pipeline.predict import Finding, ModelIdentity, combine
from pipeline.report import Predecessor, Provenance, Run, Sources, Title, header_of_study, read_run, write_held
from pipeline.report.written_records import write_record
from pipeline.result import RESULT_FILE, Result, Scored
from pipeline.select import Selection
from pipeline.steps import Masks, Readings

SOFTWARE: Final = f"dicom-node {version('dicom-node')}"

StepValue = dict[str, Any]
"""What a step says, as JSON: the engine's database remembers it."""
Step = Callable[[str, Callable[[], StepValue]], StepValue]
"""Runs a named step, or returns what it returned before."""

R = TypeVar("R")

_MASKS: Final = TypeAdapter(Masks)
_READINGS: Final = TypeAdapter(Readings)


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
            repeatability=metadata.repeatability,
            checks=metadata.range.checks,
        )


def load_models(bundle: Bundle, brain_weights: BrainWeights, device: torch.device) -> Models:
    """Return the verified models on a device, ready for work.

    Parameters
    ----------
    bundle
        Of the ensemble.
    brain_weights
        For the brain masks.
    device
        Where both compute.
    """
    return Models(WaeNet(bundle, device), BrainExtractor(brain_weights, device))


def run_now(name: str, function: Callable[[], StepValue]) -> StepValue:  # noqa: ARG001
    """Run a step and remember nothing.

    Parameters
    ----------
    name
        Of the step; not used.
    function
        Runs it.
    """
    return function()


def run_study(
    selection: Selection,
    out: Path,
    models: Models,
    *,
    title: Title = Title.PRIVATE,
    started: datetime | None = None,
    predecessors: tuple[Predecessor, ...] = (),
    held_report: bool = False,
    saliency: bool = False,
    records: Collection[Record] = (),
    step: Step = run_now,
) -> Result:
    """Score a study and write its report.

    Parameters
    ----------
    selection
        Of the study's series; where it lacks one sequence the models decide whether the other two are scored.
    out
        Folder for ``result.json``, the result objects (:mod:`pipeline.report.result_files`) and their pictures; made if
        missing.
    models
        Loaded models.
    title
        Document title of the report.
    started
        When the analysis began; becomes the report's content time. Default: now.
    predecessors
        The earlier reports of the study that this one replaces, the last one first.
    held_report
        Whether a study that gets no score gets a report that says why.
    saliency
        Whether maps of what the scores depend on are made and written too.
    records
        As what the result is written too.
    step
        Runs each step, or recalls its value.

    Returns
    -------
    Result
        What ``result.json`` holds: the finding, or why the study is held. Nothing is raised for bad input.
    """
    selection = scorable(selection, models.bundle.metadata)
    began = started or datetime.now().astimezone()
    provenance = Provenance(selection.digest, began, SOFTWARE, models.brain_weights, title, predecessors)
    chain = _Chain(selection, models, provenance, out, saliency, records, step)
    make_folder(chain.work)
    reading: Scored | StudyHeld
    try:
        reading = chain.score()
    except StudyHeld as held:
        reading = held
        counting = set(selection.files) - selection.set_aside
        header = header_of_study(counting, selection.study_uid) if held_report else None
        if header is not None:
            run = Run(models.identity, provenance, selection.roles, Sources(header, {}))
            write_held(run, held, out, selection.candidates)
    result = Result(selection, models.identity, models.brain_weights, SOFTWARE, reading, chain.timings_s)
    write_json(out / RESULT_FILE, result.as_json())
    shutil.rmtree(chain.work, ignore_errors=True)
    return result


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


@dataclass(frozen=True, slots=True)
class _Chain:
    """One pass of a study through the steps."""

    selection: Selection
    models: Models
    provenance: Provenance
    out: Path
    saliency: bool
    records: Collection[Record]
    step: Step
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Folder of what the steps hand to each other."""
        return self.out / "work"

    def score(self) -> Scored:
        """Return the finding, its report written; raise StudyHeld where there can be none."""
        if self.selection.held:
            raise self.selection.held
        selection, work, models = self.selection, self.work, self.models
        limits = models.bundle.metadata.range
        doubts = check_brain_weights(models.brain_weights.digest, limits)
        doubts += check_headers(selection.volumes, selection.candidates, limits)
        self._take("convert", lambda: steps.convert(selection, work))
        masks = self._recorded("strip", _MASKS, lambda: steps.strip(selection, work, models.extractor))
        readings = self._recorded("predict", _READINGS, lambda: steps.predict(work, models.ensemble, selection.roles))
        doubts += check_features(readings.distances, limits)
        finding = _finding(readings, doubts, models, _mode(selection, models.bundle.metadata))
        self._take("report", lambda: self._report(finding, masks))
        return Scored(finding, masks.brain)

    def _report(self, finding: Finding, masks: Masks) -> None:
        explained = self.models.ensemble if self.saliency else None
        run = read_run(finding, masks.brain, self.selection.roles, self.provenance, self.selection.whose)
        steps.report(run, self.work, self.out, explained)
        for record in self.records:
            write_record(record, run, self.out)

    def _recorded(self, name: str, kind: TypeAdapter[R], function: Callable[[], R]) -> R:
        """Return what a step says as the record that it is; what is remembered of it is JSON."""
        value = self._take(name, lambda: kind.dump_python(function(), mode="json"))
        return kind.validate_python(value)

    def _take(self, name: str, function: Callable[[], StepValue | None]) -> StepValue:
        value = dict(self.step(name, lambda: _timed(function)))
        self.timings_s[name] = value.pop("seconds")
        if "held" in value:
            code, sentence = value["held"]
            raise StudyHeld(HoldReason(code), sentence)
        return value


def _timed(function: Callable[[], StepValue | None]) -> StepValue:
    """Return a step's value with its duration; a refusal is a value too, so that it is remembered."""
    started_s = time.monotonic()
    try:
        value = function() or {}
    except StudyHeld as held:
        value = {"held": [held.code.value, held.sentence]}
    return value | {"seconds": round(time.monotonic() - started_s, 3)}


def _mode(selection: Selection, metadata: Metadata) -> TwoSequences | None:
    """Return by what a bundle scores two sequences; None for three, and for two that it was not tested on."""
    return next((mode for mode in metadata.two_sequences if set(mode.weights) == set(selection.roles)), None)


def _finding(readings: Readings, doubts: tuple[OutOfRange, ...], models: Models, mode: TwoSequences | None) -> Finding:
    metadata = models.bundle.metadata
    return combine(
        {role: fmean(scores) for role, scores in readings.members.items()},
        (mode or metadata).weights,
        (mode or metadata).threshold,
        models.identity,
        two_sequences=mode,
        members=readings.members,
        calibration=None if mode else metadata.calibration,
        out_of_range=doubts,
    )
