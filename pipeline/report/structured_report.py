"""The report as DICOM SR documents: one content tree, three SOP classes for what a PACS may accept."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from highdicom.sr import ContainerContentItem
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from pipeline.brain import MaskFacts
from pipeline.predict import Finding
from pipeline.report.codes import scheme_identification
from pipeline.report.content import Run, content_tree
from pipeline.report.headers import MANUFACTURER, REPORT, result_header, settled
from pipeline.report.patient_study import request_reference
from pipeline.report.provenance import Predecessor, Provenance
from pipeline.report.sources import evidence, predecessor_reference, read_sources
from pipeline.report.wording import check_finding
from pipeline.select import Role, SelectedSeries

__all__ = ["SOP_CLASSES", "Predecessor", "Provenance", "build_reports", "write_dataset"]

SOP_CLASSES: Final = (str(Comprehensive3DSRStorage), str(ComprehensiveSRStorage), str(EnhancedSRStorage))
"""SOP classes of a report, the preferred one first; a peer gets the first that it accepts."""


def build_reports(
    finding: Finding,
    inputs: Mapping[Role, SelectedSeries],
    brain: Mapping[Role, MaskFacts],
    provenance: Provenance,
) -> dict[str, Dataset]:
    """Return the same report as Comprehensive 3D, Comprehensive and Enhanced SR.

    Parameters
    ----------
    finding
        Scores and weights of all three roles, in [0, 1].
    inputs
        The series that were scored; the headers of their files are read.
    brain
        Facts of the brain mask of each role.
    provenance
        Names the run; equal arguments give equal bytes and UIDs.

    Returns
    -------
    dict of str to pydicom.Dataset
        By SOP Class UID in the order of preference. The objects share a series and have UIDs of their own, so that
        only one of them is to be sent. Explicit VR Little Endian, with file meta information.

    Raises
    ------
    ValueError
        If a role is missing or a number is not finite or out of its range; nothing is built then.
    """
    check_finding(finding)
    _check_masks(brain)
    run = Run(finding, inputs, brain, provenance, read_sources(inputs))
    root = content_tree(run)
    return {sop_class_uid: _document(run, root, sop_class_uid) for sop_class_uid in SOP_CLASSES}


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a result object to `path` so that the file is there whole or not at all, also after a power cut.

    Parameters
    ----------
    dataset
        With file meta information; written in Explicit VR Little Endian.
    path
        In a folder that exists; an older file is replaced.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            dataset.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _document(run: Run, root: ContainerContentItem, sop_class_uid: str) -> Dataset:
    """Add the SR modules (PS3.3 C.17.1 to C.17.3) to the shared header."""
    sources = run.sources
    document = result_header(REPORT, sop_class_uid, sources, run.finding, run.provenance)
    document.CodingSchemeIdentificationSequence = [scheme_identification(MANUFACTURER)]
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []
    document.CompletionFlag = "COMPLETE"
    document.VerificationFlag = "UNVERIFIED"
    document.PreliminaryFlag = "PRELIMINARY"
    request = request_reference(sources.header)
    if request:
        document.ReferencedRequestSequence = request
    current, other = evidence(sources.every_instance(), sources.study_uid)
    document.CurrentRequestedProcedureEvidenceSequence = current
    if other:
        document.PertinentOtherEvidenceSequence = other
    if run.provenance.predecessor is not None:
        reference = predecessor_reference(sources.study_uid, run.provenance.predecessor)
        document.PredecessorDocumentsSequence = [reference]
    document.update(root)
    return settled(document)


def _check_masks(brain: Mapping[Role, MaskFacts]) -> None:
    for role in Role:
        if role not in brain or not math.isfinite(brain[role].volume_ml) or brain[role].volume_ml < 0:
            msg = f"no brain mask volume for {role}"
            raise ValueError(msg)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
