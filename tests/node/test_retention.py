"""What is kept for how long, and what a removal leaves behind however it ends."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.config import Config, RetentionSection, load
from dicom_node.engine import workflow
from dicom_node.engine.housekeeping import purge
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.studies.filters import Filters
from dicom_node.studies.index import Index
from dicom_node.studies.listing import find
from dicom_node.studies.retention import Expired, What, empty_trash, expired, remove, remove_images, remove_study
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Event, State
from tests.support.deaths import STUDY, Life
from tests.support.pasts import OUTCOMES, past_uid, write_past
from tests.support.services import command

NOW = datetime.now(UTC)
OLD = 200
"""Studies, a hundred a day."""
NEVER = RetentionSection(delivered_days=9999, held_days=9999, results_days=9999, free_gb=0)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return write_past(tmp_path / "data", OLD, now=NOW)


@pytest.fixture
def index(spool: Spool) -> Index:
    made = Index(spool.data_dir)
    assert made.catch_up(spool)
    return made


def going(
    spool: Spool, index: Index, now: datetime = NOW, filtered_days: float = 9999, **rules: float
) -> list[Expired]:
    return list(expired(spool, index, NEVER.model_copy(update=rules), now, 0, filtered_days))


def outcomes(found: list[Expired]) -> list[str]:
    return [OUTCOMES[int(one.study_uid.rpartition(".")[2]) % len(OUTCOMES)] for one in found]


def test_only_what_is_delivered_or_held_goes_the_oldest_first(spool: Spool, index: Index):
    assert going(spool, index) == []
    delivered = going(spool, index, delivered_days=1)
    assert set(outcomes(delivered)) == {"delivered"}
    assert len(delivered) == pytest.approx(80, abs=2)
    assert [one.since for one in delivered] == sorted(one.since for one in delivered)
    assert {one.what for one in delivered} == {What.IMAGES}
    held = going(spool, index, held_days=1)
    assert set(outcomes(held)) == {"held"}
    everything = going(spool, index, NOW + timedelta(days=9), delivered_days=5, held_days=5, results_days=5)
    assert {one.what for one in everything} == {What.STUDY}
    assert len(everything) == OLD - outcomes_in_all("delivery_failed")


def outcomes_in_all(outcome: str) -> int:
    return sum(OUTCOMES[number % len(OUTCOMES)] == outcome for number in range(OLD))


@pytest.mark.parametrize(
    "event",
    [
        (Event.QUEUED, None),
        (Event.RETRIED, None),
        (Event.SELECTED, None),
        (Event.ADDRESSED, None),
        (Event.FAILED, State.FAILED),
    ],
)
def test_what_is_to_be_done_or_new_keeps_a_study(spool: Spool, index: Index, event):
    what, state = event
    to = {"deliveries": [["another", "sr"]], "input_digest": "d"}
    spool.study(past_uid(0)).note(what, state, **to)
    spool.store(past_uid(1), "1.9", b"late")
    # The index is behind: the timeline decides.
    gone = {one.study_uid for one in going(spool, index, NOW + timedelta(days=9), delivered_days=1)}
    assert past_uid(0) not in gone
    assert past_uid(1) not in gone
    assert past_uid(2) in gone


def test_a_full_disk_takes_the_oldest_delivered_until_there_is_room(
    spool: Spool, index: Index, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Spool, "free_bytes", lambda _self: 10**9 - 10)
    found = going(spool, index, NOW + timedelta(days=9), free_gb=1)
    assert [one.study_uid for one in found] == [past_uid(n) for n in range(20) if OUTCOMES[n] == "delivered"][:10]
    # What came today stays.
    assert going(spool, index, NOW - timedelta(days=1, minutes=1), free_gb=1000) == []


def test_images_go_and_results_stay(spool: Spool, index: Index, tmp_path: Path):
    study = spool.study(past_uid(0))
    (study.folder / "runs/d").mkdir(parents=True)
    assert remove_images(spool, study)
    assert index.catch_up(spool)
    (row,) = find(index, Filters(text=f"{past_uid(0)}"), descending=False, limit=1).studies
    assert (row.state, row.instances, row.stored) == ("delivered", 1, 0)
    assert study.timeline().events[-1] == "expired"
    assert (study.folder / "runs/d").is_dir()
    assert list((spool.data_dir / "trash").iterdir()) == []
    assert past_uid(0) not in {one.study_uid for one in going(spool, index, delivered_days=1)}


def test_part_of_a_study_whose_images_went_is_not_read(tmp_path: Path):
    life = Life(tmp_path)
    life.receive("9.1", b"a")
    life.receive("9.2", b"b")
    life.wait()
    study = life.spool.study(STUDY)
    study.note(Event.SELECTED, input_digest="d")
    assert remove_images(life.spool, study)
    life.receive("9.3", b"late")
    life.wait()
    assert len(life.lines("submitted")) == 1
    assert life.spool.unfinished.uids() == []
    life.receive("9.1", b"a")
    life.receive("9.2", b"b")
    life.wait()
    assert life.lines("submitted")[1:] == [study.digest()]


@pytest.mark.parametrize("removal", [remove_images, remove_study])
def test_what_comes_in_meanwhile_is_never_lost(spool: Spool, removal, monkeypatch: pytest.MonkeyPatch):
    receiver = Spool(spool.data_dir)
    study = spool.study(past_uid(0))
    rename = Path.rename

    def store_first(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        receiver.store(study.uid, "9.1", b"just now")
        moved = rename(path, target)
        receiver.store(study.uid, "9.2", b"a moment later")
        study.note(Event.ASSOCIATION)
        return moved

    monkeypatch.setattr(Path, "rename", store_first)
    assert not removal(spool, study)
    assert {path.read_bytes() for path in study.instances()} == {b"x", b"just now", b"a moment later"}
    assert study.timeline().events[0] == "association"
    assert study.timeline().events[-1] == "association"
    assert study.state() == "delivered"
    assert spool.unfinished.uids() == [study.uid]


def test_a_crash_while_it_is_removed_leaves_no_half_study(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_study(spool, spool.study(past_uid(0)))
    monkeypatch.undo()
    assert past_uid(0) not in spool
    assert len(list((spool.data_dir / "trash").iterdir())) == 1
    assert len(spool.studies()) == OLD - 1
    empty_trash(spool.data_dir)
    assert list((spool.data_dir / "trash").iterdir()) == []
    assert not remove(spool, Expired(past_uid(0), What.STUDY, "delivered", 1, NOW))


# --- with the engine --------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    rules = "[retention]\ndelivered_days = 1\nheld_days = 9\nfree_gb = 0\n"
    file.write_text(f'[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n{rules}')
    return file


def queued(settings: Config) -> list[str]:
    engine = workflow.Engine(settings)
    try:
        return sorted(status.input["args"][0] for status in engine._client.list_workflows())
    finally:
        engine.close()


def submit(settings: Config, study: Study) -> None:
    engine = workflow.Engine(settings)
    engine.submit(study, "quiet", "0" * 64)
    engine.close()


def test_purge_removes_a_study_everywhere_and_no_other(spool: Spool, index: Index, config: Path):
    settings = load(config)
    workflow.migrate(settings)
    kept = spool.study(past_uid(1))
    longer = f"{past_uid(0)}.1"
    shutil.copytree(kept.folder, spool.data_dir / "spool" / longer)
    for uid in (past_uid(0), past_uid(1), longer):
        submit(settings, spool.study(uid))
    with Outbox(settings.node.engine_url) as outbox:
        outbox.put(Item(past_uid(0), "d", "sr", "pacs"), 60)
        outbox.put(Item(longer, "d", "sr", "pacs"), 60)
    assert purge(settings, spool, spool.study(past_uid(0)))
    assert past_uid(0) not in spool
    assert queued(settings) == sorted((past_uid(1), longer))
    with Outbox(settings.node.engine_url) as outbox:
        assert [item.study_uid for item in outbox.undelivered()] == [longer]
    assert index.catch_up(spool)
    assert {seen.study_uid for seen in find(index, limit=999).studies} == set(spool.uids())


def test_rows_of_finished_work_go(spool: Spool, index: Index, config: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load(config)
    workflow.migrate(settings)
    for number in range(3):
        submit(settings, spool.study(past_uid(number)))
    engine = workflow.Engine(settings)
    ids = {status.input["args"][0]: status.workflow_id for status in engine._client.list_workflows()}
    engine._client.cancel_workflows([ids[past_uid(n)] for n in (0, 1)])
    assert engine.forget_finished(datetime.now(UTC) - timedelta(days=1)) == 0
    assert engine.forget_finished(datetime.now(UTC) + timedelta(days=1)) == 2
    engine.close()
    assert queued(settings) == [past_uid(2)]


def test_the_verb(spool: Spool, config: Path):
    settings = ["--config", str(config)]
    would = command("purge", "--expired", "--dry-run", *settings).splitlines()
    assert would[0].split() == ["what", "images", "state", "since", "study"]
    assert len(spool.studies()) == OLD
    removed = command("purge", "--expired", *settings).splitlines()
    assert removed[-1] == would[-1].replace("Would remove", "Removed")
    images = [len(study.instances()) for study in spool.studies()]
    assert images.count(0) == int(removed[-1].split()[1].rstrip("."))
    command("purge", past_uid(3), *settings, code=2)
    assert past_uid(3) in spool
    assert "Removed study" in command("purge", past_uid(3), "--yes", *settings)
    assert past_uid(3) not in spool
    spool.store(past_uid(4), "9.9", b"new")
    command("purge", past_uid(4), "--yes", *settings, code=1)
    command("purge", past_uid(4), "--yes", "--force", *settings)
    assert past_uid(4) not in spool
    rows = json.loads(command("studies", "--last", "999", "--json", *settings))
    assert len(rows) == OLD - 2
