"""How processes end: the first and the second signal, the death of a supervisor, and names that are held."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.engine.ending import SUPERVISOR, until_signal
from dicom_node.engine.held_name import PATIENCE_S, held_name
from dicom_node.errors import AlreadyRunningError
from tests.support.quick import QuickNode
from tests.support.services import end, first_true, wait_for

TAKEN = AlreadyRunningError("A worker is running.", "worker_running")
WAITS = "from dicom_node.engine import ending; ending.end_with_supervisor(); print('waits', flush=True); input()"


def test_a_name_is_held_by_one_process_and_given_back_with_it(tmp_path: Path):
    with held_name(tmp_path, "host-cpu", TAKEN):
        with pytest.raises(AlreadyRunningError) as caught, held_name(tmp_path, "host-cpu", TAKEN):
            pass
        with held_name(tmp_path, "host-cuda0", TAKEN):
            pass
    assert caught.value is TAKEN
    assert TAKEN.exit_code == 2
    with held_name(tmp_path, "host-cpu", TAKEN):
        pass


def test_a_name_whose_holder_ends_is_waited_for(tmp_path: Path):
    hold = f"import fcntl, time; file = open('{tmp_path / 'host-cpu.lock'}', 'w'); fcntl.flock(file, fcntl.LOCK_EX)"
    program = [sys.executable, "-c", f"{hold}; print('held', flush=True); time.sleep({PATIENCE_S / 4})"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with held_name(tmp_path, "host-cpu", TAKEN):
            assert holder.wait(10) == 0


def test_the_first_signal_asks_and_every_further_one_hurries():
    further: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with until_signal(further.append) as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert further == []
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert further == [signal.SIGINT, signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def ends(pid: int) -> bool:
    return bool(first_true(lambda: not Path(f"/proc/{pid}").exists(), 20))


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells of a parent's death on Linux only")
def test_a_process_ends_with_its_supervisor():
    start = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}], env=os.environ | {{{SUPERVISOR!r}: str(os.getpid())}},
                         stdin=subprocess.PIPE, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""
    supervisor = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    try:
        assert supervisor.stdout
        first, second = supervisor.stdout.readline(), supervisor.stdout.readline()
        (pid,) = (int(line) for line in (first, second) if line.strip().isdigit())
        assert "waits\n" in (first, second)
        assert not first_true(lambda: not Path(f"/proc/{pid}").exists(), 0.3)
        supervisor.kill()
        assert ends(pid)
    finally:
        supervisor.kill()
        supervisor.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells of a parent's death on Linux only")
def test_a_process_whose_supervisor_is_gone_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    late = subprocess.Popen([sys.executable, "-c", WAITS], env=os.environ | {SUPERVISOR: str(gone.pid)})
    try:
        wait_for(lambda: late.poll() is not None, 20, "the end of a process without its supervisor")
        assert late.returncode == 128 + signal.SIGKILL
    finally:
        end(late)


def test_the_supervisor_says_to_systemd_that_it_lives(tmp_path: Path):
    name = f"dicom-node-{os.getpid()}"
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with heard, QuickNode.made(tmp_path, NOTIFY_SOCKET=f"@{name}") as quick:
        heard.bind(f"\0{name}")
        heard.settimeout(60)
        quick.start()
        assert [heard.recv(64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
