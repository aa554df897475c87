"""The summary page as a DICOM Secondary Capture, for viewers that show no structured report."""

from __future__ import annotations

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from pipeline.report.result_header import SUMMARY_PAGE, Kind, result_header, settled
from pipeline.report.run import ScoredRun


def build_summary(run: ScoredRun, page: Image.Image, kind: Kind = SUMMARY_PAGE) -> Dataset:
    """Return `page` as an RGB Secondary Capture in the study of a run.

    Parameters
    ----------
    run
        With a score; equal arguments give equal bytes and UIDs.
    page
        As :func:`~pipeline.report.page.draw_page` returns it, without anything that identifies the patient.
    kind
        What the page is; each kind has a series of its own.

    Returns
    -------
    pydicom.Dataset
        Secondary Capture Image (PS3.3 A.8.1), Explicit VR Little Endian, with file meta information.
    """
    summary = result_header(kind, str(SecondaryCaptureImageStorage), run)
    summary.ConversionType = "WSD"
    summary.DateOfSecondaryCapture, summary.TimeOfSecondaryCapture = summary.ContentDate, summary.ContentTime
    # Laterality is required unless the body part has none.
    summary.BodyPartExamined = "HEAD"
    summary.PatientOrientation = ""
    summary.ImageType = ["DERIVED", "SECONDARY"]
    summary.BurnedInAnnotation = "NO"
    _set_pixels(summary, page.convert("RGB"))
    return settled(summary)


def _set_pixels(summary: Dataset, page: Image.Image) -> None:
    """Image Pixel module (PS3.3 C.7.6.3)."""
    summary.SamplesPerPixel, summary.PhotometricInterpretation = 3, "RGB"
    summary.PlanarConfiguration = 0
    summary.Rows, summary.Columns = page.height, page.width
    summary.BitsAllocated, summary.BitsStored, summary.HighBit = 8, 8, 7
    summary.PixelRepresentation = 0
    summary.LossyImageCompression = "00"
    pixels = page.tobytes()
    summary.PixelData = pixels + b"\0" * (len(pixels) % 2)
    summary["PixelData"].VR = "OB"
