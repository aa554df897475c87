"""What a trained bundle adds to the report: spread over folds, calibration, cautions, evidence, two sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.bundle import Evidence
from models.contrast import Contrast
from pipeline.predict import Calibrated, Finding
from pipeline.report import Title, build_reports, codes, draw_page, render_tree
from pipeline.report.reportable import check_finding
from pipeline.report.structured_report import SOP_CLASSES
from pipeline.report.wording import evidence_words, result_sentence
from tests.support.reports import (
    FINDING,
    FULL,
    MODEL,
    PROVENANCE,
    TWO,
    WITH_LIBRARY,
    check_object,
    check_report,
    document_of,
    drawn_run,
    named,
    numbers,
    report_of,
    run_of,
    summary_of,
    template_complaints,
    views_of,
    written,
)


def texts(report, code) -> list[str]:
    return [item.TextValue for item in named(report, code)]


# --- report -----------------------------------------------------------------------------------------------------------


def test_spread_over_folds_stands_beside_each_score(inputs):
    """Folds of the ensemble: 0.3 T1W + 0.3 T2W + 0.4 FLAIR = 0.68, 0.711, 0.78889."""
    report = report_of(inputs, finding=FULL)
    assert numbers(report, codes.LOWEST_FOLD) == [0.68, 0.5, 0.7, 0.78]
    assert numbers(report, codes.HIGHEST_FOLD) == [0.79, 0.73, 0.77, 0.85]
    wanted = [np.std([0.68, 0.711, 0.78889], ddof=1), *(np.std(FULL.members[role], ddof=1) for role in Contrast)]
    assert numbers(report, codes.FOLD_SD) == [round(float(sd), 2) for sd in wanted]


def test_a_probability_only_with_a_calibration(inputs):
    report = report_of(inputs, finding=FULL)
    assert numbers(report, codes.PROBABILITY) == [63.1]
    (item,) = named(report, codes.PROBABILITY)
    assert item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"
    (words,) = texts(report, codes.CALIBRATION)
    assert "Platt scaling" in words
    assert "76 development patients" in words
    plain = report_of(inputs)
    added = (codes.PROBABILITY, codes.CALIBRATION, codes.FOLD_SD, codes.LOWEST_FOLD, codes.OUT_OF_RANGE)
    assert not any(named(plain, code) for code in (*added, codes.MISSING_SEQUENCE))


def test_cautions_stand_beside_the_score(inputs):
    report = report_of(inputs, finding=FULL)
    first, second = texts(report, codes.OUT_OF_RANGE)
    assert first.startswith("out_of_range_age: The patient's age")
    assert second.startswith("out_of_range_field_strength_unknown: ")
    assert "with 2 cautions" in texts(report, codes.SUMMARY)[0]
    assert "caution" not in result_sentence(FINDING)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ["on 76, tested on 19 patients", "AUC 0.83 (95 % interval 0.65 to 1.00)."]),
        ({"synthetic": True}, ["SYNTHETIC", "no evidence about real patients"]),
        ({"weights_chosen_on": "test"}, ["too optimistic"]),
        ({"auc": None}, ["not evaluated"]),
        ({"auc": None, "synthetic": True}, ["not evaluated", "no evidence about real patients"]),
    ],
)
def test_evidence_is_told_as_it_is(inputs, facts, words):
    assert FULL.model.evidence is not None
    model = replace(MODEL, evidence=Evidence.model_validate(FULL.model.evidence.model_dump() | facts))
    said = texts(report_of(inputs, finding=replace(FULL, model=model)), codes.EVIDENCE)
    assert [part for part in words if part not in said[0]] == []
    assert ("optimistic" in said[0]) == ("weights_chosen_on" in facts)


def test_a_model_without_evidence_says_so(inputs):
    assert texts(report_of(inputs), codes.EVIDENCE) == ["Performance not evaluated."] == [evidence_words(MODEL)]


@pytest.mark.parametrize(
    "change",
    [
        {"members": {Contrast.T1W: (0.61,)}},
        {"members": FULL.members | {Contrast.T1W: (0.5, 0.72)}},
        {"members": FULL.members | {Contrast.T1W: (0.1, 0.2, 0.3)}},
        {"members": FULL.members | {Contrast.T1W: (-0.5, 1.23, 1.1)}},
        {"members": dict.fromkeys(Contrast, ())},
        {"calibrated": Calibrated(1.2, "platt", 76)},
        {"calibrated": Calibrated(float("nan"), "platt", 76)},
        {"two_sequences": TWO.two_sequences},
        {"scores": TWO.scores, "weights": TWO.weights},
    ],
    ids=str,
)
def test_additions_that_contradict_the_finding_are_refused(change):
    check_finding(FULL)
    with pytest.raises(ValueError):
        check_finding(replace(FULL, **change))


# --- two sequences ----------------------------------------------------------------------------------------------------


def test_a_report_of_two_sequences_says_which_one_was_missing(inputs):
    found = {role: series for role, series in inputs.items() if role is not Contrast.T1W}
    report = report_of(found, finding=TWO)
    (words,) = texts(report, codes.MISSING_SEQUENCE)
    assert "no T1W series: it was scored by T2W and FLAIR" in words
    assert "(AUC 0.80, 19 patients)" in words
    assert "with 1 caution that" in texts(report, codes.SUMMARY)[0]
    assert numbers(report, codes.SEQUENCE_SCORE) == [0.5, 0.7]
    assert numbers(report, codes.ENSEMBLE_WEIGHT) == [40, 60]
    assert numbers(report, codes.ENSEMBLE_SCORE) == [0.62]
    assert len(texts(report, codes.INPUT_SERIES)) == 2
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 2
    assert "T1W network" not in render_tree(report)


# --- page and validity ------------------------------------------------------------------------------------------------


def test_every_addition_shows_on_the_page():
    views = views_of()

    def page(finding: Finding) -> bytes:
        return draw_page(drawn_run(finding), views).picture.tobytes()

    pages = [
        page(finding)
        for finding in (
            FINDING,
            FULL,
            replace(FULL, members={}),
            replace(FULL, calibrated=None),
            replace(FULL, out_of_range=()),
            replace(FULL, model=MODEL),
            TWO,
        )
    ]
    assert len(set(pages)) == len(pages)


@pytest.mark.parametrize("title", list(Title))
@pytest.mark.parametrize("sop_class_uid", [SOP_CLASSES[0], SOP_CLASSES[-1]])
def test_reports_with_all_additions_are_valid(inputs, tmp_path, title, sop_class_uid):
    reports = build_reports(run_of(inputs, replace(PROVENANCE, title=title), FULL))
    check_report(written(reports[sop_class_uid], tmp_path))


def test_results_of_two_sequences_are_valid(inputs, tmp_path):
    found = {role: series for role, series in inputs.items() if role is not Contrast.T1W}
    check_report(written(report_of(found, finding=TWO), tmp_path))
    for build in (summary_of, document_of):
        check_object(written(build(found, finding=TWO), tmp_path))


def test_the_additions_follow_the_template(inputs, tmp_path):
    report = report_of(inputs, replace(PROVENANCE, title=WITH_LIBRARY), FULL)
    assert template_complaints(written(report, tmp_path)) == []
