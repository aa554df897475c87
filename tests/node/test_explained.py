"""Text of selections: folded to the width, with every word of the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli.explained import explained, outcome, replayed, scored, shown
from dicom_node.studies.replay import Change, Judgement, Replayed
from models.contrast import Contrast
from pipeline.brain import MaskFacts
from pipeline.errors import HoldReason
from pipeline.explain import ChosenSeries, JudgedSeries, NamedSeries, SelectionTable, UnusedFile
from pipeline.headers import ProblemCode
from pipeline.out_of_range import OutOfRange
from pipeline.plausibility import MaskFlag
from pipeline.predict import Category, Finding
from pipeline.result import Result, Scored
from pipeline.select import SelectedSeries, Selection, Verdict
from tests.support.reports import MODEL, PROVENANCE

LONG = "a sentence of evidence with more words than one line of a narrow pipe has room for, as they happen to be"
UID = "1.2.840.113619.2.5.1762583153.215519.978957063.78"


def named(number: int | None, description: str = "t2 tse") -> NamedSeries:
    return NamedSeries(f"{UID}.{number}", number, description)


def row(number: int | None, verdict: str, score: float = 1.0, volumes: int = 1, description: str = "t2 tse"):
    scores = {role: score * (verdict in (role, "ambiguous")) for role in Contrast}
    return JudgedSeries(named(number, description), volumes, Verdict(verdict), scores, (LONG,))


def held(*rows: JudgedSeries, **fields: Any) -> SelectionTable:
    return replace(SelectionTable("1.2", HoldReason.AMBIGUOUS_ROLE, LONG, {}, rows, ()), **fields)


def ready(*rows: JudgedSeries, number: int, evidence: tuple[str, ...] = (LONG,)) -> SelectionTable:
    chosen = ChosenSeries(named(number), evidence)
    return held(*rows, reason=None, sentence=None, roles={Contrast.T2W: chosen})


@pytest.mark.parametrize("width", [72, 80, 200])
def test_no_word_is_lost_at_any_width(width: int):
    ignored = (UnusedFile("a.dcm", ProblemCode.FILE_EMPTY, LONG),)
    table = held(row(3, "T2W"), row(None, "none", volumes=3, description=""), ignored_files=ignored)
    lines = list(explained(table, width))
    assert max(len(line) for line in lines) <= width
    text = " ".join(" ".join(lines).split())
    assert text.count(LONG) == 4
    for words in (f"{UID}.3", "verdict T2W", "3 volumes", "(no description)", "Not used: a.dcm (file_empty)"):
        assert words in text


def test_many_files_of_one_kind_are_counted():
    ignored = tuple(UnusedFile(f"{number}.dcm", ProblemCode.FILE_NOT_DICOM, "It is not.") for number in range(72))
    table = held(row(3, "T2W"), ignored_files=(*ignored, UnusedFile("a.dcm", ProblemCode.FILE_EMPTY, "It is empty.")))
    lines = [line for line in explained(table, 200) if line.startswith("Not used")]
    assert lines == [
        "Not used: 72 files, among them 0.dcm (file_not_dicom): It is not.",
        "Not used: a.dcm (file_empty): It is empty.",
    ]
    few = list(explained(replace(table, ignored_files=ignored[:2]), 200))
    assert "Not used: 0.dcm, 1.dcm (file_not_dicom): It is not." in few


def test_a_chosen_series_says_why_it_and_no_other():
    table = ready(row(3, "T2W"), row(5, "T2W"), number=3, evidence=(LONG, "rather than Series 5: finer voxels"))
    text = "\n".join(explained(table, 80))
    assert text.count("chosen for T2W") == 1
    assert "         - rather than Series 5: finer voxels" in text
    assert outcome(table) == "Ready: T2W = series 3"


def test_a_held_study_shows_the_series_that_fit_something():
    (line,) = shown(held(row(1, "none"), row(5, "ambiguous", 0.3)), (), 200)
    assert line == f"series 5, ambiguous, t2 tse: {UID}.5"


def test_a_choice_by_hand_is_reported():
    assert list(shown(ready(number=5), {Contrast.T2W}, 200)) == ["T2W = series 5, t2 tse, chosen by hand"]
    assert list(shown(ready(number=5), {Contrast.T1W}, 200)) == ["T2W = series 5, t2 tse"]


def test_a_series_that_is_gone_or_new_is_none_in_a_replay():
    changes = {"T2W": Change(None, named(5)), "state": Change("held", "ready")}
    told = Replayed(UID, datetime(2026, 1, 1), Judgement.CHANGED, None, changes)
    assert list(replayed(told, 200)) == [
        f"{UID}: changed",
        "  T2W: none -> series 5 (t2 tse)",
        "  state: held -> ready",
    ]


def result(finding: Finding, brain: dict[Contrast, MaskFacts]) -> Result:
    chosen = {Contrast.T2W: SelectedSeries(f"{UID}.5", 5, "t2 tse", (), ())}
    selection = Selection("1.2", chosen, {}, (), (), None, "ef" * 32)
    model = replace(MODEL, notice="NOTICE")
    return Result(selection, model, PROVENANCE.brain_weights, "", Scored(finding, brain), {})


def finding(*roles: Contrast, **fields: Any) -> Finding:
    scores, weights = dict.fromkeys(roles, 0.25), dict.fromkeys(roles, 0.5)
    return Finding(scores, weights, 0.5, 0.5 / 3, 0.4, Category.AT_OR_ABOVE, MODEL, **fields)


def test_a_score_comes_with_what_it_is_made_of(tmp_path: Path):
    brain = dict.fromkeys(Contrast, MaskFacts(1234.5))
    assert list(scored(result(finding(*Contrast), brain), tmp_path, 80)) == [
        "NOTICE",
        "Score 0.50 (threshold 0.40, at or above threshold)",
        "role    score  weight  brain ml  series",
        "T2W    0.25      0.50      1234  series 5, t2 tse",
        f"Written to {tmp_path}",
    ]


def test_a_score_comes_with_its_caveats(tmp_path: Path):
    flags = (MaskFlag.FRAGMENTED, MaskFlag.ASYMMETRIC)
    brain = {Contrast.T1W: MaskFacts(1300), Contrast.T2W: MaskFacts(1234.5, flags)}
    folds = (0.4, 0.5, 0.5, 0.5, 0.6)
    whole = finding(
        Contrast.T1W,
        Contrast.T2W,
        members={Contrast.T1W: folds, Contrast.T2W: folds},
        out_of_range=(OutOfRange(HoldReason.OUT_OF_RANGE_AGE, LONG),),
    )
    assert list(scored(result(whole, brain), tmp_path, 200))[4:-1] == [
        "Spread over 5 folds: SD 0.07, from 0.40 to 0.60",
        "Scored without FLAIR, with weights and threshold tested for T1W and T2W alone",
        f"out_of_range_age: {LONG}",
        "Brain mask of T2W: fragmented, asymmetric",
    ]
    narrow = list(scored(result(whole, brain), tmp_path, 72))[:-1]
    assert max(len(line) for line in narrow) <= 72
