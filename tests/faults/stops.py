"""How long the node takes to stop, and what is left running: ``python -m tests.faults.stops``.

One node goes through all cases, each with `serve` as hospitals run it: while it starts, idle, while a sender goes on
sending, at inference, with deliveries that wait for a PACS that is away, with a second signal, and with its supervisor
killed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.net.held_port import held_port
from pipeline.synthetic import StudyTags, write_study
from tests.support.services import SEEDED, STORESCU, Node, copy_study, end, first_true, require, wait_for

TERM, CTRL_C, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL
SECOND_SIGNAL_AFTER_S = 0.5
LONG_STEPS = ("convert", "strip", "predict")
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Stopped:
    """How one stop went.

    Attributes
    ----------
    case
        What the node was doing.
    seconds
        From the last signal to the end of the supervisor.
    code
        Its exit status.
    left
        Command lines of the node's processes that still run.
    """

    case: str
    seconds: float
    code: int
    left: tuple[str, ...]


class Stops:
    """A node that is started, brought into a state, and stopped.

    Parameters
    ----------
    node
        Not started.
    start
        Starts its supervisor; default the product's.
    """

    def __init__(self, node: Node, start: Callable[[], subprocess.Popen[bytes]] | None = None) -> None:
        self._node = node
        self._start = start or (lambda: node.start("serve"))
        self._earlier = 0

    def stop(self, case: str, until: Callable[[], object], *signals: signal.Signals) -> Stopped:
        """Start the node, send signals once `until` is true, and return how it ended."""
        self._earlier = len(self._node.lines())
        supervisor = self._start()
        wait_for(until, 300, f"the state {case}", _LOOK_S)
        for number, one in enumerate(signals):
            time.sleep(SECOND_SIGNAL_AFTER_S if number else 0)
            supervisor.send_signal(one)
        signalled_s = time.monotonic()
        code = supervisor.wait(180)
        if code == -KILL:
            # The system ends the children in its own time.
            first_true(lambda: not self.left(), 5, _LOOK_S)
        return Stopped(case, time.monotonic() - signalled_s, code, self.left())

    def said(self, event: str, **facts: object) -> bool:
        """Return whether the log of the present start contains a line."""
        return any(line["event"] == event and facts.items() <= line.items() for line in self._lines())

    def ready(self) -> bool:
        """Return whether the worker takes work."""
        return self.said("worker ready")

    def infers(self) -> bool:
        """Return whether the worker is in a step that takes seconds."""
        steps = [line for line in self._lines() if "step" in line]
        return bool(steps) and steps[-1]["event"] == "step started" and steps[-1]["step"] in LONG_STEPS

    def left(self) -> tuple[str, ...]:
        """Return the command lines of the node's processes that run."""
        return tuple(line for line in command_lines() if f"--config {self._node.config}" in line)

    def _lines(self) -> list[dict[str, object]]:
        return self._node.lines()[self._earlier :]


def command_lines() -> Iterator[str]:
    """Yield the command line of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


@contextmanager
def sending(node: Node, file: Path) -> Iterator[None]:
    """Send a file again and again over one association for as long as the block runs."""
    require(STORESCU)
    peer = ["-aet", "PACS", "-aec", "TSCNODE", "127.0.0.1", str(node.port)]
    node.wait_listening()
    process = subprocess.Popen([STORESCU, "--repeat", "1000000", *peer, file], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        end(process)


def study(folder: Path, seed: int) -> Path:
    """Return a folder with a small synthetic study."""
    tags = StudyTags(study_uid=f"2.25.{1700 + seed}", **SEEDED)
    made = write_study(folder / "sent" / f"made{seed}", seed=seed, study=tags, quick=True)
    return copy_study(dict(made.files), folder / "sent" / f"{seed}")


def stops(folder: Path) -> Iterator[Stopped]:
    """Yield how a node stops in every case.

    Parameters
    ----------
    folder
        Empty, for the node and the studies that it is sent.
    """
    with held_port() as port, held_port() as away:
        node = Node(folder, port, away)
        cases = Stops(node)
        try:
            yield from _without_studies(cases)
            yield from _with_studies(cases, node, study(folder, 1), study(folder, 2))
        finally:
            node.stop()


def _without_studies(cases: Stops) -> Iterator[Stopped]:
    yield cases.stop("starting", lambda: cases.said("process started", process="work"), TERM)
    yield cases.stop("idle", cases.ready, TERM)
    yield cases.stop("idle, killed supervisor", cases.ready, KILL)


def _with_studies(cases: Stops, node: Node, one: Path, two: Path) -> Iterator[Stopped]:
    def at_inference_of(folder: Path) -> Callable[[], bool]:
        unsent = [folder]

        def until() -> bool:
            if unsent and cases.ready():
                node.send(unsent.pop())
            return cases.infers()

        return until

    yield cases.stop("at inference", at_inference_of(one), TERM)
    yield cases.stop("deliveries waiting", lambda: "send_failed" in node.events("2.25.1701"), TERM)
    with _once_listening(cases, node, next(one.iterdir())) as until:
        yield cases.stop("receiving", until, TERM)
    yield cases.stop("at inference, second signal", at_inference_of(two), TERM, TERM)
    yield cases.stop("at inference, Ctrl-C twice", cases.infers, CTRL_C, CTRL_C)
    yield cases.stop("at inference, killed supervisor", cases.infers, KILL)


@contextmanager
def _once_listening(cases: Stops, node: Node, file: Path) -> Iterator[Callable[[], bool]]:
    """Yield a condition that is true once the worker is ready and a sender sends."""
    with ExitStack() as senders:
        started: list[None] = []

        def until() -> bool:
            if not started and cases.said("listening"):
                started.append(senders.enter_context(sending(node, file)))
            return bool(started) and cases.ready()

        yield until


def main() -> None:
    """Print a table of all cases; exit 1 if anything was left running."""
    clean = True
    print(f"{'case':34}{'seconds':>8}{'exit':>6}  left running")
    with tempfile.TemporaryDirectory(prefix="dicom-node-stops-") as folder:
        for stop in stops(Path(folder)):
            print(f"{stop.case:34}{stop.seconds:8.1f}{stop.code:6}  {', '.join(stop.left) or 'nothing'}", flush=True)
            clean = clean and not stop.left
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
