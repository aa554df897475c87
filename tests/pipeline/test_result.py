"""A result is a record until it is a file, and a stored one answers what is asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.contrast import Contrast
from models.whole_files import write_json
from pipeline.errors import StudyHeld
from pipeline.result import RESULT_FILE, Outcome, Result, Scored, StoredResult, read_result
from pipeline.select import Selection
from tests.support.reports import BRAIN, FULL, HELD, MODEL, PROVENANCE, TWO

SELECTION = Selection("1.2.3", {}, {}, (), (), None, "ef" * 32)


def result(reading: Scored | StudyHeld) -> Result:
    return Result(SELECTION, MODEL, PROVENANCE.brain_weights, PROVENANCE.software, reading, {"convert": 1.5})


def stored(reading: Scored | StudyHeld, folder: Path) -> StoredResult | None:
    write_json(folder / RESULT_FILE, result(reading).as_json())
    return read_result(folder)


def test_a_score_stands_between_what_every_result_has():
    told = result(Scored(FULL, BRAIN)).as_json()
    assert list(told) == [
        "notice", "study_uid", "state", "reason", "sentence", "roles", "ignored_files", "input_digest", "model",
        "brain_weights", "software", "sequences_used", "scores", "members", "weights", "score", "score_patent",
        "threshold", "category", "spread", "calibrated", "repeatability", "out_of_range", "flags", "brain", "timings_s",
    ]  # fmt: skip
    assert json.loads(json.dumps(told)) == told
    assert (told["state"], told["reason"], told["score"]) == ("scored", None, FULL.score)
    assert told["brain"]["T2W"] == {"volume_ml": 1300.0, "flags": ["touches_border", "fragmented"]}


def test_a_held_study_has_a_reason_and_no_number():
    record = result(HELD)
    told = record.as_json()
    assert (record.outcome, record.held, record.finding) == (Outcome.HELD, HELD, None)
    assert (told["state"], told["reason"], told["sentence"]) == ("held", "missing_role", HELD.sentence)
    assert not {"score", "scores", "members", "category", "brain"} & set(told)


def test_a_stored_result_says_by_what_it_was_scored(tmp_path: Path):
    assert stored(Scored(TWO, BRAIN), tmp_path) == StoredResult(
        Outcome.SCORED, (Contrast.T2W, Contrast.FLAIR), MODEL.digest, PROVENANCE.brain_weights.digest
    )


def test_a_stored_result_of_a_held_study_is_held(tmp_path: Path):
    found = stored(HELD, tmp_path)
    assert found is not None
    assert (found.outcome, found.sequences) == (Outcome.HELD, tuple(Contrast))


def test_a_folder_without_result_has_none(tmp_path: Path):
    assert read_result(tmp_path) is None


def test_a_result_of_another_kind_is_refused(tmp_path: Path):
    write_json(tmp_path / RESULT_FILE, {"state": "lost"})
    with pytest.raises(ValueError, match="lost"):
        read_result(tmp_path)
