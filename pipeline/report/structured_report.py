"""The report as DICOM SR documents: one content tree, four SOP classes for what a PACS may accept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from models.contrast import Contrast
from pipeline.brain import MaskFacts
from pipeline.predict import Finding, ModelIdentity
from pipeline.report.basic_text import text_only
from pipeline.report.codes import scheme_identification
from pipeline.report.content import Run, content_tree
from pipeline.report.headers import MANUFACTURER, REPORT, Kind, result_header, settled
from pipeline.report.patient_study import request_reference
from pipeline.report.provenance import Provenance
from pipeline.report.sources import Sources, evidence, predecessor_reference, read_sources
from pipeline.report.wording import check_finding
from pipeline.select import SelectedSeries

SOP_CLASSES: Final = tuple(
    map(str, (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage))
)
"""SOP classes of a report, the preferred one first; a peer gets the first that it accepts."""


def build_reports(
    finding: Finding,
    inputs: Mapping[Contrast, SelectedSeries],
    brain: Mapping[Contrast, MaskFacts],
    provenance: Provenance,
) -> dict[str, Dataset]:
    """Return the same report as Comprehensive 3D, Comprehensive, Enhanced and Basic Text SR.

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
    _check_masks(brain, finding.sequences)
    run = Run(finding, inputs, brain, provenance, read_sources(inputs, finding.sequences))
    root = content_tree(run, provenance.title)
    # A list of images beside numbers that are no measurements serves no viewer: Basic Text keeps the private title.
    plain = root if provenance.title == "private" else content_tree(run, "private")
    roots = dict.fromkeys(SOP_CLASSES, root) | {SOP_CLASSES[-1]: text_only(plain)}
    return {
        sop_class_uid: sr_document(REPORT, sop_class_uid, tree, run.sources, finding.model, provenance)
        for sop_class_uid, tree in roots.items()
    }


def sr_document(
    kind: Kind, sop_class_uid: str, root: Dataset, sources: Sources, model: ModelIdentity, provenance: Provenance
) -> Dataset:
    """Return a content tree as a whole document: the shared header and the SR modules (PS3.3 C.17.1 to C.17.3)."""
    document = result_header(kind, sop_class_uid, sources, model, provenance)
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
    if current:
        document.CurrentRequestedProcedureEvidenceSequence = current
    if other:
        document.PertinentOtherEvidenceSequence = other
    predecessor = provenance.predecessor
    # A report that is written again has the UIDs it had: it does not revise itself.
    if predecessor is not None and predecessor.series_uid != document.SeriesInstanceUID:
        document.PredecessorDocumentsSequence = [predecessor_reference(sources.study_uid, predecessor)]
    document.update(root)
    return settled(document)


def _check_masks(brain: Mapping[Contrast, MaskFacts], roles: Iterable[Contrast]) -> None:
    for role in roles:
        if role not in brain or not math.isfinite(brain[role].volume_ml) or brain[role].volume_ml < 0:
            msg = f"no brain mask volume for {role}"
            raise ValueError(msg)
