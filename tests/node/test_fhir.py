"""Results delivered to a FHIR server: proved, through outages, lost answers and refusals, and never twice."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicom_node.config import FhirServer, load, parse
from dicom_node.engine import run_folder
from dicom_node.engine.addressing import owed
from dicom_node.engine.object_identity import object_uid
from dicom_node.errors import ConfigError, ObjectDenied, ObjectRefused, PeerAway
from dicom_node.net import fhir
from dicom_node.net.held_port import held_port
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.standings import standings
from dicom_node.studies.timeline import Delivery, Event, Kind, State
from models.result_records import RECORD_FILES, Record
from pipeline.brain import WeightsIdentity
from pipeline.result import RESULT_FILE
from tests.support.authorities import Authority
from tests.support.delivering import RUN, Sender
from tests.support.fhir_server import Fault, FhirStore, fhir_server
from tests.support.reports import PATIENT_ID
from tests.support.scored_records import scored_record
from tests.support.services import wait_for

UID = "2.25.7001"
FHIR_FILE = RECORD_FILES[Record.FHIR]


@contextmanager
def site(folder: Path, port: int, more: str = "", delivery: str = "retry_s = 0.3\n") -> Iterator[Sender]:
    """Yield a node whose only destination is a FHIR server at a port."""
    file = folder / "node.toml"
    file.write_text(
        f'[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n'
        f'[[fhir_servers]]\nname = "ehr"\nurl = "http://127.0.0.1:{port}/r4"\n{more}[delivery]\n{delivery}'
    )
    config = load(file)
    yield Sender(config, file, Spool(config.node.data_dir), {})


def scored(spool: Spool) -> Study:
    return scored_record(spool, UID, Record.FHIR)


def code(study: Study) -> str:
    return standings(study.timeline())[Delivery("ehr", Kind.FHIR)].code


def test_a_result_is_posted_read_back_and_delivered_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store = FhirStore()
    with fhir_server(store) as port, site(tmp_path, port) as node, caplog.at_level("INFO"):
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: study.state() == State.DELIVERED, 60, "the report")
            # The state is noted first.
            wait_for(lambda: not node.undelivered(), 60, "an empty outbox")
            node.address(UID, wake=True)
            assert node.undelivered() == []
    (report,) = store.of_type("DiagnosticReport")
    assert report["result"][0]["reference"].startswith("Observation/")
    assert (store.posts, set(store.versions.values())) == (1, {1})
    (proof,) = [entry for entry in study.timeline() if entry.event == Event.VERIFIED]
    assert proof.text("proof") == "read"
    assert proof.text("sop_instance_uid") == object_uid(study.run_folder(RUN) / FHIR_FILE)
    assert PATIENT_ID not in caplog.text
    assert report["id"] not in caplog.text


def test_an_outage_a_failure_and_a_lost_answer_make_no_second_report(tmp_path: Path):
    store = FhirStore(status=503)
    with held_port() as port, site(tmp_path, port) as node:
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: Event.SEND_FAILED in study.timeline().events, 60, "an attempt in vain")
            assert code(study) == "fhir_unreachable"
            with fhir_server(store, port):
                wait_for(lambda: store.posts, 60, "an attempt")
                store.status = 500
                wait_for(lambda: code(study) == "fhir_failed", 60, "a failure")
                store.fault, store.status = Fault.LOST_ANSWER, None
                wait_for(lambda: store.versions, 60, "a report whose answer is lost")
                store.fault = None
                wait_for(lambda: study.state() == State.DELIVERED, 60, "the report")
    assert len(store.of_type("DiagnosticReport")) == 1
    assert len(store.of_type("Observation")) == 5
    assert len(store.of_type("Provenance")) == 1
    assert study.timeline().events.count(Event.SENT) == 1


def test_a_server_that_forgets_is_sent_the_report_again(tmp_path: Path):
    store = FhirStore(fault=Fault.FORGETS)
    with fhir_server(store) as port, site(tmp_path, port) as node:
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: study.timeline().events.count(Event.VERIFY_FAILED) > 1, 60, "two denials")
            assert code(study) == "not_found"
            store.fault = None
            wait_for(lambda: study.state() == State.DELIVERED, 60, "the report")
    assert store.posts > 1


def test_a_refusal_is_set_aside_until_somebody_retries(tmp_path: Path):
    store = FhirStore(status=422)
    with fhir_server(store) as port, site(tmp_path, port) as node:
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: study.state() == State.DELIVERY_FAILED, 60, "a refusal")
            assert code(study) == "fhir_refused"
            store.status = None
            node.wake()
            wait_for(lambda: study.state() == State.DELIVERED, 60, "the report")


def test_check_says_whether_a_server_answers():
    with fhir_server(FhirStore()) as port:
        server = FhirServer(name="ehr", url=f"http://127.0.0.1:{port}/r4")
        assert fhir.reach(server) == f"http://127.0.0.1:{port}/r4 answers"
    with pytest.raises(PeerAway):
        fhir.reach(server)


def test_a_retry_by_name_takes_servers_too():
    config = parse(SERVER + 'url = "https://x/r4"\n')
    assert config.receiver("ehr").name == "ehr"
    with pytest.raises(ConfigError, match="use one of ehr"):
        config.receiver("elsewhere")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return scored(Spool(tmp_path / "data")).run_folder(RUN) / FHIR_FILE


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (401, PeerAway, "fhir_denied"),
        (404, PeerAway, "fhir_unreachable"),
        (429, PeerAway, "fhir_unreachable"),
        (302, Exception, "fhir_failed"),
        (307, Exception, "fhir_failed"),
        (400, ObjectRefused, "fhir_refused"),
        (409, ObjectRefused, "fhir_refused"),
    ],
)
def test_what_a_status_means(bundle: Path, status: int, error: type[Exception], expected: str):
    with fhir_server(FhirStore(status=status)) as port:
        server = FhirServer(name="ehr", url=f"http://127.0.0.1:{port}/r4")
        with pytest.raises(error) as caught:
            fhir.post(server, bundle)
    assert caught.value.code == expected  # type: ignore[attr-defined]


def test_a_server_that_is_silent_is_away(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fhir, "TIMEOUT_S", 0.3)
    with fhir_server(FhirStore(fault=Fault.SILENT)) as port, pytest.raises(PeerAway):
        fhir.post(FhirServer(name="ehr", url=f"http://127.0.0.1:{port}/r4"), bundle)


def test_another_report_under_the_same_id_is_no_proof(bundle: Path):
    store = FhirStore()
    with fhir_server(store) as port:
        server = FhirServer(name="ehr", url=f"http://127.0.0.1:{port}/r4")
        fhir.post(server, bundle)
        fhir.read_back(server, bundle)
        (report,) = store.of_type("DiagnosticReport")
        report["identifier"][0]["value"] = "urn:oid:1.2.3"
        with pytest.raises(ObjectDenied):
            fhir.read_back(server, bundle)


@pytest.mark.parametrize("kind", ["Observation", "Device", "Provenance"])
def test_a_report_without_one_of_its_parts_is_no_proof(bundle: Path, kind: str):
    store = FhirStore()
    with fhir_server(store) as port:
        server = FhirServer(name="ehr", url=f"http://127.0.0.1:{port}/r4")
        fhir.post(server, bundle)
        part = store.of_type(kind)[-1]
        del store.resources[f"{kind}/{part['id']}"]
        with pytest.raises(ObjectDenied):
            fhir.read_back(server, bundle)


def test_https_asks_for_the_configured_authority_and_sends_the_token(bundle: Path, tmp_path: Path):
    authority = Authority.new(tmp_path / "ca")
    pair, token = authority.issue("fhir", "127.0.0.1"), tmp_path / "token"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    token.write_text("s3cret\n")
    with fhir_server(FhirStore(token="s3cret"), context=context) as port:
        url = f"https://127.0.0.1:{port}/r4"
        fhir.post(FhirServer(name="ehr", url=url, token_file=token, ca_file=authority.file), bundle)
        with pytest.raises(PeerAway) as caught:
            fhir.post(FhirServer(name="ehr", url=url, ca_file=authority.file), bundle)
        assert caught.value.code == "fhir_denied"
        with pytest.raises(PeerAway) as caught:
            fhir.post(FhirServer(name="ehr", url=url, token_file=token), bundle)
        assert caught.value.code == "fhir_unreachable"
        with pytest.raises(PeerAway):
            fhir.post(FhirServer(name="ehr", url=url, token_file=tmp_path / "gone", ca_file=authority.file), bundle)


SERVER = '[receive]\naccept = "any"\n[[fhir_servers]]\nname = "ehr"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SERVER + 'url = "ftp://x"\n', "fhir_servers.0.url"),
        (SERVER + 'url = "http://x/r4"\ntoken_file = "t"\n', "in the clear"),
        (SERVER + 'url = "https://x/r4"\n[[fhir_servers]]\nname = "ehr"\nurl = "https://y"\n', "used 2 times"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str):
    with pytest.raises(ConfigError, match=said):
        parse(text)


def test_a_result_that_lacks_its_record_is_made_anew(tmp_path: Path):
    models: Any = SimpleNamespace(bundle=SimpleNamespace(digest="aa"), brain_weights=WeightsIdentity("embedded", "bb"))
    result = {"state": "scored", "model": {"digest": "aa"}, "brain_weights": {"digest": "bb"}}
    (tmp_path / RESULT_FILE).write_text(json.dumps(result))
    for name in run_folder.OBJECTS:
        (tmp_path / name).write_bytes(b"object")
    assert run_folder.is_scored(tmp_path, models)
    assert not run_folder.is_scored(tmp_path, models, records=[Record.FHIR])
    (tmp_path / FHIR_FILE).write_bytes(b"{}")
    assert run_folder.recall(tmp_path, models, records=[Record.FHIR])


def test_files_of_a_server_lie_beside_the_configuration(tmp_path: Path):
    text = SERVER + 'url = "https://x/r4"\ntoken_file = "token"\nca_file = "/etc/ca.pem"\n'
    (server,) = parse(text, folder=tmp_path).fhir_servers
    assert (server.token_file, server.ca_file) == (tmp_path / "token", Path("/etc/ca.pem"))


def test_a_study_without_a_score_owes_no_record(tmp_path: Path):
    config = parse(SERVER + 'url = "https://x/r4"\n', folder=tmp_path)
    assert config.records == {Record.FHIR}
    study = scored(Spool(tmp_path / "data"))
    assert owed(config, study, study.timeline(), State.HELD) == []
    assert owed(config, study, study.timeline(), State.SCORED) == [Delivery("ehr", Kind.FHIR)]
