"""The result as HL7 v2: an ORU^R01 that parses and is valid, escaped, in UTF-8, and says when it corrects."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hl7apy.core import Message
from hl7apy.parser import parse_message
from pydicom.dataset import Dataset

from models.contrast import Contrast
from pipeline.hl7_text import escaped
from pipeline.report import Predecessor, ScoredRun, Sources
from pipeline.report.hl7 import build_hl7
from tests.support.reports import BRAIN, FINDING, NAMED, NOTICE, PROVENANCE, mr_header, with_raw


def message(header: Dataset | None = None, *earlier: Predecessor) -> Message:
    sources = Sources(header or mr_header(Contrast.T1W, 1), {})
    run = ScoredRun(FINDING.model, replace(PROVENANCE, predecessors=earlier), NAMED, sources, FINDING, BRAIN)
    text = build_hl7(run)
    assert text == build_hl7(run)
    parsed = parse_message(text.encode().decode("utf-8"), find_groups=True)
    assert parsed.validate()
    return parsed


def results(parsed: Message) -> list[tuple[str, str, str]]:
    order = parsed.oru_r01_patient_result.oru_r01_order_observation
    found = [group.obx for group in order.oru_r01_observation]
    return [(each.obx_3.obx_3_1.value, each.obx_5.value, each.obx_11.value) for each in found]


def test_notice_score_category_and_sentence_stand_in_that_order():
    parsed = message()
    assert parsed.msh.msh_18.value == "UNICODE UTF-8"
    found = results(parsed)
    assert [code for code, _, _ in found][:5] == ["TSC034", "TSC001", "TSC004", "TSC005", "121111"]
    assert found[0][1].startswith(NOTICE)
    assert (found[1][1], found[2][1]) == ("0.73", "0.50")
    assert found[3][1].startswith("TSC006^At or above")
    assert [value for code, value, _ in found if code == "TSC002"] == ["0.61", "0.73", "0.81"]
    assert {status for _, _, status in found} == {"P"}


def test_patient_and_order_are_named_and_escaped():
    header = mr_header(Contrast.T1W, 1)
    header.PatientID, header.AccessionNumber = "A|B^C&~1", "AC~2"
    result = message(header).oru_r01_patient_result
    assert result.oru_r01_patient.pid.pid_3.value == "A\\F\\B\\S\\C\\T\\\\R\\1^^^HOSPITAL"
    order = result.oru_r01_order_observation.obr
    assert (order.obr_18.value, order.obr_25.value) == ("AC\\R\\2", "P")
    assert order.obr_3.value.startswith("2.25.")


def test_what_replaces_a_score_is_a_correction():
    found = results(message(None, Predecessor("2.25.1", "2.25.2", "2.25.3")))
    assert {status for _, _, status in found} == {"C"}
    assert any("no longer valid" in value for code, value, _ in found if code == "TSC035")
    held = results(message(None, Predecessor("2.25.1", "2.25.2", "2.25.3", scored=False)))
    assert {status for _, _, status in held} == {"P"}


@pytest.mark.parametrize(
    ("charset", "value", "expected"),
    [
        ("ISO_IR 192", "MÄRÖÜ-7".encode(), "MÄRÖÜ-7^^^HOSPITAL"),
        ("ISO_IR 100", b"\xc4\xd6-\xdc1", None),
        ("ISO_IR 100", b"A\\B", None),
        ("ISO_IR 100", b"", None),
    ],
)
def test_a_number_in_doubt_names_nobody(charset: str, value: bytes, expected: str | None):
    header = mr_header(Contrast.T1W, 1)
    header.SpecificCharacterSet = charset
    with_raw("PatientID", "LO", value)(header)
    result = message(header).oru_r01_patient_result
    found = result.oru_r01_patient.pid.pid_3.value if result.oru_r01_patient else None
    assert found == expected


def test_no_character_of_a_text_ends_a_field_or_a_segment():
    assert escaped("a|b^c&d~e\\f\r\ng\x0b\x1c") == "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f  g  "
