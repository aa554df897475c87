"""The summary page and the planes as an Encapsulated PDF, for a PACS that shows documents better than reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Final

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from pipeline.report import codes
from pipeline.report.result_header import DOCUMENT, RESEARCH_ONLY, result_header, settled
from pipeline.report.run import ScoredRun
from pipeline.report.sources import instance_reference
from pipeline.report.wording import SCORE_NAME

_DOTS_PER_INCH: Final = 120.0
_JPEG_QUALITY: Final = 95


def build_document(run: ScoredRun, pages: Sequence[Image.Image]) -> Dataset:
    """Return `pages` as an Encapsulated PDF in the study of a run.

    Parameters
    ----------
    run
        With a score; equal arguments give equal bytes and UIDs.
    pages
        Pictures without anything that identifies the patient, at least one.

    Returns
    -------
    pydicom.Dataset
        Encapsulated PDF (PS3.3 A.45.1), Explicit VR Little Endian, with file meta information.

    Raises
    ------
    ValueError
        If there is no page.
    """
    document = result_header(DOCUMENT, str(EncapsulatedPDFStorage), run)
    document.ConversionType = "WSD"
    document.BurnedInAnnotation = "NO"
    document.AcquisitionDateTime = ""
    document.DocumentTitle = f"{SCORE_NAME} - {RESEARCH_ONLY}"
    document.ConceptNameCodeSequence = [codes.code_item(codes.TITLE)]
    document.VerificationFlag = "UNVERIFIED"
    document.SourceInstanceSequence = [instance_reference(instance) for instance in run.sources.every_instance()]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = _pdf(pages, document.DocumentTitle, run.provenance.started)
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return settled(document)


def _pdf(pages: Sequence[Image.Image], title: str, read: datetime) -> bytes:
    """Return the document, dated by the reading: Pillow would write the day on which the file was made."""
    day = read.utctimetuple() if read.tzinfo else read.timetuple()
    buffer = BytesIO()
    first, *others = (page.convert("RGB") for page in pages)
    first.save(
        buffer,
        "PDF",
        save_all=True,
        append_images=others,
        resolution=_DOTS_PER_INCH,
        quality=_JPEG_QUALITY,
        subsampling=0,
        title=title,
        creationDate=day,
        modDate=day,
    )
    return buffer.getvalue()
