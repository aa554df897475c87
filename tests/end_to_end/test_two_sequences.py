"""A bundle that was tested on two sequences, with real parts: a report of two, a better one when the third comes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from models.bundle import SHIPPED
from models.contrast import Contrast
from tests.support.bundles import change_metadata
from tests.support.reports import check_round_trip, predecessors
from tests.support.services import Node, Orthanc, node_and_pacs

MODE = {"weights": {"T1W": 0.25, "T2W": 0.75}, "threshold": 0.9, "patients": 20, "auc": 0.8}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Node, Orthanc]]:
    """Yield a running node whose bundle was tested on T1W and T2W alone too, and its PACS."""
    bundle = Path(shutil.copytree(SHIPPED / "synthetic-demo", tmp_path / "bundle"))
    change_metadata(bundle, two_sequences=[MODE])
    with node_and_pacs(tmp_path, extra=f'[model]\nbundle = "{bundle}"\n') as (node, pacs):
        node.start("serve")
        node.wait_listening()
        yield node, pacs


def test_two_sequences_give_a_report_and_the_third_another(served: tuple[Node, Orthanc], quick_study, tmp_path: Path):
    node, pacs = served
    uid = quick_study.study_uid
    for role in (Contrast.T1W, Contrast.T2W):
        node.send(quick_study.files[role][0].parent)
    node.wait_event(uid, "delivered", 1)
    result = node.result(uid)
    assert (result["state"], result["sequences_used"]) == ("scored", ["T1W", "T2W"])
    assert (result["weights"], result["threshold"]) == (MODE["weights"], MODE["threshold"])
    (first,) = pacs.instances(uid, "SR")
    report = pydicom.dcmread(pacs.fetch(first, tmp_path / "first.dcm"))
    check_round_trip(result, report)

    node.send(quick_study.files[Contrast.FLAIR][0].parent)
    node.wait_event(uid, "delivered", 2)
    whole = node.result(uid)
    assert whole["sequences_used"] == [role.value for role in Contrast]
    assert whole["scores"]["T1W"] == result["scores"]["T1W"]
    (second,) = set(pacs.instances(uid, "SR")) - {first}
    revised = pydicom.dcmread(pacs.fetch(second, tmp_path / "second.dcm"))
    check_round_trip(whole, revised)
    assert predecessors(revised) == [report.SOPInstanceUID]
