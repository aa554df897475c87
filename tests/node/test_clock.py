"""Clocks that are set, and time zones: what was noted last counts, and every time is UTC."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path

import pytest

from dicom_node.studies import timeline
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event, State

SUMMER_TIME_ENDS = datetime.datetime(2026, 10, 25, 1, 30, tzinfo=datetime.UTC)


class Stepped(datetime.datetime):
    """A clock that is set back between any two looks."""

    looks = 0

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        cls.looks += 1
        return (SUMMER_TIME_ENDS - cls.looks * datetime.timedelta(hours=7)).astimezone(tz)


def test_a_clock_that_is_set_back_changes_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spool = Spool(tmp_path / "data")
    spool.store("2.25.41", "2.25.42", b"content")
    study = spool.study("2.25.41")
    monkeypatch.setattr(timeline, "datetime", Stepped)
    study.note(Event.QUEUED, State.QUEUED)
    study.note(Event.READ, State.HELD, input_digest="ab", sentence="No FLAIR.")
    study.note(Event.RETRIED, attempt=1)
    study.note(Event.QUEUED, State.QUEUED)
    study.note(Event.READ, State.SCORED, input_digest="cd")
    noted = study.timeline()
    assert [entry.time for entry in noted] == sorted((entry.time for entry in noted), reverse=True)
    assert (noted.state, noted.read_digest, noted.attempts) == ("scored", "cd", 1)


def test_a_time_zone_is_in_no_timeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spool = Spool(tmp_path / "data")
    spool.store("2.25.41", "2.25.42", b"content")
    study = spool.study("2.25.41")
    try:
        for zone in ("Europe/Berlin", "America/St_Johns", "Pacific/Chatham"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            study.note(Event.QUEUED, State.QUEUED)
    finally:
        monkeypatch.undo()
        time.tzset()
    lines = [json.loads(line) for line in (study.folder / "timeline.jsonl").read_text().splitlines()]
    assert {line["time"][-6:] for line in lines} == {"+00:00"}
    times = [entry.time for entry in study.timeline()]
    assert times == sorted(times)
    assert max(times) - min(times) < datetime.timedelta(minutes=10)
