"""The matrix of access and TLS with DCMTK as the other side, case by case; `tests.faults.access` prints it."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.net.callers import Reason
from dicom_node.net.scp import Receiver
from dicom_node.studies.spool import Spool
from tests.faults.access import (
    CALLS,
    DESTINATIONS,
    HERE,
    Call,
    Certificates,
    Destination,
    Node,
    ask,
    called,
    callers,
    listening,
)
from tests.node.test_scp import make_instance
from tests.support.raw_association import RELEASE_RQ, RELEASED
from tests.support.services import ECHOSCU, STORESCU, require


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made(tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def node(certificates: Certificates) -> Iterator[Node]:
    with Node.running(certificates) as running:
        yield running


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.who}-{'TLS' if call.over_tls else 'plain'}")
def test_who_calls_is_let_in_or_told_why_not(node: Node, certificates: Certificates, call: Call):
    assert node.outcome(call, certificates) == call.outcome


@pytest.mark.parametrize("destination", DESTINATIONS, ids=lambda destination: destination.who)
def test_whom_the_node_calls_is_reached_or_told_why_not(certificates: Certificates, destination: Destination):
    with listening(destination, certificates) as port:
        assert called(destination, port, certificates) == destination.outcome


@pytest.mark.parametrize(("calling", "let_in"), [(b"PACS", True), (b"CT", False)])
def test_a_session_that_is_resumed_is_still_of_its_peer(
    node: Node, certificates: Certificates, calling: bytes, let_in: bool
):
    """TLS 1.2: the session keeps the certificate alone, and dcm4che and others resume."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.maximum_version = False, ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certificates.ours.file)
    shown = certificates.shown["own CA"]
    context.load_cert_chain(shown.certificate, shown.key)
    # Side by side: OpenSSL forgets the session of a connection that is closed without a word.
    with (
        socket.create_connection((HERE, node.receiver.tls_port), 10) as plain,
        context.wrap_socket(plain) as first,
        socket.create_connection((HERE, node.receiver.tls_port), 10) as other,
        context.wrap_socket(other, session=first.session) as second,
    ):
        assert (first.session_reused, second.session_reused) == (False, True)
        assert ask(second, calling, "TSCNODE") is let_in
        assert ask(first, b"PACS", "TSCNODE")
    assert let_in or node.refused.get(timeout=10).reason is Reason.CERTIFICATE_OF_ANOTHER


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_connection_over_tls_ends_with_a_word(node: Node, certificates: Certificates, version: ssl.TLSVersion):
    """Both ends say close_notify: who gets none cannot tell an end from a cut."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.maximum_version = False, version
    context.load_verify_locations(certificates.ours.file)
    shown = certificates.shown["own CA"]
    context.load_cert_chain(shown.certificate, shown.key)
    with (
        socket.create_connection((HERE, node.receiver.tls_port), 10) as plain,
        context.wrap_socket(plain, suppress_ragged_eofs=False) as connection,
    ):
        assert ask(connection, b"PACS", "TSCNODE")
        while connection.pending():
            connection.recv(4096)
        connection.sendall(RELEASE_RQ)
        assert connection.recv(10)[0] == RELEASED
        # Raises SSLEOFError where the end comes without a word.
        assert connection.recv(1) == b""


def test_studies_come_over_tls_and_as_many_at_once(node: Node, certificates: Certificates, tmp_path: Path):
    require(STORESCU)
    for number in range(40):
        make_instance().save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    shown = certificates.shown["own CA"]
    options: list[str | Path] = ["+tls", shown.key, shown.certificate, "+cf", certificates.ours.file]
    peer: list[str | Path] = ["-aet", "PACS", "-aec", "TSCNODE", HERE, str(node.receiver.tls_port)]
    line: list[str | Path] = [STORESCU, *options, "+sd", *peer, tmp_path]
    senders = [subprocess.Popen(line, stderr=subprocess.PIPE) for _ in range(4)]
    for sender in senders:
        _, errors = sender.communicate(timeout=60)
        assert sender.returncode == 0, errors
    (study,) = Spool(certificates.folder / "data").studies()
    assert len(study.instances()) == 40


def test_the_plain_port_can_be_switched_off(certificates: Certificates, tmp_path: Path):
    require(ECHOSCU)
    config = callers(certificates)
    config = config.model_copy(update={"tls": config.tls.model_copy(update={"plain": False})})
    receiver = Receiver(config, Spool(tmp_path / "data"))
    receiver.start()
    try:
        with pytest.raises(StopIteration):
            _ = receiver.port
        plain: list[str | Path] = [
            ECHOSCU,
            "-to",
            "5",
            "-aet",
            "VIEWER",
            "-aec",
            "TSCNODE",
            HERE,
            str(receiver.tls_port),
        ]
        assert subprocess.run(plain, capture_output=True, check=False, timeout=30).returncode != 0
    finally:
        receiver.stop(0)


def test_a_receiver_whose_key_is_open_does_not_start(certificates: Certificates, tmp_path: Path):
    key = tmp_path / "node.key"
    key.write_bytes(certificates.node.key.read_bytes())
    key.chmod(0o644)
    config = callers(certificates)
    config = config.model_copy(update={"tls": config.tls.model_copy(update={"key": key})})
    with pytest.raises(ConfigError, match="can be read by others"):
        Receiver(config, Spool(tmp_path / "data")).start()
