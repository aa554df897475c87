"""The quick node of `tests.faults` as tests use it: started, sent to, looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_node.net.held_port import held_port
from tests.faults.crash import ROOT, make_study, write_config
from tests.support.services import Node, started, wait_for


@dataclass
class QuickNode:
    """A node that reads in moments; its destination refuses connections.

    Attributes
    ----------
    node
        For what does not start anything: log, states, sending.
    environment
        Of its processes.
    """

    node: Node
    environment: dict[str, str] = field(default_factory=dict)
    _running: ExitStack = field(default_factory=ExitStack)

    @classmethod
    @contextmanager
    def made(
        cls, folder: Path, database_url: str | None = None, data_dir: Path | None = None, **environment: str
    ) -> Iterator[QuickNode]:
        """Yield a node that is not started yet."""
        with held_port() as port, held_port() as away:
            node = Node(folder, port, away)
            node.data_dir = data_dir or node.data_dir
            write_config(folder, port, away, database_url, node.data_dir)
            quick = cls(node, environment)
            try:
                yield quick
            finally:
                quick.stop()

    def start(self, verb: str = "serve") -> subprocess.Popen[bytes]:
        """Start a verb."""
        command = [sys.executable, "-m", "tests.faults.quick_node", verb, "--config", str(self.node.config)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | self.environment
        return self._running.enter_context(started(command, self.node.log, environment=environment))

    def stop(self) -> None:
        """End everything that was started."""
        self._running.close()

    def send(self, folder: Path, study_uid: str, first: int = 0) -> None:
        """Send some small instances of a study, once the receiver listens: it may come up after the worker."""
        make_study(folder, study_uid, first)
        wait_for(lambda: self.said("listening"), 120, "the receiver")
        self.node.send(folder)

    def said(self, event: str, **facts: Any) -> int:
        """Return how often the log contains an event."""
        return sum(line["event"] == event and facts.items() <= line.items() for line in self.node.lines())
