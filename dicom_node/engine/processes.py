"""The processes of a node: the receiver, the workers, and the supervisor that keeps both alive on one machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import Config
from dicom_node.engine import workflow
from dicom_node.log import say
from dicom_node.net.scp import Receiver
from dicom_node.studies.collect import Collector
from dicom_node.studies.completeness import WaitingRules
from dicom_node.studies.spool import Spool

logger = logging.getLogger(__name__)

_GB = 10**9
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 300.0
_LOOK_S = 0.2
# The worker finishes the study at hand before it ends; the receiver is done in seconds.
STOP_S = 1300.0
# Torch gives every large activation back to the kernel and page-faults it again; kept, inference is twice as fast.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}


@contextlib.contextmanager
def until_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def receive(config: Config, stop: threading.Event) -> None:
    """Receive and collect studies until `stop` is set."""
    workflow.migrate(config)
    spool = Spool(config.node.data_dir, int(config.receive.disk_reserve_gb * _GB))
    engine = workflow.Engine(config)
    rules = WaitingRules(config.receive.quiet_s, config.receive.deadline_s)
    collector = Collector(spool, rules, engine.submit)
    receiver = Receiver(config, spool, collector)
    receiver.start()
    collector.start()
    stop.wait()
    receiver.stop()
    collector.stop()
    engine.close()


def work(config: Config, stop: threading.Event, executor: str | None = None) -> None:
    """Read studies on the configured device until `stop` is set."""
    from dicom_node.engine import worker  # noqa: PLC0415 - imports torch, which the receiver never does

    workflow.migrate(config)
    worker.work(config, executor or default_executor(config), stop)


def default_executor(config: Config) -> str:
    """Return the name under which this machine's worker finds its unfinished work again."""
    return f"{socket.gethostname()}-{config.model.device.replace(':', '')}"


@dataclass(slots=True)
class _Child:
    """One supervised process."""

    verb: str
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    due_s: float = 0.0


def serve(config: Config, config_file: Path, stop: threading.Event) -> None:
    """Run receiver and worker as child processes until `stop` is set; one that ends is started again.

    Parameters
    ----------
    config
        Validated before anything starts.
    config_file
        Handed to the children, which read it themselves.
    """
    workflow.migrate(config)
    children = [_Child("receive"), _Child("work")]
    try:
        while not stop.wait(_LOOK_S):
            for child in children:
                _look_after(child, config_file)
    finally:
        _stop(children)


def _look_after(child: _Child, config_file: Path) -> None:
    """Start a child that is not running, after a pause that doubles while it keeps ending early."""
    now_s = time.monotonic()
    if child.process is not None:
        code = child.process.poll()
        if code is None:
            return
        child.process = None
        steady = now_s - child.started_s > _STEADY_S
        child.pause_s = _FIRST_PAUSE_S if steady else min(2 * child.pause_s, _LONGEST_PAUSE_S)
        child.due_s = now_s + child.pause_s
        say(logger, "process ended", level=logging.ERROR, process=child.verb, code=code, again_in_s=child.pause_s)
    if now_s >= child.due_s:
        command = [sys.executable, "-P", "-m", "dicom_node", child.verb, "--config", str(config_file)]
        # In a session of its own, so that Ctrl-C reaches the supervisor alone and the study at hand is finished.
        child.process = subprocess.Popen(command, env=KEEP_MEMORY | os.environ, start_new_session=True)
        child.started_s = now_s
        say(logger, "process started", process=child.verb, pid=child.process.pid)


def _stop(children: list[_Child]) -> None:
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.terminate()
    until_s = time.monotonic() + STOP_S
    for process in running:
        try:
            process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
