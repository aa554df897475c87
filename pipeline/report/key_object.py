"""A Key Object Selection that points to the current report and page, for viewers that open what is marked as key."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from highdicom.sr import CompositeContentItem, ContentItem, ImageContentItem
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from pipeline.report import codes
from pipeline.report.content import observer
from pipeline.report.items import CONTAINS, MODIFIER, code, container, text
from pipeline.report.patient_study import request_reference
from pipeline.report.result_header import KEY_OBJECT, REPORT, replaced, result_header, settled
from pipeline.report.run import ScoredRun
from pipeline.report.sources import Instance, evidence
from pipeline.report.wording import SCORE_NAME, replaced_words, research_notice

_CURRENT: Final = f"The current {SCORE_NAME} of this study: its report, then its page."


def build_key_object(run: ScoredRun, report: Dataset, page: Dataset) -> Dataset:
    """Return the selection of a run's report and page; each revision has one of its own.

    Parameters
    ----------
    run
        With a score.
    report
        The one of its structured reports that a peer took: the same report has another UID in each SOP class.
    page
        The summary page.

    Returns
    -------
    pydicom.Dataset
        Key Object Selection Document (PS3.3 A.35.4, PS3.16 TID 2010), Explicit VR Little Endian, with file meta
        information. The IOD has no Predecessor Documents Sequence: what it replaces is said in words.
    """
    document = result_header(KEY_OBJECT, str(KeyObjectSelectionDocumentStorage), run)
    document.SOPInstanceUID = run.names.uid(f"{KEY_OBJECT.name} instance", str(report.SOPInstanceUID))
    document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
    document.ReferencedPerformedProcedureStepSequence = []
    request = request_reference(run.header)
    if request:
        document.ReferencedRequestSequence = request
    selected = [_instance(each) for each in (report, page)]
    document.CurrentRequestedProcedureEvidenceSequence, _ = evidence(selected, run.sources.study_uid)
    words = [research_notice(run.model), _CURRENT, *replaced_words(replaced(REPORT, run))]
    children = [
        code(codes.DOCUMENT_TITLE_MODIFIER, codes.STUDY, MODIFIER),
        *observer(run),
        text(codes.KEY_OBJECT_DESCRIPTION, " ".join(words)),
        _reference(CompositeContentItem, report),
        _reference(ImageContentItem, page),
    ]
    root = container(codes.BEST_IN_SET, children, template="2010", relation=None)
    for reference in root.ContentSequence[-2:]:
        del reference.ConceptNameCodeSequence  # TID 2010 names no purpose of reference; highdicom asks for one.
    document.update(root)
    return settled(document)


def _instance(dataset: Dataset) -> Instance:
    study_uid, series_uid = str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID)
    return Instance(Path(), study_uid, series_uid, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), "")


def _reference(kind: type[CompositeContentItem] | type[ImageContentItem], dataset: Dataset) -> ContentItem:
    return kind(codes.SOURCE, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), relationship_type=CONTAINS)
