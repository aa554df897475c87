"""The index: like the timelines whatever happened, and cheap however much there was."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.cli.listed import moment
from dicom_node.errors import CommandError, IndexUnavailable
from dicom_node.log import Pseudonym, read_key
from dicom_node.studies.filters import EVERYTHING, Filters
from dicom_node.studies.index import FILE, Index, follow
from dicom_node.studies.listing import count, find
from dicom_node.studies.overview import Order, Overview, overview
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event, State
from tests.support.deaths import Life
from tests.support.pasts import past_uid, write_past
from tests.support.postgres import postgres
from tests.support.services import command, wait_for

PAST = 1000


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Index]:
    url = request.getfixturevalue("database") if request.param == "postgresql" else None
    made = Index(tmp_path / "data", url)
    (tmp_path / "data").mkdir(0o700)
    made.clear()
    yield made
    made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


def listed(index: Index, filters: Filters = EVERYTHING) -> dict[str, Overview]:
    return {seen.study_uid: seen for seen in find(index, filters, limit=10_000).studies}


def in_truth(spool: Spool) -> dict[str, Overview]:
    return {study.uid: overview(study) for study in spool.studies()}


# --- like the timelines -----------------------------------------------------------------------------------------------


def test_it_is_like_the_timelines_after_anything(index: Index, spool: Spool):
    dice = random.Random(7)
    for turn in range(40):
        for _ in range(5):
            uid = f"1.2.{dice.randrange(20)}"
            if dice.random() < 0.4 or uid not in spool:
                spool.store(uid, f"9.{dice.randrange(4)}", b"x")
            study = spool.study(uid)
            what = dice.choice(list(Event))
            state = dice.choice([None, *State])
            facts = {"calling": dice.choice("AB"), "peer": dice.choice(("p", "q")), "kind": "sr", "code": "some_code"}
            study.note(what, state, **facts, input_digest="d", instances=dice.randrange(9))
            if dice.random() < 0.1:
                shutil.rmtree(study.folder)
                study.changed()
        if turn % 3 == 0:
            assert index.catch_up(spool)
            assert listed(index) == in_truth(spool)


def test_a_comparison_finds_what_no_mark_says(index: Index, spool: Spool):
    for uid in ("1.1", "1.2", "1.3"):
        spool.store(uid, "9.1", b"x")
    assert index.catch_up(spool)
    spool.study("1.1").note(Event.FAILED, State.FAILED)
    shutil.rmtree(spool.study("1.2").folder)
    for mark in (spool.data_dir / "changed").glob("1.*"):
        mark.unlink()
    assert index.catch_up(spool)
    assert listed(index).keys() == {"1.1", "1.2", "1.3"}
    index.clear()  # Alike: another version, a new start of the machine, a day later.
    assert index.catch_up(spool)
    assert listed(index) == in_truth(spool)
    assert listed(index)["1.1"].state is State.FAILED


def test_a_comparison_comes_once_a_day_and_after_each_start_of_the_machine(
    index: Index, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = sys.modules[Index.__module__]
    now_s, boot = 1e9, tmp_path / "boot"
    boot.write_text("a")
    monkeypatch.setattr(module, "_BOOT_FILE", boot)
    monkeypatch.setattr(module.time, "time", lambda: now_s)
    seen: list[int] = []

    def after() -> bool:
        (spool.data_dir / "spool" / f"1.1.{len(seen)}").mkdir()
        seen.append(0)
        index.catch_up(spool)
        return f"1.1.{len(seen) - 1}" in listed(index)

    assert after()
    assert not after()
    now_s += 86000
    assert not after()
    now_s += 500
    assert after()
    now_s -= 1000  # A clock that was set back.
    assert after()
    boot.write_text("b")
    assert after()
    assert not after()


def test_a_timeline_that_cannot_be_read_is_named_and_stops_no_other(
    index: Index, spool: Spool, caplog: pytest.LogCaptureFixture
):
    for uid in ("1.1", "1.2"):
        spool.store(uid, "9.1", b"x")
    (spool.study("1.1").folder / "timeline.jsonl").mkdir()
    assert index.catch_up(spool)
    rows = listed(index)
    assert (rows["1.1"].state, rows["1.1"].code) == (State.FAILED, "timeline_unreadable")
    assert rows["1.2"].state is State.RECEIVING
    assert [vars(record)["facts"] for record in caplog.records] == [{"study": "1.1"}]


def test_instances_count_while_they_arrive(index: Index, tmp_path: Path):
    life = Life(tmp_path)
    for number in range(3):
        life.receive(f"9.{number}", b"a")
        life.collector.turn()
        index.catch_up(life.spool)
        assert [seen.instances for seen in listed(index).values()] == [number + 1]


# --- away, locked, damaged --------------------------------------------------------------------------------------------


def test_a_lock_and_a_damaged_file_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    module = sys.modules[Index.__module__]
    monkeypatch.setattr(module, "_WAIT_S", 0.1)
    monkeypatch.setattr(module, "_TURN_S", 0.02)
    monkeypatch.setattr(module, "_PAUSE_S", 0.05)
    spool, stop = Spool(tmp_path / "data"), threading.Event()
    index, file = Index(spool.data_dir), spool.data_dir / FILE
    thread = threading.Thread(target=follow, args=(index, spool, stop))
    thread.start()
    spool.store("1.1", "9.1", b"x")
    spool.study("1.1").note(Event.ASSOCIATION)
    try:
        wait_for(lambda: file.exists() and set(listed(index)) == {"1.1"}, 20, "the first study")
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            spool.store("1.2", "9.1", b"x")
            spool.study("1.2").note(Event.ASSOCIATION)
            wait_for(lambda: "index away, tried again" in caplog.messages, 20, "a word about it")
            assert set(listed(index)) == {"1.1"}  # Readers read on.
            other.execute("ROLLBACK")
        other.close()
        wait_for(lambda: "index caught up" in caplog.messages, 20, "the end of the lock")
        assert set(listed(index)) == {"1.1", "1.2"}
        file.write_bytes(b"this is no database" * 1000)
        spool.store("1.3", "9.1", b"x")
        spool.study("1.3").note(Event.ASSOCIATION)
        wait_for(lambda: in_truth(spool) == _listed_or_none(index), 20, "a new index")
    finally:
        stop.set()
        thread.join()
    assert file.stat().st_mode & 0o777 == 0o600
    said = [message for message in caplog.messages if message.startswith("index")]
    assert said[:2] == ["index away, tried again", "index caught up"]
    # SQLite may mend the file from what it had written ahead.
    assert said[2] in ("index damaged, made anew", "index away, tried again")


def _listed_or_none(index: Index) -> dict[str, Overview] | None:
    try:
        return listed(index)
    except IndexUnavailable:
        return None


def test_a_verb_says_what_to_do_about_an_index_that_cannot_be_read(tmp_path: Path):
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n')
    spool = write_past(tmp_path / "data", 3)
    (spool.data_dir / FILE).write_bytes(b"this is no database" * 1000)
    done = command("studies", "--config", str(config), code=1)
    assert done == ""
    assert command("reindex", "--config", str(config)) == "3 studies.\n"
    assert len(json.loads(command("studies", "--config", str(config), "--json"))) == 3


def test_an_index_of_another_version_is_made_anew(index: Index, spool: Spool, monkeypatch: pytest.MonkeyPatch):
    spool.store("1.1", "9.1", b"x")
    assert index.catch_up(spool)
    monkeypatch.setattr(sys.modules[Index.__module__], "VERSION", "another")
    later = Index(spool.data_dir, index.url if "postgresql" in index.url else None)
    assert listed(later) == {}
    assert later.catch_up(spool)
    assert listed(later) == in_truth(spool)
    later.close()


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spool, Index]:
    spool = write_past(tmp_path_factory.mktemp("past") / "data", PAST)
    index = Index(spool.data_dir)
    assert index.catch_up(spool)
    return spool, index


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (Filters(), lambda seen: True),
        (Filters(states=(State.HELD, State.FAILED)), lambda seen: seen.state in ("held", "failed")),
        (Filters(codes=("missing_role",)), lambda seen: seen.code == "missing_role"),
        (Filters(peer="MR_1"), lambda seen: "MR_1" in seen.senders),
        (Filters(peer="pacs"), lambda seen: "pacs" in seen.destinations),
        (Filters(text="1407.12"), lambda seen: "1407.12" in seen.study_uid),
        (Filters(text="mr_2"), lambda seen: "MR_2" in seen.senders),
        (Filters(text="100%"), lambda seen: False),
        (Filters(text="LIVERED"), lambda seen: seen.state == "delivered"),
        (Filters(text="unreach"), lambda seen: seen.trouble is not None),
        (Filters(text="pac"), lambda seen: {"PACS", "pacs"} & {*seen.senders, *seen.destinations}),
        (Filters(text=past_uid(12)), lambda seen: seen.study_uid == past_uid(12)),
        (
            Filters(text="1407.12", states=(State.HELD,)),
            lambda seen: "1407.12" in seen.study_uid and seen.state == "held",
        ),
        (Filters(troubled=True), lambda seen: seen.trouble is not None),
        (Filters(stored=False), lambda seen: False),
    ],
)
def test_filters(past: tuple[Spool, Index], filters: Filters, wanted):
    spool, index = past
    found = listed(index, filters)
    assert found == {uid: seen for uid, seen in in_truth(spool).items() if wanted(seen)}
    assert sum(count(index, filters).values()) == len(found)


def test_many_are_found_like_few(past: tuple[Spool, Index], monkeypatch: pytest.MonkeyPatch):
    _, index = past
    texts = ("missing", "mr_2", "1407.12", "ab", "deliver", "pacs", "nothing")
    few = [listed(index, Filters(text=text)) for text in texts]
    monkeypatch.setattr("dicom_node.studies.filters.FEW", 5)
    assert [listed(index, Filters(text=text)) for text in texts] == few
    assert [bool(found) for found in few] == [True] * 6 + [False]


def test_a_name_of_a_study_finds_it_and_a_part_of_it_too(past: tuple[Spool, Index]):
    spool, index = past
    name = Pseudonym(read_key(spool.data_dir))(past_uid(7))
    assert set(listed(index, Filters(text=name.upper()))) == {past_uid(7)}
    assert past_uid(7) in listed(index, Filters(text=name[3:8]))


def test_lists_sort_nothing_and_read_no_row_for_a_name(past: tuple[Spool, Index]):
    """What a list costs does not grow with the past: its order is that of an index."""
    spool, _ = past
    with sqlite3.connect(spool.data_dir / FILE) as database:
        for order in ("changed_s", "received_last_s", "state", "code", "study_uid"):
            plan = planned(database, f"SELECT * FROM indexed_studies ORDER BY {order} DESC, study_uid DESC LIMIT 51")
            assert "TEMP B-TREE" not in plan, plan
        for order in ("changed_s", "code"):
            held = f"SELECT * FROM indexed_studies WHERE state = 'held' ORDER BY {order}, study_uid LIMIT 51"
            assert "TEMP B-TREE" not in planned(database, held)
        named = "SELECT study_uid FROM indexed_studies WHERE pseudonym LIKE '%a%' OR study_uid LIKE '%a%'"
        assert "COVERING INDEX studies_by_pseudonym" in planned(database, named)


def planned(database: sqlite3.Connection, query: str) -> str:
    return str(database.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())


def test_a_connection_that_is_kept_follows_an_index_that_is_made_anew(index: Index, spool: Spool):
    assert index.catch_up(write_past(spool.data_dir, 20))
    url = None if index.url.startswith("sqlite") else index.url
    kept = Index(spool.data_dir, url, keeps=2)
    try:
        everything = listed(kept)
        assert everything
        index.clear()
        assert index.catch_up(spool)
        assert listed(kept) == everything
    finally:
        kept.close()


def test_filters_by_time(past: tuple[Spool, Index]):
    spool, index = past
    since = datetime.now(UTC) - timedelta(days=3)
    recent = {uid for uid, seen in in_truth(spool).items() if seen.received_last >= since}
    assert 250 < len(recent) < 350
    assert set(listed(index, Filters(since=since))) == recent
    assert set(listed(index, Filters(until=since))) == set(in_truth(spool)) - recent


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("descending", [True, False])
def test_pages_hold_each_study_once_in_order(past: tuple[Spool, Index], order: Order, descending: bool):
    spool, index = past
    keys = {
        Order.CHANGED: lambda seen: (seen.changed, seen.study_uid),
        Order.RECEIVED: lambda seen: (seen.received_last, seen.study_uid),
        Order.STATE: lambda seen: (seen.state, seen.study_uid),
        Order.REASON: lambda seen: (seen.code, seen.study_uid),
        Order.STUDY: lambda seen: seen.study_uid,
    }
    found: list[Overview] = []
    cursor = None
    while True:
        page = find(index, EVERYTHING, order, descending=descending, limit=97, cursor=cursor)
        found += page.studies
        cursor = page.cursor
        if cursor is None:
            break
    assert found == sorted(in_truth(spool).values(), key=keys[order], reverse=descending)


@pytest.mark.parametrize("cursor", ["", "x", "x~1.2", "~", "1.5"])
def test_a_cursor_that_is_none(past: tuple[Spool, Index], cursor: str):
    with pytest.raises(CommandError, match="where a page begins"):
        find(past[1], cursor=cursor)


# --- the cost of the past ---------------------------------------------------------------------------------------------


def test_start_and_list_open_no_file_of_the_past(past: tuple[Spool, Index]):
    """The twin of ``tests.benchmarks.index``: files are counted, not seconds."""
    spool, listed_before = past
    opened: list[str] = []
    watching = True
    root = str(spool.data_dir / "spool" / "1.")

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.scandir", "os.listdir") and str(arguments[0]).startswith(root):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    try:
        again = Life(spool.data_dir.parent)
        again.spool.clean()
        assert again.collector.resume() == 0
        again.collector.turn()
        fresh = Index(spool.data_dir)
        assert fresh.catch_up(again.spool)
        assert len(find(fresh, Filters(states=(State.HELD,)), limit=20).studies) == 20
        assert sum(count(fresh).values()) == PAST
        assert opened == []
        again.spool.study(past_uid(7)).note(Event.RETRIED, State.QUEUED, attempt=1)
        opened.clear()
        assert fresh.catch_up(again.spool)
        assert {Path(name).relative_to(spool.data_dir / "spool").parts[0] for name in opened} == {past_uid(7)}
    finally:
        watching = False
    assert count(listed_before)["queued"] == 1


def test_the_list_of_the_command_line(tmp_path: Path):
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n')
    write_past(tmp_path / "data", 40)

    def rows(*options: str):
        return json.loads(command("studies", "--config", str(config), "--json", *options))

    held = rows("--state", "held", "--state", "failed", "--last", "2", "--since", "3d", "--peer", "MR_2")
    assert [row["study_uid"] for row in held] == [past_uid(38), past_uid(17)]
    assert {(row["code"], row["sentence"]) for row in held} == {
        ("missing_role", "No series of the study is FLAIR; acquire or send it.")
    }
    lines = command("studies", "--config", str(config), "--last", "5", "--state", "delivered").splitlines()
    assert lines[0].split("  ")[0] == "received"
    assert lines[0].split()[-4:] == ["in", "the", "log", "study"]
    assert len(lines[1].split()[-2]) == 12, "the pseudonym, before the UID"
    assert lines[-1] == "5 of 32 studies; --last N prints more."
    assert "pacs: peer_unreachable" in command("studies", "--config", str(config), "--state", "delivery_failed")
    # What the log calls a study is taken for it.
    shown = command("show", held[0]["pseudonym"], "--config", str(config)).splitlines()
    assert shown[0] == f"study {held[0]['study_uid']}, in the log {held[0]['pseudonym']}"
    assert _error("show", "0123456789ab", "--config", str(config)).startswith("study_unknown: No received study")


def test_times_that_people_write():
    now = datetime.now(UTC)
    for text, age in {"5m": timedelta(minutes=5), "2h": timedelta(hours=2), "1w": timedelta(weeks=1)}.items():
        assert abs(now - age - moment(text)) < timedelta(minutes=1)
    assert moment("2026-11-28") == datetime(2026, 11, 28).astimezone()
    assert moment("2026-11-28T14:00+00:00") == datetime(2026, 11, 28, 14, tzinfo=UTC)
    for text in ("yesterday", "", "3", "-3d", "2026-13-01"):
        with pytest.raises(CommandError, match="is no time"):
            moment(text)


def _error(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dicom_node", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    return line
