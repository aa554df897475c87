"""The pages of rules, models, system and log: what they show, what a rehearsal says, and that saving has a way back."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest

from dicom_node.config import load
from dicom_node.engine import worker
from dicom_node.log import Pseudonym, read_key
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from dicom_node.watch.clock import read_clock
from dicom_node.watch.last_lines import LastLines, last_lines
from dicom_node.watch.pulse import Loaded, Process, beating, pulses
from dicom_node.web.users import Role, Users
from models.bundle import open_bundle
from tests.support.audit import messages
from tests.support.private_files import open_to_others
from tests.support.sites import SETTINGS, Site, site
from tests.support.studies import SECOND_T2W, T2_SPACE, TRIPLET, receive_study

PLAIN, SPACE, TIE = "2.25.5001", "2.25.5002", "2.25.5003"
RULES = {"t1w": "", "t2w": "", "flair": "", "never": "", "contrast": "refuse", "plane": "axial", "min_slices": "15"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield the pages of a node that has selected three studies, as an administrator gets them."""
    folder = tmp_path_factory.mktemp("system")
    (folder / "node.toml").write_text(SETTINGS.format(port=1, web=2, extra=""))
    config, spool = load(folder / "node.toml"), Spool(folder / "data")
    hands = worker.Worker(config, spool, models=None)
    for uid, extra in ((PLAIN, ()), (SPACE, (T2_SPACE,)), (TIE, (SECOND_T2W,))):
        receive_study(spool, folder / "sent", uid, *TRIPLET, *extra)
        hands.select(uid)
    Index(folder / "data").catch_up(spool)
    password = Users(config).put("anna", Role.ADMINISTRATOR)
    with site(folder, "# kept\n") as running:
        answer = running.ask("POST", "/sign-in", {"name": "anna", "password": password, "then": "/studies"})
        running.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
        yield running


def csrf(pages: Site) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', pages.get("/peers").body)
    assert found
    return found[1]


def name_of(pages: Site, uid: str) -> str:
    return Pseudonym(read_key(pages.folder / "data"))(uid)


def text(body: str) -> str:
    """Return what a page says, without its marks."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_rehearsal_shows_what_would_change_study_by_study_and_saves_nothing(pages: Site):
    before = (pages.folder / "node.toml").read_text()
    sent = {"csrf": csrf(pages), **RULES, "never": "t2_space", "last": "10"}
    told = text(pages.ask("POST", "/rules/rehearse", sent).body)
    assert "Of 3 studies: 2 unchanged, 1 changed, 0 not judged." in told
    assert f"{name_of(pages, SPACE)}" in told
    assert "T2W 5 t2_space_tra 3 t2_tse_tra" in told
    assert (pages.folder / "node.toml").read_text() == before
    looked = [line for line in messages(pages.folder / "data") if "rehearsal" in str(line)]
    assert {uid for uid in (PLAIN, SPACE, TIE) if uid in str(looked)} == {PLAIN, SPACE, TIE}
    assert "anna" in str(looked)


def test_rules_are_saved_with_who_and_a_way_back_and_comments_stay(pages: Site):
    before = (pages.folder / "node.toml").read_text()
    sent = {"csrf": csrf(pages), **RULES, "t1w": "^sag\r\n\r\n^bravo", "min_slices": "20"}
    answer = pages.ask("POST", "/rules", sent)
    assert (answer.status, answer.place) == (303, "/rules?told=saved")
    section = load(pages.folder / "node.toml").selection
    assert (section.t1w, section.min_slices) == (("^sag", "^bravo"), 20)
    assert (pages.folder / "node.toml").read_text().startswith(before)
    page = pages.get("/rules?told=saved").body
    assert "anna: rules changed" in page
    assert "^bravo" in page
    assert '+t1w = ["^sag", "^bravo"]' in unescape(page)
    (back,) = re.findall(r'action="(/changes/[^"]+/back)"', page)
    assert pages.ask("POST", back, {"csrf": csrf(pages), "from": "/rules"}).place == "/rules"
    assert (pages.folder / "node.toml").read_text() == before


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"t1w": "(("}, "selection.t1w.0"),
        ({"never": ".*"}, "every description"),
        ({"min_slices": "3"}, "min_slices"),
        ({"min_slices": "many"}, "min_slices"),
        ({"plane": "oblique"}, "plane"),
        ({"flair": "(a+)+$"}, "flair"),
    ],
)
@pytest.mark.parametrize("place", ["/rules", "/rules/rehearse"])
def test_rules_that_cannot_be_are_refused_and_stay_in_the_form(pages: Site, place: str, wrong: dict[str, str], says):
    before = (pages.folder / "node.toml").read_text()
    answer = pages.ask("POST", place, {"csrf": csrf(pages), **RULES, "t2w": "^kept", **wrong})
    if wrong == {"flair": "(a+)+$"}:
        assert answer.status in (200, 303, 409), "patterns run in linear time, or are refused"
    else:
        assert answer.status == 409
        assert says in re.findall(r'role="alert">(.*?)</p>', answer.body)[0]
        assert "^kept" in answer.body
        assert (pages.folder / "node.toml").read_text() == before


def test_the_models_say_on_whom_they_were_tried_and_since_when_they_are_in_use(pages: Site):
    bundle, data_dir = open_bundle("synthetic-demo"), pages.folder / "data"
    with beating(data_dir, Process.WORKER, "w1") as pulse:
        pulse.loaded(Loaded("synthetic-demo", "1.0.0", bundle.digest, "embedded", "b" * 64, "cpu", time.time() - 90))
    told = text(pages.get("/models").body)
    for fact in (bundle.metadata.notice, bundle.metadata.intended_use, bundle.digest, bundle.digest[:16], "w1", "95 %"):
        assert fact in told
    assert "restart the worker" not in told


def test_models_are_in_use_for_as_long_as_they_are_the_same(tmp_path: Path):
    first = Loaded("m", "1", "a", "embedded", "b", "cpu", 100.0)
    for loaded, since_s in ((first, 100.0), (Loaded("m", "1", "a", "embedded", "b", "cpu", 200.0), 100.0),
                            (Loaded("m", "2", "c", "embedded", "b", "cpu", 300.0), 300.0)):  # fmt: skip
        with beating(tmp_path, Process.WORKER, "w1") as pulse:
            pulse.loaded(loaded)
        (said,) = pulses(tmp_path, time.time())
        assert said.loaded
        assert said.loaded.since_s == since_s


def test_a_bundle_that_is_not_there_is_a_sentence_on_the_page(tmp_path: Path):
    with site(tmp_path, '[model]\nbundle = "none-such"\n') as running:
        assert "bundle_missing" in running.get("/models").body


def test_the_system_shows_what_it_runs_on(pages: Site):
    told = text(pages.get("/system").body)
    for fact in (
        "does not run",
        "GB free",
        "SQLite in the data folder",
        "pydicom",
        "Clock",
        str(pages.folder / "data"),
    ):
        assert fact in told


def test_the_kernel_says_whether_somebody_sets_the_clock():
    clock = read_clock()
    assert clock.synchronised in (True, False, None)
    assert clock.most_off_s >= 0


def test_the_log_shows_the_last_lines_and_leads_to_studies(pages: Site):
    name = name_of(pages, PLAIN)
    answer = pages.get("/log")
    assert answer.status == 200
    assert "pages listening" in answer.body
    (pages.folder / "data/log/receive.jsonl").write_text(
        '{"time": "2026-11-29T10:00:00.000+00:00", "level": "warning", "logger": "x", "event": "study held", '
        f'"study": "{name}", "peer": "<b>pacs</b>"}}\nno line\n{{"time": 7}}\n'
    )
    answer = pages.get("/log?level=warning")
    assert f'<a href="/studies/{name}"><code>{name}</code></a>' in answer.body
    assert "&lt;b&gt;pacs&lt;/b&gt;" in answer.body
    assert "pages listening" not in answer.body
    assert "study held" in pages.get(f"/log?study={name}&process=receive&text=PACS").body
    assert "There is no such line." in pages.get("/log?text=nothing-like-it").body
    assert "web, log" in str(messages(pages.folder / "data"))


def test_the_last_lines_are_for_their_owner_alone_bounded_and_stop_nothing(tmp_path: Path):
    kept = LastLines(tmp_path, "work")
    kept.maxBytes = 2000
    logger = logging.Logger("of this test")
    logger.addHandler(kept)
    try:
        for number in range(100):
            line = {"time": datetime.now(UTC).isoformat(), "level": "info", "event": "a line", "number": number}
            logger.info("%s", json.dumps(line))
        found = last_lines(tmp_path)
        assert (found[0].facts["number"], found[0].process) == (99, "work")
        assert 5 < len(found) < 50
        assert not open_to_others(tmp_path / "log")
        kept.close()
        shutil.rmtree(tmp_path / "log")
        logger.info("a line that no disk takes")
    finally:
        kept.close()
