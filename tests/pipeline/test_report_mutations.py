"""Two hundred headers that nobody would write on purpose: each gives a report, or a refusal in words."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.report import Title, build_reports, render_tree
from pipeline.report.structured_report import SOP_CLASSES
from tests.support.reports import (
    EMPTY_IN_SOURCE,
    PROVENANCE,
    STUDY_UID,
    complaints,
    document_of,
    held_of,
    run_of,
    summary_of,
    with_raw,
    without,
    write_inputs,
    written,
)

Change = Callable[[Dataset], None]

# What the results copy or look at; the UIDs that name an instance are checked when a series is chosen.
PLAIN = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "IssuerOfPatientID", "StudyDate",
    "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "Manufacturer",
    "ManufacturerModelName", "InstitutionName", "StationName", "DeviceSerialNumber", "SoftwareVersions",
    "TimezoneOffsetFromUTC", "PatientIdentityRemoved", "DeidentificationMethod", "SyntheticData", "InstanceNumber",
    "SeriesNumber", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    "FrameOfReferenceUID",
)  # fmt: skip
NESTED = (
    "RequestAttributesSequence", "ProcedureCodeSequence", "IssuerOfAccessionNumberSequence",
    "IssuerOfPatientIDQualifiersSequence", "DeidentificationMethodCodeSequence",
)  # fmt: skip
MEMBERS = (
    "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion", "RequestedProcedureID",
    "RequestedProcedureDescription", "LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType",
)  # fmt: skip
CHARACTER_SETS = (
    b"", b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"GBK", rb"\ISO 2022 IR 58", rb"ISO 2022 IR 13\ISO 2022 IR 87",
    rb"\ISO 2022 IR 149", b"UTF-8", b"ISO_IR 999", b"\\", b"\xff\xfe",
)  # fmt: skip

texts = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")),
    st.text("测试病人儿童医院张伟^=\\ ABC", max_size=20).map(lambda text: text.encode("gb18030")),
    st.sampled_from([b"", b" ", b"\\", b"00000000", b"1999.01.02", b"\x1b$)A\xb2\xe2", b"X" * 300, b"a\\b"]),
)


def delete() -> st.SearchStrategy[Change]:
    return st.sampled_from((*PLAIN, *NESTED)).map(without)


def overwrite() -> st.SearchStrategy[Change]:
    def change(keyword: str, value: bytes, vr: str | None) -> Change:
        return with_raw(keyword, vr or dictionary_VR(keyword), value)

    return st.builds(change, st.sampled_from(PLAIN), texts, st.sampled_from([None, None, "UN", "LO", "OB", "UT"]))


def relabel() -> st.SearchStrategy[Change]:
    return st.sampled_from(CHARACTER_SETS).map(lambda label: with_raw("SpecificCharacterSet", "CS", label))


def nest() -> st.SearchStrategy[Change]:
    def change(keyword: str, members: dict[str, bytes], times: int) -> Change:
        def put(header: Dataset) -> None:
            item = Dataset()
            for member, value in members.items():
                with_raw(member, dictionary_VR(member), value)(item)
            header.add(DataElement(tag_for_keyword(keyword) or 0, "SQ", Sequence([item] * times)))

        return put

    members = st.dictionaries(st.sampled_from(MEMBERS), texts, max_size=5)
    return st.builds(change, st.sampled_from(NESTED), members, st.integers(0, 2))


mutations = st.lists(st.one_of(delete(), overwrite(), relabel(), nest()), min_size=1, max_size=5)
# A value that is wrong in the source is copied as it came, so that the result stays with its patient.
AS_IT_CAME = re.compile(
    "|".join((*PLAIN, *MEMBERS, "SpecificCharacterSet", "Character Set", "character set", "Person Name"))
)
runs = itertools.count()


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(
    max_examples=200,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=mutations, title=st.sampled_from(Title))
def test_any_header_gives_a_report(tmp_path: Path, changes: list[Change], title: Title):
    def change(header: Dataset) -> None:
        for each in changes:
            each(header)

    inputs = write_inputs(tmp_path, change, images=1)
    provenance = dataclasses.replace(PROVENANCE, title=title)
    reports = build_reports(run_of(inputs, provenance))
    for report in reports.values():
        file = BytesIO()
        report.save_as(file, enforce_file_format=True)
        read = dcmread(BytesIO(file.getvalue()))
        assert read.StudyInstanceUID == STUDY_UID
        assert "0.73" in render_tree(read)
    # Every tenth goes to a validator, in turn as each kind of object.
    run = next(runs)
    if run % 10 == 0:
        others = (summary_of, document_of, lambda found: held_of(found)[SOP_CLASSES[0]])
        kinds = [*(lambda _, report=report: report for report in reports.values()), *others]
        path = written(kinds[run // 10 % len(kinds)](inputs), tmp_path, "checked.dcm")
        found = complaints("dciodvfy", "-new", str(path))
        assert [line for line in found if not AS_IT_CAME.search(line) and not EMPTY_IN_SOURCE.search(line)] == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("value", [None, b"", b"no UID", b"1.2." + b"3" * 80])
def test_an_instance_without_identity_is_refused_by_name(tmp_path: Path, keyword: str, value: bytes | None):
    inputs = write_inputs(tmp_path)
    for series in inputs.values():
        for path in series.files:
            header = dcmread(path)
            (without(keyword) if value is None else with_raw(keyword, "UI", value))(header)
            header.save_as(path)
    with pytest.raises(ValueError, match=keyword):
        build_reports(run_of(inputs))
