"""The report as DICOM SR documents: one content tree, four SOP classes for what a PACS may accept."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from pipeline.report.basic_text import text_only
from pipeline.report.codes import scheme_identification
from pipeline.report.content import content_tree
from pipeline.report.patient_study import request_reference
from pipeline.report.provenance import Title
from pipeline.report.result_header import MANUFACTURER, REPORT, Kind, replaced, result_header, settled
from pipeline.report.run import Run, ScoredRun
from pipeline.report.sources import evidence, predecessor_references

SOP_CLASSES: Final = tuple(
    map(str, (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage))
)
"""SOP classes of a report, the preferred one first; a peer gets the first that it accepts."""


def build_reports(run: ScoredRun) -> dict[str, Dataset]:
    """Return the same report as Comprehensive 3D, Comprehensive, Enhanced and Basic Text SR.

    Parameters
    ----------
    run
        With a score; equal ones give equal bytes and UIDs.

    Returns
    -------
    dict of str to pydicom.Dataset
        By SOP Class UID in the order of preference. The objects share a series and have UIDs of their own, so that
        only one of them is to be sent. Explicit VR Little Endian, with file meta information.
    """
    title = run.provenance.title
    root = content_tree(run, title)
    # A list of images beside numbers that are no measurements serves no viewer: Basic Text keeps the private title.
    plain = root if title is Title.PRIVATE else content_tree(run, Title.PRIVATE)
    roots = dict.fromkeys(SOP_CLASSES, root) | {SOP_CLASSES[-1]: text_only(plain)}
    return {sop_class_uid: sr_document(REPORT, sop_class_uid, tree, run) for sop_class_uid, tree in roots.items()}


def sr_document(kind: Kind, sop_class_uid: str, root: Dataset, run: Run) -> Dataset:
    """Return a content tree as a whole document: the shared header and the SR modules (PS3.3 C.17.1 to C.17.3).

    Parameters
    ----------
    kind
        Report of a score, or of why there is none.
    sop_class_uid
        One of `SOP_CLASSES`, which allows the items of `root`.
    root
        Container with the whole tree.
    run
        Names the document; its sources are the evidence.
    """
    document = result_header(kind, sop_class_uid, run)
    document.CodingSchemeIdentificationSequence = [scheme_identification(MANUFACTURER)]
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []
    document.CompletionFlag = "COMPLETE"
    document.VerificationFlag = "UNVERIFIED"
    document.PreliminaryFlag = "PRELIMINARY"
    request = request_reference(run.header)
    if request:
        document.ReferencedRequestSequence = request
    current, other = evidence(run.sources.every_instance(), run.sources.study_uid)
    if current:
        document.CurrentRequestedProcedureEvidenceSequence = current
    if other:
        document.PertinentOtherEvidenceSequence = other
    earlier = replaced(kind, run)
    if earlier:
        document.PredecessorDocumentsSequence = [predecessor_references(run.sources.study_uid, earlier)]
    document.update(root)
    return settled(document)
