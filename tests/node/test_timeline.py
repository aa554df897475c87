"""What happened to a study: the questions that its timeline answers, and lines of other versions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.studies import timeline
from dicom_node.studies.spool import Study
from dicom_node.studies.timeline import Entry, Event, State, Timeline

BEGIN = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)


def life(*happened: tuple[Event, State | None, dict[str, object]]) -> Timeline:
    """Return a timeline of one event each minute."""
    return Timeline(
        tuple(
            Entry(BEGIN + timedelta(minutes=minute), event, state, facts)
            for minute, (event, state, facts) in enumerate(happened)
        )
    )


DELIVERED = life(
    (Event.ASSOCIATION, None, {"calling": "PACS"}),
    (Event.QUEUED, State.QUEUED, {"reason": "quiet"}),
    (Event.COLLECTED, None, {"digest": "all", "instances": 96}),
    (Event.SELECTED, None, {"input_digest": "first"}),
    (Event.RUNNING, State.RUNNING, {"input_digest": "first"}),
    (Event.READ, State.SCORED, {"input_digest": "first"}),
    (Event.SENT, State.SENDING, {"peer": "pacs", "kind": "sr", "sop_instance_uid": "2.25.1"}),
    (Event.SENT, State.SENDING, {"peer": "pacs", "kind": "summary", "sop_instance_uid": "2.25.2"}),
    (Event.VERIFIED, None, {"peer": "pacs", "kind": "sr", "input_digest": "first"}),
    (Event.VERIFIED, None, {"peer": "pacs", "kind": "summary", "input_digest": "other"}),
    (Event.DELIVERED, State.DELIVERED, {}),
    (Event.RETRIED, None, {"attempt": 1}),
)


def test_a_study_without_a_timeline_is_being_received(tmp_path: Path):
    nothing = timeline.read(tmp_path / "timeline.jsonl")
    assert (nothing.state, nothing.turn, nothing.events) == (State.RECEIVING, None, [])
    assert (nothing.selected, nothing.read_digest, nothing.collected_digest, nothing.reports) == (None, None, None, [])
    assert (nothing.attempts, nothing.told_of_hold) == (0, frozenset())


def test_what_a_timeline_answers():
    assert DELIVERED.state is State.DELIVERED
    assert DELIVERED.turn == DELIVERED.entries[10]
    assert DELIVERED.selected == DELIVERED.entries[3]
    assert (DELIVERED.read_digest, DELIVERED.collected_digest, DELIVERED.attempts) == ("first", "all", 1)


def test_the_reports_that_a_revision_names_are_all_that_were_sent():
    def named(timeline: Timeline) -> list[str]:
        return [sent.text("sop_instance_uid") for sent in timeline.reports]

    assert named(DELIVERED) == ["2.25.1"]
    held = life((Event.SENT, None, {"peer": "pacs", "kind": "held", "sop_instance_uid": "2.25.3"}))
    assert named(Timeline(DELIVERED.entries + held.entries)) == ["2.25.3", "2.25.1"]


@pytest.mark.parametrize(("second", "told"), [("No FLAIR.", {"pacs"}), ("No T2W.", set()), (None, set())])
def test_peers_are_told_a_reason_to_hold_once(second: str | None, told: set[str]):
    again = life(
        (Event.READ, State.HELD, {"sentence": "No FLAIR."}),
        (Event.SENT, None, {"peer": "pacs", "kind": "held"}),
        (Event.READ, State.HELD if second else State.SCORED, {"sentence": second} if second else {}),
    )
    assert again.told_of_hold == told


def test_a_workflow_is_noted_as_failed_by_its_name():
    failed = life((Event.FAILED, State.FAILED, {"workflow_id": "1.2.first"}))
    assert failed.noted_failed("1.2.first")
    assert not failed.noted_failed("1.2.second")


def test_a_line_has_the_keys_that_it_always_had(tmp_path: Path):
    study = Study("1.2", tmp_path)
    study.note(Event.READ, State.HELD, input_digest="ab", code="missing_role", sentence="No FLAIR.")
    study.note(Event.RETRIED, attempt=1)
    first, second = map(json.loads, (tmp_path / "timeline.jsonl").read_text().splitlines())
    assert {"time": first.pop("time"), **first} == study.timeline().entries[0].as_json()
    assert first == {
        "event": "read",
        "state": "held",
        "input_digest": "ab",
        "code": "missing_role",
        "sentence": "No FLAIR.",
    }
    assert second.keys() == {"time", "event", "attempt"}


def test_lines_of_other_versions_are_kept_as_they_were_written(tmp_path: Path):
    written = [
        {"time": "2031-02-03T04:05:06.789012+00:00", "event": "anonymised", "state": "archived", "by": ["x", 1, None]},
        {"time": "2031-02-03T04:05:07+00:00", "event": "read", "input_digest": "ab", "extra": {"deep": True}},
    ]
    lines = [json.dumps(entry) for entry in written]
    broken = ["[1, 2]", '"text"', "7", '{"event": "read"}', '{"time": "yesterday", "event": "read"}', '{"time": "20']
    (tmp_path / "timeline.jsonl").write_text("\n".join([*broken, *lines]) + "\n")
    kept = timeline.read(tmp_path / "timeline.jsonl")
    assert [entry.as_json() for entry in kept] == written
    assert (kept.state, kept.events) == ("archived", ["anonymised", "read"])
    assert kept.read_digest == "ab"
