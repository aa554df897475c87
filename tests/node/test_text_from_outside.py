"""Text from outside is text: whatever a header, a file name or a peer says steers no terminal and breaks no JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import unicodedata
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pydicom
import pytest

from dicom_node import log
from dicom_node.cli.printing import print_json, print_line, print_problem, print_table
from dicom_node.studies.spool import Spool
from models.contrast import Contrast
from models.visible_text import visible, visible_json
from models.whole_files import write_json
from pipeline.report import codes
from pipeline.report.content import series_words
from pipeline.report.items import text
from pipeline.report.pen import Pen
from pipeline.select import SelectedSeries
from tests.support.studies import TRIPLET, receive_study

STEERING = [chr(p) for p in range(sys.maxunicode + 1) if unicodedata.category(chr(p)) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
"""Every character of Unicode that draws nothing by itself: controls, directions of writing, ends of lines, halves."""
HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\r\nFAKE: ok\u202egnp.exe\u2066\u2028b\x85\u200b\x7f\ud800[bold]:warning: 头"


def steers(written: str) -> list[str]:
    return [each for each in written if each in set(STEERING) - {"\n"}]


def test_no_character_that_draws_nothing_is_left():
    assert len(STEERING) > 2000
    shown = visible("".join(STEERING))
    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == json.loads(json.dumps("".join(STEERING)))


def test_what_can_be_seen_stays():
    words = 'T1 头部 тест ｱｲｳ é 🧠 \\u001b "quoted" a\u0301'
    assert visible(words) == words


@pytest.mark.parametrize("indent", [None, 2])
def test_json_stays_json(indent: int | None):
    value = {HOSTILE: [HOSTILE, {"all": "".join(STEERING)}]}
    written = visible_json(value, indent=indent)
    assert steers(written) == []
    assert json.loads(written) == json.loads(json.dumps(value))
    assert len(written.splitlines()) == len(json.dumps(value, indent=indent).splitlines())


def test_nothing_printed_steers(capsys: pytest.CaptureFixture[str]):
    print_line(HOSTILE)
    print_problem(HOSTILE)
    print_table(("what", "said"), [("x", HOSTILE)])
    print_json({"said": HOSTILE})
    printed = capsys.readouterr()
    assert steers(printed.out + printed.err) == []
    assert printed.err.count("\n") == 1
    assert "[bold]:warning:" in printed.out.split("said")[1], "a table knows no markup in a cell"


def test_no_line_of_the_log_steers():
    stream, root = StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log.configure(stream)
        log.say(logging.getLogger("dicom_node.test"), "refused", calling=HOSTILE, deep=[{"called": HOSTILE}])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (line,) = stream.getvalue().split("\n")[:-1]
    assert steers(line) == []
    assert json.loads(line)["deep"][0]["called"] == HOSTILE


def test_no_file_of_a_result_steers(tmp_path: Path):
    write_json(tmp_path / "result.json", {"description": HOSTILE.replace("\ud800", "")})
    assert steers((tmp_path / "result.json").read_text("utf-8")) == []


def test_no_text_of_a_report_steers():
    series = SelectedSeries("1.2.3", 3, HOSTILE, (), ())
    written = str(text(codes.INPUT_SERIES, series_words(Contrast.T1W, series)).TextValue)
    assert steers(written) == []
    assert "\n" not in written, "a description opens no line in a report"
    assert steers("".join(Pen(9, 9).wrapped(HOSTILE, 12, 400, 3))) == []


def test_a_study_that_steers_is_shown_as_text(tmp_path: Path, sent: Path):
    """From the headers of a received study and the names of its files to what a terminal gets."""
    hostile = replace(TRIPLET[0], description="t1\x07\x08\x1b[31m", protocol="t1\u202e")
    spool = Spool(tmp_path / "data")
    study = receive_study(spool, sent, "2.25.7201", hostile, *TRIPLET[1:])
    folder = sent / "named"
    folder.mkdir()
    for number, path in enumerate(study.instances()):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.save_as(folder / f"{number}\x1b]0;x\x07\u202e.dcm")
    (folder / "a\x1b[31m\x9b\udcff").write_bytes(b"no DICOM")
    for arguments in ([], ["--json"]):
        command = [sys.executable, "-P", "-m", "dicom_node", "explain", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert done.returncode in (0, 3), done.stderr
        assert steers((done.stdout + done.stderr).decode("utf-8")) == []
        assert b"u001b" in done.stdout
