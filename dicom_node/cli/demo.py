"""``dicom-node demo``: the whole way of a study on loopback, with a synthetic patient and a small PACS of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.config import Config, parse
from dicom_node.errors import NodeError
from dicom_node.net import scu
from dicom_node.net.held_port import held_port
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import State
from models.whole_files import open_own, write_whole
from pipeline.report import render_tree
from pipeline.synthetic import write_study

_LONGEST_S = 600.0
_LISTENS_S = 60.0


@dataclass(slots=True)
class DemoPacs:
    """A PACS that keeps what it is sent in memory."""

    stored: list[Dataset] = field(default_factory=list)

    def start(self) -> int:
        """Listen on loopback and return the port."""
        entity = AE("DEMOPACS")
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(Verification)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._keep)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        return int(server.server_address[1])

    def report(self) -> Dataset | None:
        """Return the structured report, if it has come."""
        return next((dataset for dataset in self.stored if dataset.Modality == "SR"), None)

    def _keep(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.stored.append(dataset)
        return 0x0000


def run_demo(folder: Path, progress: Callable[[str], None]) -> str:
    """Send a synthetic study through a node and return the report as text.

    Parameters
    ----------
    folder
        Empty; holds the study, the node's data and its log afterwards.
    progress
        Told what is going on.

    Raises
    ------
    NodeError
        ``demo_failed`` if no report comes back.
    """
    pacs = DemoPacs()
    with held_port() as port:
        config_file, config = _write_config(folder, port, pacs.start())
        return render_tree(_report_of_node(folder, config_file, config, pacs, progress))


def _report_of_node(
    folder: Path, config_file: Path, config: Config, pacs: DemoPacs, progress: Callable[[str], None]
) -> Dataset:
    progress("starting the node")
    log = os.fdopen(open_own(folder / "node.log", os.O_WRONLY | os.O_TRUNC), "wb")
    command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(config_file)]
    node = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
    try:
        progress("drawing a synthetic head with tubers as T1W, T2W and FLAIR")
        study = write_study(folder / "study", seed=1)
        _send(config, [path for paths in study.files.values() for path in paths], progress)
        return _await_report(pacs, node, config, study.study_uid, progress)
    finally:
        node.send_signal(signal.SIGTERM)
        _end(node)
        log.close()


def _write_config(folder: Path, port: int, pacs_port: int) -> tuple[Path, Config]:
    text = f"""
[node]
bind = "127.0.0.1"
port = {port}
data_dir = "node"
[receive]
quiet_s = 2
disk_reserve_gb = 0.5
[web]
serve = false
[[peers]]
name = "demo-pacs"
ae_title = "DEMOPACS"
host = "127.0.0.1"
port = {pacs_port}
roles = ["source", "destination"]
verify = "none"
"""
    file = folder / "node.toml"
    write_whole(file, text.encode())
    return file, parse(text, folder=folder)


def _send(config: Config, files: list[Path], progress: Callable[[str], None]) -> None:
    """Send as the PACS would: its AE title calls, ours is called."""
    pacs = config.peers[0]
    as_pacs = config.model_copy(update={"node": config.node.model_copy(update={"ae_title": pacs.ae_title})})
    node = pacs.model_copy(update={"ae_title": config.node.ae_title, "port": config.node.port})
    _await_listening(config.node.port)
    progress(f"sending {len(files)} instances by C-STORE")
    scu.send(as_pacs, node, files)


def _await_listening(port: int) -> None:
    until_s = time.monotonic() + _LISTENS_S
    while time.monotonic() < until_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise NodeError("The node does not listen: look at node.log in the demo's folder.", "demo_failed")


def _await_report(
    pacs: DemoPacs, node: subprocess.Popen[bytes], config: Config, study_uid: str, progress: Callable[[str], None]
) -> Dataset:
    until_s = time.monotonic() + _LONGEST_S
    shown = ""
    while time.monotonic() < until_s and node.poll() is None:
        report = pacs.report()
        if report is not None:
            return report
        timeline = Spool(config.node.data_dir).study(study_uid).timeline()
        if timeline.state != shown:
            shown = timeline.state
            progress(f"the study is {shown}")
        if timeline.turn and shown in (State.HELD, State.FAILED):
            why = timeline.turn.sentence
            raise NodeError(f"The study got no score: {why} Look at node.log in the demo's folder.", "demo_failed")
        time.sleep(0.2)
    raise NodeError("No report came back: look at node.log in the demo's folder.", "demo_failed")


def _end(node: subprocess.Popen[bytes]) -> None:
    try:
        node.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
