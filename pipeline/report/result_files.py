"""The files of one run: which object lies where, and how each is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Final

import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset

from models.contrast import Contrast
from models.whole_files import write_whole
from pipeline.errors import StudyHeld
from pipeline.report.encapsulated_pdf import build_document
from pipeline.report.held import build_held_reports
from pipeline.report.key_object import build_key_object
from pipeline.report.page import draw_page
from pipeline.report.pen import Sheet
from pipeline.report.result_header import SALIENCY_PAGE
from pipeline.report.run import Run, ScoredRun
from pipeline.report.saliency import build_saliency, draw_saliency, fine_enough
from pipeline.report.structured_report import build_reports
from pipeline.report.summary_page import build_summary
from pipeline.report.views import Views, draw_overlay
from pipeline.report.wording import notice_line
from pipeline.select import Candidate

REPORT_FILES: Final = ("report.dcm", "report.comprehensive.dcm", "report.enhanced.dcm", "report.basic.dcm")
"""The same report in the order of preference: Comprehensive 3D, Comprehensive, Enhanced, Basic Text SR."""
KEY_FILES: Final = tuple(name.replace("report", "key") for name in REPORT_FILES)
"""Key objects, each for the report that it points to."""
HELD_FILES: Final = tuple(name.replace("report", "held") for name in REPORT_FILES)
"""The same where a study has no score."""
SUMMARY_FILE: Final = "summary.dcm"
DOCUMENT_FILE: Final = "document.dcm"
SUMMARY_PICTURE, OVERLAY_PICTURE = "summary.png", "overlay.png"

SALIENCY_FILE, SALIENCY_PICTURE = "saliency.dcm", "saliency.png"

OBJECT_FILES: Final = MappingProxyType(
    {"sr": REPORT_FILES, "summary": (SUMMARY_FILE,), "pdf": (DOCUMENT_FILE,), "key": KEY_FILES}
)
"""Files of each kind of object that a scored study has; of several a peer gets the first that it takes."""
SALIENCY_FILES: Final = MappingProxyType(
    {"saliency": (SALIENCY_FILE,)} | {f"saliency_{role}": (f"saliency_{role}.dcm",) for role in Contrast}
)
"""The same of the objects that are written only where a site asks for them: page, and a map of each sequence."""


def write_results(run: ScoredRun, views: Views, out: Path) -> None:
    """Write all result objects of a scored study, and its pictures as PNG.

    Parameters
    ----------
    run
        With a score; equal ones give equal bytes.
    views
        As for :func:`pipeline.report.draw_page`.
    out
        Folder that exists. Every kind of object but saliency is written, whichever is sent.
    """
    page = draw_page(run, views).picture
    summary = build_summary(run, page)
    write_dataset(summary, out / SUMMARY_FILE)
    for name, key_name, report in zip(REPORT_FILES, KEY_FILES, build_reports(run).values(), strict=True):
        write_dataset(report, out / name)
        write_dataset(build_key_object(run, report, summary), out / key_name)
    write_dataset(build_document(run, document_pages(run, views)), out / DOCUMENT_FILE)
    _write_picture(page, out / SUMMARY_PICTURE)
    _write_picture(draw_overlay(views, notice_line(run.model)).picture, out / OVERLAY_PICTURE)


def document_pages(run: ScoredRun, views: Views) -> list[Sheet]:
    """Return the two pages of the document, 2048 pixels wide: the summary, and the planes as large as there is room.

    Parameters
    ----------
    run, views
        As for `write_results`.
    """
    notice = notice_line(run.model)
    return [draw_page(run, views, 2, lettered=False), draw_overlay(views, notice, 2, lettered=False)]


def write_saliency(run: ScoredRun, activations: Mapping[Contrast, sitk.Image], views: Views, out: Path) -> None:
    """Write a scored study's saliency: a map of each sequence unless it is too coarse, the page, and the page as PNG.

    Parameters
    ----------
    run
        With a score; equal arguments give equal bytes.
    activations
        The map of each role, as for :func:`pipeline.report.saliency.build_saliency`; at least one.
    views
        Planes with these maps.
    out
        Folder that exists.
    """
    for role, activation in activations.items():
        if not fine_enough(activation):
            continue
        (name,) = SALIENCY_FILES[f"saliency_{role}"]
        write_dataset(build_saliency(run, role, activation), out / name)
    page = draw_saliency(run, views, next(iter(activations.values())).GetSpacing())
    write_dataset(build_summary(run, page, SALIENCY_PAGE), out / SALIENCY_FILE)
    _write_picture(page, out / SALIENCY_PICTURE)


def write_held(run: Run, held: StudyHeld, out: Path, arrived: Sequence[Candidate] = ()) -> None:
    """Write the report of a study that has no score.

    Parameters
    ----------
    run
        What would have scored the study, and the series that were found nevertheless.
    held
        Why there is no score.
    out
        Folder that exists.
    arrived
        Every volume of the study.
    """
    for name, report in zip(HELD_FILES, build_held_reports(run, held, arrived).values(), strict=True):
        write_dataset(report, out / name)


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a result object to `path` so that the file is there whole or not at all, also after a power cut.

    Parameters
    ----------
    dataset
        With file meta information; written in Explicit VR Little Endian.
    path
        In a folder that exists; an older file is replaced.
    """
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    write_whole(path, buffer.getvalue())


def _write_picture(picture: Image.Image, path: Path) -> None:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
