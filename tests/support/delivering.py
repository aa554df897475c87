"""The delivering half of a node, without models: studies that look as if they had been read, and a worker's outbox."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dicom_node.config import Config, load
from dicom_node.engine.addressing import Addressing, identified
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.engine.sending import sending
from dicom_node.engine.waking import wake
from dicom_node.net.held_port import held_port
from dicom_node.net.scp import Receiver
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.standings import Standing, standings
from dicom_node.studies.timeline import Delivery, Event, Kind, State
from tests.support.destinations import Destination
from tests.support.services import started, wait_for

RUN = "ab" * 32
_FILES = {
    "report.dcm": Comprehensive3DSRStorage,
    "report.comprehensive.dcm": ComprehensiveSRStorage,
    "summary.dcm": SecondaryCaptureImageStorage,
}


def scored_study(spool: Spool, study_uid: str, run: str = RUN, size_bytes: int = 200_000) -> Study:
    """Return a study with the objects of a run, just read."""
    spool.store(study_uid, f"{study_uid}.1", b"content")
    study = spool.study(study_uid)
    leave_objects(study.run_folder(run), study_uid, size_bytes)
    study.note(Event.READ, State.SCORED, input_digest=run)
    return study


def leave_keys(folder: Path, study_uid: str) -> list[str]:
    """Write what points to each report of a run, and return the UIDs in the order of the reports."""
    kinds = dict.fromkeys(("key.dcm", "key.comprehensive.dcm"), KeyObjectSelectionDocumentStorage)
    return leave_objects(folder, study_uid, files=kinds)


def leave_objects(
    folder: Path, study_uid: str, size_bytes: int = 200_000, files: Mapping[str, str] = _FILES
) -> list[str]:
    """Write the objects of a run, and return the UIDs of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = []
    for name, kind in files.items():
        instance = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.SOPClassUID, instance.SOPInstanceUID = kind, generate_uid()
        instance.StudyInstanceUID, instance.SeriesInstanceUID = study_uid, generate_uid()
        instance.Modality = "SR"
        # Longer than a PDU, so that a connection can be cut inside of one.
        instance.EncapsulatedDocument = bytes(size_bytes)
        instance.save_as(folder / name, enforce_file_format=True)
        uids.append(str(instance.SOPInstanceUID))
    return uids


@dataclass
class Sender:
    """Receiver and outbox of a node, and its destinations by name."""

    config: Config
    config_file: Path
    spool: Spool
    destinations: dict[str, Destination]

    @contextmanager
    def working(self) -> Iterator[Addressing]:
        """Deliver while the block lasts, as a worker does."""
        with sending(self.config, self.spool, "worker") as addressing:
            yield addressing

    @contextmanager
    def working_apart(self) -> Iterator[subprocess.Popen[bytes]]:
        """Deliver in a process of its own, which the block may kill."""
        command: list[str | Path] = [sys.executable, "-m", "tests.support.delivering", self.config_file]
        with started(command, self.config_file.with_suffix(".log")) as process:
            yield process

    def address(self, study_uid: str, state: str = "scored", *, wake: bool = False) -> None:
        """Have a study delivered."""
        with Outbox(self.config.node.engine_url) as outbox:
            Addressing(self.config, self.spool, outbox).address(study_uid, state, wake=wake)

    def standing(self, study_uid: str, peer: str, kind: str = "sr") -> Standing:
        found = standings(self.spool.study(study_uid).timeline())
        return found.get(Delivery(peer, kind)) or Standing(Delivery(peer, kind))

    def wait(self, study_uid: str, peer: str, *progress: str, kind: str = "sr", timeout_s: float = 60) -> Standing:
        """Return where a delivery stands as soon as it stands in one of these ways."""
        wanted: Callable[[], Standing | None] = lambda: (  # noqa: E731
            one if (one := self.standing(study_uid, peer, kind)).progress in progress else None
        )
        return wait_for(wanted, timeout_s, f"{kind} {' or '.join(progress)} at {peer}", poll_s=0.02)

    def undelivered(self) -> list[Item]:
        with Outbox(self.config.node.engine_url) as outbox:
            return outbox.undelivered()

    def wake(self) -> None:
        """Try at once what was set aside."""
        wake(self.config, self.spool, waiting=False)

    def uids(self, study_uid: str) -> list[str]:
        """Return the SOP Instance UIDs of the reports that the run left, the best first."""
        return list(identified(self.spool.study(study_uid).run_folder(RUN), Kind.SR))

    def state(self, study_uid: str) -> str:
        return self.spool.study(study_uid).state()

    def events(self, study_uid: str) -> list[str]:
        return self.spool.study(study_uid).timeline().events


@contextmanager
def sender(
    folder: Path, *names: str, delivery: str = "", peers: dict[str, str] | None = None, receives: bool = True
) -> Iterator[Sender]:
    """Yield a node that can deliver, and destinations that listen.

    Parameters
    ----------
    folder
        For its data.
    *names
        Of its destinations.
    delivery
        Lines of ``[delivery]`` besides short pauses.
    peers
        Lines of a peer, by name.
    receives
        Whether its receiver runs.
    """
    with ExitStack() as running:
        node_port = running.enter_context(held_port())
        found = {name: Destination(running.enter_context(held_port()), node_port) for name in names}
        blocks = "".join(
            f'[[peers]]\nname = "{name}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {one.port}\n'
            f'roles = ["source", "destination"]\n{(peers or {}).get(name, "")}\n'
            for name, one in found.items()
        )
        times = delivery or "retry_s = 0.3\ncommitment_timeout_s = 2\n"
        file = folder / "node.toml"
        file.write_text(
            f'[node]\nbind = "127.0.0.1"\nport = {node_port}\ndata_dir = "data"\n'
            f'[receive]\ndisk_reserve_gb = 0\n[report]\nsend = ["sr"]\n{blocks}[delivery]\n{times}'
        )
        config = load(file)
        spool = Spool(config.node.data_dir)
        receiver = Receiver(config, spool)
        if receives:
            receiver.start()
            running.callback(receiver.stop, 0)
        for one in found.values():
            running.callback(one.down)
            one.up()
        yield Sender(config, file, spool, found)


def main() -> None:
    """Deliver until killed: a worker without models."""
    config = load(Path(sys.argv[1]))
    with sending(config, Spool(config.node.data_dir), "worker"):
        threading.Event().wait()


if __name__ == "__main__":
    main()
