"""Headers of the results: copied exactly, emptied where invalid, never a reason to fail."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from models.contrast import Contrast
from pipeline.report import Title, result_header
from pipeline.report import codes as report_codes
from tests.support.reports import (
    EMPTY_IN_SOURCE,
    FINDING,
    MODEL,
    PATIENT_ID,
    PROVENANCE,
    STUDY_UID,
    check_object,
    check_report,
    mr_header,
    named,
    raw,
    report_of,
    summary_of,
    with_raw,
    without,
    write_inputs,
    written,
)  # fmt: skip

CHINESE_NAME = "测试^病人"
CHINESE_INSTITUTION = "儿童医院"

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
    source = mr_header(Contrast.T1W, 1)
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
    before = {path: path.read_bytes() for path in inputs[Contrast.T1W].files}
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
    assert named(report, report_codes.SUMMARY)[0].TextValue.count("(?? MODEL)") == 1
    check_report(written(report, tmp_path))


@pytest.mark.parametrize("title", list(Title))
@pytest.mark.parametrize("description", ["", "x" * 300, "头部" * 60, "AX \\ T1\r\n^=", "\0\x1b"])
def test_series_descriptions_of_any_kind_pass(inputs, tmp_path, title, description):
    odd = {role: dataclasses.replace(series, description=description) for role, series in inputs.items()}
    report = report_of(odd, dataclasses.replace(PROVENANCE, title=title))
    assert all(len(row.TextValue) > 10 for row in named(report, report_codes.INPUT_SERIES))
    check_report(written(report, tmp_path))


def test_our_own_series_descriptions_fit_their_attribute():
    kinds = [kind for kind in vars(result_header).values() if isinstance(kind, result_header.Kind)]
    assert len(kinds) == 6
    for kind in kinds:
        assert len(kind.series_description) <= 64
        assert "RESEARCH ONLY" in kind.series_description
    assert len({kind.series_number for kind in kinds}) == len({kind.name for kind in kinds}) == 6


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
    assert result.get("SpecificCharacterSet") == dcmread(inputs[Contrast.T1W].files[0]).get("SpecificCharacterSet")


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
