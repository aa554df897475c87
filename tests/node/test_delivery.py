"""Sent is not delivered: what counts as proof, and how long it is tried."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from dicom_node.config import Config, parse
from dicom_node.engine import delivery
from dicom_node.errors import DeliveryError, PeerError
from dicom_node.net.commitments import await_commitment


@given(retry_s=st.floats(1, 7200), give_up_hours=st.floats(0.01, 100))
def test_pauses_grow_to_an_hour_and_end(retry_s: float, give_up_hours: float):
    pauses = list(delivery.delays_s(retry_s, give_up_hours))
    assert pauses[0] == retry_s
    assert all(later >= earlier or later == 3600 for earlier, later in itertools.pairwise(pauses))
    assert sum(pauses) >= give_up_hours * 3600 > sum(pauses[:-1])


@pytest.mark.parametrize(
    ("status", "permanent"), [(0xA700, False), (0xA900, True), (0xC000, True), (0x0122, False), (None, False)]
)
def test_only_a_refusal_of_the_object_is_permanent(status: int | None, permanent: bool):
    assert DeliveryError("refused", "store_refused", status).permanent is permanent


def test_an_unreachable_peer_is_not_permanent():
    assert not PeerError("away", "peer_unreachable").permanent


@pytest.fixture
def report(tmp_path: Path) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID = ComprehensiveSRStorage
    dataset.SOPInstanceUID = "2.25.31"
    dataset.StudyInstanceUID = "2.25.32"
    dataset.SeriesInstanceUID = "2.25.33"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    return tmp_path / "report.dcm"


def settings(folder: Path, port: int, verify: str) -> Config:
    text = f"""
[node]
data_dir = "data"
[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
roles = ["source", "destination"]
verify = "{verify}"
"""
    return parse(text, folder=folder)


@pytest.fixture
def finding_pacs() -> Iterator[tuple[int, set[str]]]:
    """Yield the port of a PACS and the instances that it lists."""
    listed: set[str] = set()

    def find(event: evt.Event):
        for uid in sorted(listed):
            answer = Dataset()
            answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            answer.SOPInstanceUID = uid
            yield 0xFF00, answer

    entity = AE("PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    yield server.server_address[1], listed
    server.shutdown()


def test_find_proves_only_what_is_listed(tmp_path: Path, report: Path, finding_pacs: tuple[int, set[str]]):
    port, listed = finding_pacs
    config = settings(tmp_path, port, "find")
    with pytest.raises(DeliveryError) as caught:
        delivery.prove(config, config.peers[0], report, config.node.data_dir)
    assert caught.value.code == "not_found"
    listed.add("2.25.31")
    assert delivery.prove(config, config.peers[0], report, config.node.data_dir) == "find"


def test_without_proof_nothing_is_asked(tmp_path: Path, report: Path):
    config = settings(tmp_path, 104, "none")
    assert delivery.prove(config, config.peers[0], report, config.node.data_dir) == "none"


def test_an_answer_that_does_not_come_is_a_failure(tmp_path: Path):
    with pytest.raises(DeliveryError) as caught:
        await_commitment(tmp_path / "never.json", "pacs", 0.3)
    assert caught.value.code == "commitment_timeout"


def test_an_answer_is_waited_for_and_used_up(tmp_path: Path):
    file, answer = tmp_path / "answer.json", '{"transaction_uid": "2.25.9", "committed": ["2.25.31"], "failed": []}'
    threading.Timer(0.1, file.write_text, [answer]).start()
    assert await_commitment(file, "pacs", 1).committed == ["2.25.31"]
    assert not file.exists()
