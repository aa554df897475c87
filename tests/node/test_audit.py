"""The audit trail: what it says of whom, that it stops nothing, how long it is kept, and how it reaches a collector."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dicom_node.config import Config, parse
from dicom_node.net.held_port import held_port
from dicom_node.studies.audited_collector import AuditedCollector
from dicom_node.studies.collect import Collector, End
from dicom_node.studies.completeness import WaitingRules
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Ending, Event
from dicom_node.watch import audit
from dicom_node.watch.audit_refusals import AT_ONCE, MOST_KNOWN, Refusals, RefusedCaller
from dicom_node.watch.audit_syslog import forwarding
from models.visible_text import visible
from tests.support.audit import events, messages, objects, of_event, users
from tests.support.private_files import open_to_others
from tests.support.services import SEEDED, first_true, wait_for
from tests.support.studies import TRIPLET, receive_study

STUDY = "2.25.7301"
PEERS = (
    '[[peers]]\nname = "pacs"\nae_title = "PACS"\nhost = "192.0.2.7"\nport = 104\nroles = ["source", "destination"]\n'
)


def configured(folder: Path, extra: str = "") -> Config:
    return parse(f'[node]\nae_title = "TSC"\ndata_dir = "data"\n{PEERS}[audit]\n{extra}', folder=folder)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Return the data folder of a process whose events are audited."""
    (tmp_path / "data").mkdir(mode=0o700)
    audit.configure(configured(tmp_path))
    yield tmp_path / "data"
    audit.configure(None)


@pytest.fixture
def study(data_dir: Path, sent: Path) -> Study:
    return receive_study(Spool(data_dir), sent, STUDY, TRIPLET[0])


def test_who_sent_what(data_dir: Path, study: Study):
    spool = Spool(data_dir)
    collector = AuditedCollector(Collector(spool, WaitingRules(60, 90), lambda *_: None), spool)
    cases = [
        ((Outcome.NEW, Outcome.SAME), Ending.RELEASED, "C", "0"),
        ((Outcome.SAME,), Ending.RELEASED, "R", "0"),
        ((Outcome.CONFLICT, Outcome.SAME), Ending.ABORTED, "U", "4"),
    ]
    for number, (outcomes, ending, _, _) in enumerate(cases):
        for outcome in outcomes:
            collector.stored(number, STUDY, outcome)
        collector.closed(number, End(ending, "SCANNER", "192.0.2.9"))
    found = of_event(data_dir, "DICOM Instances Transferred")
    told = [
        (m["EventIdentification"]["EventActionCode"], m["EventIdentification"]["EventOutcomeIndicator"]) for m in found
    ]
    assert told == [case[2:] for case in cases]
    for message in found:
        assert users(message) == ["SCANNER", "TSC"]
        assert message["ActiveParticipant"][0]["NetworkAccessPointID"] == "192.0.2.9"
        assert objects(message) == {"Study Instance UID": STUDY, "Patient Number": SEEDED["patient_id"]}


def test_who_was_sent_what(data_dir: Path, study: Study):
    study.note(Event.SENT, peer="pacs", kind="sr", file="report.dcm")
    study.note(Event.SEND_FAILED, peer="pacs", kind="sr", code="peer_failed", sentence="no")
    assert events(data_dir) == ["Begin Transferring DICOM Instances", "DICOM Instances Transferred"] * 2
    good, bad = of_event(data_dir, "DICOM Instances Transferred")
    assert users(good) == ["TSC", "PACS"]
    assert good["ActiveParticipant"][1]["NetworkAccessPointID"] == "192.0.2.7"
    assert [m["EventIdentification"]["EventOutcomeIndicator"] for m in (good, bad)] == ["0", "4"]


@pytest.mark.parametrize("event", [Event.RELEASED, Event.STATED, Event.RETRIED])
def test_who_decided(data_dir: Path, study: Study, event: Event):
    study.note(event)
    (message,) = messages(data_dir)
    assert message["EventIdentification"]["EventActionCode"] == "U"
    assert message["ActiveParticipant"][0]["UserIsRequestor"] is True


@pytest.mark.parametrize("event", [Event.QUEUED, Event.SELECTED, Event.VERIFIED, Event.ASSOCIATION])
def test_what_the_node_does_by_itself_is_no_message(data_dir: Path, study: Study, event: Event):
    study.note(event)
    assert messages(data_dir) == []


def test_a_refused_caller_is_an_alert(data_dir: Path):
    audit.refused("EVIL\x1b", "TSC", "192.0.2.66", "calling_ae_title")
    (message,) = of_event(data_dir, "Security Alert")
    assert users(message)[1] == "EVIL\x1b"
    assert message["EventIdentification"]["EventTypeCode"][0]["originalText"] == "Node Authentication"
    assert visible("EVIL\x1b") in next((data_dir / "audit").glob("*.jsonl")).read_text()


def test_strangers_fill_no_disk(monkeypatch: pytest.MonkeyPatch):
    now_s, told = [0.0], []
    monkeypatch.setattr("dicom_node.watch.audit_refusals.time.monotonic", lambda: now_s[0])
    refusals = Refusals(lambda caller, times: told.append((caller.calling, times)))
    for number in range(100_000):
        refusals.note(RefusedCaller(f"AE{number % 1000}", "TSC", "192.0.2.66", "calling_ae_title"))
    assert told == [(f"AE{number}", 1) for number in range(AT_ONCE)]
    now_s[0] = 61.0
    refusals.note(RefusedCaller("LAST", "TSC", "192.0.2.66", "calling_ae_title"))
    refusals.close()
    assert len(told) <= MOST_KNOWN + AT_ONCE + 2
    assert sum(times for _, times in told) == 100_001, "each is counted"


def test_start_stop_and_another_configuration(data_dir: Path, tmp_path: Path):
    file = tmp_path / "node.toml"
    for text in ("a", "a", "b"):
        file.write_text(text)
        with audit.application("receive", file):
            pass
    assert events(data_dir) == [
        "Security Alert", "Application Activity", "Application Activity",
        "Application Activity", "Application Activity",
        "Security Alert", "Application Activity", "Application Activity",
    ]  # fmt: skip
    assert open_to_others(data_dir) == []


def test_no_name_and_no_date_of_the_patient_is_in_it(data_dir: Path, study: Study):
    audit.looked((study.uid, study.folder), verb="show")
    audit.listed("studies", 3)
    audit.deleted(study.uid, audit.patient_id(study.folder))
    text = json.dumps(messages(data_dir))
    assert SEEDED["patient_id"] in text
    assert not any(SEEDED[key] in text for key in ("patient_name", "birth_date"))


def test_a_disk_that_takes_nothing_stops_nothing(data_dir: Path, study: Study, caplog: pytest.LogCaptureFixture):
    (data_dir / "audit").touch()
    for _ in range(3):
        audit.looked((study.uid, study.folder), verb="show")
    assert [record.message for record in caplog.records] == ["audit message not written"], "once a minute"
    (data_dir / "audit").unlink()
    audit.looked((study.uid, study.folder), verb="show")
    assert events(data_dir) == ["DICOM Instances Accessed", "Security Alert"]
    (alert,) = of_event(data_dir, "Security Alert")
    assert alert["ParticipantObjectIdentification"][0]["ParticipantObjectDetail"] == [
        {"type": "MessagesLost", "value": "3"}
    ]


def test_those_who_wait_for_the_disk_share_what_it_does(data_dir: Path, study: Study, monkeypatch: pytest.MonkeyPatch):
    """Each returns when its message is durable; eight at once take two fsyncs, not eight."""
    synced, go_on = [], threading.Event()

    def slowly(file: Path) -> None:
        synced.append(file)
        assert go_on.wait(60)

    monkeypatch.setattr("dicom_node.watch.audit_trail.sync_file", slowly)
    looking = [threading.Thread(target=audit.looked, args=((study.uid, study.folder),)) for _ in range(8)]
    for each in looking:
        each.start()
    try:
        wait_for(lambda: written_lines(data_dir) == 8, 60, "eight messages")
        assert all(each.is_alive() for each in looking)
    finally:
        go_on.set()
    for each in looking:
        each.join(60)
    assert 1 <= len(synced) <= 2
    assert len(messages(data_dir)) == 8


def written_lines(data_dir: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in (data_dir / "audit").glob("*.jsonl"))


def test_a_file_that_is_damaged_or_gone_is_no_obstacle(data_dir: Path, study: Study):
    for file in study.instances():
        file.write_bytes(b"\0" * 200)
    audit.looked((study.uid, study.folder), ("2.25.404", data_dir / "spool" / "2.25.404"))
    assert [objects(message)["Patient Number"] for message in messages(data_dir)] == ["(none)", "(none)"]


def test_it_is_kept_as_long_as_the_configuration_says(tmp_path: Path):
    assert Config.offline().audit.keep_days >= 183
    folder = tmp_path / "data" / "audit"
    folder.mkdir(parents=True)
    today = datetime.now(UTC).date()
    for age_days in (0, 10, 11, 400):
        (folder / f"{today - timedelta(days=age_days)}.jsonl").write_text("")
    (folder / "notes.jsonl").touch()
    audit.configure(configured(tmp_path, "keep_days = 10"))
    try:
        audit.listed("studies", 0)
    finally:
        audit.configure(None)
    assert sorted(file.stem for file in folder.iterdir()) == sorted(
        [str(today - timedelta(days=10)), str(today), "notes"]
    )


def test_who_only_configures_makes_no_folder(tmp_path: Path):
    audit.configure(configured(tmp_path))
    try:
        audit.listed("studies", 0)
    finally:
        audit.configure(None)
    assert not (tmp_path / "data").exists()


# --- a collector ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a PEM file with a key and a certificate that it signed for localhost."""
    file = tmp_path_factory.mktemp("collector") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", file.with_suffix(".key"), "-out", file.with_suffix(".crt"), "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(file.with_suffix(".key").read_bytes() + file.with_suffix(".crt").read_bytes())
    return file


@contextmanager
def collector(port: int, certificate: Path, got: bytearray) -> Iterator[None]:
    """Take what comes by TLS for as long as the block runs; client after client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server, over = socket.create_server(("127.0.0.1", port)), threading.Event()
    server.settimeout(0.1)

    def serve() -> None:
        while not over.is_set():
            try:
                plain, _ = server.accept()
                with plain, context.wrap_socket(plain, server_side=True) as client:
                    client.settimeout(0.1)
                    _take(client, got, over)
            except OSError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        server.close()


def _take(client: ssl.SSLSocket, got: bytearray, over: threading.Event) -> None:
    while not over.is_set():
        try:
            if not (content := client.recv(65536)):
                return
            got += content
        except TimeoutError:
            continue


def frames(content: bytes) -> list[ElementTree.Element]:
    """Return the messages in what a collector got; a frame begins with its length (RFC 5425 4.3)."""
    found = []
    while content:
        length, _, rest = content.partition(b" ")
        if len(rest) < int(length):
            break
        frame, content = rest[: int(length)], rest[int(length) :]
        header, xml = frame.split(b"\xef\xbb\xbf", 1)
        assert header.startswith(b"<85>1 2")
        assert header.split()[5:] == [b"DICOM+RFC3881", b"-"]
        found.append(ElementTree.fromstring(xml))
    return found


def test_a_collector_that_comes_late_and_goes_gets_all_of_it(tmp_path: Path, certificate: Path):
    (tmp_path / "data").mkdir(mode=0o700)
    got = bytearray()
    with held_port() as port:
        config = configured(
            tmp_path,
            f'syslog_host = "localhost"\nsyslog_port = {port}\nsyslog_ca = "{certificate.with_suffix(".crt")}"',
        )
        audit.configure(config)
        try:
            audit.listed("first", 1)
            with forwarding(config):
                for number in range(3):
                    audit.listed(f"asked \x9b <{number}>", number)
                with collector(port, certificate, got):
                    wait_for(lambda: len(frames(bytes(got))) >= 4, 60, "four messages")
                audit.listed("later", 5)
                with collector(port, certificate, got):
                    wait_for(lambda: b"5" in bytes(got) and len(frames(bytes(got))) >= 5, 60, "the fifth")
        finally:
            audit.configure(None)
    roots = frames(bytes(got))
    assert {root.tag for root in roots} == {"AuditMessage"}
    assert [child.tag for child in roots[0]] == [
        "EventIdentification", "ActiveParticipant", "ActiveParticipant", "AuditSourceIdentification",
        "ParticipantObjectIdentification",
    ]  # fmt: skip
    identified = roots[0].find("EventIdentification/EventID")
    assert identified is not None
    assert identified.get("csd-code") == "110112"
    assert open_to_others(tmp_path / "data") == []


def test_a_collector_of_another_authority_gets_nothing(tmp_path: Path, certificate: Path):
    (tmp_path / "data").mkdir(mode=0o700)
    got = bytearray()
    with held_port() as port:
        config = configured(tmp_path, f'syslog_host = "localhost"\nsyslog_port = {port}')
        audit.configure(config)
        try:
            audit.listed("first", 1)
            with collector(port, certificate, got), forwarding(config):
                assert first_true(lambda: bytes(got), 4) is None
        finally:
            audit.configure(None)
    assert events(tmp_path / "data") == ["Query"]
