"""The receiver over real associations: who may, what is kept, and that Success is never a lie."""

import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, _config, build_context, build_role, evt, sop_class
from pynetdicom.association import Association

from dicom_node import log
from dicom_node.config import Config, NodeSection, Peer, PeerRole, ReceiveSection
from dicom_node.errors import ConfigError
from dicom_node.net import accepted
from dicom_node.net.contexts import storage_transfer_syntaxes
from dicom_node.net.dimse import Status
from dicom_node.net.places import Places
from dicom_node.net.scp import Receiver
from dicom_node.net.study_uid import find_study_uid
from dicom_node.studies.collect import End
from dicom_node.studies.spool import Outcome, Spool
from dicom_node.studies.timeline import Ending, Event
from tests.support.services import DATA, ECHOSCU, STORESCU, require, wait_for

ROOT = Path(__file__).parents[2]
SYNTAX_FILES = sorted((DATA / "transfer-syntaxes").glob("*.dcm"))
STUDY = "1.2.826.0.1.3680043.8.498.471147114711"


def any_port(folder: Path) -> NodeSection:
    """Return settings that let the system choose the port, which no file may."""
    return NodeSection(bind="127.0.0.1", data_dir=folder).model_copy(update={"port": 0})


def settings(folder: Path, **receive: Any) -> Config:
    def peer(name: str, host: str, *roles: PeerRole) -> Peer:
        return Peer(name=name, ae_title=name.upper(), host=host, port=104, roles=roles)

    return Config(
        node=any_port(folder),
        receive=ReceiveSection(**receive),
        peers=(
            peer("pacs", "localhost", PeerRole.SOURCE, PeerRole.DESTINATION),
            peer("viewer", "127.0.0.1", PeerRole.DESTINATION),
            peer("far", "192.0.2.1", PeerRole.SOURCE),
            peer("lost", "no-such-host.invalid", PeerRole.SOURCE),
        ),
    )


class Arrivals:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []
        self.not_stored: list[str | None] = []
        self.ends: list[End] = []
        self.ended = threading.Event()

    def stored(self, association: int, study_uid: str, outcome: Outcome) -> None:
        self.outcomes.append((study_uid, outcome))

    def refused(self, association: int, study_uid: str | None) -> None:
        self.not_stored.append(study_uid)

    def closed(self, association: int, end: End) -> None:
        self.ends.append(end)
        self.ended.set()


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


@pytest.fixture
def receiver(spool: Spool, arrivals: Arrivals) -> Iterator[Receiver]:
    receiver = Receiver(settings(spool.data_dir), spool, arrivals)
    receiver.start()
    yield receiver
    receiver.stop(0)


def make_instance(kind: UID = MRImageStorage, syntax: UID = ExplicitVRLittleEndian) -> Dataset:
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = syntax
    instance.SOPClassUID, instance.SOPInstanceUID = kind, generate_uid()
    instance.StudyInstanceUID, instance.SeriesInstanceUID = STUDY, generate_uid()
    instance.PatientName, instance.PatientID = "SEEDED^PATIENT", "SEED-ID-4711"
    instance.PatientBirthDate = "19990102"
    instance.Rows = instance.Columns = 16
    instance.BitsAllocated, instance.SamplesPerPixel = 16, 1
    instance.PixelData = os.urandom(512)
    instance["PixelData"].VR = "OW"
    return instance


def associate(
    receiver: Receiver, calling: str = "PACS", called: str = "TSCNODE", contexts: Any = None, **more: Any
) -> Association:
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = 8
    contexts = contexts or [build_context(sop_class.Verification), build_context(MRImageStorage)]  # type: ignore[attr-defined]
    return entity.associate("127.0.0.1", receiver.port, contexts, ae_title=called, **more)


def store(receiver: Receiver, *instances: Dataset | Path, calling: str = "PACS") -> list[Dataset]:
    read = [dcmread(item) if isinstance(item, Path) else item for item in instances]
    wanted = {(item.SOPClassUID, item.file_meta.TransferSyntaxUID) for item in read}
    association = associate(receiver, calling, contexts=[build_context(*pair) for pair in sorted(wanted)])
    assert association.is_established
    try:
        return [association.send_c_store(item) for item in instances]
    finally:
        association.release()


def encode(instance: Dataset) -> bytes:
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    return data_set(file.getvalue())


def data_set(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.parametrize("calling", ["PACS", "VIEWER"])
def test_every_configured_peer_may_echo(receiver: Receiver, calling: str):
    association = associate(receiver, calling)
    assert association.send_c_echo().Status == Status.SUCCESS
    association.release()


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [("STRANGER", "TSCNODE", 3), ("FAR", "TSCNODE", 3), ("LOST", "TSCNODE", 3), ("PACS", "OTHERNODE", 7)],
)
def test_strangers_and_wrong_titles_are_rejected(receiver: Receiver, calling: str, called: str, reason: int):
    association = associate(receiver, calling, called)
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, reason)


def test_only_a_source_may_store(receiver: Receiver, spool: Spool):
    (answer,) = store(receiver, make_instance(), calling="VIEWER")
    assert answer.Status == Status.NOT_AUTHORISED
    assert spool.studies() == []


def test_any_caller_may_store_where_that_is_configured(tmp_path: Path):
    spool = Spool(tmp_path)
    receiver = Receiver(settings(tmp_path, accept="any"), spool)
    receiver.start()
    try:
        assert store(receiver, make_instance(), calling="STRANGER")[0].Status == Status.SUCCESS
    finally:
        receiver.stop()


@pytest.mark.parametrize(
    "kind",
    [
        "MRImageStorage",
        "EnhancedMRImageStorage",
        "EnhancedMRColorImageStorage",
        "LegacyConvertedEnhancedMRImageStorage",
        "MRSpectroscopyStorage",
        "CTImageStorage",
        "SecondaryCaptureImageStorage",
        "RawDataStorage",
        "SegmentationStorage",
        "GrayscaleSoftcopyPresentationStateStorage",
        "Comprehensive3DSRStorage",
        "EncapsulatedPDFStorage",
    ],
)
def test_every_kind_of_object_is_kept(receiver: Receiver, spool: Spool, arrivals: Arrivals, kind: str):
    instance = make_instance(getattr(sop_class, kind))
    (answer,) = store(receiver, instance)
    assert answer.Status == Status.SUCCESS
    assert arrivals.outcomes == [(STUDY, Outcome.NEW)]
    (path,) = spool.study(STUDY).instances()
    assert path.name == f"{instance.SOPInstanceUID}.dcm"
    assert data_set(path.read_bytes()) == encode(instance)
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_every_encoding_is_kept_as_it_came(receiver: Receiver, spool: Spool, syntax: UID):
    instance = make_instance(syntax=syntax)
    if syntax == ExplicitVRBigEndian:
        instance["PixelData"].VR = "OB"
    (answer,) = store(receiver, instance)
    assert answer.Status == Status.SUCCESS
    kept = dcmread(spool.study(STUDY).instances()[0])
    assert kept.file_meta.TransferSyntaxUID == syntax
    assert kept.PixelData == instance.PixelData


@pytest.mark.skipif(not SYNTAX_FILES, reason=f"no files in {DATA}/transfer-syntaxes: set DICOM_NODE_TEST_DATA")
@pytest.mark.parametrize("path", SYNTAX_FILES, ids=lambda path: path.stem)
def test_real_compressed_files_are_kept_byte_for_byte(
    receiver: Receiver, spool: Spool, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    (answer,) = store(receiver, path)
    assert answer.Status == Status.SUCCESS
    kept = spool.study(dcmread(path).StudyInstanceUID).instances()[0]
    assert data_set(kept.read_bytes()) == data_set(path.read_bytes())
    assert dcmread(kept).file_meta.TransferSyntaxUID == dcmread(path).file_meta.TransferSyntaxUID


def test_plain_is_preferred_to_lossless_and_lossless_to_lossy(receiver: Receiver):
    lossless, lossy = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50"
    for offered, taken in (
        ([lossy, lossless, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([lossy, lossless], lossless),
    ):
        association = associate(receiver, contexts=[build_context(MRImageStorage, offered)])
        assert association.accepted_contexts[0].transfer_syntax == [taken]
        association.release()


def test_transfer_syntaxes_whose_pixels_are_elsewhere_are_not_accepted():
    names = [UID(uid).name for uid in storage_transfer_syntaxes()]
    assert len(names) == len(set(names)) > 35
    assert not [name for name in names if "JPIP" in name or "SMPTE" in name]


SPECTRUM, CSA = UID("1.3.46.670589.11.0.0.12.1"), UID("1.3.12.2.1107.5.9.1")
ELSEWHERE = "1.2.840.10008.1.2.4.94"


def test_instances_of_private_and_future_classes_are_kept(receiver: Receiver, spool: Spool, arrivals: Arrivals):
    kinds = [MRImageStorage, SPECTRUM, CSA, UID("1.2.840.10008.5.1.4.1.1.4.99"), UID("1.2.840.10008.5.1.1.29")]
    instances = [make_instance(kind) for kind in kinds * 2]
    assert [answer.Status for answer in store(receiver, *instances)] == [Status.SUCCESS] * 10
    kept = {path.stem: data_set(path.read_bytes()) for path in spool.study(STUDY).instances()}
    assert kept == {str(instance.SOPInstanceUID): encode(instance) for instance in instances}
    assert arrivals.ended.wait(10)
    assert arrivals.ends == [End(Ending.RELEASED, "PACS", "127.0.0.1")]
    assert spool.study(STUDY).timeline().events == ["association"]


def test_plain_is_preferred_for_private_classes_too(receiver: Receiver):
    offered = [ELSEWHERE, "1.2.840.10008.1.2.4.50", ExplicitVRLittleEndian]
    association = associate(receiver, contexts=[build_context(SPECTRUM, offered)])
    assert association.accepted_contexts[0].transfer_syntax == [ExplicitVRLittleEndian]
    association.release()


def test_contexts_that_were_refused_stand_at_the_study_once(receiver: Receiver, spool: Spool, arrivals: Arrivals):
    find = str(sop_class.StudyRootQueryRetrieveInformationModelFind)  # type: ignore[attr-defined]
    private = "1.2.840.113619.5.2"
    for more in ([], [], [build_context(SPECTRUM, [private])]):
        contexts = [
            build_context(MRImageStorage, ExplicitVRLittleEndian),
            build_context(MRImageStorage, [ELSEWHERE]),
            build_context(find, ExplicitVRLittleEndian),
            *more,
        ]
        association = associate(receiver, contexts=contexts)
        for _ in range(2):
            association.send_c_store(make_instance())
        association.release()
    wait_for(lambda: len(arrivals.ends) == 3, 10, "the ends")
    noted = [entry for entry in spool.study(STUDY).timeline() if entry.event == Event.CONTEXTS_REFUSED]
    refused = [
        {"abstract_syntax": str(MRImageStorage), "transfer_syntaxes": [ELSEWHERE], "because": "transfer_syntax"},
        {"abstract_syntax": find, "transfer_syntaxes": [str(ExplicitVRLittleEndian)], "because": "abstract_syntax"},
    ]
    other = {"abstract_syntax": str(SPECTRUM), "transfer_syntaxes": [private], "because": "transfer_syntax"}
    assert [entry.facts for entry in noted] == [
        {"calling": "PACS", "contexts": refused},
        {"calling": "PACS", "contexts": [*refused, other]},
    ]


def test_how_an_association_ended_is_reported(receiver: Receiver, arrivals: Arrivals):
    def shut(association: Association) -> None:
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    for number, end in enumerate((Association.release, Association.abort, shut), start=1):
        association = associate(receiver)
        association.send_c_store(make_instance())
        end(association)
        wait_for(lambda: len(arrivals.ends) == number, 10, "the end")  # noqa: B023
    assert [end.ending for end in arrivals.ends] == [Ending.RELEASED, Ending.ABORTED, Ending.LOST]


def test_an_association_that_is_idle_for_too_long_is_ended_here(
    spool: Spool, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(accepted, "IDLE_TIMEOUT_S", 1)
    receiver = Receiver(settings(spool.data_dir), spool, arrivals)
    receiver.start()
    try:
        associate(receiver).send_c_store(make_instance())
        assert arrivals.ended.wait(10)
    finally:
        receiver.stop(0)
    assert [end.ending for end in arrivals.ends] == [Ending.ABORTED_HERE]


def test_an_association_that_the_node_aborts_when_it_stops_is_reported(receiver: Receiver, arrivals: Arrivals):
    associate(receiver).send_c_store(make_instance())
    receiver.stop(0)
    assert [end.ending for end in arrivals.ends] == [Ending.ABORTED_HERE]


def test_an_instance_that_is_not_stored_is_reported_with_its_study(
    receiver: Receiver, spool: Spool, arrivals: Arrivals
):
    nameless = make_instance()
    del nameless.StudyInstanceUID
    store(receiver, make_instance(), nameless)
    spool.reserve_bytes = 1 << 62
    store(receiver, make_instance())
    store(receiver, make_instance(), calling="VIEWER")
    assert arrivals.not_stored == [None, STUDY]


def test_a_duplicate_is_accepted_and_ignored_and_a_conflict_kept(receiver: Receiver, spool: Spool, arrivals: Arrivals):
    instance = make_instance()
    store(receiver, instance, instance)
    instance.PixelData = bytes(512)
    store(receiver, instance)
    assert [outcome for _, outcome in arrivals.outcomes] == [Outcome.NEW, Outcome.SAME, Outcome.CONFLICT]
    assert len(spool.study(STUDY).instances()) == 2


def test_open_associations_are_known_until_they_end(receiver: Receiver, arrivals: Arrivals, spool: Spool):
    association = associate(receiver)
    association.send_c_store(make_instance())
    assert not arrivals.ended.is_set()
    association.abort()
    assert arrivals.ended.wait(10)
    (entry,) = spool.study(STUDY).timeline()
    assert (entry.event, entry.facts["calling"], entry.facts["address"]) == ("association", "PACS", "127.0.0.1")


def test_a_lost_connection_ends_its_association(receiver: Receiver, arrivals: Arrivals):
    association = associate(receiver)
    association.send_c_store(make_instance())
    association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    assert arrivals.ended.wait(10)


def test_a_data_set_without_a_study_is_refused(receiver: Receiver, spool: Spool):
    missing, empty = make_instance(), make_instance()
    del missing.StudyInstanceUID
    empty.StudyInstanceUID = ""
    for answer in store(receiver, missing, empty):
        assert answer.Status == Status.NO_STUDY
        assert "Study" in answer.ErrorComment
    assert spool.studies() == []


def test_a_disk_that_is_full_up_to_the_reserve_is_said(tmp_path: Path):
    spool = Spool(tmp_path, reserve_bytes=1 << 62)
    receiver = Receiver(settings(tmp_path), spool)
    receiver.start()
    try:
        (answer,) = store(receiver, make_instance())
    finally:
        receiver.stop()
    assert answer.Status == Status.OUT_OF_RESOURCES


def test_a_disk_that_fails_is_an_answer_not_a_crash(receiver: Receiver, spool: Spool):
    shutil.rmtree(spool.data_dir / "spool")
    (spool.data_dir / "spool").touch()
    assert store(receiver, make_instance())[0].Status == Status.PROCESSING_FAILURE
    (spool.data_dir / "spool").unlink()
    (spool.data_dir / "spool").mkdir()
    assert store(receiver, make_instance())[0].Status == Status.SUCCESS


def element(group: int, number: int, vr: bytes, value: bytes, length_bytes: int | None = None) -> bytes:
    length_bytes = len(value) if length_bytes is None else length_bytes
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + length_bytes.to_bytes(2, "little") + value


@pytest.mark.parametrize("uid", [b"", b"../../../etc/x", b"1.2..3 ", b"1.2/../3", b"1" * 66, b"1.2.\xff\xff"])
def test_a_study_uid_that_is_none_is_not_found(uid: bytes):
    encoded = BytesIO(element(0x20, 0xD, b"UI", uid) + element(0x20, 0xE, b"UI", b"1.2.3\0"))
    assert find_study_uid(encoded, ExplicitVRLittleEndian) is None


def test_a_study_uid_that_is_cut_off_is_not_found():
    encoded = BytesIO(element(0x20, 0xD, b"UI", b"1.2.3.", length_bytes=20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert find_study_uid(encoded, ExplicitVRLittleEndian) is None


def test_a_deflated_data_set_is_inflated_only_as_far_as_needed():
    instance = make_instance(syntax=DeflatedExplicitVRLittleEndian)
    instance.ImageComments = "x"
    instance.add_new(0x00091001, "OB", os.urandom(700_000))
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    encoded = data_set(file.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert find_study_uid(BytesIO(encoded), DeflatedExplicitVRLittleEndian) == STUDY
        # The end may be missing: it is not read.
        assert find_study_uid(BytesIO(encoded[:-40]), DeflatedExplicitVRLittleEndian) == STUDY


def test_a_data_set_that_cannot_be_read_is_refused(receiver: Receiver, spool: Spool):
    association = associate(receiver, contexts=[build_context(MRImageStorage, DeflatedExplicitVRLittleEndian)])
    instance = make_instance(syntax=DeflatedExplicitVRLittleEndian)
    association.bind(evt.EVT_DIMSE_SENT, spoil)
    answer = association.send_c_store(instance)
    association.unbind(evt.EVT_DIMSE_SENT, spoil)
    association.release()
    assert answer.Status == Status.CANNOT_UNDERSTAND
    assert spool.studies() == []


def spoil(event: object) -> None:
    encoded = event.message.data_set  # type: ignore[attr-defined]
    size_bytes = len(encoded.getvalue())
    encoded.seek(0)
    encoded.write(b"\xff" * size_bytes)
    encoded.seek(0)


@pytest.mark.measures
def test_bare_connections_and_noise_are_harmless(receiver: Receiver):
    probes = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(70)]
    for number, probe in enumerate(probes):
        if number % 2:
            probe.send(b"GET / HTTP/1.1\r\n\r\n")
        probe.close()
    association = associate(receiver)
    assert association.send_c_echo().Status == Status.SUCCESS
    association.release()


def test_a_probe_leaves_nothing_behind(receiver: Receiver):
    before = threading.active_count()
    for _ in range(10):
        socket.create_connection(("127.0.0.1", receiver.port)).close()
    until_s = time.monotonic() + 5
    time.sleep(0.2)
    while threading.active_count() > before and time.monotonic() < until_s:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_more_associations_than_the_limit_are_put_off(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiver, "_places", Places(2, 3))
    opened = [associate(receiver) for _ in range(3)]
    assert [association.is_established for association in opened] == [True, True, False]
    answer = opened[2].acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    for association in opened[:2]:
        association.release()


def test_a_port_in_use_is_said(receiver: Receiver, spool: Spool):
    config = settings(spool.data_dir)
    taken = config.model_copy(update={"node": config.node.model_copy(update={"port": receiver.port})})
    with pytest.raises(ConfigError, match=r"change node\.port") as caught:
        Receiver(taken, spool).start()
    assert caught.value.code == "port_unavailable"


def test_the_result_of_a_storage_commitment_is_kept(receiver: Receiver, spool: Spool):
    model = sop_class.StorageCommitmentPushModel  # type: ignore[attr-defined]
    association = associate(
        receiver, contexts=[build_context(model)], ext_neg=[build_role(model, scu_role=False, scp_role=True)]
    )
    good, bad = Dataset(), Dataset()
    good.ReferencedSOPClassUID = bad.ReferencedSOPClassUID = MRImageStorage
    good.ReferencedSOPInstanceUID, bad.ReferencedSOPInstanceUID = "1.2.3", "1.2.4"
    bad.FailureReason = 0x0112
    result = Dataset()
    result.TransactionUID = "1.2.99"
    result.ReferencedSOPSequence, result.FailedSOPSequence = [good], [bad]
    answer, _ = association.send_n_event_report(result, 2, model, sop_class.StorageCommitmentPushModelInstance)
    result.TransactionUID = ""
    refused, _ = association.send_n_event_report(result, 2, model, sop_class.StorageCommitmentPushModelInstance)
    association.release()
    assert (answer.Status, refused.Status) == (Status.SUCCESS, Status.PROCESSING_FAILURE)
    (path,) = (spool.data_dir / "commitments").iterdir()
    assert path.name == "1.2.99.json"
    assert json.loads(path.read_text()) == {
        "transaction_uid": "1.2.99",
        "committed": ["1.2.3"],
        "failed": [["1.2.4", 0x0112]],
    }


def test_debian_tools_are_served(receiver: Receiver, spool: Spool, tmp_path: Path):
    require(STORESCU)
    require(ECHOSCU)
    (tmp_path / "out").mkdir()
    for number in range(3):
        instance = make_instance()
        instance.save_as(tmp_path / "out" / f"{number}.dcm", enforce_file_format=True)
    peer = ["-aet", "PACS", "-aec", "TSCNODE", "127.0.0.1", str(receiver.port)]
    subprocess.run([ECHOSCU, *peer], check=True, timeout=60)
    subprocess.run([STORESCU, *peer, "--scan-directories", tmp_path / "out"], check=True, timeout=60)
    assert len(spool.study(STUDY).instances()) == 3
    stranger = subprocess.run([ECHOSCU, *peer[2:]], capture_output=True, text=True, timeout=60, check=False)
    assert "Calling AE Title Not Recognized" in stranger.stderr


PROPOSED = {
    "-xi": "1.2.840.10008.1.2",
    "-xe": "1.2.840.10008.1.2.1",
    "-xb": "1.2.840.10008.1.2.2",
    "-xd": "1.2.840.10008.1.2.1.99",
    "-xr": "1.2.840.10008.1.2.5",
    **{f"-x{letter}": f"1.2.840.10008.1.2.4.{number}" for letter, number in {
        "y": 50, "x": 51, "s": 70, "t": 80, "u": 81, "v": 90, "w": 91, "m": 100, "h": 101, "n": 102, "l": 103,
        "2": 104, "3": 105, "o": 106, "4": 107, "5": 108,
    }.items()},
}  # fmt: skip
"""Options of storescu, and the transfer syntax that each proposes: all that it can send."""


def test_storescu_is_served_in_every_transfer_syntax_that_it_knows(receiver: Receiver, spool: Spool, tmp_path: Path):
    require(STORESCU)
    for number, (option, syntax) in enumerate(PROPOSED.items(), 1):
        uid = UID(syntax)
        instance = make_instance(syntax=uid)
        instance.StudyInstanceUID = study = f"{STUDY}.{number}"
        if uid.is_compressed and not uid.is_deflated:
            instance.PixelData = encapsulate([bytes(range(256))])
            instance["PixelData"].VR, instance["PixelData"].is_undefined_length = "OB", True
        elif uid == ExplicitVRBigEndian:
            instance["PixelData"].VR = "OB"
        instance.save_as(tmp_path / f"{option}.dcm", enforce_file_format=True)
        sent: list[str | Path] = [
            STORESCU,
            option,
            "-R",
            "-aet",
            "PACS",
            "-aec",
            "TSCNODE",
            "127.0.0.1",
            str(receiver.port),
        ]
        subprocess.run([*sent, tmp_path / f"{option}.dcm"], check=True, timeout=60)
        (kept,) = spool.study(study).instances()
        read = dcmread(kept)
        assert (option, read.file_meta.TransferSyntaxUID) == (option, uid)
        assert read.PixelData == instance.PixelData


SERVE = """
import sys, time
from pathlib import Path
from dicom_node.config import Config, NodeSection, ReceiveSection
from dicom_node.net.scp import Receiver
from dicom_node.studies.spool import Spool
folder = Path(sys.argv[1])
node = NodeSection(bind="127.0.0.1", data_dir=folder).model_copy(update={"port": 0})
receiver = Receiver(Config(node=node, receive=ReceiveSection(accept="any")), Spool(folder))
receiver.start()
print(receiver.port, sorted(sys.modules), flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Process:
    """A receiver in a process of its own."""

    popen: subprocess.Popen[str]
    port: int
    modules: str

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    command = [sys.executable, "-c", SERVE, str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as popen:
        try:
            assert popen.stdout is not None
            port, _, modules = popen.stdout.readline().partition(" ")
            yield Process(popen, int(port), modules)
        finally:
            popen.kill()


def test_the_receiver_imports_no_engine_and_no_imaging(process: Process):
    assert "pynetdicom" in process.modules
    for module in ("torch", "monai", "dbos", "pipeline", "models.bundle", "SimpleITK"):
        assert f"'{module}'" not in process.modules


def test_what_was_acknowledged_survives_kill_9(process: Process, tmp_path: Path):
    acknowledged: list[str] = []

    def send() -> None:
        association = associate(process)  # type: ignore[arg-type]
        while association.is_established:
            instance = make_instance()
            instance.PixelData = os.urandom(200_000)
            try:
                answer = association.send_c_store(instance)
            except RuntimeError:
                return
            if answer and answer.Status == Status.SUCCESS:
                acknowledged.append(str(instance.SOPInstanceUID))

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    until_s = time.monotonic() + 60
    while len(acknowledged) < 20 and time.monotonic() < until_s:
        time.sleep(0.002)
    process.kill()
    for sender in senders:
        sender.join(30)
    assert len(acknowledged) >= 20
    study = Spool(tmp_path / "data").study(STUDY)
    assert set(acknowledged) <= {path.stem for path in study.instances()}
    for path in study.instances():
        assert len(dcmread(path).PixelData) == 200_000
    Spool(tmp_path / "data").clean()
    assert not list(study.folder.rglob("*.part"))


def test_the_log_names_no_patient_and_no_study(receiver: Receiver, spool: Spool):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    show, hook = warnings.showwarning, threading.excepthook
    stream = io.StringIO()
    log.configure(stream, log.read_key(spool.data_dir), logging.DEBUG)
    try:
        instance = make_instance()
        store(receiver, instance)
        instance.PatientBirthDate = "19990102"
        instance.PixelData = bytes(512)
        store(receiver, instance)
        store(receiver, instance, calling="VIEWER")
        del instance.StudyInstanceUID
        store(receiver, instance)
        associate(receiver, "STRANGER")
        spool.reserve_bytes = 1 << 62
        store(receiver, make_instance())
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        warnings.showwarning, threading.excepthook = show, hook
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    events = {line["event"] for line in lines}
    assert {
        "instance kept beside another with its UID",
        "refused, not a source",
        "refused, no valid UID",
        "refused, disk full",
        "association refused",
    } <= events
    for seed in ("SEEDED", "SEED-ID-4711", "19990102", STUDY, str(instance.SOPInstanceUID)):
        assert seed not in stream.getvalue()
