"""A receiver's life with one study, ended before each of its steps on the disk.

``python -m tests.support.deaths FOLDER`` prints, as JSON, one row for each step: what of the study was acknowledged
before the end, and how a later process finds it. A step is a call that Python's audit hooks report: open, rename, link,
remove, mkdir.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from dicom_node.studies.collect import Collector
from dicom_node.studies.completeness import WaitingRules
from dicom_node.studies.spool import Spool, Study

STEPS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir")
STUDY = "1.2.3"
RULES = WaitingRules(quiet_s=60, deadline_s=1000)


class Life:
    """A spool and a collector whose clock is set by hand; what is acknowledged and submitted is written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 0.0
        self.spool = Spool(folder / "data")
        self.collector = Collector(self.spool, RULES, self.submit, clock=lambda: self.now_s)

    def submit(self, study: Study, reason: str, digest: str) -> None:
        self.note("submitted", digest)

    def note(self, file: str, line: str) -> None:
        with (self.folder / file).open("a") as stream:
            stream.write(f"{line}\n")

    def lines(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().split() if path.exists() else []

    def receive(self, name: str, content: bytes) -> None:
        outcome = self.spool.store(STUDY, name, content).outcome
        self.note("acknowledged", f"{name}={content.decode()}")
        self.collector.stored(1, STUDY, outcome)

    def wait(self) -> None:
        self.collector.closed(1)
        self.now_s += 60
        self.collector.turn()

    def live(self) -> None:
        """Receive and collect, then receive late ones: another instance, other bytes, and the first ones again."""
        self.receive("9.1", b"a")
        self.receive("9.2", b"b")
        self.wait()
        self.receive("9.3", b"c")
        self.receive("9.1", b"d")
        self.receive("9.1", b"a")
        self.wait()


def die_before(step: int, life: Life) -> bool:
    """Return whether a child that lives that life was ended before its n-th step."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    left = step

    def end(event: str, _arguments: Any) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os._exit(9)

    sys.addaudithook(end)
    life.live()
    os._exit(0)


def after(folder: Path) -> dict[str, Any]:
    """Return what the next process makes of the folder."""
    life = Life(folder)
    marked = life.collector.resume()
    life.wait()
    studies = life.spool.studies()
    held = {f"{path.stem.partition('~')[0]}={path.read_text()}" for study in studies for path in study.instances()}
    digests = [study.digest() for study in studies if study.instances()]
    return {
        "marked": marked,
        "acknowledged": sorted(set(life.lines("acknowledged"))),
        "lost": sorted(set(life.lines("acknowledged")) - held),
        "stranded": [digest for digest in digests if life.lines("submitted")[-1:] != [digest]],
        "noted": [study.timeline().collected_digest for study in studies if study.instances()] == digests,
        "marks_left": life.spool.unfinished.uids(),
    }


def deaths(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each step, the last one of a life that came to its end."""
    rows: list[dict[str, Any]] = []
    died = True
    while died:
        step = folder / f"{len(rows) + 1}"
        step.mkdir()
        died = die_before(len(rows) + 1, Life(step))
        rows.append({"died": died, **after(step)})
    return rows


if __name__ == "__main__":
    print(json.dumps(deaths(Path(sys.argv[1]))))
