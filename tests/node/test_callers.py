"""Who may associate: titles and addresses as they come, names with several addresses, and who was refused."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from dicom_node import log
from dicom_node.config import Config, NodeSection, Peer, PeerRole, TLSSection
from dicom_node.net.addresses import FAILURE_KEPT_S, KEPT_S, OLD_ANSWER_S, Addresses, plain_address
from dicom_node.net.callers import Call, Caller, Reason, recognise, visible_title
from dicom_node.net.certificates import Certificate, Shown
from dicom_node.net.refused import LINES_A_MINUTE, MOST_KEPT, RefusedCallers, Who, read_refused, refused_file
from dicom_node.net.tls_faults import TLSFault
from dicom_node.net.tls_sentences import FAILED, REFUSED

HERE = "127.0.0.1"


def config(*peers: Peer, **sections: Any) -> Config:
    pacs = Peer(name="pacs", ae_title="PACS", host=HERE, roles=(PeerRole.SOURCE,))
    viewer = Peer(name="viewer", ae_title="VIEWER", host=HERE, port=104, roles=(PeerRole.DESTINATION,))
    return Config(peers=(pacs, viewer, *peers), **sections)


def call(calling: bytes = b"PACS", called: bytes = b"TSCNODE", address: str = HERE, **more: Any) -> Call:
    return Call(called.ljust(16), calling.ljust(16), address, **more)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (call(called=b"OTHERNODE"), Reason.CALLED_TITLE),
        (call(called=b"tscnode"), Reason.CALLED_TITLE),
        (call(called=b""), Reason.CALLED_TITLE_MALFORMED),
        (Call(b"TSCNODE".ljust(16, b"\0"), b"PACS", HERE), Reason.CALLED_TITLE_MALFORMED),
        (call(b"STRANGER"), Reason.TITLE_UNKNOWN),
        (call(b"PACS2"), Reason.TITLE_UNKNOWN),
        (call(b"pacs"), Reason.TITLE_CASE),
        (call(b""), Reason.TITLE_MALFORMED),
        (Call(b"TSCNODE", b"", HERE), Reason.TITLE_MALFORMED),
        (Call(b"TSCNODE", b"PACS".ljust(16, b"\0"), HERE), Reason.TITLE_MALFORMED),
        (Call(b"TSCNODE", bytes(16), HERE), Reason.TITLE_MALFORMED),
        (Call(b"TSCNODE", b"PACS" * 5, HERE), Reason.TITLE_MALFORMED),
        (call(b"PA\\CS"), Reason.TITLE_MALFORMED),
        (call(b"PACS\x1b[2J"), Reason.TITLE_MALFORMED),
        (call("PÄCS".encode("latin-1")), Reason.TITLE_MALFORMED),
        (call(address="192.0.2.1"), Reason.ADDRESS),
        (call(address="::1"), Reason.ADDRESS),
    ],
)
def test_who_does_not_belong_is_told_apart(made: Call, reason: Reason):
    assert recognise(config(), Addresses(), made) is reason


@pytest.mark.parametrize("title", [b"PACS", b"  PACS", b"PACS            ", b" PACS "])
def test_spaces_around_a_title_do_not_count(title: bytes):
    caller = recognise(config(), Addresses(), Call(b"TSCNODE", title, HERE))
    assert isinstance(caller, Caller)
    assert (caller.ae_title, caller.may_store) == ("PACS", True)


def test_a_peer_that_is_no_source_may_call_and_not_store():
    caller = recognise(config(), Addresses(), call(b"VIEWER"))
    assert isinstance(caller, Caller)
    assert not caller.may_store


def test_roles_of_two_entries_of_one_title_and_address_add_up():
    again = Peer(name="again", ae_title="VIEWER", host="localhost", roles=(PeerRole.SOURCE,))
    caller = recognise(config(again), Addresses(), call(b"VIEWER"))
    assert isinstance(caller, Caller)
    assert caller.may_store


def test_where_every_caller_is_accepted_titles_are_titles_still():
    anybody = config(receive={"accept": "any"})
    assert isinstance(recognise(anybody, Addresses(), call(b"STRANGER", address="192.0.2.1")), Caller)
    assert recognise(anybody, Addresses(), call(b"")) is Reason.TITLE_MALFORMED
    assert recognise(anybody, Addresses(), call(called=b"OTHER")) is Reason.CALLED_TITLE


def test_a_peer_of_tls_is_not_let_in_without_where_there_is_a_port_for_it():
    safe = Peer(name="safe", ae_title="SAFE", host=HERE, roles=(PeerRole.SOURCE,), tls=True)
    files = TLSSection(certificate=Path("c"), key=Path("k"), ca=(Path("ca"),), port=2762)
    with_port, without = (config(safe, tls=files.model_copy(update={"port": port})) for port in (2762, None))
    assert recognise(with_port, Addresses(), call(b"SAFE")) is Reason.WITHOUT_TLS
    assert isinstance(recognise(without, Addresses(), call(b"SAFE")), Caller)
    assert isinstance(recognise(with_port, Addresses(), call(b"PACS")), Caller)


# --- addresses --------------------------------------------------------------------------------------------------------


class NameService:
    """Answers like the system's, as a test wants it; its clock is the test's too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
        self.found, self.asked, self.now_s = list(found), 0, 1000.0
        monkeypatch.setattr("dicom_node.net.addresses.socket.getaddrinfo", self.answer)
        self.addresses = Addresses(lambda: self.now_s)

    def answer(self, host: str, port: object, **_: object) -> list[Any]:
        self.asked += 1
        if not self.found:
            raise socket.gaierror("no such host")
        return [(0, 0, 0, "", (address, 0)) for address in self.found]


PACS_BY_NAME = Peer(name="named", ae_title="NAMED", host="pacs.example", roles=(PeerRole.SOURCE,))


def test_all_addresses_of_a_name_count(monkeypatch: pytest.MonkeyPatch):
    service = NameService(monkeypatch, "192.0.2.7", "2001:db8::7", "::ffff:192.0.2.8", "fe80::1%eth0")
    for address in ("192.0.2.7", "2001:db8::7", "192.0.2.8", "fe80::1"):
        assert isinstance(recognise(config(PACS_BY_NAME), service.addresses, call(b"NAMED", address=address)), Caller)
    assert recognise(config(PACS_BY_NAME), service.addresses, call(b"NAMED", address="192.0.2.9")) is Reason.ADDRESS
    assert service.asked == 1


def test_a_name_is_looked_up_anew_now_and_then(monkeypatch: pytest.MonkeyPatch):
    service = NameService(monkeypatch, "192.0.2.7")
    assert service.addresses.of("pacs.example") == {"192.0.2.7"}
    service.found = ["192.0.2.9"]
    service.now_s += KEPT_S - 1
    assert service.addresses.of("pacs.example") == {"192.0.2.7"}
    service.now_s += 1
    assert service.addresses.of("pacs.example") == {"192.0.2.9"}


def test_a_name_service_that_fails_is_told_and_opens_nothing(monkeypatch: pytest.MonkeyPatch):
    output = io.StringIO()
    log.configure(output)
    service = NameService(monkeypatch)
    peers = config(PACS_BY_NAME)
    assert recognise(peers, service.addresses, call(b"NAMED")) is Reason.HOST_UNKNOWN
    assert '"peer host unknown"' in output.getvalue()
    assert "pacs.example" in output.getvalue()
    service.found = [HERE]
    assert recognise(peers, service.addresses, call(b"NAMED")) is Reason.HOST_UNKNOWN
    service.now_s += FAILURE_KEPT_S
    assert isinstance(recognise(peers, service.addresses, call(b"NAMED")), Caller)


def test_the_last_answer_counts_for_a_while_when_the_name_service_fails(monkeypatch: pytest.MonkeyPatch):
    service = NameService(monkeypatch, "192.0.2.7")
    service.addresses.of("pacs.example")
    service.found = []
    service.now_s += OLD_ANSWER_S - 1
    assert service.addresses.of("pacs.example") == {"192.0.2.7"}
    service.now_s += FAILURE_KEPT_S
    assert service.addresses.of("pacs.example") == frozenset()


def test_addresses_have_one_spelling():
    spelt = {"::ffff:10.0.0.7": "10.0.0.7", "fe80::1%eth0": "fe80::1", "2001:DB8:0::1": "2001:db8::1"}
    assert {text: plain_address(text) for text in spelt} == spelt


# --- certificates of callers ------------------------------------------------------------------------------------------


def shown(*hosts: str, chain: tuple[str, ...] = ("leaf", "ca")) -> Shown:
    from datetime import UTC, datetime

    always = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    return Shown(Certificate("CN=any", frozenset(hosts), frozenset({*hosts, "cn=any"}), *always, "ab" * 32), chain)


@pytest.fixture
def over_tls(monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return peers whose certificates one CA signs; what is read of its file is its fingerprint."""
    monkeypatch.setattr("dicom_node.net.callers.fingerprints", lambda files: frozenset(file.stem for file in files))
    named = Peer(name="n", ae_title="NAMED", host=HERE, roles=(PeerRole.SOURCE,), tls_names=("mr7.ward.example",))
    own = Peer(name="o", ae_title="OWN", host=HERE, roles=(PeerRole.SOURCE,), tls_ca=(Path("own-ca"),))
    pinned = Peer(name="p", ae_title="PINNED", host=HERE, roles=(PeerRole.SOURCE,), tls_fingerprints=("ab" * 32,))
    tls = TLSSection(certificate=Path("c"), key=Path("k"), ca=(Path("ca"),), port=2762)
    return config(named, own, pinned, tls=tls)


@pytest.mark.parametrize(
    ("calling", "certificate", "outcome"),
    [
        (b"PACS", shown(HERE), None),
        (b"NAMED", shown("mr7.ward.example"), None),
        (b"NAMED", shown("*.ward.example"), None),
        (b"PINNED", shown("whatever.example"), None),
        (b"OWN", shown(HERE, chain=("leaf", "own-ca")), None),
        (b"PACS", shown("mr7.ward.example"), Reason.CERTIFICATE_OF_ANOTHER),
        (b"NAMED", shown(HERE, chain=("leaf", "own-ca")), Reason.CERTIFICATE_OF_ANOTHER),
        (b"OWN", shown(HERE), Reason.CERTIFICATE_OF_ANOTHER),
        (b"PACS", None, None),
    ],
)
def test_a_certificate_lets_in_its_own_peer_alone(
    over_tls: Config, calling: bytes, certificate: Shown | None, outcome: Reason | None
):
    found = recognise(over_tls, Addresses(), call(calling, over_tls=True, shown=certificate))
    assert found is outcome or (outcome is None and isinstance(found, Caller))


def test_a_certificate_of_nobody_lets_nobody_in(over_tls: Config):
    unpinned = over_tls.model_copy(update={"peers": over_tls.peers[:4]})
    for names in ("mr8.example", "a.mr7.ward.example", "*.example", "*"):
        made = call(b"PACS", over_tls=True, shown=shown(names))
        assert recognise(unpinned, Addresses(), made) is Reason.CERTIFICATE_UNKNOWN


# --- who was refused --------------------------------------------------------------------------------------------------


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


@pytest.fixture
def output() -> io.StringIO:
    stream = io.StringIO()
    log.configure(stream)
    return stream


def test_a_refused_caller_is_said_once_a_minute_and_counted(
    tmp_path: Path, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch)
    known = RefusedCallers(tmp_path)
    who = Who.of(Call(b"TSCNODE", b"PACS".ljust(16, b"\0"), HERE), Reason.TITLE_MALFORMED)
    for _ in range(500):
        known.note(who)
    (line,) = lines(output)
    assert (line["calling"], line["address"], line["times"]) == ("PACS" + "\\x00" * 12, HERE, 1)
    assert line["sentence"] == REFUSED[Reason.TITLE_MALFORMED]
    clock.now_s += 61
    known.note(who)
    assert [line["times"] for line in lines(output)] == [1, 500]
    known.close()


class Clock:
    """The clock of `refused`, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("dicom_node.net.refused.time.monotonic", lambda: self.now_s)


def test_many_callers_fill_neither_log_nor_disk(tmp_path: Path, output: io.StringIO):
    known = RefusedCallers(tmp_path)
    for number in range(5000):
        known.note(Who(f"T{number}", HERE, "TSCNODE", Reason.TITLE_UNKNOWN))
    known.close()
    said = [line for line in lines(output) if line["event"] == "association refused"]
    assert len(said) <= 2 * LINES_A_MINUTE
    kept = read_refused(tmp_path)
    assert len(kept) == MOST_KEPT
    assert kept[0].title == "T4999"
    assert refused_file(tmp_path).stat().st_size < 100_000
    assert refused_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_who_was_refused_is_known_after_a_restart(tmp_path: Path, output: io.StringIO):
    who = Who("STRANGER", "192.0.2.4", "TSCNODE", Reason.TITLE_UNKNOWN)
    for _ in range(2):
        known = RefusedCallers(tmp_path)
        known.note(who)
        known.note(Who("", "192.0.2.5", "", TLSFault.EXPIRED))
        known.close()
    first, second = read_refused(tmp_path)
    assert (first.reason, first.count, second.who, second.count) == (TLSFault.EXPIRED, 2, who, 2)


def test_what_is_left_is_written_without_another_call(tmp_path: Path, output: io.StringIO):
    known = RefusedCallers(tmp_path)
    known.note(Who("A", HERE, "TSCNODE", Reason.TITLE_UNKNOWN))
    known.note(Who("B", HERE, "TSCNODE", Reason.TITLE_UNKNOWN))
    assert [each.title for each in read_refused(tmp_path)] == ["A"]
    known.close()
    assert [each.title for each in read_refused(tmp_path)] == ["B", "A"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"title": "A"}]', '[{"reason": "unheard_of"}]'])
def test_a_damaged_file_of_refused_callers_is_none(tmp_path: Path, content: str):
    refused_file(tmp_path).write_text(content)
    assert read_refused(tmp_path) == []
    RefusedCallers(tmp_path).close()


def test_a_disk_that_refuses_is_told_and_ends_nothing(tmp_path: Path, output: io.StringIO):
    known = RefusedCallers(tmp_path / "not-there")
    known.note(Who("A", HERE, "TSCNODE", Reason.TITLE_UNKNOWN))
    known.close()
    assert "refused callers not kept" in {line["event"] for line in lines(output)}


def test_every_reason_has_its_sentence():
    assert set(REFUSED) == {*Reason, *TLSFault} - {TLSFault.WRONG_NAME}
    assert set(FAILED) == set(TLSFault)


@pytest.mark.parametrize(
    ("sent", "seen"), [(b"PACS    ", "PACS"), (b"\x1b[2J", "\\x1b[2J"), (b"A\\B", "A\\x5cB"), (b"\xff\0", "\\xff\\x00")]
)
def test_titles_are_shown_escaped(sent: bytes, seen: str):
    assert visible_title(sent) == seen


def test_our_own_title_is_the_one_that_is_configured():
    other = config(node=NodeSection(ae_title="SCORES"))
    assert isinstance(recognise(other, Addresses(), call(called=b"SCORES")), Caller)
    assert recognise(other, Addresses(), call()) is Reason.CALLED_TITLE
