"""What random deaths cost: ``python -m tests.faults.crash [--kills 500] [--seed N]``.

While Debian's storescu pushes studies, and a PACS comes and goes, receiver, worker and supervisor are killed with
SIGKILL at random moments, and the connections of the database are cut. Then comes calm, and everything is counted:
every acknowledged object is in the spool with its bytes, every study has its report at the PACS, no object was sent
with two contents, none belongs to an input that nobody read, and no study is stuck.

The reading is `quick_node`'s; everything else is the product. A process is killed again once it has come up, and a
moment later: a node that never comes up shows nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.engine.run_folder import OBJECTS
from dicom_node.net.held_port import held_port
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Event, State
from pipeline.synthetic.study_tags import derive_uid
from tests.support.databases import Postgres
from tests.support.destinations import Destination
from tests.support.services import STORESCU, first_true, require, started, wait_for

ROOT = Path(__file__).parents[2]
WEIGHTS = {"receiver": 4, "worker": 3, "supervisor": 1, "database": 3}
CHILDREN = {"receiver": "receive", "worker": "work"}
CAME_UP = {"receiver": "listening", "worker": "worker ready", "supervisor": "worker ready"}
LIFE_S = {"receiver": 3.0, "worker": 6.0, "supervisor": 6.0, "database": 1.0}
"""Longest time that is waited for before a part that is up is killed."""
INSTANCES = 5
MOST_UNDELIVERED = 8
CALM_S = 300.0
UP_S = 180.0
_SENT = re.compile(r"Sending file: (\S+)|Received Store Response \((Success)\)")


@dataclass(frozen=True, slots=True)
class Toll:
    """What a crash run cost.

    Attributes
    ----------
    kills
        How often each part was killed.
    acknowledged, lost
        Objects that the node answered with Success, and those of them that the spool does not have, byte for byte.
    studies, missing, waiting, stuck
        Studies that were sent whole; those whose report is not at the PACS; those that are not proved yet and have a
        next attempt to come; those that are not delivered and have none.
    duplicates
        Objects at the PACS that came with two contents, or that belong to no input that was read.
    """

    kills: Counter[str]
    acknowledged: int
    lost: int
    studies: int
    missing: int
    duplicates: int
    waiting: int
    stuck: int

    @property
    def clean(self) -> bool:
        """Whether nothing was lost."""
        return not (self.lost or self.missing or self.duplicates or self.stuck)


@dataclass
class Pacs:
    """A destination that keeps a digest of everything it gets, and comes and goes."""

    destination: Destination
    contents: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def keep(self, event: evt.Event) -> int:
        """Take an object."""
        request = cast(C_STORE, event.request)
        content = request.DataSet.getvalue() if request.DataSet else b""
        self.contents[str(request.AffectedSOPInstanceUID)].add(hashlib.sha256(content).hexdigest())
        return 0

    @contextmanager
    def coming_and_going(self, seed: int) -> Iterator[None]:
        """Be there for some seconds, and away for some, as long as the block lasts; be there then."""
        over, chance = threading.Event(), random.Random(seed)

        def live() -> None:
            while not over.wait(chance.uniform(2, 8)):
                self.destination.down()
                over.wait(chance.uniform(0.5, 4))
                self.destination.up()

        thread = threading.Thread(target=live)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Pushing(threading.Thread):
    """Sends study after study with storescu until it is told to stop, each until all of it was taken."""

    def __init__(self, folder: Path, port: int, spool: Spool) -> None:
        super().__init__(name="pushing")
        self.acknowledged: set[Path] = set()
        self.whole: list[str] = []
        self._folder = folder
        self._port = port
        self._spool = spool
        self._over = threading.Event()

    def stop(self) -> None:
        """Send no further study, and wait for the last one."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Send."""
        while not self._over.is_set():
            if self._undelivered() >= MOST_UNDELIVERED:
                self._over.wait(0.2)
                continue
            study_uid = derive_uid("crash", len(self.whole))
            files = set(make_study(self._folder / str(len(self.whole)), study_uid))
            while not files <= self.acknowledged:
                self._push(next(iter(files)).parent)
            self.whole.append(study_uid)

    def _push(self, folder: Path) -> None:
        peer = ["-aet", "PACS", "-aec", "TSCNODE", "127.0.0.1", str(self._port)]
        timeouts = ["-to", "10", "-ta", "10", "-td", "10"]
        sent = subprocess.run(
            [STORESCU, "-v", "+sd", *timeouts, *peer, folder], capture_output=True, text=True, check=False
        )
        current = None
        for file, success in _SENT.findall(sent.stderr + sent.stdout):
            if success and current:
                self.acknowledged.add(current)
            current = Path(file) if file else None
        if sent.returncode:
            time.sleep(0.3)

    def _undelivered(self) -> int:
        return sum(not delivered(self._spool, uid) for uid in self.whole[-3 * MOST_UNDELIVERED :])


def make_study(folder: Path, study_uid: str, first: int = 0) -> list[Path]:
    """Write some small instances of one series."""
    folder.mkdir(parents=True)
    files = []
    for number in range(first, first + INSTANCES):
        instance = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.SOPClassUID = MRImageStorage
        instance.SOPInstanceUID = derive_uid(study_uid, number)
        instance.StudyInstanceUID, instance.SeriesInstanceUID = study_uid, derive_uid(study_uid, "series")
        instance.Modality, instance.InstanceNumber = "MR", number + 1
        instance.Rows = instance.Columns = 64
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 16, 12, 11, 0
        instance.PixelData = os.urandom(64 * 64 * 2)
        files.append(folder / f"{number}.dcm")
        instance.save_as(files[-1], enforce_file_format=True)
    return files


class Victims:
    """The node's processes, found and killed.

    Parameters
    ----------
    folder
        Holds the configuration; takes the log.
    database
        Of the node.
    """

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.kills: Counter[str] = Counter()
        self._config = folder / "node.toml"
        self._log = folder / "node.log"
        self._database = database
        self._killed_at = dict.fromkeys(CAME_UP, 0)
        self._running = ExitStack()
        self._supervisor: subprocess.Popen[bytes] | None = None

    def keep_up(self) -> None:
        """Start the supervisor if it does not run, as the machine would."""
        if self._supervisor is None or self._supervisor.poll() is not None:
            command = [sys.executable, "-m", "tests.faults.quick_node", "serve", "--config", str(self._config)]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            self._supervisor = self._running.enter_context(started(command, self._log, environment=environment))

    def up(self, target: str) -> bool:
        """Return whether a part has come up since it was killed last, with a supervisor that runs."""
        self.keep_up()
        if target == "database":
            return True
        with self._log.open("rb") as log:
            log.seek(self._killed_at[target])
            return f'"event": "{CAME_UP[target]}"'.encode() in log.read()

    def kill(self, target: str) -> None:
        """Kill a part."""
        if target == "database":
            self._database.cut()
        elif target == "supervisor" and self._supervisor:
            self._supervisor.kill()
            self._supervisor.wait()
        else:
            self._kill_child(CHILDREN[target])
        size_bytes = self._log.stat().st_size
        self._killed_at |= dict.fromkeys(self._killed_at if target == "supervisor" else (target,), size_bytes)
        self.kills[target] += 1

    def close(self) -> None:
        """End the node."""
        self._running.close()

    def _kill_child(self, verb: str) -> None:
        for pid, line in command_lines():
            if f"quick_node {verb} --config {self._config}" in line:
                os.kill(pid, signal.SIGKILL)


def command_lines() -> Iterator[tuple[int, str]]:
    """Yield id and command line of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


def delivered(spool: Spool, study_uid: str) -> bool:
    """Return whether a study was delivered as it is."""
    study = Study(study_uid, spool.data_dir / "spool" / study_uid)
    return study.state() == State.DELIVERED


def crash_run(folder: Path, kills: int, seed: int, calm_s: float = CALM_S) -> Toll:
    """Kill parts of a node at random while studies come and reports go; return what that cost.

    Parameters
    ----------
    folder
        Empty.
    kills
        How many.
    seed
        Of all that is random.
    calm_s
        Longest wait for calm afterwards.
    """
    require(STORESCU)
    chance = random.Random(seed)
    with Postgres.running(folder) as database, held_port() as port, held_port() as pacs_port:
        pacs = Pacs(Destination(pacs_port, port))
        pacs.destination.store = pacs.keep
        write_config(folder, port, pacs_port, database.url)
        spool = Spool(folder / "data")
        victims, pushing = Victims(folder, database), Pushing(folder / "sent", port, spool)
        pacs.destination.up()
        try:
            with pacs.coming_and_going(seed):
                pushing.start()
                try:
                    while victims.kills.total() < kills:
                        (target,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
                        wait_for(lambda: victims.up(target), UP_S, f"the {target}")  # noqa: B023 - called here
                        time.sleep(chance.uniform(0, LIFE_S[target]))
                        victims.kill(target)
                        progress(victims.kills, kills, len(pushing.whole))
                finally:
                    victims.keep_up()
                    pushing.stop()
            first_true(lambda: all(delivered(spool, uid) for uid in pushing.whole), calm_s, 0.5)
            return toll(victims.kills, pushing, pacs, spool)
        finally:
            victims.close()
            pacs.destination.down()


def progress(kills: Counter[str], of: int, studies: int) -> None:
    """Tell how far the run is, now and then."""
    if kills.total() % 25 == 0:
        print(f"{kills.total()} of {of} kills, {studies} studies", file=sys.stderr, flush=True)


def write_config(
    folder: Path, port: int, pacs_port: int, database_url: str | None, data_dir: Path = Path("data")
) -> None:
    """Write a configuration with short waits."""
    database = f'database_url = "{database_url}"\n' if database_url else ""
    (folder / "node.toml").write_text(
        f'[node]\nbind = "127.0.0.1"\nport = {port}\ndata_dir = "{data_dir}"\n{database}'
        "[receive]\nquiet_s = 1\ndisk_reserve_gb = 0.02\n"
        f'[[peers]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs_port}\n'
        'roles = ["source", "destination"]\n[delivery]\nretry_s = 1\ncommitment_timeout_s = 5\n'
    )


def toll(kills: Counter[str], pushing: Pushing, pacs: Pacs, spool: Spool) -> Toll:
    """Count what is lost, missing, double and stuck."""
    kept = {path.name: path for study in spool.studies() for path in study.instances()}
    lost = sum(not same(file, kept) for file in pushing.acknowledged)
    expected = {uid: inputs(spool, uid) for uid in pushing.whole}
    reports = {uid: derive_uid(uid, digests[-1], OBJECTS[0]) for uid, digests in expected.items() if digests}
    known = {derive_uid(uid, one, name) for uid, digests in expected.items() for one in digests for name in OBJECTS}
    left = [uid for uid in pushing.whole if not delivered(spool, uid)]
    stuck = [uid for uid in left if not waits(spool, uid)]
    for uid in stuck:
        print(f"stuck: {spool.study(uid).timeline().entries[-6:]}", file=sys.stderr)
    return Toll(
        kills=kills,
        acknowledged=len(pushing.acknowledged),
        lost=lost,
        studies=len(pushing.whole),
        missing=sum(reports.get(uid) not in pacs.contents for uid in pushing.whole),
        duplicates=sum(len(contents) > 1 or uid not in known for uid, contents in pacs.contents.items()),
        waiting=len(left) - len(stuck),
        stuck=len(stuck),
    )


def waits(spool: Spool, study_uid: str) -> bool:
    """Return whether a delivery of a study has a next attempt to come: pauses double up to an hour."""
    named = (entry.text("next_attempt") for entry in spool.study(study_uid).timeline())
    return any(datetime.fromisoformat(one) > datetime.now(UTC) for one in named if one)


def same(file: Path, kept: dict[str, Path]) -> bool:
    """Return whether the spool has the data set of a file."""
    sent = pydicom.dcmread(file)
    path = kept.get(f"{sent.SOPInstanceUID}.dcm")
    return path is not None and pydicom.dcmread(path) == sent


def inputs(spool: Spool, study_uid: str) -> list[str]:
    """Return the digests of the inputs that were read, in their order."""
    try:
        timeline = spool.study(study_uid).timeline()
    except Exception:
        return []
    return [entry.input_digest or "" for entry in timeline if entry.event in (Event.READ, Event.RECALLED)]


def main() -> None:
    """Print what a run cost; exit 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dicom-node-crash-") as folder:
        cost = crash_run(Path(folder), asked.kills, asked.seed)
    parts = ", ".join(f"{part} {count}" for part, count in sorted(cost.kills.items()))
    print(f"kills                 {cost.kills.total():6}  ({parts}) in {time.monotonic() - began_s:.0f} s")
    print(f"acknowledged objects  {cost.acknowledged:6}  lost {cost.lost}")
    print(f"studies               {cost.studies:6}  reports missing {cost.missing}")
    print(f"not proved yet        {cost.waiting:6}  with an attempt to come, stuck {cost.stuck}")
    print(f"duplicates            {cost.duplicates:6}")
    sys.exit(0 if cost.clean else 1)


if __name__ == "__main__":
    main()
