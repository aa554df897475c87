"""Text of selections: folded to the width, with every word of the table."""

from __future__ import annotations

import pytest

from dicom_node.cli.explained import ROLES, explained, outcome, replayed, scored, shown
from models.contrast import Contrast

LONG = "a sentence of evidence with more words than one line of a narrow pipe has room for, as they happen to be"
UID = "1.2.840.113619.2.5.1762583153.215519.978957063.78"


def series(number: int | None, verdict: str, **fields) -> dict:
    scores = {role: float(role == verdict) for role in ROLES}
    row = {"series_uid": f"{UID}.{number}", "series_number": number, "description": "t2 tse", "volumes": 1}
    return row | {"verdict": verdict, "scores": scores, "evidence": [LONG]} | fields


def table(*rows: dict, **fields) -> dict:
    held = {"state": "held", "reason": "ambiguous_role", "sentence": LONG, "roles": {}, "ignored_files": []}
    return held | {"series": list(rows)} | fields


def test_roles_are_those_of_the_selection():
    assert tuple(Contrast) == ROLES


@pytest.mark.parametrize("width", [72, 80, 200])
def test_no_word_is_lost_at_any_width(width: int):
    ignored = [{"file": "a.dcm", "code": "file_empty", "sentence": LONG}]
    rows = table(series(3, "T2W"), series(None, "none", volumes=3, description=""), ignored_files=ignored)
    lines = list(explained(rows, width))
    assert max(len(line) for line in lines) <= width
    text = " ".join(" ".join(lines).split())
    assert text.count(LONG) == 4
    for words in (f"{UID}.3", "verdict T2W", "3 volumes", "(no description)", "Not used: a.dcm (file_empty)"):
        assert words in text


def test_a_chosen_series_tells_why_it_and_no_other():
    chosen = {**series(3, "T2W"), "evidence": [LONG, "rather than Series 5: finer voxels"]}
    ready = table(series(3, "T2W"), series(5, "T2W"), state="ready", roles={"T2W": chosen})
    text = "\n".join(explained(ready, 80))
    assert text.count("chosen for T2W") == 1
    assert "         - rather than Series 5: finer voxels" in text
    assert outcome(ready) == "Ready: T2W = series 3"


def test_a_held_study_shows_the_series_that_fit_something():
    (line,) = shown(table(series(1, "none"), series(5, "ambiguous", scores=dict.fromkeys(ROLES, 0.3))), 200)
    assert line == f"series 5, ambiguous, t2 tse: {UID}.5"


def test_a_choice_by_hand_is_told():
    role = {**series(5, "T2W"), "evidence": ["chosen by hand", LONG]}
    assert list(shown(table(state="ready", roles={"T2W": role}), 200)) == ["T2W = series 5, t2 tse, chosen by hand"]


def test_a_series_that_is_gone_or_new_is_none_in_a_replay():
    changes = {"T2W": {"old": None, "new": series(5, "T2W")}, "state": {"old": "held", "new": "ready"}}
    row = {"study_uid": UID, "outcome": "changed", "sentence": None, "changes": changes}
    assert list(replayed(row, 200)) == [f"{UID}: changed", "  T2W: none -> series 5 (t2 tse)", "  state: held -> ready"]


def test_a_score_comes_with_what_it_is_made_of(tmp_path):
    numbers = {"scores": {"T2W": 0.25}, "weights": {"T2W": 0.5}, "brain": {"T2W": {"volume_ml": 1234.5, "flags": []}}}
    numbers |= {"sequences_used": list(ROLES), "spread": None, "out_of_range": []}
    result = {"notice": "NOTICE", "score": 0.5, "threshold": 0.4, "category": "above_threshold", "ignored_files": []}
    lines = list(scored(table(state="scored", roles={"T2W": series(5, "T2W")}) | numbers | result, tmp_path, 80))
    assert lines == [
        "NOTICE",
        "Score 0.5000 (threshold 0.4, above threshold)",
        "role    score  weight  brain ml  series",
        "T2W    0.2500    0.50      1234  series 5, t2 tse",
        f"Written to {tmp_path}",
    ]


def test_a_score_comes_with_its_caveats(tmp_path):
    spread = {"folds": 5, "sd": 0.0321, "low": 0.4, "high": 0.61}
    brain = {"T1W": {"volume_ml": 1300, "flags": []}, "T2W": {"volume_ml": 1234.5, "flags": ["two_parts", "odd"]}}
    numbers = {"scores": {"T2W": 0.25}, "weights": {"T2W": 0.5}, "brain": brain}
    caveats = {
        "sequences_used": ["T1W", "T2W"],
        "spread": {"ensemble": spread},
        "out_of_range": [{"code": "out_of_range_age", "sentence": LONG}],
    }
    result = {"notice": "NOTICE", "score": 0.5, "threshold": 0.4, "category": "above_threshold", "ignored_files": []}
    whole = table(state="scored", roles={"T2W": series(5, "T2W")}) | numbers | caveats | result
    assert list(scored(whole, tmp_path, 200))[4:-1] == [
        "Spread over 5 folds: SD 0.0321, from 0.4000 to 0.6100",
        "Scored without FLAIR, with weights and threshold tested for T1W and T2W alone",
        f"out_of_range_age: {LONG}",
        "Brain mask of T2W: two_parts, odd",
    ]
    narrow = list(scored(whole, tmp_path, 72))[:-1]
    assert max(len(line) for line in narrow) <= 72
