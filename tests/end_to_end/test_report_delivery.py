"""Every destination gets what it can take: Orthanc all, two of DCMTK's storescp only a lower rung of the ladder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.net.held_port import held_port
from models.contrast import Contrast
from pipeline.report import codes
from tests.support.reports import check_round_trip, named, pointed_at
from tests.support.services import (
    DSRDUMP,
    SEEDED,
    Node,
    Orthanc,
    node_and_pacs,
    require,
    started,
)

STORESCP = Path("/usr/bin/storescp")
# What a PACS of another age takes: DCMTK's names of SOP classes, the reports' and the page's.
PEERS = {"archive": ("EnhancedSRStorage", "BasicTextSRStorage"), "texts": ("BasicTextSRStorage",)}
NOT_SUPPORTED = "Abstract Syntax Not Supported"
UPPER = ["Comprehensive 3D SR Storage", "Comprehensive SR Storage", "Enhanced SR Storage"]


@dataclass(frozen=True)
class Storescp:
    """DCMTK's storescp, which accepts some SOP classes and nothing else."""

    folder: Path
    port: int

    @classmethod
    @contextmanager
    def running(cls, folder: Path, name: str, classes: tuple[str, ...]) -> Iterator[Self]:
        require(STORESCP)
        (folder / "sent" / name).mkdir(parents=True)
        contexts = [
            *classes,
            "SecondaryCaptureImageStorage",
            "EncapsulatedPDFStorage",
            "KeyObjectSelectionDocumentStorage",
        ]
        numbered = "\n".join(f"PresentationContext{n} = {c}\\Plain" for n, c in enumerate(contexts, start=1))
        configuration = folder / f"{name}.cfg"
        configuration.write_text(
            "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
            "TransferSyntax2 = LittleEndianImplicit\n"
            f"[[PresentationContexts]]\n[Taken]\n{numbered}\n[[Profiles]]\n[Peer]\nPresentationContexts = Taken\n"
        )
        with held_port() as port:
            peer = cls(folder / "sent" / name, port)
            to = ["-od", str(peer.folder), str(port)]
            command: list[str | Path] = [STORESCP, "-aet", name.upper(), "-xf", configuration, "Peer", *to]
            with started(command, folder / f"{name}.log", port):
                yield peer

    def stored(self, study_uid: str, modality: str) -> list[Dataset]:
        datasets = [pydicom.dcmread(path) for path in sorted(self.folder.iterdir())]
        return [each for each in datasets if (each.StudyInstanceUID, each.Modality) == (study_uid, modality)]


@dataclass
class Hospital:
    node: Node
    pacs: Orthanc
    peers: dict[str, Storescp]

    def timeline(self, study_uid: str) -> list[dict]:
        return list(json.loads(self.node.command("show", study_uid, "--json"))["timeline"])

    def sent(self, study_uid: str, kind: str) -> dict[str, dict]:
        """Return the notes of what was sent of a kind, by peer; none was sent twice."""
        notes = [entry for entry in self.timeline(study_uid) if entry["event"] == "sent" and entry["kind"] == kind]
        assert len({entry["peer"] for entry in notes}) == len(notes)
        return {entry["peer"]: entry for entry in notes}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("ladder")
    report = '[report]\nsend = ["sr", "summary", "pdf", "key"]\nheld = "sr"\n'
    with ExitStack() as running:
        peers = {
            name: running.enter_context(Storescp.running(folder, name, classes)) for name, classes in PEERS.items()
        }
        destinations = "".join(
            f'[[peers]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = {peer.port}\n'
            'roles = ["destination"]\nverify = "none"\n'
            for name, peer in peers.items()
        )
        node, pacs = running.enter_context(node_and_pacs(folder, extra=report + destinations))
        node.start("serve")
        node.wait_listening()
        yield Hospital(node, pacs, peers)


def test_each_destination_gets_the_best_that_it_takes(hospital: Hospital, quick_study, tmp_path: Path):
    require(DSRDUMP)
    node, study_uid = hospital.node, quick_study.study_uid
    for paths in quick_study.files.values():
        node.send(paths[0].parent)
    assert node.wait_state(study_uid, "delivered", "held", "failed", "delivery_failed") == "delivered"

    sent = hospital.sent(study_uid, "sr")
    assert {peer: entry["file"] for peer, entry in sent.items()} == {
        "pacs": "report.dcm", "archive": "report.enhanced.dcm", "texts": "report.basic.dcm",
    }  # fmt: skip
    assert "refused" not in sent["pacs"]
    assert sent["archive"]["refused"] == [f"{name}: {NOT_SUPPORTED}" for name in UPPER[:2]]
    assert sent["texts"]["refused"] == [f"{name}: {NOT_SUPPORTED}" for name in UPPER]
    assert sent["texts"]["sop_class"] == "Basic Text SR Storage"
    shown = " ".join(node.command("show", study_uid).split())
    assert "Basic Text SR Storage" in shown
    assert f"Enhanced SR Storage: {NOT_SUPPORTED}" in shown

    (in_pacs,) = hospital.pacs.instances(study_uid, "SR")
    reports: dict[str, Dataset] = {"pacs": pydicom.dcmread(hospital.pacs.fetch(in_pacs, tmp_path / "pacs.dcm"))}
    for name, peer in hospital.peers.items():
        (reports[name],) = peer.stored(study_uid, "SR")
        assert [len(peer.stored(study_uid, modality)) for modality in ("OT", "DOC")] == [1, 1]
        (key,) = peer.stored(study_uid, "KO")
        (page,) = peer.stored(study_uid, "OT")
        assert pointed_at(key) == [reports[name].SOPInstanceUID, page.SOPInstanceUID], "the report that this peer took"
    kinds = {name: UID(report.SOPClassUID).name for name, report in reports.items()}
    assert kinds == {"pacs": UPPER[0], "archive": UPPER[2], "texts": "Basic Text SR Storage"}
    for report in reports.values():
        check_round_trip(node.result(study_uid), report)
        assert report.PatientID == SEEDED["patient_id"]
    for file in hospital.peers["texts"].folder.glob("SR*"):
        dump = subprocess.run([DSRDUMP, file], capture_output=True, text=True, check=True).stdout
        assert "AED-refractory score (ensemble)" in dump
    assert [len(hospital.pacs.instances(study_uid, modality)) for modality in ("OT", "DOC", "KO")] == [1, 1, 1]


def test_a_held_study_tells_every_destination_once(hospital: Hospital, quick_study, sent: Path, tmp_path: Path):
    node, study_uid = hospital.node, "2.25.1900000000000000000000000000000077"
    for role in (Contrast.T1W, Contrast.T2W):
        of_another_study(quick_study.files[role], study_uid, sent)
    node.send(sent)
    assert node.wait_state(study_uid, "held", "failed") == "held"
    node.wait_event(study_uid, "verified", 3)
    (in_pacs,) = hospital.pacs.instances(study_uid, "SR")
    reports: list[Dataset] = [pydicom.dcmread(hospital.pacs.fetch(in_pacs, tmp_path / "held.dcm"))]
    reports += [report for peer in hospital.peers.values() for report in peer.stored(study_uid, "SR")]
    assert len(reports) == 3
    for report in reports:
        (reason,) = named(report, codes.HELD_REASON)
        assert reason.TextValue.startswith("missing_role: No series of the study is FLAIR")
        assert named(report, codes.ENSEMBLE_SCORE) == []
        assert report.PatientID == SEEDED["patient_id"]
    assert node.state(study_uid) == "held"

    # More of what does not help: the reason is no news.
    late = tmp_path / "late" / "sent"
    late.mkdir(parents=True)
    of_another_study(quick_study.bystanders, study_uid, late)
    node.send(late)
    node.wait_event(study_uid, "read", 2)
    node.wait_quiet()
    assert node.state(study_uid) == "held"
    assert len(hospital.pacs.instances(study_uid, "SR")) == 1
    assert set(hospital.sent(study_uid, "held")) == {"pacs", "archive", "texts"}


def of_another_study(paths: tuple[Path, ...], study_uid: str, folder: Path) -> None:
    """Write instances of a study as those of another one."""
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = f"{study_uid}.{dataset.SeriesNumber}"
        dataset.SOPInstanceUID = f"{study_uid}.{dataset.SeriesNumber}.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm")
