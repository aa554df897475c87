"""The main job with real parts: storescu sends, the node reads, Orthanc gets the report."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from models.contrast import Contrast
from pipeline.synthetic.study_tags import derive_uid
from tests.support.audit import events, objects, of_event, users
from tests.support.private_files import open_to_others
from tests.support.reports import predecessors
from tests.support.services import DCIODVFY, DSRDUMP, SEEDED, Node, Orthanc, command, node_and_pacs, real_data, require

PATIENTS = ("patient03-study2", "patient04-study1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Orthanc]]:
    """Yield a running node, started as hospitals start it, and its PACS."""
    with node_and_pacs(tmp_path_factory.mktemp("served")) as (node, pacs):
        node.start("serve")
        node.wait_listening()
        yield node, pacs


def write_real_study(patient: str, number: int, folder: Path):
    """Write the real scans of a patient, under made headers, as DICOM."""
    from pipeline.synthetic import StudyTags, nifti_study

    volumes = {role: real_data("open-ms", f"{patient}-{role.lower()}.nii.gz") for role in Contrast}
    tags = StudyTags(study_uid=f"2.25.18000000000000000000000000000000{number}", **SEEDED)
    return nifti_study(folder, volumes, tags)


@pytest.mark.parametrize("patient", PATIENTS)
def test_a_real_study_comes_back_as_one_report(served: tuple[Node, Orthanc], patient: str, tmp_path: Path):
    require(DSRDUMP, DCIODVFY)
    node, pacs = served
    study = write_real_study(patient, PATIENTS.index(patient), tmp_path / "sent")
    for paths in study.files.values():
        node.send(paths[0].parent)
    assert node.wait_state(study.study_uid, "delivered", "held", "failed") == "delivered"

    reports = pacs.instances(study.study_uid, "SR")
    assert len(reports) == 1
    report = pacs.fetch(reports[0], tmp_path / "report.dcm")
    dataset = pydicom.dcmread(report)
    assert dataset.StudyInstanceUID == study.study_uid
    assert dataset.PatientID == SEEDED["patient_id"]
    dump = subprocess.run([DSRDUMP, report], capture_output=True, text=True, check=True).stdout
    assert "AED-refractory score (ensemble)" in dump
    checked = subprocess.run([DCIODVFY, "-new", report], capture_output=True, text=True, check=False)
    assert [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")] == []

    verified = [entry for entry in timeline(node, study.study_uid) if entry["event"] == "verified"]
    proofs = {entry["kind"]: entry["proof"] for entry in verified}
    assert proofs == {"sr": "commitment", "summary": "commitment"}

    # The same files without a network: the same score to the last digit.
    out = tmp_path / "out"
    alone = json.loads(command("run", str(tmp_path / "sent"), "--out", str(out), "--json"))
    result = node.result(study.study_uid)
    for key in ("score", "scores", "weights", "score_patent", "category", "brain", "input_digest"):
        assert alone[key] == result[key], key
    assert json.loads((out / "result.json").read_text()) == alone

    # Sent again: nothing happens.
    events = timeline(node, study.study_uid)
    for paths in study.files.values():
        node.send(paths[0].parent)
    node.wait_quiet()
    assert len(pacs.instances(study.study_uid, "SR")) == 1
    later = timeline(node, study.study_uid)[len(events) :]
    assert {entry["event"] for entry in later} <= {"association"}


def timeline(node: Node, study_uid: str) -> list[dict]:
    return json.loads(node.command("show", study_uid, "--json"))["timeline"]


def copy_series(paths: tuple[Path, ...], study_uid: str, folder: Path) -> None:
    """Copy a series into another study, with UIDs of its own."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = derive_uid(study_uid, dataset.SeriesInstanceUID)
        dataset.SOPInstanceUID = derive_uid(study_uid, dataset.SOPInstanceUID)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm")


def test_a_study_without_flair_is_held(served: tuple[Node, Orthanc], quick_study, sent: Path):
    node, pacs = served
    study_uid = "2.25.1900000000000000000000000000000001"
    for role in (Contrast.T1W, Contrast.T2W):
        copy_series(quick_study.files[role], study_uid, sent)
    node.send(sent)
    assert node.wait_state(study_uid, "held", "delivered", "failed") == "held"
    rows = {row["study_uid"]: row for row in json.loads(node.command("studies", "--json"))}
    assert rows[study_uid]["code"] == "missing_role"
    assert "FLAIR" in rows[study_uid]["sentence"]
    assert pacs.instances(study_uid, "SR") == []

    # The missing series arrives late: a new selection, hence a report.
    late = sent.parent / "late" / "sent"
    late.mkdir(parents=True)
    copy_series(quick_study.files[Contrast.FLAIR], study_uid, late)
    node.send(late)
    assert node.wait_state(study_uid, "delivered", "failed") == "delivered"
    assert len(pacs.instances(study_uid, "SR")) == 1


def test_a_late_slice_makes_a_revision(served: tuple[Node, Orthanc], quick_study, sent: Path, tmp_path: Path):
    node, pacs = served
    study_uid = "2.25.1900000000000000000000000000000002"
    late = tmp_path / "late" / "sent"
    late.mkdir(parents=True)
    for role, paths in quick_study.files.items():
        copy_series(paths[:-1] if role is Contrast.FLAIR else paths, study_uid, sent)
    copy_series(quick_study.files[Contrast.FLAIR][-1:], study_uid, late)
    node.send(sent)
    assert node.wait_state(study_uid, "delivered", "held", "failed") == "delivered"
    first = pydicom.dcmread(pacs.fetch(pacs.instances(study_uid, "SR")[0], tmp_path / "first.dcm"))
    node.send(late)
    node.wait_event(study_uid, "read", 2)
    assert node.wait_state(study_uid, "delivered", "held", "failed") == "delivered"
    reports = [pydicom.dcmread(pacs.fetch(i, tmp_path / f"{i}.dcm")) for i in pacs.instances(study_uid, "SR")]
    assert len(reports) == 2
    (second,) = (report for report in reports if report.SOPInstanceUID != first.SOPInstanceUID)
    assert predecessors(second) == [first.SOPInstanceUID]
    assert "PredecessorDocumentsSequence" not in first


def test_a_late_bystander_changes_nothing(served: tuple[Node, Orthanc], quick_study, sent: Path):
    node, pacs = served
    for paths in quick_study.files.values():
        for path in paths:
            shutil.copy(path, sent / f"{path.parent.name}-{path.name}")
    node.send(sent)
    assert node.wait_state(quick_study.study_uid, "delivered", "held", "failed") == "delivered"
    selected = sum(entry["event"] == "selected" for entry in timeline(node, quick_study.study_uid))
    late = sent.parent / "late" / "sent"
    late.mkdir(parents=True)
    for path in quick_study.bystanders:
        shutil.copy(path, late)
    node.send(late)
    node.wait_event(quick_study.study_uid, "selected", selected + 1)
    node.wait_quiet()
    assert node.state(quick_study.study_uid) == "delivered"
    assert len(pacs.instances(quick_study.study_uid, "SR")) == 1


def test_a_stranger_is_refused(served: tuple[Node, Orthanc], quick_study):
    node, _ = served
    node.send(quick_study.files[Contrast.FLAIR][0].parent, calling="STRANGER", code=1)
    refused = [line for line in node.lines() if line["event"] == "association refused"]
    assert refused[-1]["calling"] == "STRANGER"


def test_retry_sends_nothing_again_that_is_proved(served: tuple[Node, Orthanc], quick_study):
    node, pacs = served
    assert node.wait_state(quick_study.study_uid, "delivered") == "delivered"
    before = node.events(quick_study.study_uid)
    report = pacs.instances(quick_study.study_uid, "SR")
    node.command("retry", quick_study.study_uid)
    node.wait_event(quick_study.study_uid, "recalled", before.count("recalled") + 1)
    assert node.wait_state(quick_study.study_uid, "delivered") == "delivered"
    assert pacs.instances(quick_study.study_uid, "SR") == report
    assert node.events(quick_study.study_uid).count("sent") == before.count("sent")


def test_check_and_echo(served: tuple[Node, Orthanc]):
    node, _ = served
    assert "pacs answered" in node.command("echo", "pacs")
    verdicts = json.loads(node.command("check", "--json"))
    assert verdicts["good"]
    # "callers" stands there only once somebody was refused.
    assert {row["what"] for row in verdicts["checks"]} - {"callers"} == {
        "data folder", "database", "models and device", "peer pacs", "commitment pacs",
    }  # fmt: skip


def test_the_log_speaks_of_pseudonyms(served: tuple[Node, Orthanc], quick_study):
    node, _ = served
    lines = node.lines()
    assert any(line["event"] == "study delivered" for line in lines)
    studies = {line["study"] for line in lines if "study" in line}
    assert studies
    assert all(len(study) == 12 for study in studies)
    assert quick_study.study_uid not in node.log.read_text()


def test_the_receiver_never_loads_torch(served: tuple[Node, Orthanc]):
    node, _ = served
    pid = next(line["pid"] for line in node.lines() if line.get("process") == "receive")
    assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
    pid = next(line["pid"] for line in node.lines() if line.get("process") == "work")
    assert "torch" in Path(f"/proc/{pid}/maps").read_text()


def test_nothing_that_the_node_wrote_is_open_to_others(served: tuple[Node, Orthanc], quick_study):
    node, _ = served
    node.send(quick_study.files[Contrast.T1W][0].parent)
    node.wait_state(quick_study.study_uid, "held", "failed", "delivered")
    assert {"spool", "engine.sqlite", "pseudonym.key"} <= {path.name for path in node.data_dir.iterdir()}
    assert open_to_others(node.data_dir) == []


def test_the_audit_trail_says_who_sent_received_and_looked(served: tuple[Node, Orthanc], quick_study):
    """After the studies of this module; every field of every message is one that it may have."""
    node, _ = served
    node.send(quick_study.files[Contrast.T1W][0].parent)
    node.send(quick_study.files[Contrast.T1W][0].parent, calling="STRANGER", code=1)
    node.command("show", quick_study.study_uid)
    said = Counter(events(node.data_dir))
    assert said["Application Activity"] >= 3, "supervisor, receiver and worker started"
    assert said["DICOM Instances Accessed"] >= 1
    alerts = [m for m in of_event(node.data_dir, "Security Alert") if "STRANGER" in users(m)]
    assert alerts
    assert {alert["EventIdentification"]["EventOutcomeIndicator"] for alert in alerts} == {"4"}
    received = [m for m in of_event(node.data_dir, "DICOM Instances Transferred") if users(m) == ["PACS", "TSCNODE"]]
    assert {objects(message)["Patient Number"] for message in received} == {SEEDED["patient_id"]}
    text = "".join(file.read_text() for file in (node.data_dir / "audit").glob("*.jsonl"))
    assert not any(SEEDED[key] in text for key in ("patient_name", "birth_date"))
