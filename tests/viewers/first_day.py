"""The first day of an administrator, by the keyboard alone: ``python -m tests.viewers.first_day --shots FOLDER``.

From the configuration that `dicom-node init` wrote, without a peer, to an outage that is over: a real Orthanc is added
on the page, its side lacks our title, that is mended; a study goes in, its report comes back and is opened; Orthanc
ends, mail and webhook say so; it starts, all deliveries are tried at once, and the messages are resolved.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from dicom_node.net.held_port import held_port
from tests.faults.crash import ROOT, make_study
from tests.support.services import Node, Orthanc, command, started, wait_for
from tests.support.sinks import Mails, Webhook, mail, smtp, webhook
from tests.viewers.chromium import Browser
from tests.viewers.keyboard import press, tab_to

FIRST, SECOND = "2.25.1700000000000000000000000000000001", "2.25.1700000000000000000000000000000002"
WAIT_S = 180
ALL_HOLD = """document.querySelectorAll('.ladder .good').length > 3 && !document.querySelector('.ladder .bad')"""


class Stranger(Orthanc):
    """An Orthanc that talks to those alone whom it knows, and does not know the node."""

    def configuration(self, node_port: int, *, dicomweb: bool) -> dict[str, Any]:
        """Return what it starts with."""
        closed = {f"DicomAlwaysAllow{what}": False for what in ("Echo", "Store", "Find")}
        return super().configuration(node_port, dicomweb=dicomweb) | closed | {"DicomModalities": {}}

    def learn(self, node_port: int) -> None:
        """Enter the node, as its administrator does."""
        node = {"AET": "TSCNODE", "Host": "127.0.0.1", "Port": node_port, "AllowStorageCommitment": True}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/modalities/node", json.dumps(node).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


@dataclass
class Day:
    """What there is: a node, the port of its PACS, a browser, and where messages end."""

    folder: Path
    node: Node
    pacs_port: int
    web: int
    browser: Browser
    mails: Mails
    hook: Webhook
    password: str
    shots: Path | None

    def show(self, path: str) -> None:
        """Open a page."""
        self.browser.open(f"http://127.0.0.1:{self.web}{path}")
        self.stands(f"location.pathname === {path!r}")

    def stands(self, expression: str, what: str = "the page") -> None:
        """Wait for a whole page."""
        whole = "document.readyState === 'complete' && !!document.querySelector('footer')"
        self.browser.wait(f"{whole} && ({expression})", WAIT_S, what)

    def says(self, text: str) -> None:
        """Wait until the page says something."""
        self.stands(f"document.body.innerText.includes({json.dumps(text)})", text)

    def write(self, name: str, text: str) -> None:
        """Go to a field, and write."""
        tab_to(self.browser, f"document.activeElement.name === {name!r}")
        press(self.browser, text)

    def tick(self, value: str) -> None:
        """Go to a box, and tick it."""
        tab_to(self.browser, f"document.activeElement.value === {value!r}")
        press(self.browser, " ")

    def push(self, label: str) -> None:
        """Go to a button or a link, and push it."""
        tab_to(self.browser, f"document.activeElement.innerText === {label!r}")
        press(self.browser, "\r")

    def shot(self, name: str) -> None:
        """Keep a picture."""
        if self.shots:
            (self.shots / f"{name}.png").write_bytes(self.browser.screenshot())

    def told(self, word: str) -> bool:
        """Return whether both addresses were told."""
        titles = [str(posted["title"]) for posted in self.hook.posted]
        return all(any(word in text for text in texts) for texts in (self.mails.taken, titles))


@contextmanager
def day(folder: Path, module: str, shots: Path | None = None) -> Iterator[Day]:
    """Yield a running node that knows no peer, and a browser; `module` brings its receiver and worker."""
    with ExitStack() as stack:
        port, web, pacs = (stack.enter_context(held_port()) for _ in range(3))
        mail_port, mails = stack.enter_context(smtp())
        hook = stack.enter_context(webhook())
        node = Node(folder, port, None)
        node.config.unlink()
        password = re.search(r"once: (\S+)", command("init", str(node.config)))
        assert password
        node.config.write_text(_without_peers(node.config.read_text(), port, web, [mail(mail_port), _post(hook)]))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        for run, verb in ((module, "serve"), ("dicom_node", "web"), ("dicom_node", "watch")):
            verbs = [sys.executable, "-P", "-m", run, verb, "--config", str(node.config)]
            stack.enter_context(started(verbs, node.log, *([web] if verb == "web" else []), environment=environment))
        node.wait_listening()
        browser = stack.enter_context(Browser.running(folder))
        browser.call("Emulation.setDeviceMetricsOverride", width=1366, height=768, deviceScaleFactor=1, mobile=False)
        yield Day(folder, node, pacs, web, browser, mails, hook, password[1], shots)


def _post(hook: Webhook) -> str:
    return f"json://127.0.0.1:{hook.server.server_port}/"


def _without_peers(written: str, port: int, web: int, to: list[str]) -> str:
    document: Any = tomlkit.parse(written)
    del document["peers"]
    document["node"].update({"bind": "127.0.0.1", "port": port, "data_dir": "data"})
    document["receive"].update({"accept": "any", "quiet_s": 2, "disk_reserve_gb": 0.1})
    document["delivery"].update({"retry_s": 1, "commitment_timeout_s": 20})
    document["alarms"].update({"to": to, "pause_min": 0, "undelivered_min": 0.05, "disk_gb": 0, "stopped": False})
    document["web"].update({"port": web, "serve": False})
    return tomlkit.dumps(document)


def live_through(the: Day, study: list[Path], *, report: str = "") -> None:
    """Do it all.

    Parameters
    ----------
    the
        Day.
    study
        Files of the first study.
    report
        What its report says on the page; nothing is looked for where the reading makes none.
    """
    for name in ("first", "again"):
        (the.folder / name).mkdir()
    _sign_in(the)
    with Stranger.on_port(the.folder / "first", the.node.port, the.pacs_port) as pacs:
        _add_the_pacs(the, pacs)
        _send_through(the, pacs, study, report)
    _lose_the_pacs(the)
    with Orthanc.on_port(the.folder / "again", the.node.port, the.pacs_port) as pacs:
        _retry_all(the, pacs)


def _sign_in(the: Day) -> None:
    the.show("/sign-in")
    the.write("name", "admin")
    the.write("password", the.password)
    press(the.browser, "\r")
    the.says("admin, administrator")
    the.says("No study was received yet.")
    the.shot("1-nothing-yet")


def _add_the_pacs(the: Day, pacs: Stranger) -> None:
    the.push("Peers")
    the.says("There is none yet.")
    for name, text in (("name", "pacs"), ("ae_title", "PACS"), ("host", "127.0.0.1"), ("port", str(the.pacs_port))):
        the.write(name, text)
    the.tick("source")
    the.tick("destination")
    the.shot("2-the-form")
    the.push("Add")
    the.says("peer pacs added")
    the.push("pacs")
    the.says("Test the way to it")
    the.push("Test the way to it")
    the.says("fails")
    the.shot("3-which-rung-fails")
    rungs = the.browser.evaluate("document.querySelector('.ladder').innerText")
    assert re.search(r"fails\s+association", rungs), rungs
    assert "TSCNODE" in rungs, rungs
    pacs.learn(the.node.port)
    the.push("Test the way to it")
    the.stands(ALL_HOLD, "a ladder whose every rung holds")
    the.shot("4-every-rung-holds")


def _send_through(the: Day, pacs: Stranger, study: list[Path], report: str) -> None:
    pacs.upload(*study)
    the.show("/studies")
    pacs.post("/modalities/node/store", {"Resources": pacs.get("/studies")})
    the.stands("!!document.querySelector('#list .state')", "the study, without reloading")
    the.shot("5-it-comes")
    the.stands("!!document.querySelector('#list .state.delivered')", "the delivery, without reloading")
    the.shot("6-it-is-delivered")
    tab_to(the.browser, "document.activeElement.pathname?.startsWith('/studies/')")
    press(the.browser, "\r")
    the.says("verified")
    the.shot("7-the-study")
    if report:
        the.says(report)
        the.browser.evaluate("document.querySelector('#report').scrollIntoView()")
        the.shot("8-its-report")


def _lose_the_pacs(the: Day) -> None:
    make_study(the.folder / "sent", SECOND)
    the.node.send(the.folder / "sent")
    wait_for(lambda: the.told("report undelivered"), WAIT_S, "the messages by mail and webhook")
    the.show("/studies")
    the.says("tried again")
    the.shot("9-the-pacs-is-away")
    (the.folder / "messages.json").write_text(json.dumps([the.mails.taken, the.hook.posted], indent=1))


def _retry_all(the: Day, pacs: Orthanc) -> None:
    the.show("/studies")
    the.push("Try deliveries at once")
    the.says("The deliveries are tried at once.")
    wait_for(lambda: the.node.state(SECOND) == "delivered", WAIT_S, "the delivery")
    the.stands("document.querySelectorAll('#list .state.delivered').length === 2", "both deliveries")
    the.shot("10-all-is-delivered")
    assert pacs.instances(SECOND, "SR")
    wait_for(lambda: the.told("resolved"), WAIT_S, "the end of the alarm")
    assert not [text for text in (*the.mails.taken, *map(str, the.hook.posted)) if "2.25." in text]


def main() -> None:
    """Live through it with the models that ship, and keep the pictures."""
    from pipeline.synthetic import StudyTags, write_study

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=Path, required=True)
    shots = parser.parse_args().shots
    shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = write_study(folder / "synthetic", seed=3, study=StudyTags(study_uid=FIRST), quick=True, bystanders=True)
        files = [path for paths in study.files.values() for path in paths]
        with day(folder, "dicom_node", shots) as the:
            live_through(the, files, report="AED-refractory")
    print(f"the first day is over; pictures in {shots}")


if __name__ == "__main__":
    main()
