"""The web pages as a browser gets them: lists, a study, refusals, headers, and texts that would be markup."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.log import Pseudonym, read_key
from dicom_node.net.held_port import held_port
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event, State
from tests.support.pasts import past_uid, write_past
from tests.support.services import listens, started, wait_for
from tests.support.sites import SETTINGS, Site, site

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202egnp.exe\x1b[2J\x00" + "x" * 1_000_000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    spool = write_past(folder / "data", 120)
    hostile = spool.study(past_uid(7))
    hostile.note(Event.ASSOCIATION, calling=HOSTILE, address=HOSTILE)
    hostile.note(Event.READ, State.HELD, code="missing_role", sentence=HOSTILE)
    Index(folder / "data").catch_up(spool)
    with site(folder) as running:
        yield running


def name_of(pages: Site, number: int) -> str:
    return Pseudonym(read_key(pages.folder / "data"))(past_uid(number))


def rows(body: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/studies/([0-9a-f]{12})"', body)


def test_the_list_shows_every_study_once_page_by_page(pages: Site):
    seen, place = [], "/studies"
    while place:
        answer = pages.get(place)
        assert answer.status == 200
        seen += rows(answer.body)
        more = re.search(r'rel="next" href="([^"]+)"', answer.body)
        place = more[1].replace("&amp;", "&") if more else ""
    assert len(seen) == len(set(seen)) == 120


def test_filters_choose(pages: Site):
    assert len(rows(pages.get("/studies?state=delivery_failed").body)) == 6
    assert rows(pages.get("/studies?text=" + name_of(pages, 3)).body) == [name_of(pages, 3)]
    assert rows(pages.get("/studies?state=&reason=&peer=nobody&since=&until=&text=&sort=received").body) == []
    assert "missing role" in pages.get("/studies?reason=missing_role").body


def test_a_study_is_called_by_its_pseudonym_alone(pages: Site):
    answer = pages.get(f"/studies/{name_of(pages, 19)}")
    assert answer.status == 200
    assert "delivery failed" in answer.body
    assert "peer_unreachable" in answer.body
    assert past_uid(19) not in answer.body
    assert past_uid(19) not in pages.get("/studies").body


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nothing", 404, "not_found"),
        ("/studies/000000000000", 404, "study_unknown"),
        ("/studies/..%2f..%2fetc", 404, "not_found"),
        ("/studies/UPPER", 400, "request_invalid"),
        ("/studies?since=soon", 400, "is no time"),
        ("/studies?cursor=x", 400, "cursor_invalid"),
        ("/studies?state=lost", 400, "state"),
        ("/studies?text=" + "x" * 65, 400, "text"),
        ("/static/../application.py", 404, "not_found"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(pages: Site, path: str, status: int, says: str):
    answer = pages.get(path)
    assert answer.status == status
    assert says in answer.body
    assert "Traceback" not in answer.body


@pytest.mark.parametrize("path", ["/studies", "/nothing", "/static/node.css", "/studies?cursor=x"])
def test_every_answer_has_the_headers(pages: Site, path: str):
    headers = pages.get(path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_no_page_has_script_or_style_in_it(pages: Site):
    for path in ("/studies", f"/studies/{name_of(pages, 19)}", "/nothing"):
        body = pages.get(path).body
        assert re.findall(r"<script[^>]*>", body) == ['<script src="/static/node.js" defer>']
        assert not re.search(r"<style|<[^>]*\s(?:style|on\w+)=", body)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', body)


def test_hostile_texts_are_texts(pages: Site):
    name = name_of(pages, 7)
    for path in (f"/studies/{name}", "/studies"):
        body = pages.get(path).body
        assert name in body
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "\u202e" not in body
        assert "\x1b" not in body
        assert len(body) < 200_000, "a text of a megabyte is cut off"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages.get(f"/studies/{name}").body


def test_every_look_at_a_study_is_audited(pages: Site):
    name, uid = name_of(pages, 21), past_uid(21)
    pages.get(f"/studies/{name}")
    (trail,) = (pages.folder / "data" / "audit").glob("*.jsonl")
    assert [line for line in trail.read_text().splitlines() if f'"{uid}"' in line]


def test_the_log_names_no_study(pages: Site):
    pages.get(f"/studies/{name_of(pages, 5)}")
    assert past_uid(5) not in pages.log.read_text()


def test_a_port_that_is_taken_is_refused_and_pages_end_at_once(tmp_path: Path):
    with held_port() as port, held_port() as web:
        file = tmp_path / "node.toml"
        file.write_text(SETTINGS.format(port=port, web=web, extra=""))
        command = [sys.executable, "-P", "-m", "dicom_node", "web", "--config", str(file)]
        with started(command, tmp_path / "node.log", web) as first:
            second = subprocess.run(command, capture_output=True, text=True, check=False)
            assert second.returncode == 2
            assert json.loads(second.stderr.splitlines()[-1])["code"] == "port_unavailable"
            idle = socket.create_connection(("127.0.0.1", web))
            began_s = time.monotonic()
            first.send_signal(signal.SIGTERM)
            assert first.wait(30) == 0
            idle.close()
            assert time.monotonic() - began_s < 10


def test_serve_brings_the_pages_and_outlives_them(tmp_path: Path):
    """Pages whose port is taken harm nothing: the receiver listens, and a stop takes seconds."""
    with held_port() as port, held_port() as web, socket.create_server(("127.0.0.1", web)):
        file = tmp_path / "node.toml"
        file.write_text(SETTINGS.format(port=port, web=web, extra='[model]\nbundle = "no-such-bundle"\n'))
        command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(file)]
        with started(command, tmp_path / "node.log", port) as node:
            wait_for(lambda: "port_unavailable" in (tmp_path / "node.log").read_text(), 60, "the refusal of the pages")
            assert listens(port)
            node.send_signal(signal.SIGTERM)
            assert node.wait(60) == 0
    assert Spool(tmp_path / "data").data_dir.is_dir()
