"""A patient is corrected in the PACS and sent again, with real parts: one revision, of the corrected patient."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom

from tests.support.reports import predecessors
from tests.support.services import SEEDED, node_and_pacs


def copy_for(patient_id: str, paths: tuple[Path, ...], folder: Path) -> None:
    """Copy files as the PACS sends them for a patient."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        target = folder / f"{path.parent.name}-{path.name}"
        shutil.copy(path, target)
        dataset = pydicom.dcmread(target)
        dataset.PatientID = patient_id
        dataset.save_as(target)


def test_a_corrected_patient_gets_the_revision(quick_study, tmp_path: Path):
    uid, files = quick_study.study_uid, quick_study.all_files
    with node_and_pacs(tmp_path) as (node, pacs):
        node.start("serve")
        node.wait_listening()
        copy_for(SEEDED["patient_id"], files, tmp_path / "first" / "sent")
        node.send(tmp_path / "first" / "sent")
        assert node.wait_state(uid, "delivered", "held", "failed") == "delivered"
        first = pydicom.dcmread(pacs.fetch(pacs.instances(uid, "SR")[0], tmp_path / "first.dcm"))
        assert first.PatientID == SEEDED["patient_id"]

        copy_for("SEED-ID-4712", files, tmp_path / "again" / "sent")
        node.send(tmp_path / "again" / "sent")
        node.wait_event(uid, "read", 2)
        assert node.wait_state(uid, "delivered", "held", "failed") == "delivered"
        reports = [pydicom.dcmread(pacs.fetch(i, tmp_path / f"{i}.dcm")) for i in pacs.instances(uid, "SR")]
        (second,) = (report for report in reports if report.SOPInstanceUID != first.SOPInstanceUID)
        assert second.PatientID == "SEED-ID-4712"
        assert predecessors(second) == [first.SOPInstanceUID]
        assert node.events(uid).count("corrected") == 1
