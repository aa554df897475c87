"""The pictures of a report: summary page, planes with their masks, document."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pypdf import PdfReader

from models.bundle import Check
from models.contrast import Contrast
from models.outcome import UNCONTROLLED
from pipeline.brain import MaskFacts
from pipeline.grid import canonical
from pipeline.plausibility import MaskFlag
from pipeline.predict import Category, Finding, combine
from pipeline.report import build_document, build_summary, draw_overlay, draw_page, tri_planar, write_results
from pipeline.report.pen import Sheet
from pipeline.report.result_files import document_pages
from pipeline.report.views import OUTLINE, draw_plane
from tests.support.reports import (
    FINDING,
    FULL,
    MODEL,
    NOTICE,
    PATIENT_NAME,
    PROVENANCE,
    TWO,
    document_of,
    drawn_run,
    made_volume,
    run_of,
    views_of,
)


def page_of(views=None, finding: Finding = FINDING) -> Image.Image:
    return draw_page(drawn_run(finding), views).picture


def test_page_is_drawn_and_kept(inputs):
    page = page_of(views_of())
    assert (page.size, page.mode) == ((1024, 1024), "RGB")
    assert page.tobytes() == page_of(views_of()).tobytes()
    only_flair = {Contrast.FLAIR: views_of()[Contrast.FLAIR]}
    assert len({page.tobytes(), page_of().tobytes(), page_of(only_flair).tobytes()}) == 3
    summary = build_summary(run_of(inputs), page)
    assert np.array_equal(summary.pixel_array, np.asarray(page))
    assert (summary.Modality, summary.BodyPartExamined, summary.BurnedInAnnotation) == ("OT", "HEAD", "NO")


def test_page_takes_long_words_and_all_scores():
    model = dataclasses.replace(MODEL, notice="A VERY LONG NOTICE " * 9, name="N" * 200, intended_use="Use. " * 200)
    brain = {role: MaskFacts(12345.6, (MaskFlag.APART_FROM_OTHERS,) * 8, False) for role in Contrast}
    for score in (0.0, 0.004, 1.0):
        finding = Finding(
            dict.fromkeys(Contrast, score), FINDING.weights, score, score / 3, 1.0 - score,
            Category.AT_OR_ABOVE if score == 1 else Category.BELOW, model,
        )  # fmt: skip
        run = drawn_run(finding, brain)
        for scale in (1, 2):
            sheet = draw_page(run, views_of(), scale)
            assert sheet.picture.size == (1024 * scale, 1024 * scale)
            for line in sheet.lines:
                assert line.x >= 0, line
                assert line.x + line.width <= 1024 * scale, line
                assert line.baseline < 1020 * scale, line
            assert "There is more" in said_by(sheet), "eight times three doubts, and no room for them"


def said_by(sheet: Sheet) -> str:
    """Return all text of a page, the lines joined by a space."""
    return " ".join(line.words for line in sheet.lines)


def test_page_says_what_was_read_when_and_what_the_score_means():
    said = said_by(draw_page(drawn_run(), views_of()))
    for words in (
        f"1 means: {UNCONTROLLED}",
        "series 3, t1_mprage_sag_p2_iso",
        "series 7, AX FLAIR fs 3 mm, chosen by hand",
        "2024-03-04 11:22:33",
        "literal score of CN114170162A 0.24, range 0 to 1/3",
        f"Brain mask of T2W: {MaskFlag.TOUCHES_BORDER.meaning}.",
    ):
        assert words in said
    assert said.count("by hand") == 1


def test_page_says_no_doubts_only_of_what_was_checked():
    quiet = {role: MaskFacts(1300.0) for role in Contrast}
    every: tuple[Check, ...] = get_args(Check)
    for checks, no_doubts, unchecked in ((every, True, False), (every[:1], True, True), (every[:0], False, True)):
        finding = dataclasses.replace(FINDING, model=dataclasses.replace(MODEL, checks=checks))
        said = said_by(draw_page(drawn_run(finding, quiet), views_of()))
        assert ("No doubts. Compared with the patients of the model" in said) == no_doubts
        assert ("NOT checked" in said) == unchecked
    young = dataclasses.replace(quiet[Contrast.T1W], age_known=False)
    assert "age unknown" in said_by(draw_page(drawn_run(FINDING, quiet | {Contrast.T1W: young}), views_of()))
    assert "No doubts. C" not in said_by(draw_page(drawn_run(), views_of())), "two flags of a mask"


def test_page_says_that_sequences_disagree():
    scores = FINDING.scores | {Contrast.T1W: 0.2}
    disagreeing = combine(scores, FINDING.weights, FINDING.threshold, MODEL)
    words = "alone, T1W (0.20) lies below the threshold, the ensemble does not."
    assert words in said_by(draw_page(drawn_run(disagreeing), views_of()))
    assert "disagree" not in said_by(draw_page(drawn_run(), views_of()))


def test_page_does_not_name_the_patient(inputs):
    named = {
        role: dataclasses.replace(series, description=f"{PATIENT_NAME.split('^')[0]} ax")
        for role, series in inputs.items()
    }
    said = said_by(draw_page(run_of(named), views_of()))
    assert said.count("description names the patient") == 3
    assert PATIENT_NAME.split("^")[0] not in said
    assert "AX FLAIR ??" in said_by(draw_page(run_of(inputs), views_of()))


def luminance(color) -> float:
    """Relative luminance of WCAG 2."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in np.array(color) / 255
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast_ratio(one, other) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("finding", [FINDING, FULL, TWO], ids=["plain", "full", "two sequences"])
def test_every_letter_is_large_and_stands_out(finding):
    """At least 14 pixels on a page of 1024, and the contrast of 4.5 to 1 that WCAG 2 asks of text."""
    views = {role: views_of()[role] for role in finding.sequences}
    for draw in (
        lambda: draw_page(drawn_run(finding), views, lettered=False),
        lambda: draw_overlay(views, NOTICE, lettered=False),
    ):
        sheet = draw()
        below = np.asarray(sheet.picture)
        assert min(line.size for line in sheet.lines) >= 14
        for line in sheet.lines:
            behind = below[
                round(line.baseline - line.size * 0.7) : round(line.baseline),
                round(line.x) : round(line.x + line.width),
            ]
            ratios = {contrast_ratio(line.color, color) for color in np.unique(behind.reshape(-1, 3), axis=0)}
            assert min(ratios) >= 4.5, (line, ratios)
    for side in (60, 100, 300):
        letter = np.asarray(draw_plane(views_of()[Contrast.T1W][0], side))[:22, :22].max(axis=(1, 2)) > 60
        assert letter.sum() >= 10, "a capital of a type of 16 pixels"


# --- planes -----------------------------------------------------------------------------------------------------------


def landmark(place_lps_mm: tuple[float, float, float], direction: str) -> tuple[sitk.Image, sitk.Image]:
    """A head-sized volume, stored in any direction, with one bright spot at a place of the patient; mask and all."""
    volume = sitk.Image((100, 100, 100), sitk.sitkFloat32)
    volume.SetSpacing((2.0, 2.0, 2.0))
    volume.SetOrigin((-99.0, -99.0, -99.0))
    index = volume.TransformPhysicalPointToIndex(place_lps_mm)
    volume[index[0] - 2 : index[0] + 3, index[1] - 2 : index[1] + 3, index[2] - 2 : index[2] + 3] = 1000.0
    mask = sitk.Image((100, 100, 100), sitk.sitkUInt8)
    mask.CopyInformation(volume)
    mask[10:90, 10:90, 10:90] = 1
    stored = [sitk.DICOMOrient(image, direction) for image in (volume, mask)]
    return canonical(stored[0]), canonical(stored[1])


def brightest(picture: Image.Image) -> tuple[float, float]:
    """Return row and column of the bright spot's middle, from 0 (top, left) to 1; grey values only."""
    pixels = np.asarray(picture).astype(int)
    spot = np.argwhere(pixels.min(axis=2) > 200)
    row, column = spot.mean(axis=0) / picture.height
    return float(row), float(column)


@pytest.mark.parametrize("direction", ["LPS", "RAS", "PIR", "ASL"])
def test_planes_are_shown_as_radiologists_read_them(direction):
    """The patient's right is on the left, the face on top or on the left, the vertex on top."""
    right_front = tri_planar(*landmark((-50.0, -50.0, 0.0), direction))
    row, column = brightest(draw_plane(right_front[0], 200))
    assert (row, column) < (0.4, 0.4)
    assert column < 0.4
    right_top = tri_planar(*landmark((-50.0, 0.0, 50.0), direction))
    row, column = brightest(draw_plane(right_top[1], 200))
    assert row < 0.4
    assert column < 0.4
    front_top = tri_planar(*landmark((0.0, -50.0, 50.0), direction))
    row, column = brightest(draw_plane(front_top[2], 200))
    assert row < 0.4
    assert column < 0.4
    assert [(plane.name, plane.left) for plane in front_top] == [("axial", "R"), ("coronal", "R"), ("sagittal", "A")]


def test_thick_slices_keep_their_proportions():
    for plane in tri_planar(*made_volume()):
        outline = np.argwhere((np.asarray(draw_plane(plane, 300)) == OUTLINE).all(axis=2))
        height, width = (outline.max(axis=0) - outline.min(axis=0) + 1) * plane.field_mm / 300
        wanted = {"axial": (132, 108), "coronal": (105.6, 108), "sagittal": (105.6, 132)}[plane.name]
        assert (height, width) == pytest.approx(wanted, abs=7), plane.name


def test_the_outline_follows_the_mask():
    volume, mask = made_volume()
    plane = tri_planar(volume, mask)[0]
    smaller = tri_planar(volume, sitk.BinaryErode(mask, (8, 8, 1)))[0]
    sizes = []
    for each in (plane, smaller):
        pixels = np.asarray(draw_plane(each, 300))
        coloured = (pixels == OUTLINE).all(axis=2)
        grey = (pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2])
        assert 100 < coloured.sum() < 2000, "an outline, not an area"
        assert grey[120:180, 120:180].all(), "the middle of the brain is left alone"
        _, columns = np.nonzero(coloured)
        sizes.append(np.ptp(columns) * each.field_mm)
    assert sizes[1] < sizes[0]


def test_a_volume_of_one_grey_value_is_drawn_and_a_mask_without_voxels_refused():
    volume, mask = made_volume()
    flat = volume * 0
    assert draw_plane(tri_planar(flat, mask)[0], 100).size == (100, 100)
    with pytest.raises(ValueError, match="mask"):
        tri_planar(volume, mask * 0)
    with pytest.raises(ValueError, match="mask"):
        tri_planar(volume, mask[:-1])


def test_overlay_has_a_row_for_each_input():
    whole = draw_overlay(views_of(), NOTICE).picture
    one = draw_overlay({Contrast.T1W: views_of()[Contrast.T1W]}, NOTICE).picture
    outlines = [(np.asarray(picture) == OUTLINE).all(axis=2).sum() for picture in (whole, one)]
    assert outlines[0] == 3 * outlines[1] > 3 * 3 * 300


# --- document and files -----------------------------------------------------------------------------------------------


def test_the_document_is_a_pdf_of_two_pages_whose_text_can_be_searched(inputs, tmp_path):
    document = document_of(inputs)
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.rstrip().endswith(b"%%EOF")
    assert (document.Modality, document.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert len(document.SourceInstanceSequence) == 9
    read = PdfReader(BytesIO(content))
    assert (read.metadata.creation_date, read.metadata.modification_date) == (PROVENANCE.started, PROVENANCE.started)
    pages = document_pages(run_of(inputs), views_of())
    for page, sheet in zip(read.pages, pages, strict=True):
        text = page.extract_text()
        assert all(line.words in text for line in sheet.lines)
        drawn = page.images[0].image
        assert drawn.size == sheet.picture.size == (2048, 2048)
        assert np.abs(np.asarray(drawn).astype(int) - np.asarray(sheet.picture)).mean() < 1.5
    assert all(line.size >= 28 for sheet in pages for line in sheet.lines), "14 on a page of 1024"
    assert "AX FLAIR" in read.pages[0].extract_text()
    pdftotext = shutil.which("pdftotext")
    if pdftotext:
        (tmp_path / "page.pdf").write_bytes(content)
        command = [pdftotext, tmp_path / "page.pdf", "-"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "AED-refractory score, tuberous sclerosis complex" in told


def test_the_document_is_dated_in_the_zone_of_the_reading(inputs):
    zoned = dataclasses.replace(
        PROVENANCE, started=datetime(2024, 3, 4, 23, 59, 1, tzinfo=timezone(timedelta(hours=8)))
    )
    content = document_of(inputs, zoned).EncapsulatedDocument
    assert PdfReader(BytesIO(content)).metadata.creation_date == zoned.started
    assert content == document_of(inputs, zoned).EncapsulatedDocument


def test_no_document_without_pages_or_a_finding(inputs):
    with pytest.raises(ValueError, match="page"):
        build_document(run_of(inputs), [])
    with pytest.raises(ValueError, match="score"):
        run_of(inputs, finding=dataclasses.replace(FINDING, score=2.0))


def test_every_file_of_a_run_is_written(inputs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_results(run_of(inputs), views_of(), out)
    assert sorted(path.name for path in out.iterdir()) == [
        "document.dcm", "key.basic.dcm", "key.comprehensive.dcm", "key.dcm", "key.enhanced.dcm", "overlay.png",
        "report.basic.dcm", "report.comprehensive.dcm", "report.dcm",
        "report.enhanced.dcm", "summary.dcm", "summary.png",
    ]  # fmt: skip
    assert np.array_equal(
        np.asarray(Image.open(out / "summary.png")), np.asarray(draw_page(run_of(inputs), views_of()).picture)
    )
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.size == (1024, 1024)
