"""The pages in Chromium: nothing keeps people out, in both themes, at a desk and on a phone; text stays text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dicom_node.config import load
from dicom_node.engine import worker
from dicom_node.log import Pseudonym, read_key
from dicom_node.net.callers import Reason
from dicom_node.net.refused import RefusedCaller, refused_file
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event, State
from dicom_node.watch.pulse import Loaded, Memory, Process, beating
from dicom_node.web.users import Role, Users
from models.contrast import Contrast
from models.whole_files import write_json
from pipeline.synthetic import series_tags
from tests.support.pasts import past_uid, write_past
from tests.support.services import require
from tests.support.sites import SETTINGS, Site, site
from tests.support.studies import SECOND_T2W, TRIPLET, receive_study
from tests.viewers.axe import AXE, violations
from tests.viewers.chromium import CHROMIUM, Browser
from tests.viewers.keyboard import press

SHOTS = os.environ.get("DICOM_NODE_SCREENSHOTS")
PEERS = """[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 9
roles = ["source", "destination"]
"""
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>\"'>\u202egnp\x1b[2J"
TIE, EVIL = "2.25.5003", "2.25.5004"
DESK, PHONE = (1366, 768), (390, 844)
NAMES = ("sign-in", "studies", "filtered", "study", "held", "hostile", "peers", "peer", "rules", "models", "system",
         "log", "refusal")  # fmt: skip


@dataclass
class Desk:
    """Pages of a node with a past, in a browser in which an administrator is signed in."""

    browser: Browser
    pages: Site
    password: str

    def show(self, path: str) -> None:
        """Open a page, and wait until it stands."""
        self.browser.open("about:blank")
        self.browser.open(f"http://127.0.0.1:{self.pages.port}{path}")
        self.browser.wait(f"location.pathname === {path.partition('?')[0]!r} && !!document.querySelector('footer') && "
                          "document.readyState === 'complete'", 60, path)  # fmt: skip

    def size(self, size: tuple[int, int], *, dark: bool = False) -> None:
        """Take another window and another theme."""
        width, height = size
        self.browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.call("Emulation.setEmulatedMedia", features=[theme])

    def sign_in(self) -> None:
        """Sign in by the keyboard alone."""
        self.show("/sign-in")
        self.browser.wait("document.activeElement.name === 'name'", 30, "the focus")
        for text in ("anna", "\t", self.password, "\r"):
            press(self.browser, text)
        self.browser.wait("document.body.innerText.includes('anna, administrator')", 60, "the session")

    def place(self, name: str) -> str:
        """Return the address of a page."""
        pseudonym = Pseudonym(read_key(self.pages.folder / "data"))
        studies = {"study": past_uid(19), "held": TIE, "hostile": EVIL}
        if name in studies:
            return f"/studies/{pseudonym(studies[name])}"
        others = {"filtered": "/studies?state=held&sort=reason", "peer": "/peers/pacs", "refusal": "/nothing"}
        return others.get(name, f"/{name}")

    def shot(self, name: str) -> None:
        """Keep a picture of the page, where somebody wants one."""
        if SHOTS:
            (Path(SHOTS) / f"{name}.png").write_bytes(self.browser.screenshot())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require(CHROMIUM, AXE)
    folder = tmp_path_factory.mktemp("desk")
    (folder / "node.toml").write_text(SETTINGS.format(port=1, web=2, extra=PEERS))
    config, spool = load(folder / "node.toml"), write_past(folder / "data", 60)
    hands = worker.Worker(config, spool, models=None)
    evil = replace(series_tags(Contrast.T1W, number=9), description=HOSTILE[:60], protocol=HOSTILE[:60])
    for uid, extra in ((TIE, SECOND_T2W), (EVIL, evil)):
        receive_study(spool, folder / "sent", uid, *TRIPLET, extra)
        hands.select(uid)
    spool.study(EVIL).note(Event.ASSOCIATION, calling=HOSTILE, address=HOSTILE)
    spool.study(EVIL).note(Event.READ, State.HELD, code="missing_role", sentence=HOSTILE + "x" * 1_000_000)
    Index(folder / "data").catch_up(spool)
    refused = RefusedCaller(HOSTILE[:16], "10.1.2.3", "TSCNODE", Reason.TITLE_UNKNOWN, "2026", "2026", 3)
    write_json(refused_file(folder / "data"), [{name: getattr(refused, name) for name in refused.__slots__}])
    with beating(folder / "data", Process.WORKER, "w1") as pulse:
        pulse.loaded(Loaded("synthetic-demo", "1.0.0", "a" * 64, "embedded", "b" * 64, "cuda:0", 1.7e9))
        pulse.look_at_memory(lambda: Memory(10**10, 10**11))
    (folder / "data/log").mkdir()
    (folder / "data/log/receive.jsonl").write_text(
        '{"time": "2026-11-29T10:00:00+00:00", "level": "error", "event": "<b>", "study": "0123456789ab", "x": "<i>"}\n'
    )
    password = Users(config).put("anna", Role.ADMINISTRATOR)
    with site(folder, PEERS) as running, Browser.running(folder) as browser:
        made = Desk(browser, running, password)
        made.sign_in()
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_nothing_keeps_people_out_and_no_text_from_outside_is_markup(desk: Desk, name: str):
    for size, dark in ((DESK, False), (DESK, True), (PHONE, False)):
        desk.size(size, dark=dark)
        desk.show(desk.place(name))
        desk.shot(f"{name}-{size[0]}-{'dark' if dark else 'light'}")
        if size == DESK:
            assert violations(desk.browser) == []
        wide = desk.browser.evaluate("document.documentElement.scrollWidth")
        assert wide <= size[0], f"{name} is {wide} wide: something sticks out of the window"
        assert desk.browser.evaluate("document.title") != "owned"
        assert "\u202e" not in desk.browser.text()
        assert desk.browser.evaluate("document.body.innerText.length") < 200_000
        assert [said for said in desk.browser.errors if "404" not in said or name != "refusal"] == []


def test_every_page_is_reached_and_used_by_the_keyboard(desk: Desk):
    """From the first key on: past the navigation, along everything that can be done, with a focus that is seen."""
    desk.size(DESK)
    for name in ("studies", "held", "peers", "rules"):
        desk.show(desk.place(name))
        press(desk.browser, "\t")
        assert desk.browser.evaluate("document.activeElement.className") == "skip"
        press(desk.browser, "\r")
        desk.browser.wait("document.activeElement.id === 'main'", 30, "the content")
        wanted = int(desk.browser.evaluate(REACHABLE))
        assert wanted > 3
        reached = set()
        for _ in range(wanted):
            press(desk.browser, "\t")
            reached.add(desk.browser.evaluate(FOCUSED))
        assert [each for each in reached if str(each).startswith("not shown")] == []
        assert len(reached) >= min(wanted, 20) * 0.9


REACHABLE = """[...document.querySelectorAll(`main a, main button, main input:not([type=hidden]):not([type=radio]),
  main select, main textarea, main summary, main [tabindex="0"]`)].filter(each => each.offsetParent).length"""
FOCUSED = """(() => {
  const each = document.activeElement;
  if (each === document.body) return 'end';
  const shown = getComputedStyle(each).outlineStyle !== 'none';
  const all = [...document.querySelectorAll('*')];
  return shown ? all.indexOf(each) : `not shown: ${each.outerHTML.slice(0, 200)}`;
})()"""


def test_an_open_page_follows_what_happens(desk: Desk):
    desk.size(DESK)
    folder = desk.pages.folder / "data"
    desk.show("/studies")
    spool = Spool(folder)
    spool.store("2.25.5999", "2.25.5999.1", b"x")
    spool.study("2.25.5999").note(Event.ASSOCIATION, State.RECEIVING, calling="MR_9", address="127.0.0.1")
    Index(folder).catch_up(spool)
    desk.browser.wait("document.body.innerText.includes('MR_9')", 60, "the new study in the open list")
    name = Pseudonym(read_key(folder))("2.25.5999")
    desk.show(f"/studies/{name}")
    spool.study("2.25.5999").note(Event.READ, State.FAILED, code="internal_error", sentence="A fault in the node.")
    desk.browser.wait("document.body.innerText.includes('A fault in the node.')", 60, "what happened, in the open page")
    assert desk.browser.errors == []


def test_a_page_without_javascript_is_the_same_page(desk: Desk):
    desk.size(DESK)
    desk.browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        desk.browser.open(f"http://127.0.0.1:{desk.pages.port}/studies")
        desk.browser.wait("document.readyState === 'complete' && !!document.querySelector('table')", 60, "the list")
        assert re.search(r"delivery failed", desk.browser.text())
    finally:
        desk.browser.call("Emulation.setScriptExecutionDisabled", value=False)
