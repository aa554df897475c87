"""Sent is not delivered: what is offered, what counts as proof, what is never sent again, and how long it is tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.engine.addressing import Addressing
from dicom_node.engine.delivery import Deliveries, pause_s
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.engine.waking import wake
from dicom_node.errors import DeliveryError, PeerAway
from dicom_node.studies.timeline import Event, State
from tests.support.delivering import RUN, Sender, leave_keys, leave_objects, scored_study, sender
from tests.support.destinations import SUCCESS
from tests.support.services import wait_for

UID = "2.25.41"


@given(retry_s=st.floats(1, 7200), give_up_s=st.floats(36, 360_000))
def test_pauses_grow_to_an_hour_and_an_attempt_follows_the_last(retry_s: float, give_up_s: float):
    left_s = give_up_s
    pauses: list[float] = []
    while left_s > 0:
        pauses.append(pause_s(retry_s, len(pauses), left_s))
        left_s -= pauses[-1]
    assert all(pause <= 3600 for pause in pauses)
    assert all(later >= earlier for earlier, later in itertools.pairwise(pauses[:-1]))
    assert sum(pauses) == pytest.approx(give_up_s)


@pytest.mark.parametrize(
    ("status", "permanent"), [(0xA700, False), (0xA900, True), (0xC000, True), (0x0122, False), (None, False)]
)
def test_only_a_refusal_of_the_object_is_permanent(status: int | None, permanent: bool):
    assert DeliveryError("refused", "store_refused", status).permanent is permanent


def test_an_unreachable_peer_is_not_permanent():
    assert not PeerAway("away", "peer_unreachable").permanent


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Sender]:
    with sender(tmp_path, "pacs", peers={"pacs": 'verify = "find"'}) as found:
        yield found


def attempt(node: Sender, *, give_up_s: float = 1000, state: str = "scored", wakes: bool = False) -> None:
    """Address a study if it is not, and make the attempt that is due or would be."""
    with Outbox(node.config.node.engine_url) as outbox:
        Addressing(node.config, node.spool, outbox).address(UID, state, wake=wakes)
        outbox.wake(outbox.undelivered(waiting=True), give_up_s)
        while due := outbox.take("pacs", "worker"):
            Deliveries(node.config, node.spool, outbox).attempt(due)


def waits(node: Sender) -> list[Item]:
    with Outbox(node.config.node.engine_url) as outbox:
        return outbox.undelivered()


def test_what_is_proved_is_never_sent_again(node: Sender):
    scored_study(node.spool, UID)
    attempt(node)
    assert (node.state(UID), waits(node)) == ("delivered", [])
    attempt(node, wakes=True)
    assert set(node.destinations["pacs"].stored.values()) == {1}
    # Read again with the same outcome, as by a retry: it is still there.
    node.spool.study(UID).note(Event.RECALLED, State.SCORED, input_digest=RUN)
    attempt(node, wakes=True)
    assert (node.state(UID), set(node.destinations["pacs"].stored.values())) == ("delivered", {1})
    # Another model has left other objects.
    node.spool.study(UID).note(Event.READ, State.SCORED, input_digest=RUN)
    leave_objects(node.spool.study(UID).run_folder(RUN), UID)
    attempt(node)
    assert (node.state(UID), list(node.destinations["pacs"].stored.values())) == ("delivered", [1, 1])


def test_what_was_taken_is_sent_again_when_it_is_denied_twice(node: Sender):
    pacs = node.destinations["pacs"]
    pacs.lists = lambda _: []
    scored_study(node.spool, UID)
    sends = []
    for _ in range(3):
        attempt(node)
        sends.append(pacs.stored.total())
    assert sends == [1, 1, 2]
    standing = node.standing(UID, "pacs")
    assert (standing.progress, standing.code) == ("waiting", "not_found")
    pacs.lists = lambda stored: [{"SOPInstanceUID": uid} for uid in stored]
    attempt(node)
    assert (node.state(UID), pacs.stored.total()) == ("delivered", 2)


def test_an_answer_without_what_was_asked_for_is_the_peers_fault(node: Sender):
    node.destinations["pacs"].lists = lambda _: [{"PatientID": "1"}]
    scored_study(node.spool, UID)
    attempt(node)
    standing = node.standing(UID, "pacs")
    assert standing.code == "find_incomplete"
    assert "without SOPInstanceUID" in standing.sentence


def test_a_key_object_waits_for_the_report_that_it_points_to(tmp_path: Path):
    """It is offered first, the peer takes the report in a class of its own, and only then the key object goes."""
    lines = 'verify = "find"\nsend = ["sr", "summary", "key"]'
    with sender(tmp_path, "pacs", peers={"pacs": lines}) as node:
        study = scored_study(node.spool, UID)
        folder = study.run_folder(RUN)
        keys = leave_keys(folder, UID)
        with Outbox(node.config.node.engine_url) as outbox:
            deliveries = Deliveries(node.config, node.spool, outbox)
            item = Item(UID, RUN, "key", "pacs")
            for probe in (False, True):
                outbox.put(item, 1000)
                outbox.wake([item], 1000)
                due = outbox.take("pacs", "worker")
                assert due
                deliveries.attempt(replace(due, probe=probe))
            assert node.destinations["pacs"].stored.total() == 0
            assert Event.SEND_FAILED not in node.events(UID), "waiting is no failure"
        for _ in range(2):  # The first time the key object may come before its report.
            attempt(node)
        taken = node.standing(UID, "pacs", "sr").taken
        assert node.standing(UID, "pacs", "key").taken == keys[node.uids(UID).index(taken)]
        assert node.state(UID) == "delivered"


@pytest.mark.parametrize(("status", "remark"), [(0xB007, "does not match its SOP class"), (0x0111, "held the object")])
def test_taken_with_a_remark_is_taken_and_told(node: Sender, status: int, remark: str):
    node.destinations["pacs"].store = lambda _: status
    scored_study(node.spool, UID)
    attempt(node)
    assert node.state(UID) == "delivered"
    (sent,) = [entry for entry in node.spool.study(UID).timeline() if entry.event == Event.SENT]
    assert remark in sent.text("remark")
    assert f"{status:04X}H" in sent.text("remark")


def test_a_refused_object_is_set_aside_until_somebody_wakes_it(node: Sender):
    pacs = node.destinations["pacs"]
    pacs.store = lambda _: 0xA900
    scored_study(node.spool, UID)
    attempt(node)
    assert (node.standing(UID, "pacs").progress, node.state(UID)) == ("refused", "delivery_failed")
    pacs.store = lambda _: SUCCESS
    assert wake(node.config, node.spool, waiting=False) == [Item(UID, RUN, "sr", "pacs")]
    assert node.standing(UID, "pacs").progress == "queued"
    attempt(node)
    assert node.state(UID) == "delivered"
    assert wake(node.config, node.spool) == []


def test_the_last_attempt_comes_after_the_last_pause(node: Sender):
    node.destinations["pacs"].store = lambda _: 0x0110
    scored_study(node.spool, UID)
    attempt(node)
    assert node.standing(UID, "pacs").progress == "waiting"
    attempt(node, give_up_s=0)
    assert (node.standing(UID, "pacs").progress, node.state(UID)) == ("failed", "delivery_failed")


def test_a_run_that_left_no_object_is_set_aside_at_once(node: Sender):
    study = scored_study(node.spool, UID)
    for file in study.run_folder(RUN).glob("report*"):
        file.unlink()
    attempt(node)
    standing = node.standing(UID, "pacs")
    assert (standing.progress, standing.code) == ("refused", "object_missing")


@pytest.mark.parametrize("status", [0x0110, SUCCESS])
def test_a_failure_after_the_proof_is_no_news(tmp_path: Path, status: int):
    with sender(tmp_path, "pacs") as node:
        pacs = node.destinations["pacs"]

        def late() -> int:
            node.wait(UID, "pacs", "verified")
            return status

        pacs.answer = late
        scored_study(node.spool, UID)
        node.address(UID)
        with node.working():
            wait_for(lambda: waits(node) == [], 20, "the end of the delivery")
    assert [event for event in node.events(UID) if "failed" in event] == []
    assert (node.events(UID)[-1], node.state(UID)) == ("delivered", "delivered")


def test_a_time_out_after_the_proof_is_no_news(node: Sender):
    scored_study(node.spool, UID)
    attempt(node)
    with Outbox(node.config.node.engine_url) as outbox:
        # As a worker leaves it that dies between the proof and the row.
        outbox.put(Item(UID, RUN, "sr", "pacs"), 1000)
        due = outbox.take("pacs", "worker")
        assert due is not None
        Deliveries(node.config, node.spool, outbox).attempt(replace(due, asked="2.25.5"))
        assert outbox.undelivered() == []
    assert node.events(UID)[-1] == "delivered"


def test_a_newer_result_takes_the_place_of_one_that_waits(node: Sender):
    pacs = node.destinations["pacs"]
    pacs.store = lambda _: 0x0110
    scored_study(node.spool, UID)
    attempt(node)
    leave_objects(node.spool.study(UID).run_folder("newer"), UID)
    node.spool.study(UID).note(Event.READ, State.SCORED, input_digest="newer")
    pacs.store, pacs.stored = lambda _: SUCCESS, type(pacs.stored)()
    attempt(node)
    assert waits(node) == []
    assert (node.state(UID), pacs.stored.total()) == ("delivered", 1)


def test_a_destination_that_is_none_any_more_holds_nothing_up(node: Sender):
    scored_study(node.spool, UID)
    with Outbox(node.config.node.engine_url) as outbox:
        Addressing(node.config, node.spool, outbox).address(UID, "scored", wake=False)
        due = outbox.take("pacs", "worker")
        assert due is not None
        Deliveries(node.config.model_copy(update={"peers": ()}), node.spool, outbox).attempt(due)
        assert outbox.undelivered() == []
    assert (node.standing(UID, "pacs").progress, node.state(UID)) == ("withdrawn", "scored")


def test_a_study_that_was_removed_is_forgotten(node: Sender):
    with Outbox(node.config.node.engine_url) as outbox:
        outbox.put(Item("2.25.99", RUN, "sr", "pacs"), 1000)
        due = outbox.take("pacs", "worker")
        assert due is not None
        Deliveries(node.config, node.spool, outbox).attempt(due)
        assert outbox.undelivered() == []


def test_giving_up_to_tell_leaves_a_held_study_held(node: Sender):
    study = node.spool
    study.store(UID, f"{UID}.1", b"content")
    held = study.study(UID)
    held.note(Event.READ, State.HELD, input_digest=RUN, code="missing_role", sentence="No FLAIR.")
    config = node.config.model_copy(update={"report": node.config.report.model_copy(update={"held": "sr"})})
    with Outbox(node.config.node.engine_url) as outbox:
        Addressing(config, study, outbox).address(UID, "held", wake=False)
        due = outbox.take("pacs", "worker")
        assert due is not None
        Deliveries(config, study, outbox).attempt(due)
    assert (node.standing(UID, "pacs", "held").progress, node.state(UID)) == ("refused", "held")
