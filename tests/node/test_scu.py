"""The node's own calls, against peers that accept, refuse and vanish, and against a real Orthanc."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context, evt, sop_class
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.config import Config, NodeSection, Peer, PeerRole
from dicom_node.errors import DeliveryError, PeerError
from dicom_node.net import scu
from dicom_node.net.association import associated
from dicom_node.net.commitment_trial import try_commitment
from dicom_node.net.held_port import held_port
from dicom_node.net.scp import Receiver
from dicom_node.studies.spool import Spool
from tests.support.delivering import sender
from tests.support.services import Orthanc

START_TIMEOUT_S = 60


def pacs(port: int) -> Peer:
    roles = (PeerRole.SOURCE, PeerRole.DESTINATION)
    return Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, roles=roles)


def settings(folder: Path, peer: Peer) -> Config:
    return Config(node=NodeSection(bind="127.0.0.1", data_dir=folder), peers=(peer,))


def make_instance(kind: str = MRImageStorage, study: str | None = None) -> Dataset:
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.SOPClassUID, instance.SOPInstanceUID = kind, generate_uid()
    instance.StudyInstanceUID, instance.SeriesInstanceUID = study or generate_uid(), generate_uid()
    instance.PatientID, instance.Modality = "TEST", "OT"
    return instance


def save(instance: Dataset, path: Path) -> Path:
    instance.save_as(path, enforce_file_format=True)
    return path


@dataclass
class Pacs:
    """A peer in this process that answers every C-STORE with `status`, or with the answer of its SOP class."""

    peer: Peer
    status: int = 0x0000
    before_answer: Callable[[evt.Event], None] = lambda _: None
    answers: dict[str, int] = field(default_factory=dict)
    stored: list[Dataset] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        self.before_answer(event)
        status = self.answers.get(event.dataset.SOPClassUID)
        if status is None:
            self.stored.append(event.dataset)
        return self.status if status is None else status


@contextmanager
def serving(*kinds: str, status: int = 0x0000, title: str = "PACS", syntax: str = ImplicitVRLittleEndian):
    entity = AE(title)
    entity.require_called_aet = True
    for kind in kinds or (MRImageStorage, sop_class.Verification):  # type: ignore[attr-defined]
        entity.add_supported_context(kind, syntax)
    found = Pacs(pacs(104), status)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, found.store)])
    found.peer = pacs(server.server_address[1])
    try:
        yield found
    finally:
        server.shutdown()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return settings(tmp_path / "data", pacs(104))


def test_echo_returns_its_time(config: Config):
    with serving() as found:
        assert 0 < scu.echo(config, found.peer) < 30


def test_a_peer_that_is_away_is_unreachable(config: Config):
    with held_port() as port, pytest.raises(PeerError, match=r"check host, port") as caught:
        scu.echo(config, pacs(port))
    assert caught.value.code == "peer_unreachable"
    nowhere = pacs(104).model_copy(update={"host": "no-such-host.invalid"})
    with pytest.raises(PeerError) as caught:
        scu.echo(config, nowhere)
    assert caught.value.code == "peer_unreachable"


def test_a_rejection_is_told_in_words(config: Config):
    with serving(title="OTHER") as found, pytest.raises(PeerError, match="not answer to the AE title PACS") as caught:
        scu.echo(config, found.peer)
    assert caught.value.code == "association_rejected"


def test_a_peer_that_says_nothing_times_out(config: Config, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dicom_node.net.association.ANSWER_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(PeerError) as caught:
        scu.echo(config, pacs(silent.getsockname()[1]))
    assert caught.value.code == "association_unanswered"


def test_files_and_data_sets_are_sent(config: Config, tmp_path: Path):
    file, instance = make_instance(), make_instance()
    with serving() as found:
        sent = scu.send(config, found.peer, [save(file, tmp_path / "a.dcm"), instance])
    assert [item.sop_instance_uid for item in sent] == [file.SOPInstanceUID, instance.SOPInstanceUID]
    assert {(item.sop_class_uid, item.status) for item in sent} == {(MRImageStorage, 0)}
    assert [item.SOPInstanceUID for item in found.stored] == [file.SOPInstanceUID, instance.SOPInstanceUID]


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xB000, 0xB006, 0xB007])
def test_warnings_and_duplicates_are_stored(config: Config, status: int):
    with serving(status=status) as found:
        assert scu.send(config, found.peer, [make_instance()])[0].status == status


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0110, 0x0124])
def test_a_refusal_is_never_taken_for_stored(config: Config, status: int):
    with serving(status=status) as found, pytest.raises(DeliveryError, match=f"{status:04X}H") as caught:
        scu.send(config, found.peer, [make_instance()])
    assert (caught.value.code, caught.value.status) == ("store_refused", status)


def test_an_answer_that_pynetdicom_takes_away_is_given_back(config: Config):
    with serving() as found, associated(config, found.peer, [build_context(MRImageStorage)]) as association:
        association._reactor_checkpoint.clear()
        time.sleep(0.1)
        answer = C_STORE()
        answer.MessageIDBeingRespondedTo = 1
        answer.Status = 0x0000
        association._serve_request(answer, 1)
        assert association.dimse.get_msg(block=False) == (1, answer)
        association._reactor_checkpoint.set()


def test_an_association_that_breaks_is_never_taken_for_stored(config: Config):
    with serving() as found:
        found.before_answer = lambda event: event.assoc.abort()
        with pytest.raises(PeerError) as caught:
            scu.send(config, found.peer, [make_instance(), make_instance()])
    assert caught.value.code == "peer_broke_off"


def test_a_sop_class_that_is_not_accepted_is_said(config: Config):
    with serving() as found, pytest.raises(DeliveryError) as caught:
        scu.send(config, found.peer, [make_instance(ComprehensiveSRStorage)])
    assert caught.value.code == "sop_class_refused"
    with serving() as found, pytest.raises(DeliveryError) as caught:
        scu.send(config, found.peer, [make_instance(), make_instance(ComprehensiveSRStorage)])
    assert caught.value.code == "sop_class_refused"


def test_a_compressed_instance_is_offered_as_it_is(config: Config):
    instance = make_instance()
    instance.file_meta.TransferSyntaxUID = JPEG2000Lossless
    with serving(MRImageStorage, syntax=JPEG2000Lossless) as found:
        scu.send(config, found.peer, [instance])
        assert len(found.stored) == 1
    with serving() as found, pytest.raises(DeliveryError) as caught:
        scu.send(config, found.peer, [instance])
    assert caught.value.code == "sop_class_refused"


LADDER = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage)


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [(LADDER, 0), (LADDER[1:], 1), (LADDER[2:], 2), (LADDER[3:], 3), ((LADDER[2], LADDER[0]), 0)],
)
def test_the_best_accepted_alternative_is_sent_alone(config: Config, tmp_path: Path, accepted, taken: int):
    paths = [save(make_instance(kind), tmp_path / f"{rank}.dcm") for rank, kind in enumerate(LADDER)]
    with serving(*accepted) as found:
        sent = scu.send_first_accepted(config, found.peer, paths)
    assert sent.path == paths[taken]
    assert sent.refused == tuple(f"{kind.name}: Abstract Syntax Not Supported" for kind in LADDER[:taken])
    assert [item.SOPClassUID for item in found.stored] == [LADDER[taken]]


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
def test_an_object_that_is_refused_when_it_comes_gives_way_to_the_next(config: Config, tmp_path: Path, status: int):
    paths = [save(make_instance(kind), tmp_path / f"{rank}.dcm") for rank, kind in enumerate(LADDER)]
    with serving(*LADDER) as found:
        found.answers = {LADDER[0]: status, LADDER[1]: status}
        sent = scu.send_first_accepted(config, found.peer, paths)
        assert sent.path == paths[2]
        assert sent.refused == tuple(f"{kind.name}: status {status:04X}H" for kind in LADDER[:2])
        found.answers = dict.fromkeys(LADDER, status)
        with pytest.raises(DeliveryError) as caught:
            scu.send_first_accepted(config, found.peer, paths)
    assert (caught.value.code, caught.value.status) == ("store_refused", status)


def test_a_full_peer_gets_nothing_worse_instead(config: Config, tmp_path: Path):
    paths = [save(make_instance(kind), tmp_path / f"{rank}.dcm") for rank, kind in enumerate(LADDER)]
    with serving(*LADDER) as found:
        found.answers = {LADDER[0]: 0xA700}
        with pytest.raises(DeliveryError) as caught:
            scu.send_first_accepted(config, found.peer, paths)
    assert caught.value.status == 0xA700
    assert found.stored == []


def test_no_accepted_alternative_is_said(config: Config, tmp_path: Path):
    paths = [save(make_instance(kind), tmp_path / f"{rank}.dcm") for rank, kind in enumerate(LADDER)]
    with serving() as found, pytest.raises(DeliveryError) as caught:
        scu.send_first_accepted(config, found.peer, paths)
    assert caught.value.code == "sop_class_refused"


def test_services_the_peer_lacks_are_refused(config: Config):
    with serving() as found:
        for call in (
            lambda: scu.find_instances(config, found.peer, "1.2.3"),
            lambda: scu.move(config, found.peer, "1.2.3"),
        ):
            with pytest.raises(DeliveryError) as caught:
                call()
            assert caught.value.code == "sop_class_refused"
        with pytest.raises(DeliveryError, match="enable storage commitment there, or set `verify`") as caught:
            scu.request_commitment(config, found.peer, [(MRImageStorage, "1.2.3")], "1.2.9")
        assert caught.value.code == "commitment_unsupported"


@dataclass
class Hospital:
    """A node that receives, and an Orthanc that knows it."""

    config: Config
    peer: Peer
    spool: Spool


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with held_port() as port, Orthanc.running(folder, port) as orthanc:
        peer = pacs(orthanc.port)
        node = NodeSection(bind="127.0.0.1", port=port, data_dir=folder / "data")
        config = Config(node=node, peers=(peer,))
        spool = Spool(config.node.data_dir)
        receiver = Receiver(config, spool)
        receiver.start()
        try:
            yield Hospital(config, peer, spool)
        finally:
            receiver.stop(0)


def wait_until(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.1)


def test_orthanc_takes_lists_and_commits(hospital: Hospital):
    first = make_instance(Comprehensive3DSRStorage)
    second = make_instance(study=first.StudyInstanceUID)
    scu.send(hospital.config, hospital.peer, [first, second])
    assert scu.echo(hospital.config, hospital.peer) > 0
    find = (hospital.config, hospital.peer, str(first.StudyInstanceUID))
    assert scu.find_instances(*find) == {first.SOPInstanceUID, second.SOPInstanceUID}
    assert scu.find_instances(*find, str(second.SeriesInstanceUID)) == {second.SOPInstanceUID}
    assert scu.find_instances(hospital.config, hospital.peer, "1.2.3") == set()

    transaction_uid = generate_uid()
    missing = generate_uid()
    references = [(str(first.SOPClassUID), str(first.SOPInstanceUID)), (str(MRImageStorage), str(missing))]
    scu.request_commitment(hospital.config, hospital.peer, references, transaction_uid)
    path = hospital.config.node.data_dir / "commitments" / f"{transaction_uid}.json"
    wait_until(path.exists)
    result = json.loads(path.read_text())
    assert result["committed"] == [first.SOPInstanceUID]
    assert result["failed"] == [[missing, 0x0112]]


def test_a_trial_of_commitment_says_whether_results_come_back(hospital: Hospital):
    assert try_commitment(hospital.config, hospital.peer) == "reports storage commitment back"
    assert list((hospital.config.node.data_dir / "commitments").glob("2.25.*")) == []


def test_a_trial_of_commitment_says_that_our_title_is_unknown(hospital: Hospital):
    node = hospital.config.node.model_copy(update={"ae_title": "UNKNOWN"})
    with pytest.raises(DeliveryError, match="knows our AE title UNKNOWN") as caught:
        try_commitment(hospital.config.model_copy(update={"node": node}), hospital.peer)
    assert caught.value.code == "commitment_refused"


def test_a_trial_of_commitment_opens_the_port_where_no_receiver_does(tmp_path: Path):
    with sender(tmp_path, "pacs", receives=False) as node:
        peer = node.config.peers[0]
        assert try_commitment(node.config, peer) == "reports storage commitment back"
        node.destinations["pacs"].outcome = lambda _: None
        with pytest.raises(DeliveryError, match="enter our AE title TSCNODE, host and port") as caught:
            try_commitment(node.config, peer, 0.5)
    assert caught.value.code == "commitment_timeout"


def test_orthanc_sends_a_study_back_when_asked(hospital: Hospital):
    instance = make_instance()
    scu.send(hospital.config, hospital.peer, [instance])
    assert scu.move(hospital.config, hospital.peer, str(instance.StudyInstanceUID)) == 1
    (path,) = hospital.spool.study(str(instance.StudyInstanceUID)).instances()
    assert dcmread(path).SOPInstanceUID == instance.SOPInstanceUID


def test_a_result_on_the_association_of_the_request_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scu, "COMMITMENT_WAIT_S", 30.0)
    model = sop_class.StorageCommitmentPushModel  # type: ignore[attr-defined]
    entity = AE("PACS")
    entity.add_supported_context(model)

    def commit(event: evt.Event) -> tuple[int, None]:
        result = Dataset()
        result.TransactionUID = event.action_information.TransactionUID
        result.ReferencedSOPSequence = event.action_information.ReferencedSOPSequence
        answers.append((event.assoc, result))
        return 0x0000, None

    def report(event: evt.Event) -> None:
        if answers and "N_ACTION_RSP" in type(event.message).__name__:
            association, result = answers.pop()
            threading.Timer(0.2, report_now, (association, result)).start()

    def report_now(association, result) -> None:
        association.send_n_event_report(result, 1, model, sop_class.StorageCommitmentPushModelInstance)

    answers: list[tuple[object, Dataset]] = []
    handlers: list[Any] = [(evt.EVT_N_ACTION, commit), (evt.EVT_DIMSE_SENT, report)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer = pacs(server.server_address[1])
    config = settings(tmp_path, peer)
    try:
        scu.request_commitment(config, peer, [(str(MRImageStorage), "1.2.3")], "1.2.99")
    finally:
        server.shutdown()
    result = json.loads((tmp_path / "commitments" / "1.2.99.json").read_text())
    assert (result["committed"], result["failed"]) == (["1.2.3"], [])
