"""The report package: valid objects, exact headers, honest text, deterministic bytes."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from pipeline.brain import MaskFacts, WeightsIdentity
from pipeline.predict import Category, Finding, ModelIdentity
from pipeline.report import (
    Predecessor,
    Provenance,
    build_reports,
    build_summary,
    draw_page,
    render_tree,
    write_dataset,
)
from pipeline.report import codes as report_codes
from pipeline.report.structured_report import SOP_CLASSES
from pipeline.report.uids import result_uid
from pipeline.select import Role, SelectedSeries

PATIENT_NAME, PATIENT_ID, BIRTH_DATE = "SEEDED^PATIENT", "SEED-ID-4711", "19990102"
STUDY_UID = "1.2.826.0.1.3680043.8.498.4711"
NOTICE = "UNTRAINED DEMONSTRATION MODEL"
COMPREHENSIVE_3D = SOP_CLASSES[0]
CHINESE_NAME = "测试^病人"
CHINESE_INSTITUTION = "儿童医院"

MODEL = ModelIdentity(
    name="WAE-net",
    version="0.1.0",
    digest="ab" * 32,
    notice=NOTICE,
    intended_use="For research on brain MR of patients with tuberous sclerosis complex.",
    architecture="EfficientNet3D-B0, first-block stride 2",
    network_digests={Role.T1W: "1a" * 32, Role.T2W: "2b" * 32, Role.FLAIR: "3c" * 32},
)
FINDING = Finding(
    scores={Role.T1W: 0.61, Role.T2W: 0.7321, Role.FLAIR: 0.81},
    weights={Role.T1W: 0.3, Role.T2W: 0.3, Role.FLAIR: 0.4},
    score=0.72663,
    score_patent=0.24221,
    threshold=0.5,
    category=Category.AT_OR_ABOVE,
    model=MODEL,
)
BRAIN = {
    Role.T1W: MaskFacts(1321.26),
    Role.T2W: MaskFacts(1300.0, ("touches_border", "two_parts")),
    Role.FLAIR: MaskFacts(1310.04),
}
PROVENANCE = Provenance(
    input_digest="ef" * 32,
    started=datetime(2024, 3, 4, 11, 22, 33),
    software="dicom-node 0.1.0",
    brain_weights=WeightsIdentity("embedded", "01" * 32),
)


def mr_header(role: Role, number: int) -> Dataset:
    """One ordinary MR header without pixels."""
    series = list(Role).index(role) + 1
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = MRImageStorage
    header.SOPInstanceUID = f"{STUDY_UID}.{series}.{number}"
    header.StudyInstanceUID = STUDY_UID
    header.SeriesInstanceUID = f"{STUDY_UID}.{series}"
    header.FrameOfReferenceUID = f"{STUDY_UID}.99"
    header.PatientName, header.PatientID, header.PatientBirthDate = PATIENT_NAME, PATIENT_ID, BIRTH_DATE
    header.PatientSex, header.PatientAge = "F", "005Y"
    header.IssuerOfPatientID = "HOSPITAL"
    header.StudyDate, header.StudyTime = "20240304", "101112.50"
    header.AccessionNumber, header.StudyID, header.ReferringPhysicianName = "ACC-1", "7", "DOCTOR^REFERRING"
    header.StudyDescription = "MR head"
    header.Modality, header.SeriesNumber, header.InstanceNumber = "MR", series, number
    header.Manufacturer, header.ManufacturerModelName = "SCANNER MAKER", "SCANNER 3T"
    header.InstitutionName, header.DeviceSerialNumber, header.SoftwareVersions = "HOSPITAL", "4242", ["V1", "V2"]
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-1", "MR head"
    header.RequestAttributesSequence = [request]
    return header


def write_header(header: Dataset, path: Path, *, implicit: bool = False) -> Path:
    """Write a header as a file, without checks, as a modality would."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    labels = header.get("SpecificCharacterSet")
    header.set_original_encoding(implicit, True, convert_encodings(labels) if labels else default_encoding)
    header.save_as(path, enforce_file_format=True)
    return path


def write_inputs(folder: Path, change=None, *, images: int = 3, implicit: bool = False) -> dict[Role, SelectedSeries]:
    """Three series of headers; `change` edits each header before it is written."""
    inputs = {}
    for series, role in enumerate(Role, start=1):
        files = []
        for number in range(1, images + 1):
            header = mr_header(role, number)
            if change is not None:
                change(header)
            files.append(write_header(header, folder / f"{role}-{number}.dcm", implicit=implicit))
        evidence = (f"looks like {role}", "covers the head")
        inputs[role] = SelectedSeries(f"{STUDY_UID}.{series}", series, f"AX {role} 头部", evidence, tuple(files))
    return inputs


@pytest.fixture
def inputs(tmp_path: Path) -> dict[Role, SelectedSeries]:
    return write_inputs(tmp_path)


def written(dataset: Dataset, folder: Path, name: str = "result.dcm") -> Path:
    path = folder / name
    write_dataset(dataset, path)
    return path


def report_of(inputs: dict[Role, SelectedSeries], provenance: Provenance = PROVENANCE, finding=FINDING) -> Dataset:
    return build_reports(finding, inputs, BRAIN, provenance)[COMPREHENSIVE_3D]


def summary_of(inputs: dict[Role, SelectedSeries], provenance: Provenance = PROVENANCE, finding=FINDING) -> Dataset:
    return build_summary(draw_page(finding, BRAIN, provenance), inputs, provenance, finding)


def content_items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from content_items(child)


def named(item: Dataset, code) -> list[Dataset]:
    found = []
    for child in content_items(item):
        name = child.ConceptNameCodeSequence[0]
        if (name.CodeValue, name.CodingSchemeDesignator) == (code.value, code.scheme_designator):
            found.append(child)
    return found


def numbers(item: Dataset, code) -> list[float]:
    return [float(child.MeasuredValueSequence[0].NumericValue) for child in named(item, code)]


def raw(dataset: Dataset, keyword: str) -> bytes:
    return dataset.get_item(keyword).value.rstrip(b" ")


# --- Validators -------------------------------------------------------------------------------------------------------

ALLOWED = (
    re.compile(r"Unrecognized defined term = <99TSCWAE>"),
    re.compile(r"ContributingEquipmentSequence.*DeviceUID.*Attribute is not present in standard DICOM IOD"),
    re.compile(r"\((0x)?0008,(0x)?001c\)", re.IGNORECASE),
    re.compile(r"VR checker does not support"),
)
# A hint about media directories, given for attributes that may be empty and are, because the source has none.
EMPTY_IN_SOURCE = re.compile(r"Missing attribute or value that would be needed to build DICOMDIR")
COMPLAINT = re.compile(r"^\s*([EFW]:|error|warning|\(0x)", re.IGNORECASE)


def complaints(tool: str, *arguments: str) -> list[str]:
    """Every complaint of a validator that is not allowed; dciodvfy may return 0 in spite of errors."""
    program = shutil.which(tool)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{tool} is not installed")
        pytest.skip(f"{tool} is not installed: the objects are NOT validated")
    result = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", check=False)
    lines = (result.stderr + "\n" + result.stdout).splitlines()
    found = [line for line in lines if COMPLAINT.match(line) and not any(allowed.search(line) for allowed in ALLOWED)]
    if tool != "dciodvfy" and (result.returncode or not any("Summary" in line for line in lines)):
        found.append(f"return code {result.returncode}, {len(lines)} lines")
    return found


def check_object(path: Path, also: re.Pattern[str] | None = None) -> None:
    found = complaints("dciodvfy", "-new", str(path))
    assert [line for line in found if also is None or not also.search(line)] == []


def check_report(path: Path, also: re.Pattern[str] | None = None) -> None:
    check_object(path, also)
    assert complaints("dsrdump", str(path)) == []
    assert complaints("dcsrdump", str(path)) == []


@pytest.mark.parametrize("title", ["private", "126000"])
@pytest.mark.parametrize("sop_class_uid", SOP_CLASSES)
def test_reports_are_valid(inputs, tmp_path, title, sop_class_uid):
    reports = build_reports(FINDING, inputs, BRAIN, dataclasses.replace(PROVENANCE, title=title))
    check_report(written(reports[sop_class_uid], tmp_path))


def test_a_revision_is_valid_and_names_its_predecessor(inputs, tmp_path):
    first = report_of(inputs)
    predecessor = Predecessor(first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    revised = dataclasses.replace(PROVENANCE, input_digest="0e" * 32, predecessor=predecessor)
    second = report_of(inputs, revised)
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    check_report(written(second, tmp_path))


def test_summary_page_is_valid(inputs, tmp_path):
    check_object(written(summary_of(inputs), tmp_path))


def test_the_validators_would_notice_an_error(inputs, tmp_path):
    report = report_of(inputs)
    report.CompletionFlag = "PERHAPS"
    del report.StudyInstanceUID
    assert complaints("dciodvfy", "-new", str(written(report, tmp_path)))
    assert complaints("dsrdump", str(written(report, tmp_path)))


# --- Content ----------------------------------------------------------------------------------------------------------


def test_every_number_comes_back(inputs, tmp_path):
    report = dcmread(written(report_of(inputs), tmp_path))
    assert numbers(report, report_codes.ENSEMBLE_SCORE) == [0.7266]
    assert numbers(report, report_codes.PATENT_SCORE) == [0.2422]
    assert numbers(report, report_codes.DECISION_THRESHOLD) == [0.5]
    assert numbers(report, report_codes.SEQUENCE_SCORE) == [0.61, 0.7321, 0.81]
    assert numbers(report, report_codes.ENSEMBLE_WEIGHT) == [30, 30, 40]
    assert numbers(report, report_codes.MASK_VOLUME) == [1321.3, 1300.0, 1310.0]


def test_float32_shows_no_digits_that_it_does_not_have(inputs):
    scores = {role: np.float32(score) for role, score in FINDING.scores.items()}
    report = report_of(inputs, finding=dataclasses.replace(FINDING, scores=scores, score=np.float32(0.7266)))
    assert numbers(report, report_codes.ENSEMBLE_SCORE) == [0.7266]
    assert named(report, report_codes.ENSEMBLE_SCORE)[0].MeasuredValueSequence[0].FloatingPointValue == 0.7266
    assert numbers(report, report_codes.SEQUENCE_SCORE) == [0.61, 0.7321, 0.81]


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
    for report in build_reports(FINDING, inputs, BRAIN, PROVENANCE).values():
        containers = [report, *(item for item in content_items(report) if item.ValueType == "CONTAINER")]
        assert len(containers) == 7
        assert {container.ContinuityOfContent for container in containers} == {"SEPARATE"}
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        assert report.ContentTemplateSequence[0].MappingResource == "DCMR"


def test_every_item_has_a_name_and_only_ascii(inputs):
    for item in content_items(report_of(inputs)):
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        words = str(item.get("TextValue", ""))
        assert name
        assert f"{name}{words}".isascii()
        assert "\x1b" not in words
    rows = named(report_of(inputs), report_codes.INPUT_SERIES)
    assert "AX T1W ??" in rows[0].TextValue


def test_the_notice_comes_first(inputs):
    report = report_of(inputs)
    shown = [item for item in report.ContentSequence if item.RelationshipType == "CONTAINS"]
    names = [item.ConceptNameCodeSequence[0].CodeMeaning for item in shown]
    assert names[:2] == ["Summary", "Intended use statement"]
    summary = shown[0].TextValue
    assert summary.startswith(NOTICE)
    assert "score 0.7266 (range 0 to 1, decision threshold 0.5000): AT OR ABOVE threshold" in summary
    assert "RESEARCH USE ONLY" in summary
    assert MODEL.intended_use in shown[1].TextValue
    assert render_tree(report).splitlines()[0].startswith(NOTICE)


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
        "T1W: 1321.3 ml, no doubts",
        "T2W: 1300.0 ml, touches_border, two_parts",
        "FLAIR: 1310.0 ml, no doubts",
    ]
    assert [item.UID for item in named(report, report_codes.SERIES_UID)] == [s.series_uid for s in inputs.values()]
    tree = render_tree(report)
    for digest in (MODEL.digest, *MODEL.network_digests.values(), PROVENANCE.brain_weights.digest):
        assert digest in tree


def test_titles(inputs):
    assert report_of(inputs).ConceptNameCodeSequence[0].CodeValue == "TSC000"
    library = report_of(inputs, dataclasses.replace(PROVENANCE, title="126000"))
    assert library.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert len([item for item in content_items(library) if item.ValueType == "IMAGE"]) == 9
    with pytest.raises(ValueError, match="title"):
        dataclasses.replace(PROVENANCE, title="18748-4")


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
        {"scores": {**FINDING.scores, Role.T2W: math.nan}},
        {"scores": {Role.T1W: 0.5, Role.T2W: 0.5}},
        {"weights": {**FINDING.weights, Role.FLAIR: 0.7}},
        {"category": Category.BELOW},
    ],
    ids=str,
)
def test_a_finding_that_is_no_finding_is_refused(inputs, change):
    finding = dataclasses.replace(FINDING, **change)
    with pytest.raises(ValueError):
        build_reports(finding, inputs, BRAIN, PROVENANCE)
    with pytest.raises(ValueError):
        draw_page(finding, BRAIN, PROVENANCE)


def test_a_missing_role_is_refused(inputs):
    with pytest.raises(ValueError, match="T2W"):
        build_reports(FINDING, {Role.T1W: inputs[Role.T1W], Role.FLAIR: inputs[Role.FLAIR]}, BRAIN, PROVENANCE)
    with pytest.raises(ValueError, match="T2W"):
        build_reports(FINDING, inputs, {Role.T1W: BRAIN[Role.T1W]}, PROVENANCE)
    with pytest.raises(ValueError, match="FLAIR"):
        build_reports(FINDING, inputs, {**BRAIN, Role.FLAIR: MaskFacts(math.nan)}, PROVENANCE)


# --- Headers ----------------------------------------------------------------------------------------------------------


COPIED = (
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "IssuerOfPatientID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "StudyDescription",
    "SpecificCharacterSet",
)


@pytest.mark.parametrize("build", [report_of, summary_of])
@pytest.mark.parametrize("implicit", [False, True])
def test_patient_and_study_are_copied(tmp_path, build, implicit):
    result = build(write_inputs(tmp_path, implicit=implicit))
    source = mr_header(Role.T1W, 1)
    for keyword in COPIED:
        assert result[keyword].value == source[keyword].value, keyword
    assert (result.ContentDate, result.ContentTime) == ("20240304", "112233")
    assert result.ContentQualification == "RESEARCH"
    assert "RESEARCH ONLY" in result.SeriesDescription
    assert result.SeriesNumber > 9000
    assert "TimezoneOffsetFromUTC" not in result
    scanner, algorithm = result.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert scanner.ManufacturerModelName == "SCANNER 3T"
    assert list(scanner.SoftwareVersions) == ["V1", "V2"]
    assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert algorithm.DeviceUID.startswith("2.25.")


def test_report_modules(inputs):
    report = report_of(inputs)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert (report.Modality, report.file_meta.TransferSyntaxUID) == ("SR", ExplicitVRLittleEndian)
    request = report.ReferencedRequestSequence[0]
    assert (request.AccessionNumber, request.RequestedProcedureID) == ("ACC-1", "RP-1")
    assert request.StudyInstanceUID == STUDY_UID
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99TSCWAE"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    found = [
        reference.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]
    assert found == [f"{STUDY_UID}.{series}.{number}" for series in (1, 2, 3) for number in (1, 2, 3)]
    assert "PertinentOtherEvidenceSequence" not in report


def test_images_of_another_study_are_other_evidence(tmp_path):
    def change(header):
        if header.SeriesNumber == 3:
            header.StudyInstanceUID = f"{STUDY_UID}.5"

    report = report_of(write_inputs(tmp_path, change))
    assert len(report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == 2
    assert report.PertinentOtherEvidenceSequence[0].StudyInstanceUID == f"{STUDY_UID}.5"
    check_report(written(report, tmp_path))


def test_time_zone_of_the_source_is_kept_and_followed(tmp_path):
    inputs = write_inputs(tmp_path, lambda header: setattr(header, "TimezoneOffsetFromUTC", "+0800"))
    started = datetime(2024, 3, 4, 20, 30, 0, tzinfo=UTC)
    report = report_of(inputs, dataclasses.replace(PROVENANCE, started=started))
    assert report.TimezoneOffsetFromUTC == "+0800"
    assert (report.ContentDate, report.ContentTime) == ("20240305", "043000")


def test_deidentified_and_synthetic_sources_stay_marked(tmp_path):
    def change(header):
        header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", "by hand"
        header.SyntheticData = "YES"

    report = report_of(write_inputs(tmp_path, change))
    assert (report.PatientIdentityRemoved, report.DeidentificationMethod) == ("YES", "by hand")
    assert report.SyntheticData == "YES"
    check_report(written(report, tmp_path))


def without(*keywords: str):
    def change(header: Dataset) -> None:
        for keyword in keywords:
            if keyword in header:
                delattr(header, keyword)

    return change


def with_raw(keyword: str, vr: str, value: bytes):
    """Put bytes into a header as a modality would write them, right or wrong."""
    padded = value + b" " * (len(value) % 2)

    def change(header: Dataset) -> None:
        tag = Tag(tag_for_keyword(keyword))
        header[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)

    return change


EMPTY = ("AccessionNumber", "StudyID", "PatientBirthDate", "PatientSex", "PatientName", "PatientID", "StudyTime")
BAD_HEADERS = {
    **{f"no {keyword}": (without(keyword), keyword, "") for keyword in EMPTY},
    "nothing at all": (
        without(
            *EMPTY,
            "StudyDate",
            "ReferringPhysicianName",
            "Manufacturer",
            "RequestAttributesSequence",
            "SpecificCharacterSet",
            "IssuerOfPatientID",
            "PatientAge",
            "FrameOfReferenceUID",
        ),
        "PatientName",
        "",
    ),
    "sex U": (with_raw("PatientSex", "CS", b"U"), "PatientSex", ""),
    "sex f": (with_raw("PatientSex", "CS", b"f"), "PatientSex", "F"),
    "sex in Chinese": (with_raw("PatientSex", "CS", "女".encode("gb18030")), "PatientSex", ""),
    "birth date zero": (with_raw("PatientBirthDate", "DA", b"00000000"), "PatientBirthDate", ""),
    "birth date of ACR-NEMA": (with_raw("PatientBirthDate", "DA", b"1999.01.02"), "PatientBirthDate", ""),
    "birth date 30 February": (with_raw("PatientBirthDate", "DA", b"19990230"), "PatientBirthDate", ""),
    "study date is text": (with_raw("StudyDate", "DA", b"today"), "StudyDate", ""),
    "study time with colons": (with_raw("StudyTime", "TM", b"10:11:12"), "StudyTime", ""),
    "age without unit": (with_raw("PatientAge", "AS", b"5"), "PatientID", PATIENT_ID),
    "empty request": (lambda h: setattr(h, "RequestAttributesSequence", []), "PatientID", PATIENT_ID),
    "time zone is text": (with_raw("TimezoneOffsetFromUTC", "SH", b"CST"), "PatientID", PATIENT_ID),
    "long patient ID": (with_raw("PatientID", "LO", b"X" * 80), "PatientID", "X" * 80),
    "unknown character set": (with_raw("SpecificCharacterSet", "CS", b"GB2312"), "PatientID", PATIENT_ID),
    "broken procedure code": (lambda h: setattr(h, "ProcedureCodeSequence", [Dataset()]), "PatientID", PATIENT_ID),
    "instance number is text": (with_raw("InstanceNumber", "IS", b"one"), "PatientID", PATIENT_ID),
}
# These are wrong in the source too: kept as they are, so that the result stays with its patient.
NOT_VALID = {"long patient ID", "unknown character set"}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", BAD_HEADERS)
def test_ordinary_oddities_do_not_stop_a_report(tmp_path, case):
    change, keyword, expected = BAD_HEADERS[case]
    inputs = write_inputs(tmp_path, change)
    before = {path: path.read_bytes() for path in inputs[Role.T1W].files}
    report = written(report_of(inputs), tmp_path, "report.dcm")
    summary = written(summary_of(inputs), tmp_path, "summary.dcm")
    for path in (report, summary):
        assert str(dcmread(path)[keyword].value) == expected
    assert {path: path.read_bytes() for path in before} == before
    if case not in NOT_VALID:
        check_report(report, EMPTY_IN_SOURCE)
        check_object(summary, EMPTY_IN_SOURCE)


def test_our_own_long_and_odd_words_are_made_to_fit(inputs, tmp_path):
    model = dataclasses.replace(MODEL, name="very long name \\ " * 8 + "模型", notice="注意 MODEL", intended_use="用途")
    finding = dataclasses.replace(FINDING, model=model)
    report = report_of(inputs, dataclasses.replace(PROVENANCE, software="node\\x " * 20), finding)
    assert len(report.ManufacturerModelName) <= 64
    assert report["SoftwareVersions"].VM == 3
    assert named(report, report_codes.SUMMARY)[0].TextValue.startswith("?? MODEL.")
    check_report(written(report, tmp_path))


# --- Character sets ---------------------------------------------------------------------------------------------------


def chinese(label: bytes | None, name: bytes, institution: bytes):
    changes = [with_raw("PatientName", "PN", name), with_raw("InstitutionName", "LO", institution)]
    if label is not None:
        changes.append(with_raw("SpecificCharacterSet", "CS", label))

    def change(header: Dataset) -> None:
        if label is None:
            del header.SpecificCharacterSet
        for each in changes:
            each(header)

    return change


@pytest.mark.parametrize("build", [report_of, summary_of])
@pytest.mark.parametrize(("label", "encoding"), [("GB18030", "gb18030"), ("GBK", "gbk"), ("ISO_IR 192", "utf-8")])
def test_chinese_names_keep_their_bytes(tmp_path, build, label, encoding):
    name, institution = CHINESE_NAME.encode(encoding), CHINESE_INSTITUTION.encode(encoding)
    inputs = write_inputs(tmp_path, chinese(label.encode(), name, institution))
    result = dcmread(written(build(inputs), tmp_path), stop_before_pixels=True)
    assert raw(result, "PatientName") == name
    assert result.SpecificCharacterSet == label
    assert result.PatientName == CHINESE_NAME
    assert result.ContributingEquipmentSequence[0].InstitutionName == CHINESE_INSTITUTION


@pytest.mark.parametrize("build", [report_of, summary_of])
def test_iso_2022_ir_58_becomes_utf_8(tmp_path, build):
    escape = b"\x1b$)A"
    family, given = (part.encode("gb2312") for part in CHINESE_NAME.split("^"))
    name = b"Ce^Shi=" + escape + family + b"^" + escape + given
    change = chinese(rb"\ISO 2022 IR 58", name, escape + CHINESE_INSTITUTION.encode("gb2312"))
    result = dcmread(written(build(write_inputs(tmp_path, change)), tmp_path))
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert raw(result, "PatientName") == f"Ce^Shi={CHINESE_NAME}".encode()
    assert result.ContributingEquipmentSequence[0].InstitutionName == CHINESE_INSTITUTION


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("label", [b"ISO_IR 100", None, b"ISO_IR 192", rb"\ISO 2022 IR 149"])
def test_gbk_under_a_wrong_label_is_left_alone(tmp_path, label):
    name, institution = CHINESE_NAME.encode("gbk"), CHINESE_INSTITUTION.encode("gbk")
    inputs = write_inputs(tmp_path, chinese(label, name, institution))
    result = dcmread(written(report_of(inputs), tmp_path))
    assert raw(result, "PatientName") == name
    assert raw(result.ContributingEquipmentSequence[0], "InstitutionName") == institution
    assert result.get("SpecificCharacterSet") == dcmread(inputs[Role.T1W].files[0]).get("SpecificCharacterSet")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ir_58_that_is_none_is_left_alone(tmp_path):
    name = b"\x1b$)A\xff\xff^X"
    inputs = write_inputs(tmp_path, chinese(rb"\ISO 2022 IR 58", name, b"HOSPITAL"))
    result = dcmread(written(report_of(inputs), tmp_path))
    assert raw(result, "PatientName") == name
    assert list(result.SpecificCharacterSet) == ["", "ISO 2022 IR 58"]


def test_looking_at_a_name_does_not_change_what_is_written(tmp_path):
    change = chinese(b"GB18030", CHINESE_NAME.encode("gb18030"), CHINESE_INSTITUTION.encode("gb18030"))
    report = report_of(write_inputs(tmp_path, change))
    first = written(report, tmp_path).read_bytes()
    assert report.PatientName == CHINESE_NAME
    str(report)
    assert written(report, tmp_path).read_bytes() == first


@pytest.mark.parametrize(("label", "encoding"), [(b"GB18030", "gb18030"), (b"ISO_IR 192", "utf-8")])
def test_reports_with_chinese_names_are_valid(tmp_path, label, encoding):
    change = chinese(label, CHINESE_NAME.encode(encoding), CHINESE_INSTITUTION.encode(encoding))
    check_report(written(report_of(write_inputs(tmp_path, change)), tmp_path))


# --- Identity ---------------------------------------------------------------------------------------------------------


def test_equal_runs_give_equal_bytes(inputs, tmp_path):
    shuffled = {
        role: dataclasses.replace(inputs[role], files=inputs[role].files[::-1]) for role in reversed(list(inputs))
    }
    for build in (report_of, summary_of):
        first = written(build(inputs), tmp_path).read_bytes()
        assert written(build(shuffled), tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    "provenance",
    [
        dataclasses.replace(PROVENANCE, input_digest="11" * 32),
        dataclasses.replace(PROVENANCE, brain_weights=WeightsIdentity("hd-bet", "22" * 32)),
        dataclasses.replace(PROVENANCE, software="dicom-node 0.2.0"),
        dataclasses.replace(PROVENANCE, title="126000"),
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


def test_three_sop_classes_share_a_series(inputs):
    reports = build_reports(FINDING, inputs, BRAIN, PROVENANCE)
    assert tuple(reports) == SOP_CLASSES
    assert all(report.SOPClassUID == uid for uid, report in reports.items())
    assert len({report.SOPInstanceUID for report in reports.values()}) == 3
    assert len({report.SeriesInstanceUID for report in reports.values()}) == 1
    assert len({render_tree(report) for report in reports.values()}) == 1
    summary = summary_of(inputs)
    assert summary.SeriesInstanceUID not in {report.SeriesInstanceUID for report in reports.values()}


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


def test_six_hundred_images_stay_small_and_quick(tmp_path):
    inputs = write_inputs(tmp_path, images=200)
    started = time.perf_counter()
    reports = build_reports(FINDING, inputs, BRAIN, PROVENANCE)
    # Half a second on an idle machine; test machines are not idle.
    assert time.perf_counter() - started < 10
    for report in reports.values():
        assert written(report, tmp_path).stat().st_size < 100_000


def test_page_is_drawn_and_kept(inputs):
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    views = {Role.T1W: ramp, Role.FLAIR: ramp.T}
    page = draw_page(FINDING, BRAIN, PROVENANCE, views)
    assert (page.size, page.mode) == ((1024, 1024), "RGB")
    assert page.tobytes() == draw_page(FINDING, BRAIN, PROVENANCE, views).tobytes()
    assert page.tobytes() != draw_page(FINDING, BRAIN, PROVENANCE).tobytes()
    summary = build_summary(page, inputs, PROVENANCE, FINDING)
    assert np.array_equal(summary.pixel_array, np.asarray(page))
    assert (summary.Modality, summary.BodyPartExamined, summary.BurnedInAnnotation) == ("OT", "HEAD", "NO")


def test_page_takes_long_words_and_all_scores(inputs):
    model = dataclasses.replace(MODEL, notice="A VERY LONG NOTICE " * 9, name="N" * 200, intended_use="Use. " * 200)
    brain = {role: MaskFacts(12345.6, ("a_flag_with_a_long_name",) * 6) for role in Role}
    for score in (0.0, 0.004, 1.0):
        finding = Finding(
            dict.fromkeys(Role, score), FINDING.weights, score, score / 3, 1.0 - score,
            Category.AT_OR_ABOVE if score == 1 else Category.BELOW, model,
        )  # fmt: skip
        assert draw_page(finding, brain, PROVENANCE).size == (1024, 1024)


def test_page_refuses_what_is_no_picture():
    with pytest.raises(ValueError, match="T1W"):
        draw_page(FINDING, BRAIN, PROVENANCE, {Role.T1W: np.zeros((4, 4), dtype=np.float32)})


def test_page_shows_nothing_of_the_patient_or_the_day(inputs):
    later = dataclasses.replace(PROVENANCE, started=datetime(2031, 1, 1))
    assert draw_page(FINDING, BRAIN, later).tobytes() == draw_page(FINDING, BRAIN, PROVENANCE).tobytes()


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
    assert "      AED-refractory score (ensemble): 0.7266 {score}" in lines
    assert not any(PATIENT_ID in line or "SEEDED" in line for line in lines)
