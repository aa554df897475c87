"""What tests start ends with them, whatever becomes of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import started, wait_for

ROOT = Path(__file__).parents[2]
STARTS = """
import sys, time
from pathlib import Path
from tests.support.services import started
with started(["sleep", "600"], Path(sys.argv[1])) as process:
    print(process.pid, flush=True)
    time.sleep(600)
"""


def ended(pid: int) -> bool:
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_program_that_never_listens_is_ended(tmp_path: Path):
    with pytest.raises(AssertionError, match="ended with 0"), started(["true"], tmp_path / "log", 1):
        pass


def test_a_program_ends_with_a_test_that_fails(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), started(["sleep", "600"], tmp_path / "log") as process:
        raise ZeroDivisionError
    assert process.poll() == -signal.SIGTERM


def test_a_program_ends_with_tests_that_are_killed(tmp_path: Path):
    command = [sys.executable, "-c", STARTS, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert not ended(pid)
        os.kill(tests.pid, signal.SIGKILL)
    wait_for(lambda: ended(pid), 30, "the end of what was started")
