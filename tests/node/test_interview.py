"""What ``init`` asks on a terminal, answered on one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

from dicom_node.config import load

ANSWERS = (
    "A TITLE FAR TOO LONG", "NODE",     # the first is refused, and asked for again
    "eleven", "104",
    "", "PACS", "192.0.2.10", "", "", "", "cfind",
    "", "PACS", "192.0.2.10", "", "", "4242", "find",
    "y", "mr 1", "MR1", "192.0.2.11", "", "n",
    "mr-1", "MR1", "192.0.2.11", "", "n",
    "",
)  # fmt: skip


def on_terminal(answers: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    """Run the program on a terminal, and answer what it asks; return its exit code and what stood there."""
    ours, its = pty.openpty()
    command = [sys.executable, "-P", "-m", "dicom_node", *arguments]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True) as program:
        os.close(its)
        limit = threading.Timer(60, program.kill)  # A question without an answer ends the test, and does not hang it.
        limit.start()
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # Linux says so where the other end is closed.
            pass
        code = program.wait(60)
        limit.cancel()
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")


def test_init_asks_for_titles_ports_and_peers_until_they_are_right(tmp_path: Path):
    file = tmp_path / "node.toml"
    code, shown = on_terminal(ANSWERS, "init", str(file))
    assert code == 0, shown
    for refused in ("1 to 16 ASCII", "'commitment', 'find' or 'none'", "1 to 32 letters"):
        assert shown.count(refused) == 1
    assert shown.count("DICOM port of this node") == 2
    config = load(file)
    assert (config.node.ae_title, config.node.port) == ("NODE", 104)
    pacs, scanner = config.peers
    assert (pacs.name, pacs.ae_title, pacs.host, pacs.port) == ("pacs", "PACS", "192.0.2.10", 4242)
    assert (pacs.roles, pacs.verify) == (("source", "destination"), "find")
    assert (scanner.name, scanner.roles, scanner.port) == ("mr-1", ("source",), None)
    assert "# AE title of the peer." in file.read_text(), "comments stay"


def test_what_is_broken_off_writes_nothing(tmp_path: Path):
    file = tmp_path / "node.toml"
    assert on_terminal(("NODE", "104", "pacs", "\x04"), "init", str(file))[0] == 130
    assert not file.exists()
