"""The summary page and the planes as an Encapsulated PDF, for a PACS that shows documents better than reports.

Text is text: it can be searched, copied and read out, and stays sharp at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from pipeline.report import codes
from pipeline.report.pen import Line, Sheet
from pipeline.report.result_header import DOCUMENT, MANUFACTURER, RESEARCH_ONLY, result_header, settled
from pipeline.report.run import ScoredRun
from pipeline.report.sources import instance_reference
from pipeline.report.wording import SCORE_NAME

_INCHES: Final = 8.0
"""Width of a page, however many pixels there are: it fits on A4 and on Letter."""
_POINTS_PER_INCH: Final = 72
_JPEG_QUALITY: Final = 92
_FONT: Final = "Helvetica"
"""One of the fonts that every reader of PDF has."""


def build_document(run: ScoredRun, pages: Sequence[Sheet]) -> Dataset:
    """Return `pages` as an Encapsulated PDF in the study of a run.

    Parameters
    ----------
    run
        With a score; equal arguments give equal bytes and UIDs.
    pages
        Without anything that identifies the patient, their text not drawn yet; at least one.

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


def _pdf(pages: Sequence[Sheet], title: str, read: datetime) -> bytes:
    """Return the document, dated by the reading and not by the day on which the file was made."""
    if not pages:
        raise ValueError("a document has one page at least")
    buffer = BytesIO()
    canvas = Canvas(buffer, invariant=1, lang="en")
    canvas.setDateFormatter(lambda *_: _date(read))
    canvas.setTitle(title)
    canvas.setAuthor(MANUFACTURER)
    canvas.setSubject("For research use only, not for diagnostic use")
    canvas.setCreator(MANUFACTURER)
    for page in pages:
        _draw(canvas, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _draw(canvas: Canvas, page: Sheet) -> None:
    """Draw a page of `_INCHES`: the picture below, each line of text where it was meant to be."""
    width, height = page.picture.size
    points = _INCHES * _POINTS_PER_INCH / width
    canvas.setPageSize((points * width, points * height))
    canvas.scale(points, points)
    encoded = BytesIO()
    page.picture.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    canvas.drawImage(ImageReader(encoded), 0, 0, width, height)
    for line in page.lines:
        _write(canvas, line, height - line.baseline)


def _write(canvas: Canvas, line: Line, y: float) -> None:
    """Write a line as wide as it was measured: the font of pictures is another one."""
    natural = stringWidth(line.words, _FONT, line.size)
    text = canvas.beginText(line.x, y)
    text.setFont(_FONT, line.size)
    text.setFillColorRGB(*(value / 255 for value in line.color))
    text.setHorizScale(100 * line.width / natural if natural else 100)
    text.textOut(line.words)
    canvas.drawText(text)


def _date(read: datetime) -> str:
    """PDF 32000-1 7.9.4; a naive time is local and says no offset."""
    offset = read.strftime("%z")
    return f"D:{read:%Y%m%d%H%M%S}" + (f"{offset[:3]}'{offset[3:5]}'" if offset else "")
