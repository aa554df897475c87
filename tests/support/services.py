"""Real programs that the tests run: on loopback ports of their own, in temporary folders, ended by pid."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Self

import pytest

from dicom_node.net.held_port import held_port

DATA = Path(os.environ.get("DICOM_NODE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
STORESCU = Path("/usr/bin/storescu")
ECHOSCU = Path("/usr/bin/echoscu")
DSRDUMP = Path("/usr/bin/dsrdump")
DCIODVFY = Path("/usr/bin/dciodvfy")
ORTHANC = Path("/usr/sbin/Orthanc")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
"""The parent is compared because it may have ended before its death was to be told."""

SEEDED = {"patient_name": "SEEDED^PATIENT", "patient_id": "SEED-ID-4711", "birth_date": "19990102"}
"""The only patient of the suite; nothing outside the spool and the result objects may show these values."""


def require(*tools: Path) -> None:
    """Skip aloud where a tool is missing; fail where nothing may be missing."""
    for tool in tools:
        if not tool.exists():
            _missing(f"{tool} is missing: `bash tests/run.sh` as root installs it")


def require_package(name: str) -> None:
    """Skip aloud where an optional package is missing; fail where nothing may be missing."""
    try:
        distribution(name)
    except PackageNotFoundError:
        _missing(f"{name} is missing: `pip install -e .[test]` installs it")


def real_data(*parts: str) -> Path:
    """Return a folder or file of the real scans, or skip aloud."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real test data {'/'.join(parts)} is absent: set DICOM_NODE_TEST_DATA")
    return path


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def wait_for(condition: Callable[[], Any], timeout_s: float, what: str, poll_s: float = 0.05) -> Any:
    """Return the first true value of `condition`; fail after `timeout_s`."""
    value = first_true(condition, timeout_s, poll_s)
    if not value:
        pytest.fail(f"{what} did not come within {timeout_s:g} s")
    return value


def first_true(condition: Callable[[], Any], timeout_s: float, poll_s: float = 0.05) -> Any:
    """Return the first true value of `condition`; None after `timeout_s`."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if value := condition():
            return value
        time.sleep(poll_s)
    return None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(
    command: Sequence[str | Path],
    log: Path,
    *ports: int,
    environment: dict[str, str] | None = None,
    umask: int = -1,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, which begins when the program listens on `ports`.

    The system ends it where this process is killed before the block ends.
    """
    command = [*ENDS_WITH_US, str(os.getpid()), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True, umask=umask
        )
    try:
        for port in ports:
            _await_port(process, port)
        yield process
    finally:
        end(process)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    wait_for(lambda: listens(port) or process.poll() is not None, 60, f"{process.args!r} on port {port}")
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"


@dataclass(frozen=True)
class Orthanc:
    """Debian's Orthanc as the PACS: AE title PACS, with storage commitment towards the node."""

    folder: Path
    port: int
    http_port: int

    @classmethod
    @contextmanager
    def running(cls, folder: Path, node_port: int, *, dicomweb: bool = False) -> Iterator[Self]:
        """Yield an Orthanc that runs as long as the block; with `dicomweb` it also answers viewers."""
        with held_port() as port, cls.on_port(folder, node_port, port, dicomweb=dicomweb) as pacs:
            yield pacs

    @classmethod
    @contextmanager
    def on_port(cls, folder: Path, node_port: int, port: int, *, dicomweb: bool = False) -> Iterator[Self]:
        """Yield an Orthanc as `running` does, on a port that the caller holds."""
        require(ORTHANC, *([DICOMWEB] if dicomweb else []))
        with held_port() as http_port:
            pacs = cls(folder / "orthanc", port, http_port)
            pacs.folder.mkdir()
            file = pacs.folder / "orthanc.json"
            file.write_text(json.dumps(pacs.configuration(node_port, dicomweb=dicomweb)))
            with started([ORTHANC, file], pacs.folder / "orthanc.log", http_port, port):
                yield pacs

    def configuration(self, node_port: int, *, dicomweb: bool) -> dict[str, Any]:
        node = {"AET": "TSCNODE", "Host": "127.0.0.1", "Port": node_port, "AllowStorageCommitment": True}
        return {
            "Name": "PACS",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "DicomAet": "PACS",
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomCheckCalledAet": False,
            "DefaultEncoding": "Utf8",
            "OverwriteInstances": False,
            "Plugins": [str(DICOMWEB)] if dicomweb else [],
            "DicomWeb": {"Enable": True, "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
            "DicomModalities": {"node": node},
        }

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, value: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", data=json.dumps(value).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def upload(self, *files: Path) -> None:
        """Put files into the PACS, not by DICOM."""
        for file in files:
            url = f"http://127.0.0.1:{self.http_port}/instances"
            with urllib.request.urlopen(urllib.request.Request(url, file.read_bytes(), method="POST"), timeout=60):
                pass

    def instances(self, study_uid: str, modality: str) -> list[str]:
        """Return Orthanc's ids of the instances of one modality in a study."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid, "Modality": modality}}
        found: list[str] = self.post("/tools/find", query)
        return found

    def fetch(self, instance: str, target: Path) -> Path:
        """Write an instance to a file."""
        url = f"http://127.0.0.1:{self.http_port}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=30) as answer:
            target.write_bytes(answer.read())
        return target


class Node:
    """A node with a configuration of its own; its parts run as the processes that hospitals run."""

    def __init__(
        self, folder: Path, port: int, destination_port: int | None, verify: str = "commitment", extra: str = ""
    ) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "node.log"
        self.data_dir = folder / "data"
        self.config = folder / "node.toml"
        destination = f', "destination"]\nport = {destination_port}' if destination_port else "]"
        self.config.write_text(
            f"""
[node]
bind = "127.0.0.1"
port = {port}
data_dir = "data"
[receive]
quiet_s = 2
disk_reserve_gb = 0.1
[web]
serve = false
[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
roles = ["source"{destination}
verify = "{verify}"
[delivery]
retry_s = 1
commitment_timeout_s = 30
{extra}"""
        )
        self._processes = ExitStack()

    def start(self, verb: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "dicom_node", verb, "--config", str(self.config)]
        # Nothing that a node writes may be private by the help of a umask.
        return self._processes.enter_context(started(command, self.log, umask=0))

    def wait_listening(self) -> None:
        wait_for(lambda: listens(self.port), 60, "the receiver")

    def lines(self) -> list[dict[str, Any]]:
        """Return the log, every line of which is JSON."""
        text = self.log.read_text("utf-8") if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def steps(self, event: str = "step started") -> list[str]:
        return [line["step"] for line in self.lines() if line["event"] == event]

    def state(self, study_uid: str) -> str:
        from dicom_node.studies.spool import Study

        folder = self.data_dir / "spool" / study_uid
        return Study(study_uid, folder).state() if folder.exists() else "unknown"

    def wait_state(self, study_uid: str, *states: str, timeout_s: float = 180) -> str:
        return str(
            wait_for(lambda: (s := self.state(study_uid)) in states and s, timeout_s, f"state {' or '.join(states)}")
        )

    def events(self, study_uid: str) -> list[str]:
        from dicom_node.studies.spool import Study

        return Study(study_uid, self.data_dir / "spool" / study_uid).timeline().events

    def wait_event(self, study_uid: str, event: str, times: int, timeout_s: float = 120) -> None:
        wait_for(lambda: self.events(study_uid).count(event) >= times, timeout_s, f"event {event} number {times}")

    def wait_quiet(self) -> None:
        """Wait longer than the quiet time and the engine's polling, so that what would happen has happened."""
        time.sleep(6)

    def result(self, study_uid: str) -> dict[str, Any]:
        """Return the newest result of a study."""
        files = (self.data_dir / "spool" / study_uid / "runs").glob("*/result.json")
        return dict(json.loads(max(files, key=lambda file: file.stat().st_mtime).read_text("utf-8")))

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run a verb on this node's configuration and return what it printed."""
        return command(*arguments, "--config", str(self.config), code=code)

    def send(self, folder: Path, calling: str = "PACS", code: int = 0) -> None:
        """Send the files of one folder in one association with Debian's storescu."""
        require(STORESCU)
        peer = ["-aet", calling, "-aec", "TSCNODE", "127.0.0.1", str(self.port)]
        command_line: list[str | Path] = [STORESCU, "+sd", *peer, folder]
        sent = subprocess.run(command_line, capture_output=True, text=True, timeout=300, check=False)
        assert (sent.returncode == 0) == (code == 0), sent.stderr

    def stop(self) -> None:
        self._processes.close()


def command(*arguments: str, code: int = 0) -> str:
    """Run a verb and return its standard output; its exit code must be `code`, and no traceback may show."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dicom_node", *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@contextmanager
def serving(server: socketserver.TCPServer, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield the port of a server that answers in a thread of its own, over TLS with a context, until the block ends."""
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that a test started, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def node_and_pacs(folder: Path, **options: Any) -> Iterator[tuple[Node, Orthanc]]:
    """Yield a node that is not started yet and its running PACS; both end with the block."""
    with held_port() as port, Orthanc.running(folder, port) as pacs:
        node = Node(folder, port, pacs.port, **options)
        try:
            yield node, pacs
        finally:
            node.stop()


def copy_study(files: dict[Any, Any], folder: Path) -> Path:
    """Copy the files of a written study into one flat folder."""
    folder.mkdir(parents=True)
    for number, path in enumerate(path for paths in files.values() for path in paths):
        shutil.copy(path, folder / f"{number:05d}.dcm")
    return folder
