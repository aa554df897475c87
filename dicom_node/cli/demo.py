"""``dicom-node demo``: the whole way of a study on loopback, with synthetic patients and a small PACS of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.cli.demo_pacs import DemoPacs
from dicom_node.cli.demo_studies import ENDS, Case, DemoStudy, write_studies
from dicom_node.config import Config, parse
from dicom_node.errors import NodeError
from dicom_node.net import scu
from dicom_node.net.held_port import held_port
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import State
from dicom_node.web.users import Role, Users
from models.whole_files import open_own, write_whole
from pipeline.report import render_tree
from pipeline.synthetic import write_study

_LONGEST_S = 600.0
_LISTENS_S = 60.0
_POLL_S = 0.2
_REFUSALS = 4
"""Two objects, refused twice each."""
USER = "demo"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pages:
    """The open pages of a node.

    Attributes
    ----------
    config, address
        Of the node, and of its pages.
    password
        Of `USER`, who may do everything.
    studies
        Which it was sent.
    """

    config: Config
    address: str
    password: str
    studies: Sequence[DemoStudy]


def run_demo(folder: Path, progress: Progress) -> str:
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
    with _demonstration(folder, DemoPacs(), progress) as demo:
        progress("drawing a synthetic head with tubers as T1W, T2W and FLAIR")
        study = write_study(folder / "study", seed=1)
        demo.send([path for paths in study.files.values() for path in paths])
        return render_tree(demo.report(study.study_uid))


def run_unreliable(folder: Path, fail_rate: float, progress: Progress) -> str:
    """Send three studies to a node whose PACS loses associations, and return what that came to.

    Parameters
    ----------
    folder, progress
        As for `run_demo`.
    fail_rate
        Share of objects at which the PACS loses the association; below 1.

    Raises
    ------
    NodeError
        ``demo_failed`` if a report does not come back.
    """
    pacs = DemoPacs(fail_rate)
    with _demonstration(folder, pacs, progress) as demo:
        progress("drawing a synthetic head with tubers as T1W, T2W and FLAIR")
        studies = write_studies(folder, (Case.GOOD, Case.REFUSED, Case.OUT_OF_RANGE))
        for study in studies:
            demo.send(study.files)
        for study in studies:
            demo.report(study.study_uid)
            demo.reach({study.study_uid: State.DELIVERED})
    arrived = sum(each.Modality == "SR" for each in pacs.stored.values())
    return (
        f"The PACS was sent an object {pacs.asked} times and lost the association {pacs.lost} times: "
        f"{arrived} reports of {len(studies)} studies arrived."
    )


@contextmanager
def pages_of_demo(folder: Path, progress: Progress, cases: Sequence[Case] = tuple(Case)) -> Iterator[Pages]:
    """Yield the open pages of a node with studies of all kinds.

    Parameters
    ----------
    folder, progress
        As for `run_demo`.
    cases
        Which studies it is sent; all have come to their end when this yields.

    Raises
    ------
    NodeError
        ``demo_failed`` if one of them does not end as it should.
    """
    pacs = DemoPacs()
    with held_port() as web, _demonstration(folder, pacs, progress, web) as demo:
        password = Users(demo.config).put(USER, Role.ADMINISTRATOR)
        progress("drawing a synthetic head with tubers as T1W, T2W and FLAIR")
        studies = write_studies(folder, cases)
        pacs.refusals |= {study.study_uid: _REFUSALS for study in studies if study.case is Case.REFUSED}
        for study in studies:
            demo.send(study.files)
        demo.reach({study.study_uid: ENDS[study.case] for study in studies})
        _await_listening(web)
        yield Pages(demo.config, f"http://127.0.0.1:{web}", password, studies)


@dataclass(frozen=True, slots=True)
class _Demonstration:
    """A running node with its PACS."""

    config: Config
    node: subprocess.Popen[bytes]
    pacs: DemoPacs
    progress: Progress

    def send(self, files: Sequence[Path]) -> None:
        """Send as the PACS would: its AE title calls, ours is called."""
        pacs, node = self.config.peers[0], self.config.node
        as_pacs = self.config.model_copy(update={"node": node.model_copy(update={"ae_title": pacs.ae_title})})
        _await_listening(node.port)
        self.progress(f"sending {len(files)} instances by C-STORE")
        scu.send(as_pacs, pacs.model_copy(update={"ae_title": node.ae_title, "port": node.port}), files)

    def report(self, study_uid: str) -> Dataset:
        """Return the report of a study, once it has come."""
        shown = ""
        for _ in self._looks():
            if report := self.pacs.reports().get(study_uid):
                return report
            timeline = Spool(self.config.node.data_dir).study(study_uid).timeline()
            if timeline.state != shown:
                shown = timeline.state
                self.progress(f"the study is {shown}")
            if timeline.turn and shown in (State.HELD, State.FAILED):
                why = timeline.turn.sentence
                raise NodeError(f"The study got no score: {why} Look at node.log in the demo's folder.", "demo_failed")
        raise NodeError("No report came back: look at node.log in the demo's folder.", "demo_failed")

    def reach(self, wanted: Mapping[str, State]) -> None:
        """Wait until every study is in its state."""
        spool, states = Spool(self.config.node.data_dir), dict[str, State | str]()
        for _ in self._looks():
            states = {uid: spool.study(uid).state() for uid in wanted}
            if states == wanted:
                return
            self.progress(", ".join(states.values()))
        raise NodeError(f"The studies are {', '.join(states.values())}: look at node.log there.", "demo_failed")

    def _looks(self) -> Iterator[None]:
        """Yield from time to time, as long as the node runs and it is worth waiting."""
        until_s = time.monotonic() + _LONGEST_S
        while time.monotonic() < until_s and self.node.poll() is None:
            yield
            time.sleep(_POLL_S)


@contextmanager
def _demonstration(
    folder: Path, pacs: DemoPacs, progress: Progress, web: int | None = None
) -> Iterator[_Demonstration]:
    """Yield a node of its own with a PACS; it ends with the block."""
    with held_port() as port:
        config_file, config = _write_config(folder, port, pacs.start(), web)
        progress("starting the node")
        log = os.fdopen(open_own(folder / "node.log", os.O_WRONLY | os.O_TRUNC), "wb")
        command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(config_file)]
        node = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        try:
            yield _Demonstration(config, node, pacs, progress)
        finally:
            node.send_signal(signal.SIGTERM)
            _end(node)
            log.close()


def _write_config(folder: Path, port: int, pacs_port: int, web: int | None) -> tuple[Path, Config]:
    text = f"""
[node]
bind = "127.0.0.1"
port = {port}
data_dir = "node"
[receive]
quiet_s = 2
disk_reserve_gb = 0.5
[delivery]
retry_s = 2
[web]
{f"port = {web}" if web else "serve = false"}
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


def _await_listening(port: int) -> None:
    until_s = time.monotonic() + _LISTENS_S
    while time.monotonic() < until_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise NodeError("The node does not listen: look at node.log in the demo's folder.", "demo_failed")


def _end(node: subprocess.Popen[bytes]) -> None:
    try:
        node.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
