"""One run of the models on one study: what all of its results share, and what only those with a score have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from models.contrast import Contrast
from pipeline.brain import MaskFacts
from pipeline.predict import Finding, ModelIdentity
from pipeline.report.provenance import Provenance, ResultNames
from pipeline.report.reportable import check_finding, check_masks
from pipeline.report.sources import Sources, read_sources
from pipeline.report.uids import result_uid
from pipeline.select import SelectedSeries


@dataclass(frozen=True, slots=True)
class Run:
    """What every result of a run shares: the study that it belongs to, and what it is named after.

    Attributes
    ----------
    model
        Which ensemble scored the study, or would have.
    provenance
        Facts of the run that are not the model's own.
    inputs
        The series that were scored; of a study without score those that were found, maybe none.
    sources
        What was read of the headers of these series, once for all results.
    """

    model: ModelIdentity
    provenance: Provenance
    inputs: Mapping[Contrast, SelectedSeries]
    sources: Sources

    @property
    def header(self) -> Dataset:
        """Header from which patient and study are copied."""
        return self.sources.header

    @property
    def names(self) -> ResultNames:
        """Names of the results; equal runs give equal ones."""
        return ResultNames.of(self.sources.study_uid, self.model.digest, self.provenance)

    @property
    def device_uid(self) -> str:
        """UID of the device that observes: this software with these models."""
        made_by = self.provenance
        return result_uid("device", made_by.software, self.model.digest, made_by.brain_weights.digest)


@dataclass(frozen=True, slots=True)
class ScoredRun(Run):
    """A run with a score that may be reported.

    Attributes
    ----------
    finding
        Scores and weights of every sequence that was scored, in [0, 1].
    brain
        Facts of the brain mask of each of them.

    Raises
    ------
    ValueError
        If a number is not finite or out of its range, or something of a sequence is missing.
    """

    finding: Finding
    brain: Mapping[Contrast, MaskFacts]

    def __post_init__(self) -> None:
        check_finding(self.finding)
        check_masks(self.brain, self.finding.sequences)


def read_run(
    finding: Finding,
    brain: Mapping[Contrast, MaskFacts],
    inputs: Mapping[Contrast, SelectedSeries],
    provenance: Provenance,
    patient_file: Path | None = None,
) -> ScoredRun:
    """Return a run with the headers of its input series, which are read here and nowhere else.

    Parameters
    ----------
    finding
        Scores and weights of every sequence that was scored.
    brain
        Facts of the brain mask of each of them.
    inputs
        The series that were scored.
    provenance
        Names the run; equal arguments give equal bytes and UIDs of every result.
    patient_file
        From whose header patient and study are copied; None: the first instance of the first series.

    Raises
    ------
    ValueError
        If `finding` or `brain` must not be reported, a role has no series, a series no file, or a file no valid UIDs.
    """
    check_finding(finding)
    sources = read_sources(inputs, finding.sequences, patient_file)
    return ScoredRun(finding.model, provenance, inputs, sources, finding, brain)
