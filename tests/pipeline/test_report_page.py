"""The pictures of a report: summary page, planes with their masks, document."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from models.contrast import Contrast
from pipeline.brain import MaskFacts
from pipeline.grid import canonical
from pipeline.plausibility import MaskFlag
from pipeline.predict import Category, Finding
from pipeline.report import build_document, build_summary, draw_overlay, draw_page, tri_planar, write_results
from pipeline.report.views import OUTLINE, draw_plane
from tests.support.reports import (
    FINDING,
    MODEL,
    NOTICE,
    PROVENANCE,
    document_of,
    drawn_run,
    made_volume,
    run_of,
    views_of,
)


def page_of(views=None, finding: Finding = FINDING) -> Image.Image:
    return draw_page(drawn_run(finding), views)


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
    brain = {role: MaskFacts(12345.6, (MaskFlag.APART_FROM_OTHERS,) * 8) for role in Contrast}
    for score in (0.0, 0.004, 1.0):
        finding = Finding(
            dict.fromkeys(Contrast, score), FINDING.weights, score, score / 3, 1.0 - score,
            Category.AT_OR_ABOVE if score == 1 else Category.BELOW, model,
        )  # fmt: skip
        views = views_of()
        with_flags = np.asarray(draw_page(drawn_run(finding, brain), views))
        # Words of any length stay off the pictures.
        assert np.array_equal(with_flags[374:814, 540:976], np.asarray(page_of(views))[374:814, 540:976])


def test_page_shows_nothing_of_the_patient_or_the_day():
    later = dataclasses.replace(PROVENANCE, started=datetime(2031, 1, 1))
    assert draw_page(drawn_run(provenance=later)).tobytes() == page_of().tobytes()


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
    whole = draw_overlay(views_of(), NOTICE)
    one = draw_overlay({Contrast.T1W: views_of()[Contrast.T1W]}, NOTICE)
    assert whole.width == one.width
    assert whole.height > 2 * one.height
    pixels = np.asarray(whole)
    assert (pixels == OUTLINE).all(axis=2).sum() > 3 * 3 * 300


# --- document and files -----------------------------------------------------------------------------------------------


def test_the_document_is_a_pdf_of_the_pages(inputs, tmp_path):
    document = document_of(inputs)
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert (document.Modality, document.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert len(document.SourceInstanceSequence) == 9
    pictures = content.split(b"/DCTDecode")
    assert len(pictures) == 3, "two pages"
    assert content.count(b"20240304112233") == 2, "made and changed when the study was read"
    drawn = Image.open(BytesIO(content[content.index(b"\xff\xd8\xff") :]))
    page = np.asarray(page_of(views_of())).astype(int)
    assert np.abs(np.asarray(drawn).astype(int) - page).mean() < 1.5, "what was drawn can be read"
    pdftotext = shutil.which("pdfinfo")
    if pdftotext:
        (tmp_path / "page.pdf").write_bytes(content)
        said = subprocess.run([pdftotext, tmp_path / "page.pdf"], capture_output=True, text=True, check=True).stdout
        assert "Pages:           2" in said


def test_no_document_without_pages_or_a_finding(inputs):
    pages = [page_of()]
    wrong = dataclasses.replace(FINDING, score=2.0)
    with pytest.raises(ValueError, match="score"):
        build_document(run_of(inputs, finding=wrong), pages)


def test_every_file_of_a_run_is_written(inputs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_results(run_of(inputs), views_of(), out)
    assert sorted(path.name for path in out.iterdir()) == [
        "document.dcm", "overlay.png", "report.basic.dcm", "report.comprehensive.dcm", "report.dcm",
        "report.enhanced.dcm", "summary.dcm", "summary.png",
    ]  # fmt: skip
    assert np.array_equal(np.asarray(Image.open(out / "summary.png")), np.asarray(page_of(views_of())))
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.size == draw_overlay(views_of(), NOTICE).size
