"""Instances per second of this node, Debian's storescp and Orthanc, and stock pynetdicom, beside what the disk can do.

Run with ``python -m tests.benchmarks.receive [--instances N] [--repeats N] [--json]``. Every receiver gets the same
files on loopback. The node fsyncs file and folder before it answers; the others do not.

The floors are measured in the same run, without a network: one file written, fsynced, renamed and its folder fsynced
for each instance; and one journal, appended to with fdatasync for each instance. Both are measured before and after
each round of receivers, because a disk that others use has no speed of its own. Medians are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from dicom_node.net.held_port import held_port
from tests.support.raw_association import RawAssociation, message, store_command
from tests.support.services import ORTHANC, STORESCU, started

STORESCP = Path("/usr/bin/storescp")
AE_TITLE = "TSCNODE"
DELAY_S = 0.04
"""There and back; half of it each way."""
DELAYED_INSTANCES = 150
"""At most; with fewer, association and release would be most of what is measured."""
_PYNETDICOM = """
import sys, uuid
from pathlib import Path
from pynetdicom import AE, AllStoragePresentationContexts, evt
def keep(event):
    Path(sys.argv[2], uuid.uuid4().hex).write_bytes(event.encoded_dataset())
    return 0
entity = AE("TSCNODE")
entity.supported_contexts = AllStoragePresentationContexts
entity.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, keep)])
"""


def make_instances(folder: Path, count: int) -> int:
    """Write `count` MR instances of 256 x 256 pixels and return their size in bytes."""
    rng = np.random.default_rng(0)
    study, series = generate_uid(), generate_uid()
    for number in range(count):
        instance = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.SOPClassUID = MRImageStorage
        instance.SOPInstanceUID = generate_uid()
        instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
        instance.Modality = "MR"
        instance.PatientName = "BENCHMARK"
        instance.PatientID = "BENCHMARK"
        instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
        instance.InstanceNumber = number + 1
        instance.Rows = instance.Columns = 256
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 12, 11
        instance.PixelRepresentation = 0
        instance.PixelData = rng.integers(0, 4096, (256, 256), dtype=np.uint16).tobytes()
        instance.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)
    return sum(path.stat().st_size for path in folder.iterdir())


# --- receivers --------------------------------------------------------------------------------------------------------


def node_command(folder: Path, port: int) -> list[str]:
    """Return the command of the node's receiver, as a hospital runs it."""
    settings = f'[node]\nae_title = "{AE_TITLE}"\nbind = "127.0.0.1"\nport = {port}\ndata_dir = "data"\n'
    path = folder / "node.toml"
    path.write_text(settings + '[receive]\naccept = "any"\ndisk_reserve_gb = 0.1\n')
    return [sys.executable, "-P", "-m", "dicom_node", "receive", "--config", str(path)]


def storescp_command(folder: Path, port: int) -> list[str]:
    """Return the command of Debian's storescp, which writes to `folder`."""
    return [str(STORESCP), "--fork", "--aetitle", AE_TITLE, "--output-directory", str(folder), str(port)]


def orthanc_command(folder: Path, port: int) -> list[str]:
    """Return the command of an Orthanc that takes everything and keeps it in `folder`."""
    settings = {
        "Name": "benchmark",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpServerEnabled": False,
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    return [str(ORTHANC), str(path)]


def pynetdicom_command(folder: Path, port: int) -> list[str]:
    """Return the command of a receiver of a few lines, as pynetdicom's documentation has it."""
    return [sys.executable, "-c", _PYNETDICOM, str(port), str(folder)]


RECEIVERS = {
    "dicom-node": node_command,
    "storescp": storescp_command,
    "Orthanc": orthanc_command,
    "pynetdicom": pynetdicom_command,
}


# --- senders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sender:
    """How instances are sent."""

    name: str
    associations: int = 1
    window: int = 1
    nodelay: bool = False
    raw: bool = False
    delayed: bool = False


SENDERS = (
    Sender("storescu as it comes"),
    Sender("storescu TCP_NODELAY=1", nodelay=True),
    Sender("storescu as it comes x4", associations=4),
    Sender("raw", raw=True),
    Sender("raw x4", raw=True, associations=4),
    Sender("raw, window 16", raw=True, window=16),
    Sender("raw, 40 ms, window 1", raw=True, delayed=True),
    Sender("raw, 40 ms, window 16", raw=True, window=16, delayed=True),
)


def encoded_messages(files: list[Path]) -> list[bytes]:
    """Return the PDUs of each file, in pieces that every receiver takes."""
    messages = []
    for number, file in enumerate(files, start=1):
        content = file.read_bytes()
        data_set = content[144 + int.from_bytes(content[140:144], "little") :]
        messages.append(message(1, store_command(number, dcmread(file).SOPInstanceUID), data_set, 16_000))
    return messages


def send_raw(port: int, messages: list[bytes], window: int) -> None:
    """Send pre-encoded messages over one association, with up to `window` unanswered ones."""
    with RawAssociation.accepted(port, calling="RAW", window=window if window > 1 else None) as association:
        open_messages = 0
        for encoded in messages:
            if open_messages == window:
                take_answer(association)
                open_messages -= 1
            association.send(encoded)
            open_messages += 1
        for _ in range(open_messages):
            take_answer(association)
        association.release()


def take_answer(association: RawAssociation) -> None:
    """Read an answer, which has to be Success."""
    answer = association.read()
    if answer is None or answer.status:
        raise SystemExit("an instance was refused")


def send_storescu(port: int, files: list[Path], environment: dict[str, str]) -> None:
    """Send files with Debian's storescu."""
    command = [str(STORESCU), "-aec", AE_TITLE, "127.0.0.1", str(port), *map(str, files)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def in_parallel(actions: Sequence[Callable[[], None]]) -> None:
    """Do all at the same time."""
    failures: list[BaseException] = []

    def attempt(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=attempt, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def delaying_relay(port: int) -> Iterator[int]:
    """Yield a port that leads to another one, `DELAY_S` / 2 later in either direction, at any throughput."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        over = threading.Event()

        def relay() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    inner, _ = server.accept()
                    outer = socket.create_connection(("127.0.0.1", port))
                    for pair in ((inner, outer), (outer, inner)):
                        threading.Thread(target=_delay, args=pair, daemon=True).start()

        thread = threading.Thread(target=relay)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            over.set()
            thread.join()


def _delay(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, each piece `DELAY_S` / 2 after it came."""
    pieces: list[tuple[float, bytes]] = []
    changed = threading.Condition()

    def read() -> None:
        while True:
            try:
                piece = source.recv(65536)
            except OSError:
                piece = b""
            with changed:
                pieces.append((time.monotonic() + DELAY_S / 2, piece))
                changed.notify()
            if not piece:
                return

    threading.Thread(target=read, daemon=True).start()
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        with changed:
            changed.wait_for(lambda: pieces)
            due_s, piece = pieces.pop(0)
        time.sleep(max(0.0, due_s - time.monotonic()))
        try:
            if not piece:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(piece)
        except OSError:
            return


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(receiver: str, sender: Sender, files: list[Path], messages: list[bytes]) -> float:
    """Return the instances per second that a fresh receiver takes from a sender."""
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if sender.nodelay:
        environment["TCP_NODELAY"] = "1"
    if sender.delayed:
        files, messages = files[:DELAYED_INSTANCES], messages[:DELAYED_INSTANCES]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(held_port())
        command = RECEIVERS[receiver](folder, port)
        stack.enter_context(started(command, folder / "log", port, environment=environment))
        at = stack.enter_context(delaying_relay(port)) if sender.delayed else port
        step = sender.associations
        if sender.raw:
            actions = [partial(send_raw, at, messages[lane::step], sender.window) for lane in range(step)]
        else:
            actions = [partial(send_storescu, at, files[lane::step], environment) for lane in range(step)]
        start_s = time.monotonic()
        in_parallel(actions)
        return len(files) / (time.monotonic() - start_s)


def file_floor(files: list[Path]) -> float:
    """Return how many instances per second the disk keeps: written, fsynced, renamed, folder fsynced, one by one."""
    contents = [file.read_bytes() for file in files]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start_s = time.monotonic()
        for number, content in enumerate(contents):
            descriptor = os.open(folder / f"{number}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, content)
            os.fsync(descriptor)
            os.close(descriptor)
            (folder / f"{number}.part").rename(folder / f"{number}.dcm")
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        return len(contents) / (time.monotonic() - start_s)


def journal_floor(files: list[Path]) -> float:
    """Return how many instances per second one journal takes, with fdatasync for each."""
    contents = [file.read_bytes() for file in files]
    with tempfile.TemporaryDirectory() as temporary:
        descriptor = os.open(Path(temporary) / "journal", os.O_WRONLY | os.O_CREAT, 0o600)
        start_s = time.monotonic()
        for content in contents:
            os.write(descriptor, content)
            os.fdatasync(descriptor)
        seconds = time.monotonic() - start_s
        os.close(descriptor)
        return len(contents) / seconds


FLOORS = {"floor: file": file_floor, "floor: journal": journal_floor}


def compare(count: int, repeats: int = 1, senders: tuple[Sender, ...] = SENDERS) -> dict[tuple[str, str], list[float]]:
    """Return the instances per second of every receiver with every sender, and of the floors."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        make_instances(Path(folder), count)
        files = sorted(Path(folder).iterdir())
        messages = encoded_messages(files)
        for _ in range(repeats):
            for sender in senders:
                for floor, rate in FLOORS.items():
                    rates[floor, ""].append(rate(files))
                for receiver in RECEIVERS:
                    if receiver != "dicom-node" and (sender.window > 1 or sender.delayed):
                        continue
                    rates[receiver, sender.name].append(measure(receiver, sender, files, messages))
    return dict(rates)


def medians(rates: dict[tuple[str, str], list[float]]) -> dict[tuple[str, str], float]:
    """Return the median of each row."""
    return {row: statistics.median(values) for row, values in rates.items()}


def print_table(rates: dict[tuple[str, str], list[float]]) -> None:
    """Print the rows for people, each beside the file floor."""
    middle = medians(rates)
    floor = middle["floor: file", ""]
    print(f"{'receiver':16} {'sender':26} {'instances/s':>12} {'least':>8} {'most':>8} {'x file floor':>13}")
    for (receiver, sender), values in rates.items():
        rate = middle[receiver, sender]
        print(f"{receiver:16} {sender:26} {rate:12.0f} {min(values):8.0f} {max(values):8.0f} {rate / floor:13.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sender", help="only senders whose name contains this")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    missing = [str(tool) for tool in (STORESCU, STORESCP, ORTHANC) if not tool.exists()]
    if missing:
        raise SystemExit(f"install the Debian packages dcmtk and orthanc: {', '.join(missing)} is missing")
    senders = tuple(sender for sender in SENDERS if (arguments.sender or "") in sender.name)
    rates = compare(arguments.instances, arguments.repeats, senders)
    if arguments.json:
        print(json.dumps({f"{receiver}, {sender}".rstrip(", "): rate for (receiver, sender), rate in rates.items()}))
    else:
        print_table(rates)


if __name__ == "__main__":
    main()
