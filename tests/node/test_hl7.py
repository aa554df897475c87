"""Results delivered as HL7 v2 over MLLP: acknowledged, through outages and garbled answers, and never twice."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.config import Hl7Receiver, load, parse
from dicom_node.engine.waking import wake
from dicom_node.errors import DeliveryError, ObjectRefused, PeerAway
from dicom_node.net import mllp
from dicom_node.net.held_port import held_port
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.standings import standings
from dicom_node.studies.timeline import Delivery, Event, Kind, State
from models.result_records import RECORD_FILES, Record
from tests.support.authorities import Authority
from tests.support.delivering import RUN, Sender
from tests.support.mllp_receiver import Answer, Inbox, mllp_receiver
from tests.support.reports import PATIENT_ID
from tests.support.scored_records import scored_record
from tests.support.services import wait_for

UID = "2.25.7101"


@contextmanager
def site(folder: Path, port: int) -> Iterator[Sender]:
    """Yield a node whose only destination is a receiver of HL7 at a port."""
    file = folder / "node.toml"
    file.write_text(
        '[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n[[hl7_receivers]]\nname = "ris"\nhost = "127.0.0.1"\n'
        f'port = {port}\napplication = "RIS|1"\n[delivery]\nretry_s = 0.3\n'
    )
    config = load(file)
    yield Sender(config, file, Spool(config.node.data_dir), {})


def scored(spool: Spool) -> Study:
    return scored_record(spool, UID, Record.HL7)


def code(study: Study) -> str:
    return standings(study.timeline())[Delivery("ris", Kind.HL7)].code


def test_a_result_is_sent_acknowledged_and_delivered_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    inbox = Inbox()
    with mllp_receiver(inbox) as port, site(tmp_path, port) as node, caplog.at_level("INFO"):
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: study.state() == State.DELIVERED, 60, "the result")
            # The state is noted first.
            wait_for(lambda: not node.undelivered(), 60, "an empty outbox")
            node.address(UID, wake=True)
            assert node.undelivered() == []
    ((control, message),) = inbox.messages.items()
    assert inbox.came == [control]
    assert message.msh.msh_5.value == "RIS\\F\\1"
    (proof,) = [entry for entry in study.timeline() if entry.event == Event.VERIFIED]
    assert (proof.text("proof"), proof.text("sop_instance_uid")) == ("acknowledged", control)
    assert PATIENT_ID not in caplog.text


def came(inbox: Inbox, messages: int) -> Callable[[], bool]:
    return lambda: len(inbox.came) >= messages


def test_an_outage_and_answers_that_say_nothing_make_no_second_result(tmp_path: Path):
    inbox = Inbox(Answer.LOST)
    with held_port() as port, site(tmp_path, port) as node:
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: code(study) == "mllp_unreachable", 60, "an attempt in vain")
            with mllp_receiver(inbox, port):
                for answer in (Answer.LOST, Answer.GARBLED, Answer.OF_ANOTHER):
                    inbox.answer, before = answer, len(inbox.came)
                    # Else the pauses double.
                    wake(node.config, node.spool)
                    wait_for(came(inbox, before + 2), 60, f"two attempts: {answer}")
                    wait_for(lambda: code(study) == "ack_garbled", 60, f"no proof: {answer}")
                inbox.answer = Answer.REJECTED
                wake(node.config, node.spool)
                wait_for(lambda: code(study) == "ack_rejected", 60, "a rejection")
                inbox.answer = Answer.TAKEN
                wake(node.config, node.spool)
                wait_for(lambda: study.state() == State.DELIVERED, 60, "the result")
    assert len(set(inbox.came)) == 1
    assert study.timeline().events.count(Event.SENT) == 1


def test_an_error_is_set_aside_until_somebody_retries(tmp_path: Path):
    inbox = Inbox(Answer.ERROR)
    with mllp_receiver(inbox) as port, site(tmp_path, port) as node:
        study = scored(node.spool)
        with node.working():
            node.address(UID)
            wait_for(lambda: study.state() == State.DELIVERY_FAILED, 60, "a refusal")
            assert code(study) == "ack_error"
            inbox.answer = Answer.TAKEN
            node.wake()
            wait_for(lambda: study.state() == State.DELIVERED, 60, "the result")


@pytest.fixture
def message(tmp_path: Path) -> Path:
    return scored(Spool(tmp_path / "data")).run_folder(RUN) / RECORD_FILES[Record.HL7]


@pytest.mark.parametrize(
    ("answer", "error", "expected"),
    [
        (Answer.ERROR, ObjectRefused, "ack_error"),
        (Answer.REJECTED, DeliveryError, "ack_rejected"),
        (Answer.LOST, DeliveryError, "ack_garbled"),
        (Answer.GARBLED, DeliveryError, "ack_garbled"),
        (Answer.OF_ANOTHER, DeliveryError, "ack_garbled"),
    ],
)
def test_what_an_answer_means(message: Path, answer: Answer, error: type[DeliveryError], expected: str):
    with mllp_receiver(Inbox(answer)) as port, pytest.raises(error) as caught:
        mllp.send(Hl7Receiver(name="ris", host="127.0.0.1", port=port), message)
    assert caught.value.code == expected
    assert caught.value.permanent == (answer is Answer.ERROR)


def test_tls_asks_for_the_configured_authority(message: Path, tmp_path: Path):
    authority = Authority.new(tmp_path / "ca")
    pair = authority.issue("ris", "127.0.0.1")
    context, inbox = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Inbox()
    context.load_cert_chain(pair.certificate, pair.key)
    with mllp_receiver(inbox, context=context) as port:
        mllp.send(Hl7Receiver(name="ris", host="127.0.0.1", port=port, tls=True, ca_file=authority.file), message)
        assert len(inbox.messages) == 1
        with pytest.raises(PeerAway):
            mllp.send(Hl7Receiver(name="ris", host="127.0.0.1", port=port, tls=True), message)


def test_a_receiver_has_the_message_written():
    text = '[receive]\naccept = "any"\n[[hl7_receivers]]\nname = "ris"\nhost = "x"\nport = 2575\n'
    assert parse(text).records == {Record.HL7}
    assert parse('[receive]\naccept = "any"\n[report]\nfhir = true\n').records == {Record.FHIR}
