"""The summary page and the planes as an Encapsulated PDF, for a PACS that shows documents better than reports."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Final

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from models.contrast import Contrast
from pipeline.predict import Finding
from pipeline.report import codes
from pipeline.report.headers import DOCUMENT, RESEARCH_ONLY, result_header, settled
from pipeline.report.provenance import Provenance
from pipeline.report.sources import instance_reference, read_sources
from pipeline.report.wording import SCORE_NAME, check_finding
from pipeline.select import SelectedSeries

_DOTS_PER_INCH: Final = 120.0
_JPEG_QUALITY: Final = 95
# Pages without a date of their own: Pillow would write the day on which the file was made.
_NO_DAY: Final = time.gmtime(0)


def build_document(
    pages: Sequence[Image.Image], inputs: Mapping[Contrast, SelectedSeries], provenance: Provenance, finding: Finding
) -> Dataset:
    """Return `pages` as an Encapsulated PDF in the study of `inputs`.

    Parameters
    ----------
    pages
        Pictures without anything that identifies the patient.
    inputs
        The series that were scored; the headers of their files are read.
    provenance, finding
        Of the run; equal arguments give equal bytes and UIDs.

    Returns
    -------
    pydicom.Dataset
        Encapsulated PDF (PS3.3 A.45.1), Explicit VR Little Endian, with file meta information.

    Raises
    ------
    ValueError
        If a role is missing or `finding` must not be reported.
    """
    check_finding(finding)
    sources = read_sources(inputs, finding.sequences)
    document = result_header(DOCUMENT, str(EncapsulatedPDFStorage), sources, finding.model, provenance)
    document.ConversionType = "WSD"
    document.BurnedInAnnotation = "NO"
    document.AcquisitionDateTime = ""
    document.DocumentTitle = f"{SCORE_NAME} - {RESEARCH_ONLY}"
    document.ConceptNameCodeSequence = [codes.code_item(codes.TITLE)]
    document.VerificationFlag = "UNVERIFIED"
    document.SourceInstanceSequence = [instance_reference(instance) for instance in sources.every_instance()]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = _pdf(pages, document.DocumentTitle)
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return settled(document)


def _pdf(pages: Sequence[Image.Image], title: str) -> bytes:
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
        creationDate=_NO_DAY,
        modDate=_NO_DAY,
    )
    return buffer.getvalue()
