"""The report package: exact content, honest text, deterministic bytes."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import time
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from models.bundle import Repeatability
from models.contrast import Contrast
from models.outcome import UNCONTROLLED
from pipeline.brain import MaskFacts, WeightsIdentity
from pipeline.plausibility import MaskFlag
from pipeline.predict import Category
from pipeline.report import Predecessor, Title, build_reports, draw_page, render_tree, write_dataset
from pipeline.report import codes as report_codes
from pipeline.report.structured_report import SOP_CLASSES
from pipeline.report.uids import result_uid
from tests.support.reports import (
    BRAIN,
    FINDING,
    FULL,
    MODEL,
    NOTICE,
    PATIENT_ID,
    PROVENANCE,
    STUDY_UID,
    WITH_LIBRARY,
    content_items,
    document_of,
    drawn_run,
    held_of,
    named,
    numbers,
    predecessors,
    report_of,
    run_of,
    summary_of,
    write_inputs,
    written,
)  # fmt: skip
from tests.support.services import DSRDUMP

# --- Content ----------------------------------------------------------------------------------------------------------


def test_every_number_comes_back(inputs, tmp_path):
    report = dcmread(written(report_of(inputs), tmp_path))
    assert numbers(report, report_codes.ENSEMBLE_SCORE) == [0.73]
    assert numbers(report, report_codes.PATENT_SCORE) == [0.24]
    assert numbers(report, report_codes.DECISION_THRESHOLD) == [0.5]
    assert numbers(report, report_codes.SEQUENCE_SCORE) == [0.61, 0.73, 0.81]
    assert numbers(report, report_codes.ENSEMBLE_WEIGHT) == [30, 30, 40]
    assert numbers(report, report_codes.MASK_VOLUME) == [1321, 1300, 1310]


def test_float32_shows_no_digits_that_it_does_not_have(inputs):
    scores: dict[Contrast, Any] = {role: np.float32(score) for role, score in FINDING.scores.items()}
    score: Any = np.float32(0.7266)
    report = report_of(inputs, finding=dataclasses.replace(FINDING, scores=scores, score=score))
    assert numbers(report, report_codes.ENSEMBLE_SCORE) == [0.73]
    assert named(report, report_codes.ENSEMBLE_SCORE)[0].MeasuredValueSequence[0].FloatingPointValue == 0.73
    assert numbers(report, report_codes.SEQUENCE_SCORE) == [0.61, 0.73, 0.81]


def test_units_are_scores_and_percent(inputs):
    report = report_of(inputs)
    units = {
        code.value: named(report, code)[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        for code in (report_codes.ENSEMBLE_SCORE, report_codes.DECISION_THRESHOLD, report_codes.ENSEMBLE_WEIGHT)
    }
    assert list(units.values()) == ["{score}", "{score}", "%"]


def test_rounding_does_not_hide_the_side_of_the_threshold(inputs):
    near = dataclasses.replace(FINDING, score=0.499996, score_patent=0.166665, category=Category.BELOW)
    report = report_of(inputs, finding=near)
    assert numbers(report, report_codes.ENSEMBLE_SCORE)[0] < numbers(report, report_codes.DECISION_THRESHOLD)[0]
    assert "0.499996" in named(report, report_codes.SUMMARY)[0].TextValue


def test_all_containers_are_separate_and_declare_1500(inputs):
    *measured, text = build_reports(run_of(inputs)).values()
    for report in (*measured, text):
        containers = [report, *(item for item in content_items(report) if item.ValueType == "CONTAINER")]
        assert len(containers) == 7
        assert {container.ContinuityOfContent for container in containers} == {"SEPARATE"}
    for report in measured:
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        assert report.ContentTemplateSequence[0].MappingResource == "DCMR"
    assert not any("ContentTemplateSequence" in item for item in (text, *content_items(text)))


@pytest.mark.parametrize("title", list(Title))
def test_basic_text_says_the_same_in_words(inputs, title):
    reports = build_reports(run_of(inputs, dataclasses.replace(PROVENANCE, title=title)))
    full, text = report_of(inputs), reports[SOP_CLASSES[-1]]
    assert text.ConceptNameCodeSequence[0].CodeValue == "TSC000"
    assert {item.ValueType for item in content_items(text)} == {"CONTAINER", "TEXT", "CODE", "UIDREF"}
    pairs = list(zip(content_items(full), content_items(text), strict=True))
    written_out: dict[str, list[str]] = {}
    for original, plain in pairs:
        assert original.ConceptNameCodeSequence == plain.ConceptNameCodeSequence
        assert original.RelationshipType == plain.RelationshipType
        if original.ValueType == "NUM":
            written_out.setdefault(plain.ConceptNameCodeSequence[0].CodeValue, []).append(plain.TextValue)
            assert "MeasuredValueSequence" not in plain
    assert written_out == {
        "TSC001": ["0.73"],
        "TSC002": ["0.61", "0.73", "0.81"],
        "TSC003": ["30.0 %", "30.0 %", "40.0 %"],
        "TSC004": ["0.50"],
        "TSC019": ["0.24"],
        "TSC021": ["1321 ml", "1300 ml", "1310 ml"],
    }


def test_every_item_has_a_name_and_only_ascii(inputs):
    for item in content_items(report_of(inputs)):
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        words = str(item.get("TextValue", ""))
        assert name
        assert f"{name}{words}".isascii()
        assert "\x1b" not in words
    rows = named(report_of(inputs), report_codes.INPUT_SERIES)
    assert "AX T1W ??" in rows[0].TextValue


def test_what_people_read_stands_in_the_first_lines(inputs, tmp_path):
    """Notice, score, threshold, category and a sentence to paste, then doubts; who measured stands last."""
    revised = dataclasses.replace(PROVENANCE, predecessors=(Predecessor("1.2", SOP_CLASSES[0], "1.3", scored=False),))
    report = report_of(inputs, revised, FULL)
    dumped = subprocess.run([DSRDUMP, "+Pl", written(report, tmp_path)], capture_output=True, text=True, check=True)
    lines = dumped.stdout[dumped.stdout.index("<CONTAINER") :].splitlines()
    wanted = ["Research notice", "AED-refractory score (ensemble)", "Decision threshold", "Model output category",
              "Summary", "Caution, model range", "Replaces earlier report"]  # fmt: skip
    places = [next(place for place, line in enumerate(lines) if f'"{name}")=' in line) for name in wanted]
    assert places == sorted(places)
    assert places[4] < 12
    assert next(place for place, line in enumerate(lines) if "Observer" in line) > len(lines) - 10
    assert NOTICE in lines[1]
    assert sum("Model output category" in line for line in lines) == 1, "the category stands once"
    assert render_tree(report).splitlines()[0].startswith(NOTICE)


def test_one_sentence_can_be_pasted(inputs):
    report = report_of(inputs)
    (said,) = named(report, report_codes.SUMMARY)
    assert said.TextValue.count(". ") == 0
    for words in (
        "score 0.73", "threshold of 0.50", "at or above", UNCONTROLLED, f"WAE-net 0.1.0 ({NOTICE})",
        "not a probability", "for research use only", "not verified by a physician",
    ):  # fmt: skip
        assert words in said.TextValue
    assert not any(role in said.TextValue for role in Contrast), "of single sequences it says nothing"
    full = named(report_of(inputs, finding=FULL), report_codes.SUMMARY)[0].TextValue
    assert "with 2 cautions that the full report states" in full


def test_every_measurement_group_is_named_by_what_it_measures(inputs):
    groups = named(report_of(inputs), report_codes.MEASUREMENT_GROUP)
    assert [group.ContentSequence[0].TextValue for group in groups] == [
        "Ensemble of T1W, T2W and FLAIR", "T1W", "T2W", "FLAIR",
    ]  # fmt: skip


def test_a_reader_that_maps_three_containers_still_shows_the_notice(inputs):
    """HL7's guide from TID 1500 to FHIR takes children of Imaging Measurements, derived ones and evaluations only."""
    kept = (report_codes.IMAGING_MEASUREMENTS, Code("126011", "DCM", ""), report_codes.QUALITATIVE_EVALUATIONS)
    for reports in (build_reports(run_of(inputs)), build_reports(run_of(inputs, finding=FULL))):
        for report in reports.values():
            containers = [item for item in report.ContentSequence if any(_is(item, code) for code in kept)]
            texts = [str(item.get("TextValue", "")) for each in containers for item in content_items(each)]
            assert any(NOTICE in words and "FOR RESEARCH USE ONLY" in words for words in texts)
            direct = [str(item.get("TextValue", "")) for item in containers[-1].ContentSequence]
            assert "FOR RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE" in direct[0]


def _is(item: Dataset, code: Code) -> bool:
    name = item.ConceptNameCodeSequence[0]
    return (name.CodeValue, name.CodingSchemeDesignator) == (code.value, code.scheme_designator)


def test_what_a_revision_replaces_is_said_in_words(inputs):
    earlier = (
        Predecessor("1.2.1", SOP_CLASSES[0], "1.3.1"),
        Predecessor("1.2.2", SOP_CLASSES[0], "1.3.2", scored=False),
        Predecessor("1.2.1", SOP_CLASSES[1], "1.3.3"),
    )
    report = report_of(inputs, dataclasses.replace(PROVENANCE, predecessors=earlier))
    assert predecessors(report) == ["1.3.1", "1.3.3", "1.3.2"]
    said = [item.TextValue for item in named(report, report_codes.REPLACES)]
    assert said == [
        "This report replaces an earlier one of this study, which gave a score; that score is no longer valid.",
        "This report replaces an earlier one of this study, which gave no score.",
    ]
    held = held_of(inputs, dataclasses.replace(PROVENANCE, predecessors=earlier[:1]))[SOP_CLASSES[0]]
    assert "no longer valid" in named(held, report_codes.REPLACES)[0].TextValue
    assert predecessors(held) == ["1.3.1"]


def test_nothing_claims_a_finding_or_drug_resistance(inputs):
    report = report_of(inputs)
    tree = render_tree(report)
    assert "445355009" not in str(report)
    assert "Probability" not in tree
    assert not re.search(r"drug.resistant", tree, re.IGNORECASE)
    condition = named(report, report_codes.CONDITION)[0].ConceptCodeSequence[0]
    assert condition.CodeMeaning == "Seizures uncontrolled at 1 year under anti-seizure medication"


def test_masks_series_and_digests_are_told(inputs):
    report = report_of(inputs)
    assert [item.TextValue for item in named(report, report_codes.MASK_QUALITY)] == [
        "T1W: 1321 ml, no doubts",
        f"T2W: 1300 ml, {MaskFlag.TOUCHES_BORDER.meaning} (touches_border); {MaskFlag.FRAGMENTED.meaning} (fragmented)",
        "FLAIR: 1310 ml, no doubts",
    ]
    assert [item.UID for item in named(report, report_codes.SERIES_UID)] == [s.series_uid for s in inputs.values()]
    tree = render_tree(report)
    for digest in (MODEL.digest, *MODEL.network_digests.values(), PROVENANCE.brain_weights.digest):
        assert digest in tree


def test_titles(inputs):
    assert report_of(inputs).ConceptNameCodeSequence[0].CodeValue == "TSC000"
    library = report_of(inputs, dataclasses.replace(PROVENANCE, title=WITH_LIBRARY))
    assert library.ConceptNameCodeSequence[0].CodeValue == "126000"
    listed = named(library, report_codes.IMAGE_LIBRARY)[0]
    images = [item for item in content_items(listed) if item.ValueType == "IMAGE"]
    assert len(images) == 3, "one image of each series; all of them stand in the evidence"
    regions = named(library, report_codes.IMAGE_REGION)
    assert [region.GraphicData for region in regions] == [[0, 0, 256, 0, 256, 240, 0, 240, 0, 0]] * 4
    assert not named(report_of(inputs), report_codes.IMAGE_REGION), "the private title refers to no place"
    (study,) = library.CurrentRequestedProcedureEvidenceSequence
    assert [len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence] == [3, 3, 3]
    with pytest.raises(ValueError, match="18748-4"):
        dataclasses.replace(PROVENANCE, title=Title("18748-4"))


def test_procedure_comes_from_the_source_where_it_is_ascii(tmp_path):
    def with_procedure(meaning):
        def change(header):
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "P1", "99LOCAL", meaning
            header.SpecificCharacterSet = "ISO_IR 192"
            header.ProcedureCodeSequence = [item]

        return change

    def procedure(meaning):
        report = report_of(write_inputs(tmp_path, with_procedure(meaning)))
        return named(report, report_codes.PROCEDURE_REPORTED)[0].ConceptCodeSequence[0].CodeValue

    assert procedure("MR head plain") == "P1"
    assert procedure("头颅平扫") == "24590-2"


def test_private_codes_are_short_enough_and_unique():
    assert len(report_codes.SCHEME) <= 16
    assert report_codes.SCHEME.startswith("99")
    for term in report_codes.TERMS:
        assert len(term.value) <= 16
        assert len(term.meaning) <= 64
        assert f"{term.meaning}{term.note}".isascii()
        assert term.note
    assert len({term.value for term in report_codes.TERMS}) == len(report_codes.TERMS)
    assert len({term.meaning for term in report_codes.TERMS}) == len(report_codes.TERMS)


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"score": math.nan},
        {"score": 1.2},
        {"score": -0.1},
        {"score": math.inf},
        {"score_patent": 0.5},
        {"threshold": math.nan},
        {"scores": {**FINDING.scores, Contrast.T2W: math.nan}},
        {"scores": {Contrast.T1W: 0.5, Contrast.T2W: 0.5}},
        {"weights": {**FINDING.weights, Contrast.FLAIR: 0.7}},
        {"category": Category.BELOW},
    ],
    ids=str,
)
def test_a_finding_that_is_no_finding_is_refused(inputs, change):
    finding = dataclasses.replace(FINDING, **change)
    with pytest.raises(ValueError):
        build_reports(run_of(inputs, finding=finding))
    with pytest.raises(ValueError):
        draw_page(drawn_run(finding))


def test_a_missing_role_is_refused(inputs):
    with pytest.raises(ValueError, match="T2W"):
        run_of({Contrast.T1W: inputs[Contrast.T1W], Contrast.FLAIR: inputs[Contrast.FLAIR]})
    with pytest.raises(ValueError, match="T2W"):
        run_of(inputs, brain={Contrast.T1W: BRAIN[Contrast.T1W]})
    with pytest.raises(ValueError, match="FLAIR"):
        run_of(inputs, brain={**BRAIN, Contrast.FLAIR: MaskFacts(math.nan)})


# --- Identity ---------------------------------------------------------------------------------------------------------


def test_equal_runs_give_equal_bytes(inputs, tmp_path):
    shuffled = {
        role: dataclasses.replace(inputs[role], files=inputs[role].files[::-1]) for role in reversed(list(inputs))
    }
    for build in (report_of, summary_of, document_of):
        first = written(build(inputs), tmp_path).read_bytes()
        assert written(build(shuffled), tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    "provenance",
    [
        dataclasses.replace(PROVENANCE, input_digest="11" * 32),
        dataclasses.replace(PROVENANCE, brain_weights=WeightsIdentity("hd-bet", "22" * 32)),
        dataclasses.replace(PROVENANCE, software="dicom-node 0.2.0"),
        dataclasses.replace(PROVENANCE, title=WITH_LIBRARY),
    ],
    ids=["input", "brain weights", "software", "title"],
)
def test_other_runs_have_other_uids(inputs, provenance):
    for build in (report_of, summary_of):
        one, other = build(inputs), build(inputs, provenance)
        assert one.SOPInstanceUID != other.SOPInstanceUID
        assert one.SeriesInstanceUID != other.SeriesInstanceUID


def test_another_model_has_other_uids(inputs):
    other = dataclasses.replace(FINDING, model=dataclasses.replace(MODEL, digest="99" * 32))
    for build in (report_of, summary_of):
        assert build(inputs).SOPInstanceUID != build(inputs, finding=other).SOPInstanceUID


def test_four_sop_classes_share_a_series(inputs):
    reports = build_reports(run_of(inputs))
    assert tuple(reports) == SOP_CLASSES
    assert all(report.SOPClassUID == uid for uid, report in reports.items())
    assert len({report.SOPInstanceUID for report in reports.values()}) == 4
    assert len({report.SeriesInstanceUID for report in reports.values()}) == 1
    assert len({render_tree(reports[uid]) for uid in SOP_CLASSES[:3]}) == 1
    others = [summary_of(inputs), document_of(inputs), held_of(inputs)[SOP_CLASSES[0]]]
    series = [report_of(inputs), *others]
    assert len({each.SeriesInstanceUID for each in series}) == len({each.SeriesNumber for each in series}) == 4


def test_result_uids_are_uuids_and_do_not_run_together():
    uid = result_uid("kind", "ab", "c")
    assert re.fullmatch(r"2\.25\.[1-9]\d*", uid)
    assert len(uid) <= 64
    bits = int(uid.removeprefix("2.25."))
    assert (bits >> 76 & 0xF, bits >> 62 & 0x3) == (8, 2)
    assert len({uid, result_uid("kind", "a", "bc"), result_uid("kind", "abc"), result_uid("kinda", "b", "c")}) == 4


# --- Files, size, page, tree ------------------------------------------------------------------------------------------


def test_files_are_whole_or_absent(inputs, tmp_path):
    report = report_of(inputs)
    folder = tmp_path / "out"
    folder.mkdir()
    path = written(report, folder)
    assert [path] == list(folder.iterdir())
    assert dcmread(path).SOPInstanceUID == report.SOPInstanceUID
    broken = Dataset()
    with pytest.raises((ValueError, AttributeError)):
        write_dataset(broken, folder / "broken.dcm")
    assert [path] == list(folder.iterdir())


def test_the_library_lists_the_middle_image(tmp_path):
    """The middle in space, whatever the order of numbers and UIDs."""
    heights_mm = [30.0, 0.0, 10.0, 20.0, 40.0]

    def change(header: Dataset) -> None:
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [5.0, 5.0, heights_mm[header.InstanceNumber - 1]]

    report = report_of(
        write_inputs(tmp_path, change, images=5),
        dataclasses.replace(PROVENANCE, title=WITH_LIBRARY),
    )
    listed = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in content_items(named(report, report_codes.IMAGE_LIBRARY)[0])
        if item.ValueType == "IMAGE"
    ]
    assert listed == [f"{STUDY_UID}.{series}.4" for series in (1, 2, 3)]


@pytest.mark.parametrize("title", list(Title))
def test_six_hundred_images_stay_small_and_quick(tmp_path, title):
    def with_longest_uid(header: Dataset) -> None:
        header.SOPInstanceUID = f"{header.SOPInstanceUID}.".ljust(64, "1")

    inputs = write_inputs(tmp_path, with_longest_uid, images=200)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    reports = build_reports(run_of(inputs, dataclasses.replace(PROVENANCE, title=title)))
    wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    sizes = [written(report, tmp_path).stat().st_size for report in reports.values()]
    print(f"\n{title}: 600 images, four SRs in {wall_s:.2f} s ({cpu_s:.2f} s CPU), at most {max(sizes) / 1000:.0f} kB")
    # Test machines are shared: what counts is the time of this process. One of the four is sent.
    assert cpu_s / 4 < 1
    assert max(sizes) < 100_000


def test_tree_of_a_stranger_is_shown_as_far_as_it_goes():
    root, number, reference, nameless = Dataset(), Dataset(), Dataset(), Dataset()
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Length"
    number.ValueType, number.ConceptNameCodeSequence, number.MeasuredValueSequence = "NUM", [code], []
    reference.ReferencedContentItemIdentifier = [1, 2]
    nameless.ValueType, nameless.TextValue = "TEXT", "two\r\nlines"
    root.ValueType, root.ContentSequence = "CONTAINER", [number, reference, nameless]
    assert render_tree(root) == "\n".join(
        ["CONTAINER", "  Length: no value", "  item: see item [1, 2]", "  TEXT: two lines"]
    )


def test_tree_shows_names_and_values(inputs):
    lines = render_tree(report_of(inputs)).splitlines()
    assert lines[1] == "AI Analysis Summary - AED-refractory score in TSC"
    assert "      AED-refractory score (ensemble): 0.73 {score}" in lines
    assert not any(PATIENT_ID in line or "SEEDED" in line for line in lines)


def test_a_report_says_how_the_score_repeats_and_that_it_is_near_the_threshold(inputs):
    known = Repeatability(
        heads=20, sd=0.02, largest=0.09, sequences=dict.fromkeys(Contrast, 0.03), place_sd=0.01, place_worst_sd=0.02
    )
    finding = dataclasses.replace(
        FINDING, model=dataclasses.replace(MODEL, repeatability=known), threshold=FINDING.score - 0.03
    )
    report = report_of(inputs, finding=finding)
    assert "+-0.020" in named(report, report_codes.REPEATABILITY)[0].TextValue
    assert "other category" in named(report, report_codes.NEAR_THRESHOLD)[0].TextValue
    assert not named(report_of(inputs), report_codes.REPEATABILITY)
