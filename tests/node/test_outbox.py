"""What waits is a row: due times, who holds it, a destination that is away; on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_node.engine.outbox import HELD_S, LONGEST_PAUSE_S, Outbox
from dicom_node.engine.outbox_tables import Due, Item
from dicom_node.errors import NodeError
from tests.support.databases import Postgres

SR = Item("2.25.1", "run", "sr", "pacs")
PAGE = Item("2.25.1", "run", "summary", "pacs")
OTHER = Item("2.25.2", "run", "sr", "pacs")
ELSEWHERE = Item("2.25.1", "run", "sr", "archive")


@dataclass
class Clock:
    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Waiting:
    outbox: Outbox
    clock: Clock = field(default_factory=Clock)

    def put(self, *items: Item) -> None:
        for item in items:
            assert self.outbox.put(item, 1000)

    def take(self, peer: str = "pacs", holder: str = "one", *, fresh: bool = False) -> Due:
        due = self.outbox.take(peer, holder, fresh=fresh)
        assert due is not None
        return due

    def nothing_due(self, peer: str = "pacs", holder: str = "one", *, fresh: bool = False) -> bool:
        return self.outbox.take(peer, holder, fresh=fresh) is None


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("database")
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'engine.sqlite'}"
        return
    with Postgres.running(folder) as server:
        yield server.url


@pytest.fixture
def waiting(url: str) -> Iterator[Waiting]:
    clock = Clock()
    with Outbox(url, clock) as outbox:
        for item in outbox.undelivered():
            outbox.remove(item)
            outbox.back(item.peer)
        yield Waiting(outbox, clock)


def test_an_object_waits_once_for_a_destination(waiting: Waiting):
    waiting.put(SR, ELSEWHERE)
    assert not waiting.outbox.put(SR, 1000)
    assert waiting.take().item == SR
    assert waiting.nothing_due()
    assert waiting.nothing_due(holder="another")
    assert waiting.take("archive").item == ELSEWHERE
    waiting.outbox.remove(SR)
    assert waiting.outbox.undelivered() == [ELSEWHERE]


def test_what_a_dead_worker_held_comes_free(waiting: Waiting):
    waiting.put(SR)
    waiting.take(holder="dead")
    waiting.outbox.release("another")
    assert waiting.nothing_due()
    waiting.outbox.release("dead")
    waiting.take(holder="dead")
    waiting.clock.now_s += HELD_S + 1
    assert waiting.take(holder="another").item == SR


def test_who_works_on_a_row_keeps_it_and_what_got_lost_comes_free(waiting: Waiting):
    waiting.put(SR, PAGE)
    worked_on, lost = waiting.take(), waiting.take()
    for _ in range(3):
        waiting.clock.now_s += HELD_S / 2
        waiting.outbox.hold("one", [worked_on])
        waiting.outbox.hold("another", [])
    # The attempt for it never began: nobody waits until its time is over.
    assert waiting.take(holder="another").item == lost.item
    assert waiting.nothing_due(holder="another")
    # What another worker has by now is not taken back.
    waiting.outbox.hold("one", [worked_on, lost])
    waiting.outbox.release("another")
    assert waiting.take(holder="another").item == lost.item


def test_a_look_whether_a_destination_is_back_may_take_long(waiting: Waiting):
    waiting.put(SR, PAGE)
    waiting.outbox.away(waiting.take(), 10)
    waiting.clock.now_s += 11
    probe = waiting.take()
    assert probe.probe
    for _ in range(3):
        waiting.clock.now_s += HELD_S / 2
        waiting.outbox.hold("one", [probe])
        assert waiting.nothing_due(holder="another")
    # And one whose worker is gone holds nobody up for longer.
    waiting.clock.now_s += HELD_S + 1
    assert waiting.take(holder="another").probe


def test_many_workers_take_each_row_once(waiting: Waiting):
    items = [Item(f"2.25.{number}", "run", "sr", "pacs") for number in range(12)]
    waiting.put(*items)
    taken: list[Item] = []

    def work(holder: str) -> None:
        while due := waiting.outbox.take("pacs", holder):
            taken.append(due.item)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=str) == sorted(items, key=str)


def test_what_failed_waits_and_lets_others_pass(waiting: Waiting):
    waiting.put(SR)
    waiting.outbox.again(waiting.take(), 30)
    waiting.put(PAGE)
    assert waiting.take().item == PAGE
    assert waiting.nothing_due()
    waiting.clock.now_s += 30
    waiting.put(OTHER)
    # What never failed goes first.
    assert waiting.take().item == OTHER
    assert waiting.nothing_due(fresh=True)
    due = waiting.take()
    assert (due.item, due.failures, due.left_s) == (SR, 1, 970)


@pytest.mark.parametrize("step_s", [-86400.0 * 365, 86400.0 * 365])
def test_a_clock_that_is_set_disturbs_nothing(waiting: Waiting, step_s: float):
    waiting.put(SR, PAGE)
    waiting.outbox.again(waiting.take(), 3000)
    waiting.clock.now_s += step_s
    found = {waiting.take().item, waiting.take().item}
    assert found == {SR, PAGE}
    waiting.outbox.release("one")
    assert {waiting.take().left_s, waiting.take().left_s} == {1000, -2000}


def test_set_aside_waits_for_somebody(waiting: Waiting):
    waiting.put(SR, PAGE, OTHER)
    waiting.outbox.set_aside(SR)
    waiting.outbox.again(waiting.take(), 500)
    assert waiting.outbox.undelivered(waiting=False) == [SR]
    assert set(waiting.outbox.undelivered(study_uid="2.25.1")) == {SR, PAGE}
    assert waiting.outbox.undelivered(peer="archive") == []
    waiting.outbox.wake([SR, PAGE], 2000)
    waiting.outbox.remove(OTHER)
    assert [(waiting.take().left_s, waiting.take().failures)] == [(2000, 0)]
    assert not waiting.outbox.put(SR, 3000)
    waiting.outbox.set_aside(SR)
    assert not waiting.outbox.put(SR, 3000, wake=True)
    assert waiting.take().left_s == 3000


def test_one_at_a_time_looks_whether_a_destination_is_back(waiting: Waiting):
    waiting.put(SR, PAGE, OTHER, ELSEWHERE)
    first, second = waiting.take(), waiting.take()
    pause_s, over, told = waiting.outbox.away(first, 10)
    assert (pause_s, over, {*told}) == (10, [], {SR, PAGE, OTHER})
    # What was under way fails too; that is the same outage.
    assert waiting.outbox.away(second, 10)[0] == 10
    assert waiting.nothing_due()
    assert waiting.take("archive").item == ELSEWHERE
    waiting.clock.now_s += 10
    probe = waiting.take()
    assert probe.probe
    assert waiting.nothing_due()
    pause_s, over, told = waiting.outbox.away(probe, 10)
    assert (pause_s, over, told) == (20, [], [])
    assert waiting.nothing_due()
    waiting.clock.now_s += 20
    probe = waiting.take()
    assert waiting.outbox.back("pacs")
    assert not waiting.outbox.back("pacs")
    assert {probe.item, waiting.take().item, waiting.take().item} == {SR, PAGE, OTHER}


def test_an_outage_uses_up_the_time_of_all_that_wait(waiting: Waiting):
    waiting.put(SR, PAGE)
    total_s, looks = 0.0, 0
    waiting.outbox.away(waiting.take(), 400)
    while waiting.outbox.undelivered() != waiting.outbox.undelivered(waiting=False):
        waiting.clock.now_s += 2 * LONGEST_PAUSE_S
        waiting.put(OTHER) if looks == 0 else None
        pause_s, *_ = waiting.outbox.away(waiting.take(), 400)
        total_s, looks = total_s + pause_s, looks + 1
        assert looks < 10
    # 400 + 800 s are more than they had; the look after the second pause is the last attempt, the third's is of OTHER.
    assert set(waiting.outbox.undelivered(waiting=False)) == {SR, PAGE, OTHER}
    assert looks == 3


def test_a_woken_object_goes_out_though_its_destination_seems_away(waiting: Waiting):
    waiting.put(SR)
    waiting.outbox.away(waiting.take(), 1000)
    assert waiting.nothing_due()
    waiting.outbox.wake([SR], 1000)
    assert waiting.take().probe


def test_waiting_for_a_proof_is_a_row_too(waiting: Waiting):
    waiting.put(SR, PAGE)
    due = waiting.take()
    waiting.outbox.requests.begin(due, "2.25.9", "2.25.10", 300)
    waiting.outbox.requests.sent("2.25.9")
    assert waiting.outbox.requests.waits_for("2.25.9") is not None
    waiting.outbox.away(waiting.take(), 5000)
    waiting.clock.now_s += 300
    # That its time is over is told without the destination.
    over = waiting.take()
    assert (over.item, over.asked, over.left_s) == (due.item, "2.25.9", 700)
    waiting.outbox.again(over, 30)
    assert waiting.outbox.requests.waits_for("2.25.9") is None
    # Yet it counts when it comes, once.
    request = waiting.outbox.requests.answered("2.25.9")
    assert request is not None
    assert (request.item, request.sop_instance_uid) == (due.item, "2.25.10")
    assert waiting.outbox.requests.answered("2.25.9") is None


def test_a_result_that_is_faster_than_we_are_is_not_lost(waiting: Waiting):
    waiting.put(SR)
    due = waiting.take()
    waiting.outbox.requests.begin(due, "2.25.9", "2.25.10", 300)
    assert waiting.outbox.requests.answered("2.25.9") is not None
    refused = waiting.outbox.requests.waits_for("2.25.9")
    assert refused is not None
    waiting.outbox.again(refused, 30)
    waiting.outbox.requests.sent("2.25.9")
    waiting.clock.now_s += 30
    assert waiting.take().failures == 1


def test_a_removed_study_is_forgotten(waiting: Waiting):
    waiting.put(SR, PAGE, OTHER)
    waiting.outbox.forget("2.25.1")
    assert waiting.outbox.undelivered() == [OTHER]


def test_a_database_that_cannot_be_used_is_one_sentence(tmp_path: Path):
    with pytest.raises(NodeError, match=r"check node\.database_url") as caught:
        Outbox(f"sqlite:///{tmp_path / 'missing' / 'engine.sqlite'}")
    assert caught.value.code == "database_unusable"
