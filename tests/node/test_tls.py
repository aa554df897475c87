"""TLS on both sides: files, profiles, names, keys that others can read, and certificates that end."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from dicom_node import log
from dicom_node.cli.check import check
from dicom_node.config import Config, Peer, PeerRole, ReceiveSection, TLSProfile, TLSSection, parse
from dicom_node.errors import ConfigError, PeerError
from dicom_node.net import scu
from dicom_node.net.certificates import read_certificates
from dicom_node.net.expiry import WARNED_DAYS, ExpiryWatch, Standing, expiry_of, first_to_expire
from dicom_node.net.held_port import held_port
from dicom_node.net.tls import CIPHERS, PortTLS, client_context, greet, server_context, shown_by
from dicom_node.net.tls_faults import TLSFault, begins_tls, fault_of
from tests.support.authorities import Authority, Pair

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.issue("node", HERE)


def config(authority: Authority, own: Pair | None, *peers: Peer, **more: Any) -> Config:
    shown = {"certificate": own.certificate, "key": own.key, "port": 2762} if own else {}
    tls = TLSSection.model_validate({"ca": (authority.file,), **shown, **more})
    return Config(receive=ReceiveSection(accept="any", disk_reserve_gb=0.0), tls=tls, peers=peers)


def pacs(port: int = 104, **more: Any) -> Peer:
    facts = {"name": "pacs", "ae_title": "PACS", "host": HERE, "port": port, "roles": (PeerRole.DESTINATION,)}
    return Peer.model_validate({**facts, "tls": True, "verify": "none", **more})


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('certificate = "c.pem"', "certificate and key belong together"),
        ('key = "c.key"', "certificate and key belong together"),
        ("port = 2762", "port needs a certificate"),
        ("plain = false", "there is no TLS port"),
        ('certificate = "c"\nkey = "k"\nport = 2762', "there is no CA"),
        ('certificate = "c"\nkey = "k"\nca = ["a"]\nport = 11112', "port of its own"),
        ('profile = "aes"', "'bcp195' or 'bcp195-modified'"),
        ('client_certificates = "yes"', "'required', 'optional' or 'none'"),
    ],
)
def test_contradictions_are_refused(keys: str, words: str):
    with pytest.raises(ConfigError, match=words):
        parse(f'[receive]\naccept = "any"\n[tls]\n{keys}\n')


PEER = '[receive]\naccept = "any"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\nroles = ["source"]\n'


@pytest.mark.parametrize(
    ("keys", "words"),
    [("tls = true", 'peer "p" has tls = true and no CA'), ('tls_fingerprints = ["abc"]', "64 hexadecimal digits")],
)
def test_peers_that_could_not_be_known_are_refused(keys: str, words: str):
    with pytest.raises(ConfigError, match=words):
        parse(PEER + keys)


def test_paths_start_at_the_file_and_fingerprints_have_one_spelling(tmp_path: Path):
    colons = ":".join(["AB"] * 32)
    text = f'[tls]\ncertificate = "tls/c.pem"\nkey = "/etc/k"\nca = ["a.pem"]\n{PEER}tls_ca = ["b.pem"]\n'
    found = parse(f'{text}tls_fingerprints = ["{colons}"]', folder=tmp_path)
    assert (found.tls.certificate, found.tls.key) == (tmp_path / "tls/c.pem", Path("/etc/k"))
    assert (found.tls.ca, found.peers[0].tls_ca) == ((tmp_path / "a.pem",), (tmp_path / "b.pem",))
    assert found.peers[0].tls_fingerprints == ("ab" * 32,)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o400, True), (0o644, False), (0o604, False)])
def test_a_key_that_others_can_read_is_refused(authority: Authority, mode: int, good: bool):
    pair = authority.issue(f"mode-{mode:o}", HERE)
    pair.key.chmod(mode)
    if good:
        server_context(config(authority, pair))
        return
    with pytest.raises(ConfigError, match="can be read by others") as caught:
        server_context(config(authority, pair))
    assert caught.value.code == "tls_key_open"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_group_may_read_a_key_that_root_gave_it(authority: Authority):
    pair = authority.issue("group", HERE)
    pair.key.chmod(0o640)
    server_context(config(authority, pair))
    os.chown(pair.key, 12345, 12345)
    with pytest.raises(ConfigError, match="can be read by others"):
        server_context(config(authority, pair))


def _foreign_key(pair: Pair, authority: Authority) -> None:
    pair.key.write_bytes(authority.issue("foreign", HERE).key.read_bytes())


def _with_password(pair: Pair, _: Authority) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda pair, _: pair.key.unlink(), "tls_file_unusable", "No such file"),
        (lambda pair, _: pair.key.write_text("nonsense"), "tls_key_unusable", "no key in PEM"),
        (_foreign_key, "tls_key_unusable", "not the key of the certificate"),
        (_with_password, "tls_key_unusable", "has a password"),
        (lambda pair, _: pair.certificate.unlink(), "tls_file_unusable", "No such file"),
        (lambda pair, _: pair.certificate.write_text(""), "tls_file_unusable", "no certificate in PEM"),
        (lambda pair, _: pair.certificate.write_bytes(pair.key.read_bytes()), "tls_file_unusable", "no certificate"),
    ],
)
def test_files_that_cannot_be_used_are_told(
    tmp_path: Path, damage: Callable[[Pair, Authority], object], code: str, words: str
):
    authority = Authority.new(tmp_path)
    pair = authority.issue("node", HERE)
    damage(pair, authority)
    with pytest.raises(ConfigError, match=words) as caught:
        server_context(config(authority, pair))
    assert caught.value.code == code
    # Whoever delivers tries again: the files are put in order while the node runs.
    with pytest.raises(PeerError, match=words):
        scu.echo(config(authority, pair), pacs())


def test_keys_below_the_profile_are_refused(authority: Authority):
    short = authority.issue("short", HERE, key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(ConfigError, match="below 2048 bits"):
        server_context(config(authority, short))


def test_a_missing_ca_is_told(tmp_path: Path, authority: Authority, own: Pair):
    with pytest.raises(ConfigError, match=r"no-ca\.pem cannot be used"):
        server_context(config(authority, own, ca=(tmp_path / "no-ca.pem",)))


# --- connections ------------------------------------------------------------------------------------------------------


@contextmanager
def listening(context: ssl.SSLContext) -> Iterator[tuple[int, list[Any]]]:
    """Yield a port that takes connections over TLS, and what became of each."""
    outcomes: list[Any] = []
    server = socket.create_server((HERE, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(5)
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    outcomes.append(shown_by(secured))
            except OSError as error:
                connection.close()
                outcomes.append(fault_of(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], outcomes
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


@pytest.mark.parametrize("profile", TLSProfile)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken_in_both_profiles(
    authority: Authority, own: Pair, profile: TLSProfile, version: ssl.TLSVersion
):
    server = server_context(config(authority, own, profile=profile))
    server.maximum_version = version
    with listening(server) as (port, outcomes):
        greeted = greet(config(authority, own, pacs(port)), pacs(port), 5)
    assert greeted.spoken.startswith({"TLSv1_2": "TLSv1.2, ECDHE-", "TLSv1_3": "TLSv1.3, TLS_"}[version.name])
    assert greeted.shown
    assert greeted.shown.certificate.hosts == {HERE}
    assert [outcome.certificate.subject for outcome in outcomes] == ["CN=node"]
    assert len(greeted.shown.chain) == 2


@pytest.mark.parametrize("profile", TLSProfile)
def test_the_suites_are_those_of_the_profile(authority: Authority, own: Pair, profile: TLSProfile):
    context = server_context(config(authority, own, profile=profile))
    suites = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.2"]
    assert suites == list(CIPHERS[profile])
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("client", "fault"),
    [
        (lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_1), TLSFault.VERSION),
        (lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1), TLSFault.VERSION),
        (lambda context: _only(context, "ECDHE-ECDSA-AES128-SHA256"), TLSFault.NO_CIPHER),
        (lambda context: _only(context, "DHE-RSA-AES256-GCM-SHA384"), TLSFault.NO_CIPHER),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_what_is_older_than_the_profile_is_told_on_both_sides(
    authority: Authority, own: Pair, client: Callable[[ssl.SSLContext], object], fault: TLSFault
):
    """As acceptor, and, with the sides changed, as requestor."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("ALL:@SECLEVEL=0")
    client(old)
    with (
        listening(server_context(config(authority, own))) as (port, outcomes),
        socket.create_connection((HERE, port), 5) as plain,
        pytest.raises(OSError),
    ):
        old.wrap_socket(plain)
    assert outcomes == [fault]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.load_cert_chain(own.certificate, own.key)
    client(server)
    with listening(server) as (port, _), pytest.raises(PeerError) as caught:
        scu.echo(config(authority, own), pacs(port))
    assert caught.value.code == fault


def _only(context: ssl.SSLContext, suite: str) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")


def test_a_peer_that_says_nothing_to_tls_is_told(authority: Authority, own: Pair, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dicom_node.net.association.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server((HERE, 0)) as silent, pytest.raises(PeerError) as caught:
        scu.echo(config(authority, own), pacs(silent.getsockname()[1]))
    assert caught.value.code == TLSFault.NO_ANSWER


def test_we_end_a_connection_over_tls_with_a_word(authority: Authority, own: Pair):
    ended: list[bytes] = []
    with socket.create_server((HERE, 0)) as server:

        def serve() -> None:
            context = server_context(config(authority, own))
            with (
                server.accept()[0] as plain,
                context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as secured,
            ):
                secured.settimeout(10)
                ended.append(secured.recv(1))

        thread = threading.Thread(target=serve)
        thread.start()
        peer = pacs(server.getsockname()[1])
        with socket.create_connection((HERE, peer.port or 0), 10) as plain:
            connection = client_context(config(authority, own, peer), peer).wrap_socket(plain, server_hostname=HERE)
            # As pynetdicom ends it.
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        thread.join(20)
    assert ended == [b""]


def test_nobody_there_is_not_a_fault_of_tls(authority: Authority, own: Pair):
    with held_port() as port, pytest.raises(PeerError) as caught:
        scu.echo(config(authority, own), pacs(port))
    assert caught.value.code == "peer_unreachable"


@pytest.mark.parametrize(("first", "tls"), [(b"\x16\x03\x01", True), (b"\x01\x00", False), (b"", False), (b"G", False)])
def test_tls_is_told_by_its_first_byte(first: bytes, tls: bool):
    assert begins_tls(first) is tls


def test_certificates_are_read_anew_when_the_files_change(tmp_path: Path):
    output = io.StringIO()
    log.configure(output)
    authority = Authority.new(tmp_path)
    before = authority.issue("node", HERE)
    port = PortTLS(config(authority, before))
    first = port.context
    assert port.context is first
    after = authority.issue("node", HERE)
    second = port.context
    assert second is not first
    with listening(second) as (number, _):
        greeted = greet(config(authority, after, pacs(number)), pacs(number), 5)
    assert greeted.shown
    assert greeted.shown.certificate.fingerprint == after.fingerprint
    after.key.write_text("half of a key")
    assert port.context is second
    assert port.context is second
    events = [json.loads(line)["event"] for line in output.getvalue().splitlines()]
    assert events == ["certificates read anew", "changed certificates cannot be used"]


def test_a_context_for_a_peer_trusts_its_own_ca_alone(tmp_path: Path, authority: Authority, own: Pair):
    other = Authority.new(tmp_path, "other-ca")
    context = client_context(config(authority, own), pacs(tls_ca=(other.file,)))
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "other-ca"),),)]


# --- until when -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "standing", "word"),
    [
        (-1, Standing.NOT_YET_VALID, "look at the clock"),
        (1, Standing.GOOD, "holds until"),
        (366 - WARNED_DAYS - 1, Standing.GOOD, "holds until"),
        (366 - WARNED_DAYS, Standing.ENDS_SOON, "renew it"),
        (365, Standing.ENDS_SOON, "renew it"),
        (367, Standing.EXPIRED, "expired on"),
    ],
)
def test_an_operator_is_told_before_a_certificate_ends(own: Pair, days: int, standing: Standing, word: str):
    (certificate,) = read_certificates(own.certificate)
    found = expiry_of(certificate, certificate.not_before + timedelta(days=days))
    assert found.standing is standing
    assert word in found.sentence


def test_the_first_of_a_file_to_end_counts(tmp_path: Path):
    authority = Authority.new(tmp_path)
    pairs = [authority.issue(name, ends=ends) for name, ends in (("long", 300), ("short", 9), ("middle", 99))]
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"".join(pair.certificate.read_bytes() for pair in pairs))
    assert first_to_expire(chain).subject == "CN=short"


def test_the_watch_says_what_ends_and_what_is_gone(tmp_path: Path):
    output = io.StringIO()
    log.configure(output)
    authority = Authority.new(tmp_path)
    ends = authority.issue("node", HERE, ends=12)
    gone = authority.issue("pacs", HERE, begins=-9, ends=-2)
    peer = pacs(tls_ca=(gone.certificate, tmp_path / "missing.pem"))
    ExpiryWatch(config(authority, ends, peer)).look()
    said = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(line["level"], line["event"], line["what"]) for line in said] == [
        ("warning", "certificate ends", "own certificate"),
        ("error", "certificate ends", "pacs.pem of peer pacs"),
        ("error", "certificates cannot be read", "missing.pem of peer pacs"),
    ]
    assert (
        said[0]["sentence"]
        == f"CN=node ends in 11 days, on {datetime.now(UTC) + timedelta(days=12):%Y-%m-%d}: renew it"
    )


def test_check_has_a_verdict_on_every_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dicom_node.cli.check.models_and_device", lambda _: "not tried here")
    authority = Authority.new(tmp_path)
    node, shows = authority.issue("node", HERE, ends=12), authority.issue("pacs", HERE, ends=9)
    gone = authority.issue("gone", begins=-9, ends=-2)
    with listening(server_context(config(authority, shows))) as (port, _):
        checked = config(authority, node, pacs(port, tls_ca=(authority.file, gone.certificate)))
        data = checked.node.model_copy(update={"data_dir": tmp_path / "data"})
        verdicts = check(checked.model_copy(update={"node": data}))
    assert {each.what: (each.good, each.warning) for each in verdicts} == {
        "data folder": (True, False),
        "database": (True, False),
        "models and device": (True, False),
        "own certificate": (True, True),
        "CA hospital-ca.pem": (True, False),
        "hospital-ca.pem of peer pacs": (True, False),
        "gone.pem of peer pacs": (False, True),
        "TLS": (True, False),
        "peer pacs": (False, False),
        "certificate that pacs shows": (True, True),
    }
