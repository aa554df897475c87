"""The demonstration: studies of each kind, a PACS that fails, and pages that show what became of them."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest

from dicom_node.cli.demo import pages_of_demo
from dicom_node.cli.demo_pacs import DemoPacs
from dicom_node.cli.demo_studies import ENDS, SHOWS, Case, DemoStudy, write_studies
from dicom_node.config import Config, Peer, parse
from dicom_node.errors import PeerError
from dicom_node.net import scu
from dicom_node.studies.timeline import State
from pipeline.errors import HoldReason
from pipeline.select import BUILT_IN, select_study
from tests.support.services import wait_for

ENDINGS = ("<td>ambiguous role</td>", '<span class="state delivered">')


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, DemoStudy]:
    return {study.case: study for study in write_studies(tmp_path_factory.mktemp("demo"), tuple(Case))}


@pytest.mark.parametrize("case", Case)
def test_each_study_comes_as_it_is_told(studies: dict[Case, DemoStudy], case: Case):
    held = select_study(list(studies[case].files), BUILT_IN).held
    wanted = {Case.AMBIGUOUS: HoldReason.AMBIGUOUS_ROLE, Case.WITHOUT_FLAIR: HoldReason.MISSING_ROLE}
    assert (held.code if held else None) == wanted.get(case)
    assert (ENDS[case] == State.HELD) == (case in wanted)
    assert SHOWS[case]


def calling(pacs: DemoPacs) -> tuple[Config, Peer]:
    peer = f'[[peers]]\nname = "demo"\nae_title = "DEMOPACS"\nhost = "127.0.0.1"\nport = {pacs.start()}\n'
    config = parse(f'[receive]\naccept = "any"\n{peer}roles = ["destination"]\n')
    return config, config.peers[0]


def test_a_pacs_that_loses_associations_has_everything_in_the_end(studies: dict[Case, DemoStudy]):
    pacs = DemoPacs(fail_rate=0.4)
    config, peer = calling(pacs)
    files, lost = studies[Case.GOOD].files[:6], 0
    for file in files:
        while True:
            try:
                scu.send(config, peer, [file])
                break
            except PeerError:
                lost += 1
    assert len(pacs.stored) == len(files)
    assert lost == pacs.lost == pacs.asked - len(files) > 0


def test_the_pages_show_what_became_of_the_studies(tmp_path: Path):
    with pages_of_demo(tmp_path, lambda _: None, (Case.AMBIGUOUS, Case.REFUSED)) as pages:

        def listed() -> str:
            return str(urlopen(f"{pages.address}/studies", timeout=60).read().decode())

        # The index follows the timelines a moment later.
        wait_for(lambda: all(shown in listed() for shown in ENDINGS), 60, "the list")
    timeline = (tmp_path / "node/spool" / pages.studies[1].study_uid / "timeline.jsonl").read_text()
    assert timeline.count('"send_failed"') >= 2
