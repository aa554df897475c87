"""Every kind of object that is emitted against the validators of the field, with their output read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydicom.uid import UID

from pipeline.report import Predecessor, Title, build_reports, render_tree
from pipeline.report.key_object import build_key_object
from pipeline.report.structured_report import SOP_CLASSES
from tests.support.reports import (
    NOTICE,
    PROVENANCE,
    WITH_LIBRARY,
    check_object,
    check_report,
    complaints,
    document_of,
    held_of,
    pointed_at,
    predecessors,
    report_of,
    run_of,
    summary_of,
    template_complaints,
    write_inputs,
    written,
)


@pytest.mark.parametrize("title", list(Title))
@pytest.mark.parametrize("sop_class_uid", SOP_CLASSES, ids=lambda uid: UID(uid).name)
def test_reports_are_valid(inputs, tmp_path, title, sop_class_uid):
    reports = build_reports(run_of(inputs, dataclasses.replace(PROVENANCE, title=title)))
    check_report(written(reports[sop_class_uid], tmp_path))


@pytest.mark.parametrize("sop_class_uid", SOP_CLASSES, ids=lambda uid: UID(uid).name)
def test_reports_of_held_studies_are_valid(inputs, tmp_path, sop_class_uid):
    check_report(written(held_of(inputs)[sop_class_uid], tmp_path))


def test_a_revision_is_valid_and_names_its_predecessor(inputs, tmp_path):
    first = report_of(inputs)
    predecessor = Predecessor(first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    revised = dataclasses.replace(PROVENANCE, input_digest="0e" * 32, predecessors=(predecessor,))
    second = report_of(inputs, revised)
    assert predecessors(second) == [first.SOPInstanceUID]
    assert first.SOPInstanceUID != second.SOPInstanceUID
    check_report(written(second, tmp_path))
    again = report_of(inputs, dataclasses.replace(PROVENANCE, predecessors=(predecessor,)))
    assert "PredecessorDocumentsSequence" not in again, "a report that is written again revises itself"


def test_key_objects_are_valid_and_point_to_the_report_of_their_class(inputs, tmp_path):
    run = run_of(inputs)
    page = summary_of(inputs)
    keys = {uid: build_key_object(run, report, page) for uid, report in build_reports(run).items()}
    for uid, report in build_reports(run).items():
        assert pointed_at(keys[uid]) == [report.SOPInstanceUID, page.SOPInstanceUID]
        check_object(written(keys[uid], tmp_path))
        (study,) = keys[uid].CurrentRequestedProcedureEvidenceSequence
        assert len(study.ReferencedSeriesSequence) == 2
    assert len({key.SOPInstanceUID for key in keys.values()}) == len(SOP_CLASSES)


def test_the_key_object_of_a_revision_is_another_one_and_says_what_it_replaces(inputs):
    first = report_of(inputs)
    predecessor = Predecessor(first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    revised = run_of(inputs, dataclasses.replace(PROVENANCE, input_digest="0e" * 32, predecessors=(predecessor,)))
    old = build_key_object(run_of(inputs), first, summary_of(inputs))
    new = build_key_object(revised, build_reports(revised)[SOP_CLASSES[0]], summary_of(inputs))
    assert old.SOPInstanceUID != new.SOPInstanceUID
    words = render_tree(new)
    assert f"Key Object Description: {NOTICE}" in words
    assert "replaces an earlier one of this study, which gave a score" in words
    assert "replaces" not in render_tree(old)


@pytest.mark.parametrize("build", [summary_of, document_of])
def test_page_and_document_are_valid(inputs, tmp_path, build):
    check_object(written(build(inputs), tmp_path))


def test_the_tree_follows_its_template(tmp_path: Path):
    report = report_of(write_inputs(tmp_path, images=1), dataclasses.replace(PROVENANCE, title=WITH_LIBRARY))
    assert template_complaints(written(report, tmp_path)) == []


def test_the_validators_would_notice_an_error(inputs, tmp_path):
    report = report_of(inputs)
    report.CompletionFlag = "PERHAPS"
    del report.StudyInstanceUID
    assert complaints("dciodvfy", "-new", str(written(report, tmp_path)))
    assert complaints("dsrdump", str(written(report, tmp_path)))


def test_the_validators_would_notice_a_number_in_basic_text(inputs, tmp_path):
    numbers = report_of(inputs)
    basic = build_reports(run_of(inputs))[SOP_CLASSES[-1]]
    basic.ContentSequence = numbers.ContentSequence
    path = written(basic, tmp_path)
    assert complaints("dciodvfy", "-new", str(path))
    assert complaints("dsrdump", str(path))
