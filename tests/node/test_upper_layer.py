"""The upper layer over sockets: its states, its limits and its windows, spoken byte by byte."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.config import Config, NodeSection, ReceiveSection
from dicom_node.net import accepted, upper_layer_accept, upper_layer_transfer
from dicom_node.net.dimse import Status
from dicom_node.net.scp import Receiver
from dicom_node.net.upper_layer import TABLE, AbortReason, Action, Incoming, State
from dicom_node.studies.collect import End
from dicom_node.studies.spool import Outcome, Spool
from dicom_node.studies.timeline import Ending
from tests.support.raw_association import (
    ABORT,
    ABORTED,
    ACCEPTED,
    DATA,
    DEFLATED,
    EXPLICIT,
    MR,
    REJECTED,
    RELEASE_RP,
    RELEASE_RQ,
    RELEASED,
    RawAssociation,
    command,
    context,
    data_set,
    echo_command,
    item,
    message,
    pdu,
    pdv,
    request,
    store_command,
)
from tests.support.services import wait_for

NUMBERS = count(1)
STUDY = "1.2.826.0.1.3680043.8.498.4711"
PDUS = {
    "request": request(),
    "accept": pdu(2, bytes(80)),
    "reject": pdu(3, bytes(4)),
    "data": message(3, echo_command()),
    "release": RELEASE_RQ,
    "release response": RELEASE_RP,
    "abort": ABORT,
    "none": pdu(0x2A, b"four"),
}


class Ends:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.stored_studies: list[str] = []
        self.not_stored: list[str | None] = []
        self._ends: list[End] = []

    def stored(self, association: int, study_uid: str, outcome: Outcome) -> None:
        self.stored_studies.append(study_uid)

    def refused(self, association: int, study_uid: str | None) -> None:
        self.not_stored.append(study_uid)

    def closed(self, association: int, end: End) -> None:
        self._ends.append(end)

    def of(self, calling: str = "PACS") -> list[Ending]:
        return [end.ending for end in self._ends if end.calling == calling]


@pytest.fixture(scope="module")
def ends() -> Ends:
    return Ends()


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Spool:
    return Spool(tmp_path_factory.mktemp("door") / "data")


@pytest.fixture(scope="module")
def receiver(spool: Spool, ends: Ends) -> Iterator[Receiver]:
    yield from running(spool, ends)


def running(spool: Spool, ends: Ends | None = None, **receive: float) -> Iterator[Receiver]:
    node = NodeSection(bind="127.0.0.1", data_dir=spool.data_dir).model_copy(update={"port": 0})
    receiver = Receiver(Config(node=node, receive=ReceiveSection(accept="any", **receive)), spool, ends)
    receiver.start()
    yield receiver
    receiver.stop(0)


# --- states -----------------------------------------------------------------------------------------------------------


def test_every_state_has_an_action_for_whatever_comes():
    assert {state: set(row) for state, row in TABLE.items()} == {state: set(Incoming) for state in State}


@pytest.mark.parametrize("name", PDUS)
def test_before_a_request_everything_else_is_answered_with_an_abort(receiver: Receiver, name: str):
    with RawAssociation(receiver.port) as peer:
        peer.send(PDUS[name])
        answer = peer.read()
    match TABLE[State.AWAITING_REQUEST][_incoming(name)]:
        case Action.DECIDE:
            assert answer.kind == ACCEPTED
        case Action.CLOSE:
            assert answer is None
        case Action.ABORT_BEFORE:
            unknown = _incoming(name) is Incoming.UNKNOWN
            expected = AbortReason.UNRECOGNISED_PDU if unknown else AbortReason.UNEXPECTED_PDU
            assert (answer.kind, answer.reason) == (ABORTED, expected)


@pytest.mark.parametrize("name", PDUS)
def test_in_an_open_association_what_does_not_belong_is_answered_with_an_abort(
    receiver: Receiver, ends: Ends, name: str
):
    calling = name.upper()
    with RawAssociation.accepted(receiver.port, calling=calling) as peer:
        peer.send(PDUS[name])
        answer = peer.read()
        match TABLE[State.ESTABLISHED][_incoming(name)]:
            case Action.TAKE_DATA:
                assert (answer.kind, answer.status) == (DATA, Status.SUCCESS)
                return
            case Action.ANSWER_RELEASE:
                assert answer.kind == RELEASED
                expected = Ending.RELEASED
            case Action.NOTE_ABORT:
                assert answer is None
                expected = Ending.ABORTED
            case _:
                unknown = _incoming(name) is Incoming.UNKNOWN
                reason = AbortReason.UNRECOGNISED_PDU if unknown else AbortReason.UNEXPECTED_PDU
                assert (answer.kind, answer.reason) == (ABORTED, reason)
                expected = Ending.ABORTED_HERE
        assert peer.read() is None
    wait_for(lambda: ends.of(calling), 10, "the end")
    assert ends.of(calling) == [expected]


def _incoming(name: str) -> Incoming:
    kind = PDUS[name][0]
    return Incoming(kind) if kind <= 7 else Incoming.UNKNOWN


def test_a_release_that_collides_with_one_that_nobody_asked_for_is_an_abort(receiver: Receiver):
    """The node never asks for release, so an answer to it is a fault of the peer, before its own request and after."""
    with RawAssociation.accepted(receiver.port) as peer:
        peer.send(RELEASE_RP + RELEASE_RQ)
        assert peer.read().kind == ABORTED
        assert peer.read() is None
    with RawAssociation.accepted(receiver.port) as peer:
        peer.send(RELEASE_RQ + RELEASE_RQ + RELEASE_RP)
        assert peer.read().kind == RELEASED
        assert peer.read() is None


ASKED = request("CUTS")
CUTS = {
    "before the request": b"",
    "within the request": ASKED[:90],
    "after the request": ASKED,
    "within a command": ASKED + message(1, store_command(1, "1.2.3"), b"x")[:40],
    "after a command": ASKED + pdu(4, pdv(1, 3, store_command(1, "1.2.3"))),
    "within a data set": ASKED + message(1, store_command(1, "1.2.3"), data_set(STUDY, "1.2.3"))[:-7],
    "after a message": ASKED + message(1, store_command(1, "1.2.3"), data_set(STUDY, "1.2.3")),
}


@pytest.mark.parametrize("ending", [ABORT, b""], ids=["abort", "lost"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_peer_may_abort_or_vanish_in_every_state(
    receiver: Receiver, spool: Spool, ends: Ends, cut: str, ending: bytes
):
    before = len(ends.of("CUTS"))
    with RawAssociation(receiver.port) as peer:
        peer.send(CUTS[cut] + ending)
        if cut == "after a message":
            assert [peer.read().kind for _ in range(2)] == [ACCEPTED, DATA]
        elif len(CUTS[cut]) > 90:
            assert peer.read().kind == ACCEPTED
    if len(CUTS[cut]) > 90:
        wait_for(lambda: len(ends.of("CUTS")) > before, 10, "the end")
        within = cut in ("within the request", "within a command", "within a data set")
        # Bytes of an abort that come within another PDU are bytes of that one.
        assert ends.of("CUTS")[before:] == [Ending.ABORTED if ending and not within else Ending.LOST]
    wait_for(lambda: not list((spool.data_dir / "spool" / "incoming").iterdir()), 10, "nothing half-written")
    with RawAssociation.accepted(receiver.port) as another:
        assert another.echo() == Status.SUCCESS


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(request().replace(b"10008.3.1.1.1", b"10008.3.1.1.2"), 2, id="application context"),
        pytest.param(request().replace(b"\x00\x01\x00\x00TSC", b"\x00\x02\x00\x00TSC", 1), 2, id="version"),
        pytest.param(request(called="OTHER"), 7, id="called title"),
    ],
)
def test_what_is_not_supported_is_rejected_with_its_reason(receiver: Receiver, asked: bytes, reason: int):
    with RawAssociation(receiver.port) as peer:
        peer.send(asked)
        answer = peer.read()
        assert (answer.kind, answer.reason) == (REJECTED, reason)
        assert peer.read() is None


@pytest.mark.parametrize(
    "contexts",
    [
        pytest.param(
            [context(2 * n + 1, MR, EXPLICIT) for n in range(128)] + [context(1, MR, EXPLICIT)], id="too many"
        ),
        pytest.param([context(2, MR, EXPLICIT)], id="even number"),
        pytest.param([context(0, MR, EXPLICIT)], id="zero"),
        pytest.param([context(1, MR, EXPLICIT), context(1, MR, DEFLATED)], id="twice"),
        pytest.param([context(1, MR)], id="no transfer syntax"),
        pytest.param([context(1, "", EXPLICIT)], id="no abstract syntax"),
        pytest.param([context(1, "1" * 70, EXPLICIT)], id="no UID"),
        pytest.param([item(0x20, b"")], id="empty"),
        pytest.param([item(0x20, b"\1\0\0\0" + b"\x30\0\0\xff1.2")], id="item longer than its context"),
        pytest.param([item(0x99, b"")], id="nothing proposed"),
        pytest.param([b"\x20\0\xff\xff"], id="cut off"),
        pytest.param([context(1, MR, *["1"] * 9000), context(3, MR, *["1"] * 9000)], id="too many items"),
    ],
)
def test_contexts_that_are_not_valid_are_an_abort(receiver: Receiver, contexts: list[bytes]):
    with RawAssociation(receiver.port) as peer:
        peer.send(request(contexts=contexts))
        answer = peer.read()
        assert (answer.kind, answer.reason) == (ABORTED, AbortReason.INVALID_PARAMETER)


def test_128_contexts_with_every_transfer_syntax_are_negotiated(receiver: Receiver):
    from dicom_node.net.contexts import storage_transfer_syntaxes

    contexts = [context(2 * number + 1, MR, *storage_transfer_syntaxes()) for number in range(128)]
    with RawAssociation.accepted(receiver.port, contexts=contexts) as peer:
        peer.release()


def test_items_that_the_node_does_not_know_are_ignored(receiver: Receiver):
    with RawAssociation.accepted(receiver.port, more=item(0x5F, b"unheard of") + item(0x56, b"\xff\xff")) as peer:
        peer.release()


def test_a_request_in_single_bytes_is_understood(receiver: Receiver):
    with RawAssociation(receiver.port) as peer:
        for byte in request():
            peer.send(bytes((byte,)))
        assert peer.read().kind == ACCEPTED


# --- messages ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fragments_of_every_size_give_the_same_instance(receiver: Receiver, spool: Spool, data: st.DataObject):
    """A command and a data set cut anywhere, PDVs put together in PDUs anyhow, and TCP segments of any size."""
    number = next(NUMBERS)
    uid, pixels = f"1.2.826.0.1.5.{number}", data.draw(st.binary(min_size=0, max_size=300))
    command_set, encoded = store_command(number % 65536, uid), data_set(STUDY, uid, pixels + b"\0" * (len(pixels) % 2))
    pdvs = [pdv(1, 1 | last, piece) for piece, last in _cut(data, command_set)]
    pdvs += [pdv(1, last, piece) for piece, last in _cut(data, encoded)]
    stream = b""
    while pdvs:
        together = data.draw(st.integers(1, len(pdvs)))
        stream += pdu(4, b"".join(pdvs[:together]))
        pdvs = pdvs[together:]
    with RawAssociation.accepted(receiver.port) as peer:
        while stream:
            at_once = data.draw(st.integers(1, len(stream)))
            peer.send(stream[:at_once])
            stream = stream[at_once:]
        answer = peer.read()
        assert (answer.status, answer.responds_to) == (Status.SUCCESS, number % 65536)
        peer.release()
    kept = (spool.data_dir / "spool" / STUDY / "instances" / f"{uid}.dcm").read_bytes()
    assert kept[144 + int.from_bytes(kept[140:144], "little") :] == encoded


def _cut(data: st.DataObject, content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield pieces, some of them empty, with the bit of the last one."""
    at = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    edges = [0, *at, len(content)]
    for start, end in pairwise(edges):
        yield content[start:end], 2 * (end == len(content) and start == edges[-2])


STORE = store_command(1, "1.2.3")
BROKEN = {
    "context not accepted": (pdu(4, pdv(5, 3, STORE)), AbortReason.INVALID_PARAMETER),
    "data set without command": (pdu(4, pdv(1, 2, b"x")), AbortReason.UNEXPECTED_PARAMETER),
    "command within a message": (pdu(4, pdv(1, 3, STORE) + pdv(1, 3, STORE)), AbortReason.UNEXPECTED_PARAMETER),
    "another context within a message": (pdu(4, pdv(1, 3, STORE) + pdv(3, 2, b"x")), AbortReason.UNEXPECTED_PARAMETER),
    "another context within a command": (pdu(4, pdv(1, 1, STORE) + pdv(3, 3, b"x")), AbortReason.UNEXPECTED_PARAMETER),
    "release within a message": (pdu(4, pdv(1, 3, STORE)) + RELEASE_RQ, AbortReason.UNEXPECTED_PDU),
    "response": (message(1, command((0x100, 0x8001), (0x120, 1), (0x900, 0))), AbortReason.UNEXPECTED_PARAMETER),
    "no fragment": (pdu(4, b""), AbortReason.INVALID_PARAMETER),
    "fragment longer than its PDU": (pdu(4, b"\0\0\0\x99\1\3abc"), AbortReason.INVALID_PARAMETER),
    "fragment without header": (pdu(4, b"\0\0\0\1\1"), AbortReason.INVALID_PARAMETER),
    "command that is none": (message(1, b"no command"), AbortReason.INVALID_PARAMETER),
    "command without message": (message(1, command((0x100, 1))), AbortReason.INVALID_PARAMETER),
    "command without end": (pdu(4, pdv(1, 1, bytes(60_000))) * 2, AbortReason.INVALID_PARAMETER),
    "PDU longer than announced": (pdu(4, b"", 128 * 1024 + 1), AbortReason.INVALID_PARAMETER),
    "PDU of any length": (pdu(4, b"", 0xFFFFFFFF), AbortReason.INVALID_PARAMETER),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_message_is_an_abort_with_its_reason(receiver: Receiver, what: str):
    content, reason = BROKEN[what]
    with RawAssociation.accepted(receiver.port) as peer:
        peer.send(content)
        answer = peer.read()
        assert (answer.kind, answer.reason) == (ABORTED, reason)


def test_what_is_not_a_service_of_the_node_is_answered_so(receiver: Receiver):
    find = command((0x2, MR), (0x100, 0x20), (0x110, 7), (0x700, 0), (0x800, 1))
    cancel = command((0x100, 0xFFF), (0x120, 7), (0x800, 0x101))
    report = command((0x2, MR), (0x100, 0x100), (0x110, 8), (0x800, 1), (0x1000, "1.2"), (0x1002, 1))
    with RawAssociation.accepted(receiver.port) as peer:
        peer.send(message(1, find, b"a data set") + message(1, cancel) + message(1, report, b"another"))
        first, second = peer.read(), peer.read()
        assert (first.status, first.value(0x100), first.responds_to) == (0x0211, 0x8020, 7)
        assert (second.status, second.value(0x100), second.responds_to) == (0x0118, 0x8100, 8)
        peer.send(message(3, store_command(9, "1.2.3"), b"not an image"))
        assert peer.read().status == 0x0122
        assert peer.echo() == Status.SUCCESS


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "given"), [(0, 16), (1, 1), (5, 5), (16, 16), (200, 16)])
def test_a_window_is_negotiated_up_to_16(receiver: Receiver, asked: int, given: int):
    with RawAssociation(receiver.port) as peer:
        peer.send(request(window=asked))
        answer = peer.read()
        assert item(0x53, given.to_bytes(2, "big") + b"\0\1") in answer.content
    with RawAssociation(receiver.port) as peer:
        peer.send(request())
        assert b"\x53\0\0\4" not in peer.read().content


def test_within_a_window_answers_come_in_the_order_of_their_requests(receiver: Receiver, spool: Spool):
    uids = [f"1.2.826.0.1.6.{number}" for number in range(1, 101)]
    with RawAssociation.accepted(receiver.port, window=16) as peer:
        for number, uid in enumerate(uids, start=1):
            large = bytes(200_000 if number % 3 else 10)
            peer.send(message(1, store_command(number, uid), data_set(STUDY, uid, large)))
            if number % 10 == 0:
                peer.send(message(3, echo_command(1000 + number)))
        answers = [peer.read() for _ in range(110)]
        peer.release()
    expected = [n for number in range(1, 101) for n in ([number, 1000 + number] if number % 10 == 0 else [number])]
    assert [answer.responds_to for answer in answers] == expected
    assert {answer.status for answer in answers} == {Status.SUCCESS}
    kept = {path.stem for path in spool.study(STUDY).instances()}
    assert set(uids) <= kept


def test_a_sender_that_vanishes_within_its_window_is_noted_after_what_it_sent(
    receiver: Receiver, spool: Spool, ends: Ends
):
    study = f"{STUDY}.9"
    with RawAssociation.accepted(receiver.port, window=16, calling="VANISHES") as peer:
        for number in range(1, 9):
            peer.send(message(1, store_command(number, f"1.2.7.{number}"), data_set(study, f"1.2.7.{number}")))
        assert peer.read().status == Status.SUCCESS
    wait_for(lambda: ends.of("VANISHES"), 10, "the end")
    stored = ends.stored_studies.count(study)
    assert stored == len(spool.study(study).instances()) >= 1


# --- limits -----------------------------------------------------------------------------------------------------------


def test_an_object_that_is_too_large_is_refused_for_good_and_leaves_nothing(tmp_path: Path):
    spool, ends = Spool(tmp_path / "data"), Ends()
    for receiver in running(spool, ends, max_object_gb=0.001):
        with RawAssociation.accepted(receiver.port) as peer:
            assert peer.store(1, STUDY, "1.2.3", bytes(1_100_000)) == Status.TOO_LARGE
            assert peer.store(2, STUDY, "1.2.4", bytes(900_000)) == Status.SUCCESS
            peer.send(pdu(4, pdv(1, 3, store_command(3, "1.2.5"))) + pdu(4, pdv(1, 0, bytes(100_000))) * 200)
            assert (peer.read().kind, peer.read()) == (ABORTED, None)
    assert [path.stem for path in spool.study(STUDY).instances()] == ["1.2.4"]
    assert list((tmp_path / "data" / "spool" / "incoming").iterdir()) == []
    assert ends.not_stored == [STUDY]


def test_one_peer_that_stalls_shuts_nobody_else_out(receiver: Receiver):
    stalled = [RawAssociation.accepted(receiver.port, calling="STALLS") for _ in range(64)]
    with RawAssociation(receiver.port) as one_more:
        one_more.send(request(calling="STALLS"))
        answer = one_more.read()
        assert (answer.kind, answer.content[1:]) == (REJECTED, bytes((2, 3, 2)))
    with RawAssociation.accepted(receiver.port, calling="OTHER") as other:
        assert other.echo() == Status.SUCCESS
    for peer in stalled:
        peer.close()

    def free_again() -> bool:
        with RawAssociation(receiver.port) as peer:
            peer.send(request(calling="STALLS"))
            return peer.read().kind == ACCEPTED

    wait_for(free_again, 10, "a place")


def test_where_too_many_wait_the_first_of_their_address_gives_way(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upper_layer_accept, "MOST_WAITING_OF_ADDRESS", 3)
    other = RawAssociation(receiver.port, source="127.0.0.8")
    waiting = [RawAssociation(receiver.port, source="127.0.0.9") for _ in range(5)]
    assert [peer.read() for peer in waiting[:2]] == [None, None]
    for peer in (*waiting[2:], other):
        peer.send(request())
        assert peer.read().kind == ACCEPTED
        peer.close()


def test_where_too_many_wait_in_all_the_first_gives_way(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upper_layer_accept, "MOST_WAITING", 3)
    waiting = [RawAssociation(receiver.port, source=f"127.0.0.{number}") for number in range(10, 14)]
    assert waiting[0].read() is None
    for peer in waiting[1:]:
        peer.send(request())
        assert peer.read().kind == ACCEPTED
        peer.close()


def test_a_request_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upper_layer_accept, "ARTIM_S", 1.0)
    for receiver in running(Spool(tmp_path / "data")):
        with RawAssociation(receiver.port) as drips:
            start_s = time.monotonic()
            for byte in request():
                try:
                    drips.send(bytes((byte,)))
                    time.sleep(0.05)
                except OSError:
                    break
            assert drips.read() is None
        assert time.monotonic() - start_s < 8


@pytest.mark.parametrize("what", ["a PDU", "a message", "dripping"])
def test_who_stops_within_something_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str):
    monkeypatch.setattr(upper_layer_transfer, "PDU_TIMEOUT_S", 1.0)
    monkeypatch.setattr(accepted, "MESSAGE_TIMEOUT_S", 1.0)
    ends = Ends()
    for receiver in running(Spool(tmp_path / "data"), ends):
        with RawAssociation.accepted(receiver.port) as peer:
            start = pdu(4, pdv(1, 3, store_command(1, "1.2.3")))
            peer.send(start[:-3] if what == "a PDU" else start)
            if what == "dripping":
                for _ in range(30):
                    try:
                        peer.send(pdu(4, pdv(1, 0, b"x")))
                        time.sleep(0.1)
                    except OSError:
                        break
            answer = peer.read()
            assert (answer.kind, answer.reason) == (ABORTED, AbortReason.NOT_SPECIFIED)
        wait_for(lambda: ends.of() == [Ending.ABORTED_HERE], 10, "the end")


def test_a_peer_that_never_closes_is_not_waited_for_longer_than_artim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upper_layer_accept, "ARTIM_S", 1.0)
    for receiver in running(Spool(tmp_path / "data")):
        with RawAssociation(receiver.port) as peer:
            peer.send(request(called="OTHER"))
            assert peer.read().kind == REJECTED
            assert peer.read() is None
            wait_for(lambda: _is_reset(peer), 10, "the node's end")


def _is_reset(peer: RawAssociation) -> bool:
    try:
        peer.send(b"x")
        return False
    except OSError:
        return True


def test_a_stop_ends_who_waits_and_who_stalls(tmp_path: Path):
    ends = Ends()
    for receiver in running(Spool(tmp_path / "data"), ends):
        with RawAssociation(receiver.port) as waits, RawAssociation.accepted(receiver.port) as stalls:
            stalls.send(message(1, store_command(1, "1.2.3"), b"x")[:-1])
            start_s = time.monotonic()
            receiver.stop(0)
            assert time.monotonic() - start_s < 5
            assert waits.read() is None
            assert stalls.read().content == bytes(4)
    assert ends.of() == [Ending.ABORTED_HERE]
