"""The summary page as a DICOM Secondary Capture, for viewers that show no structured report."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from models.contrast import Contrast
from pipeline.predict import Finding
from pipeline.report.headers import SUMMARY_PAGE, Kind, result_header, settled
from pipeline.report.provenance import Provenance
from pipeline.report.sources import read_sources
from pipeline.report.wording import check_finding
from pipeline.select import SelectedSeries


def build_summary(
    page: Image.Image,
    inputs: Mapping[Contrast, SelectedSeries],
    provenance: Provenance,
    finding: Finding,
    kind: Kind = SUMMARY_PAGE,
) -> Dataset:
    """Return `page` as an RGB Secondary Capture in the study of `inputs`.

    Parameters
    ----------
    page
        As :func:`~pipeline.report.page.draw_page` returns it, without anything that identifies the patient.
    inputs
        The series that were scored; the headers of their files are read.
    provenance, finding
        Of the run; equal arguments give equal bytes and UIDs.
    kind
        What the page is; each kind has a series of its own.

    Returns
    -------
    pydicom.Dataset
        Secondary Capture Image (PS3.3 A.8.1), Explicit VR Little Endian, with file meta information.

    Raises
    ------
    ValueError
        If a role is missing or `finding` must not be reported.
    """
    check_finding(finding)
    sources = read_sources(inputs, finding.sequences)
    summary = result_header(kind, str(SecondaryCaptureImageStorage), sources, finding.model, provenance)
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
