"""The supervisor of one machine: it keeps receiver, worker and pages alive, and ends them in their order."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.engine.ending import SUPERVISOR, end_at_once, until_signal
from dicom_node.errors import ConfigError
from dicom_node.log import say

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 300.0
_LOOK_S, _STOP_LOOK_S = 0.2, 0.05
# The worker finishes the study at hand before it ends; the receiver is done in seconds.
STOP_S, RECEIVER_STOP_S, PAGES_STOP_S = 1300.0, 15.0, 5.0
_LAST_WORD_S = 1.0
# Torch gives every large activation back to the kernel and page-faults it again; kept, inference is twice as fast.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}


@dataclass(slots=True)
class _Child:
    """One supervised process."""

    program: str
    verb: str
    stop_s: float
    needed: bool = True
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    due_s: float = 0.0
    starts: int = 0

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None


def serve(config_file: Path, program: str = "dicom_node", *, pages: bool = False, alarms: bool = False) -> None:
    """Run receiver and worker as child processes until a signal; one that ends is started again.

    The worker is stopped first, so that the port stays open while it finishes; a second signal ends all at once.

    Parameters
    ----------
    config_file
        Handed to the children, which read it themselves.
    program
        Module whose verbs the children run.
    pages
        Whether the web pages run too; nothing else waits for them, or ends with them.
    alarms
        The same for the alarms.

    Raises
    ------
    ConfigError
        If receiver or worker refuses to start (``process_refused``): it has said why.
    """
    children = [_Child(program, "receive", RECEIVER_STOP_S), _Child(program, "work", STOP_S)]
    if pages:
        children.insert(0, _Child(program, "web", PAGES_STOP_S, needed=False))
    if alarms:
        children.insert(0, _Child(program, "watch", PAGES_STOP_S, needed=False))
    hurry = _Hurry()
    with until_signal(hurry) as stop:
        try:
            while not stop.wait(_LOOK_S):
                _say_alive()
                for child in children:
                    _look_after(child, config_file)
            _stop(children, config_file, hurry)
        finally:
            _kill(children)
    if hurry.number:
        end_at_once(hurry.number)


def _say_alive() -> None:
    """Tell systemd, where it started this process, that it does not hang (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notified:
            notified.sendto(b"WATCHDOG=1", "\0" + address[1:] if address[0] == "@" else address)


@dataclass(slots=True)
class _Hurry:
    """The second signal: nothing is waited for any more."""

    number: int = 0

    def __call__(self, number: int) -> None:
        self.number = number


def _look_after(child: _Child, config_file: Path) -> None:
    """Start a child that is not running, after a pause that doubles while it keeps ending early."""
    if child.process is not None:
        code = child.process.poll()
        if code is None:
            return
        _ended(child, code)
    if time.monotonic() >= child.due_s:
        _start(child, config_file)


def _ended(child: _Child, code: int) -> None:
    now_s = time.monotonic()
    child.process = None
    if code == ConfigError.exit_code and child.starts == 1 and child.needed:
        raise ConfigError(f"`dicom-node {child.verb}` refuses to start: see the line before.", "process_refused")
    steady = now_s - child.started_s > _STEADY_S
    child.pause_s = FIRST_PAUSE_S if steady else min(2 * child.pause_s, LONGEST_PAUSE_S)
    child.due_s = now_s + child.pause_s
    say(logger, "process ended", level=logging.ERROR, process=child.verb, code=code, again_in_s=child.pause_s)


def _start(child: _Child, config_file: Path) -> None:
    command = [sys.executable, "-P", "-m", child.program, child.verb, "--config", str(config_file)]
    environment = KEEP_MEMORY | os.environ | {SUPERVISOR: str(os.getpid())}
    # In a session of its own, so that Ctrl-C reaches the supervisor alone and the study at hand is finished.
    child.process = subprocess.Popen(command, env=environment, start_new_session=True)
    child.started_s = time.monotonic()
    child.starts += 1
    say(logger, "process started", process=child.verb, pid=child.process.pid)


def _stop(children: list[_Child], config_file: Path, hurry: _Hurry) -> None:
    """Ask the children to end, the last one first; those that still have to run are looked after meanwhile."""
    for number, child in reversed(list(enumerate(children))):
        if child.process is None:
            continue
        say(logger, "stopping", process=child.verb, at_most_s=child.stop_s)
        child.process.terminate()
        until_s = time.monotonic() + child.stop_s
        while child.runs and not hurry.number and time.monotonic() < until_s:
            time.sleep(_STOP_LOOK_S)
            for other in children[:number]:
                _look_after(other, config_file)


def _kill(children: list[_Child]) -> None:
    """End whatever still runs; a second SIGTERM tells a worker that its study is not the reason."""
    running = [child.process for child in children if child.process is not None and child.runs]
    for process in running:
        process.terminate()
    until_s = time.monotonic() + _LAST_WORD_S
    for process in running:
        try:
            process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
