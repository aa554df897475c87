"""How long a study waits between its last image and its report at the PACS: seconds with evidence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dicom_node.net.held_port import held_port
from pipeline.synthetic import StudyTags, write_series
from tests.faults.crash import Pacs, write_config
from tests.support.destinations import Destination
from tests.support.quick import QuickNode
from tests.support.services import SEEDED, Node, wait_for
from tests.support.studies import TRIPLET, head

UID = "2.25.4712"
BAR_S = 8.0
WORK_S = 0.8
"""Four steps of the quick reading."""


@pytest.mark.measures
def test_a_whole_study_waits_for_seconds(tmp_path: Path):
    for one in TRIPLET:
        write_series(head(one.number), tmp_path / "sent", StudyTags(study_uid=UID, **SEEDED), one)
    with held_port() as port, held_port() as pacs_port:
        config = tmp_path / "node.toml"
        quick = QuickNode(Node(tmp_path, port, pacs_port), {"QUICK_STEP_S": "0.2"})
        write_config(tmp_path, port, pacs_port, None)
        config.write_text(config.read_text("utf-8").replace("quiet_s = 1\n", "quiet_s = 60\n"), "utf-8")
        pacs = Pacs(Destination(pacs_port, port))
        pacs.destination.store = pacs.keep
        pacs.destination.up()
        try:
            quick.start()
            wait_for(lambda: quick.said("listening") and quick.said("worker ready"), 120, "the node")
            quick.node.send(tmp_path / "sent")
            sent_s = time.monotonic()
            wait_for(lambda: pacs.contents, 90, "the report")
            waited_s = time.monotonic() - sent_s - WORK_S
            settled = quick.said("study complete", reason="settled")
        finally:
            quick.stop()
            pacs.destination.down()
    print(f"\nlast C-STORE to report, less the reading: {waited_s:.1f} s")
    assert settled == 1
    assert waited_s <= BAR_S
