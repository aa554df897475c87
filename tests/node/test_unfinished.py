"""What is not collected is found at every start, and nothing else is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dicom_node.studies.changes import mark_changed, take_changed, taking
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event
from dicom_node.studies.unfinished import Unfinished
from tests.support.deaths import STUDY, Life
from tests.support.services import wait_for


def test_a_death_before_any_step_strands_no_study(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.deaths", str(tmp_path)], capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)
    assert len(rows) > 60
    assert [row["died"] for row in rows] == [True] * (len(rows) - 1) + [False]
    assert max(len(row["acknowledged"]) for row in rows) == 4
    for row in rows:
        assert (row["lost"], row["stranded"], row["noted"], row["marks_left"]) == ([], [], True, []), row
    # Marked from before the first instance on, and no longer once all is collected.
    assert rows[-1]["marked"] == 0
    assert {row["marked"] for row in rows} == {0, 1}


def test_a_mark_stays_while_something_is_added_and_after_it_was(tmp_path: Path):
    unfinished = Unfinished(tmp_path)
    with unfinished.adding("1.2") as mark:
        assert "1.2" not in unfinished
        mark()
        assert "1.2" in unfinished
        latest = unfinished.latest("1.2")
        assert not unfinished.finish("1.2", latest)
    assert not unfinished.finish("1.2", latest)
    assert unfinished.finish("1.2", unfinished.latest("1.2"))
    assert unfinished.uids() == []


def test_what_was_there_already_marks_nothing(tmp_path: Path):
    life = Life(tmp_path)
    life.receive("9.1", b"a")
    life.wait()
    life.receive("9.1", b"a")
    assert life.spool.unfinished.uids() == []
    life.receive("9.1", b"other")
    assert life.spool.unfinished.uids() == [STUDY]


def test_an_instance_of_which_nobody_was_told_is_found(tmp_path: Path):
    life = Life(tmp_path)
    life.spool.store("1.2.0", "9.1", b"a")
    life.collector.start()

    def submitted(count: int) -> bool:
        life.now_s += 60
        return len(life.lines("submitted")) == count

    wait_for(partial(submitted, 1), 30, "the study of an earlier process")
    life.spool.store(STUDY, "9.1", b"a")
    wait_for(partial(submitted, 2), 30, "the study of which nobody was told")
    life.collector.stop()


def test_a_data_folder_of_an_earlier_version_is_marked_once(tmp_path: Path):
    for uid in ("1.1", "1.2"):
        (tmp_path / "spool" / uid / "instances").mkdir(parents=True)
    tmp_path.chmod(0o700)
    assert Spool(tmp_path).unfinished.uids() == ["1.1", "1.2"]
    (tmp_path / "collecting" / "1.1").unlink()
    assert Spool(tmp_path).unfinished.uids() == ["1.2"]


@pytest.mark.parametrize("damage", ["timeline", "instance", "folder"])
def test_a_study_that_cannot_be_read_stops_no_other(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    life = Life(tmp_path)
    for uid in ("1.2.1", "1.2.2"):
        life.spool.store(uid, "9.1", b"a")
    folder = life.spool.study("1.2.1").folder
    if damage == "timeline":
        (folder / "timeline.jsonl").mkdir()
    elif damage == "instance":
        (folder / "instances/9.2.dcm").mkdir()
    else:
        folder.rename(tmp_path / "elsewhere")
    life = Life(tmp_path)
    life.collector.resume()
    life.wait()
    assert life.lines("submitted") == [life.spool.study("1.2.2").digest()]
    named = {vars(record)["facts"]["study"] for record in caplog.records if record.levelname == "ERROR"}
    assert named == (set() if damage == "folder" else {"1.2.1"})
    # One that was removed is waited for no longer; the others are tried again.
    assert life.spool.unfinished.uids() == ([] if damage == "folder" else ["1.2.1"])


def test_a_start_reads_no_study_that_is_finished(tmp_path: Path):
    life = Life(tmp_path)
    for number in range(50):
        life.spool.store(f"1.2.{number}", "9.1", b"a")
        life.spool.study(f"1.2.{number}").note(Event.ASSOCIATION)
    life.collector.resume()
    life.wait()
    opened: list[str] = []
    watching = True
    sys.addaudithook(
        lambda event, arguments: opened.append(str(arguments[0])) if watching and event == "open" else None
    )
    again = Life(tmp_path)
    again.spool.clean()
    assert again.collector.resume() == 0
    watching = False
    assert not [name for name in opened if "1.2." in name]


def test_changes_are_handed_over_until_they_are_done(tmp_path: Path):
    Spool(tmp_path)
    for uid in ("1.1", "1.2"):
        mark_changed(tmp_path, uid)
    seen: list[list[str]] = []

    def away(uids):
        raise OSError("database away")

    with pytest.raises(OSError, match="away"):
        take_changed(tmp_path, away)

    def again(uids):
        seen.append(list(uids))
        mark_changed(tmp_path, "1.2")

    assert take_changed(tmp_path, again, most=1) == 1
    assert take_changed(tmp_path, again) == 1
    assert seen == [["1.1"], ["1.2"]]
    assert take_changed(tmp_path, lambda uids: seen.append(list(uids))) == 1
    assert take_changed(tmp_path, away) == 0
    assert seen[-1] == ["1.2"]


def test_one_at_a_time_takes_changes(tmp_path: Path):
    Spool(tmp_path)
    with taking(tmp_path) as first, taking(tmp_path) as second:
        assert (first, second) == (True, False)
    with taking(tmp_path) as later:
        assert later
