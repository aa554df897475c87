"""OHIF in Chromium against Orthanc: what a radiologist sees after a double-click."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from models.contrast import Contrast
from pipeline.report import build_document, build_reports, build_summary, draw_page
from pipeline.report.key_object import build_key_object
from pipeline.report.pen import NOTICE_FILL
from pipeline.report.result_files import document_pages
from pipeline.report.structured_report import SOP_CLASSES
from pipeline.select import Clue, ClueKind, SelectedSeries
from tests.support.reports import (
    MODEL,
    NOTICE,
    PROVENANCE,
    STUDY_UID,
    WITH_LIBRARY,
    held_of,
    run_of,
    summary_of,
    views_of,
    write_inputs,
    written,
)
from tests.support.services import Orthanc, first_true, require
from tests.viewers.chromium import CHROMIUM, Browser
from tests.viewers.ohif import OHIF, Viewer

LOADS_S, SHOWS_S, POLL_S, TRIES = 120, 30, 0.3, 3
SR_LABEL, PAGE_LABEL = "AED-refractory score SR - RESEARCH ONLY", "AED-refractory score page - RESEARCH ONLY"
TWIN_LABEL = "SR of title 126000"
# Where words end on the page, as a share of the window.
BOTTOM = """(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    if (!walker.currentNode.textContent.includes(%r)) continue;
    const range = document.createRange();
    range.selectNode(walker.currentNode);
    return range.getBoundingClientRect().bottom / window.innerHeight;
  }
})()"""
# Words that are drawn over an image.
DRAWN = "[...document.querySelectorAll('svg text')].map(node => node.textContent).join(' ')"
# Clicks before it is drawn are lost.
FIRST_IMAGE = "/\\(1\\/\\d+\\)/.test(document.body.innerText)"
# The middle of the first element that says this and nothing else.
PLACE = """(() => {
  const label = [...document.querySelectorAll("[data-cy='series-description-label'], span, div")]
    .find(node => node.children.length === 0 && node.textContent.trim() === %r);
  if (!label) return null;
  label.scrollIntoView({block: "center"});
  const box = label.getBoundingClientRect();
  return [box.x + Math.min(box.width, 60) / 2, box.y + box.height / 2];
})()"""


@dataclasses.dataclass
class ReadingRoom:
    """A viewer with a PACS that holds one whole study, and one of results alone."""

    browser: Browser
    viewer: Viewer
    study_uid: str
    series_uids: dict[str, str]

    def open(self, label: str, shown: Callable[[], object]) -> None:
        """Open the whole study and double-click the entry of a series until it is `shown`."""
        for _ in range(TRIES):
            # Anew each time: OHIF may lose a click, or its whole page when a camera moves before the image has come.
            self.browser.open(self.viewer.url(self.study_uid))
            place = self.browser.first(FIRST_IMAGE, LOADS_S) and self.browser.first(PLACE % label, LOADS_S)
            if place:
                self.browser.double_click(*place)
                if first_true(shown, SHOWS_S, POLL_S):
                    return
        pytest.fail(f"{label} does not open; the page says:\n{self.browser.text()}\n{self.browser.errors}")

    def read(self, label: str, last_words: str) -> str:
        """Return the text of a series that is opened by double-click."""
        self.open(label, lambda: last_words in self.browser.text())
        return self.browser.text()

    def read_alone(self, name: str, last_words: str) -> str:
        """Return the text of a series of the study without images, opened by its address."""
        self.browser.open(self.viewer.url(STUDY_UID, self.series_uids[name]))
        self.browser.wait(f"document.body.innerText.includes({last_words!r})", LOADS_S, last_words)
        return self.browser.text()

    def banner_pixels(self) -> int:
        """Return how many pixels right of the list of series have the colour of the page's banner."""
        picture = Image.open(BytesIO(self.browser.screenshot())).convert("RGB")
        shown = np.asarray(picture)[:, 320:].astype(int)
        return int((np.abs(shown - NOTICE_FILL).max(axis=2) < 12).sum())


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, quick_study) -> Iterator[ReadingRoom]:
    require(CHROMIUM, OHIF / "index.html")
    folder = tmp_path_factory.mktemp("viewers")
    with Orthanc.running(folder, node_port=104, dicomweb=True) as pacs:
        objects = whole_study(quick_study) | results_alone(pacs.folder)
        files = [path for paths in quick_study.files.values() for path in paths]
        for name, dataset in objects.items():
            files.append(written(dataset, pacs.folder, f"{name}.dcm"))
        pacs.upload(*files)
        series_uids = {name: str(dataset.SeriesInstanceUID) for name, dataset in objects.items()}
        # What the viewer caches belongs to the PACS.
        with Viewer.running(pacs.http_port) as viewer, Browser.running(pacs.folder) as browser:
            yield ReadingRoom(browser, viewer, quick_study.study_uid, series_uids)


def whole_study(quick_study) -> dict[str, Dataset]:
    """The objects that a node sends into a study."""
    inputs = {
        role: SelectedSeries(
            f"series of {role}", number, f"AX {role}", (Clue(ClueKind.BY_HAND),), tuple(quick_study.files[role])
        )
        for number, role in enumerate(Contrast)
    }
    inputs = {role: dataclasses.replace(series, series_uid="2.25.4711") for role, series in inputs.items()}
    run = run_of(inputs)
    page = draw_page(run, views_of()).picture
    titled = build_reports(run_of(inputs, dataclasses.replace(PROVENANCE, title=WITH_LIBRARY)))[SOP_CLASSES[0]]
    titled.SeriesDescription = TWIN_LABEL
    report, summary = build_reports(run)[SOP_CLASSES[0]], build_summary(run, page)
    return {
        "sr": report,
        "titled": titled,
        "summary": summary,
        # The viewer shows none: it must do no harm to the others.
        "key": build_key_object(run, report, summary),
        "document": build_document(run, document_pages(run, views_of())),
    }


def results_alone(folder: Path) -> dict[str, Dataset]:
    """The rarer objects, in a study without images."""
    headers = folder / "headers"
    headers.mkdir()
    inputs = write_inputs(headers)
    basic = build_reports(run_of(inputs))[SOP_CLASSES[-1]]
    return {"basic": basic, "held": held_of(inputs)[SOP_CLASSES[0]], "page": summary_of(inputs)}


def test_the_report_is_read_after_a_double_click(room: ReadingRoom):
    text = room.read(SR_LABEL, "Brain extraction weights")
    said = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    assert "AED-refractory score (ensemble): 0.73 {score}" in said
    assert "Decision threshold: 0.5 {score}" in said
    for score in ("0.61", "0.73", "0.81"):
        assert f"AED-refractory score (single sequence): {score} {{score}}" in said
    weights = [line.removeprefix("Ensemble weight: ") for line in said if line.startswith("Ensemble weight")]
    assert weights == ["30 %", "30 %", "40 %"]
    assert f"Intended use statement: {MODEL.intended_use}" in " ".join(said)
    notice = next(line for line in said if line.startswith("Research notice:"))
    assert notice.startswith(f"Research notice: {NOTICE}")
    assert "FOR RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE" in notice
    assert any(line.startswith("Summary: AED-refractory score 0.73 on a scale") for line in said)
    assert 0 < room.browser.evaluate(BOTTOM % "NOT FOR DIAGNOSTIC USE") < 1, "the notice is on the first screen"
    assert room.browser.errors == []


def test_the_summary_page_shows_as_an_image(room: ReadingRoom):
    room.open(PAGE_LABEL, lambda: room.banner_pixels() > 10_000)
    assert room.browser.errors == []


def test_basic_text_shows_the_same_numbers(room: ReadingRoom):
    text = room.read_alone("basic", "Brain extraction weights")
    for words in ("AED-refractory score (ensemble): 0.73", "Decision threshold: 0.5", "Ensemble weight: 40.0 %"):
        assert words in text
    assert len(re.findall(r"single sequence\): 0\.\d+", text)) == 3
    assert room.browser.errors == []


def test_a_held_study_says_why(room: ReadingRoom):
    text = room.read_alone("held", "Reason for no score: missing_role: No series of the study is FLAIR")
    assert "NO AED-REFRACTORY SCORE WAS MADE" in text
    assert "NOT FOR DIAGNOSTIC USE" in text
    assert room.browser.errors == []


def test_title_126000_shows_its_numbers_and_notice_on_the_image(room: ReadingRoom):
    """OHIF hangs the numbers of an Imaging Measurement Report on the image that they refer to."""
    room.open(TWIN_LABEL, lambda: "AED-refractory score (ensemble)" in room.browser.evaluate(DRAWN))
    drawn = room.browser.evaluate(DRAWN)
    for words in ("0.73 {score}", "Decision threshold", "0.50 {score}", NOTICE, "FOR RESEARCH USE ONLY"):
        assert words in drawn
    assert room.browser.errors == []
