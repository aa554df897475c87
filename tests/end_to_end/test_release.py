"""A study that is held for a human choice, with real parts: one report, of the chosen series, once and for all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from models.contrast import Contrast
from pipeline.synthetic.study_tags import derive_uid
from tests.support.services import Node, Orthanc, node_and_pacs


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Node, Orthanc]]:
    """Yield a running node and its PACS."""
    with node_and_pacs(tmp_path) as (node, pacs):
        node.start("serve")
        node.wait_listening()
        yield node, pacs


def copy_as(paths: tuple[Path, ...], number: int, folder: Path) -> str:
    """Copy a series as another one of the same study; return its Series Instance UID."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = number
        dataset.SeriesInstanceUID = derive_uid(dataset.SeriesInstanceUID, number)
        dataset.SOPInstanceUID = derive_uid(dataset.SOPInstanceUID, number)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{number}-{path.name}")
    return str(dataset.SeriesInstanceUID)


def test_a_choice_by_hand_gives_one_report_that_nothing_changes(
    served: tuple[Node, Orthanc], quick_study, sent: Path, tmp_path: Path
):
    node, pacs = served
    uid = quick_study.study_uid
    for paths in quick_study.files.values():
        for path in paths:
            shutil.copy(path, sent)
    chosen = copy_as(quick_study.files[Contrast.T2W], 5, sent)
    node.send(sent)
    assert node.wait_state(uid, "held", "delivered", "failed") == "held"
    told = json.loads(node.command("show", uid, "--json"))
    assert told["code"] == "ambiguous_role"
    assert "Series 3 and Series 5" in told["sentence"]
    assert pacs.instances(uid, "SR") == []

    node.command("release", uid, "--role", "T2W=2.25.1", code=3)
    assert node.state(uid) == "held"
    node.command("release", uid, "--role", f"T2W={chosen}")
    assert node.wait_state(uid, "delivered", "failed") == "delivered"
    result = node.result(uid)
    assert (result["state"], result["roles"]["T2W"]["series_uid"]) == ("scored", chosen)
    assert result["roles"]["T2W"]["evidence"][0] == "chosen by hand"
    (report,) = pacs.instances(uid, "SR")
    assert chosen in evidence(pacs.fetch(report, tmp_path / "report.dcm"))

    # Late: a localizer, and a third T2W series that fits as well.
    late = tmp_path / "late" / "sent"
    copy_as(quick_study.files[Contrast.T2W], 6, late)
    for path in quick_study.bystanders:
        shutil.copy(path, late)
    events = node.events(uid)
    node.send(late)
    node.wait_event(uid, "selected", events.count("selected") + 1)
    node.wait_quiet()
    assert node.state(uid) == "delivered"
    assert pacs.instances(uid, "SR") == [report]
    assert set(node.events(uid)[len(events) :]) <= {"association", "queued", "collected", "selected", "recalled"}

    assert "1 unchanged, 0 changed" in node.command("explain", "--replay", "5")


def evidence(report: Path) -> set[str]:
    """Return the series that a report names as its evidence."""
    (study,) = pydicom.dcmread(report).CurrentRequestedProcedureEvidenceSequence
    return {str(series.SeriesInstanceUID) for series in study.ReferencedSeriesSequence}
