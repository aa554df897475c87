"""Zeros and words that stand for no value: they speak neither for nor against anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.contrast import Contrast
from pipeline.headers import Volume, read_headers
from pipeline.headers.contrast_agent import agent_named
from pipeline.headers.unknown import is_unknown, known_clock, known_date
from pipeline.select import Verdict, judge, select_study
from pipeline.select.body_parts import names_another_part, names_head
from pipeline.select.physics import read_physics
from pipeline.synthetic import series_tags
from tests.pipeline.test_select import edit, flat, text, triplet, volume, write
from tests.support.dicom_files import item, write_enhanced

# --- contrast agent ---------------------------------------------------------------------------------------------------

DENIED = (
    "NO CONTRAST", "none given", "Without", "ohne", "0", "NO", "sans", "sin contraste", "No", "N", "nil", "0 ml",
    "NONE", "0.0", "not given", "NOT ADMINISTERED", "w/o contrast", "ohne KM", "kein Kontrastmittel", "sans injection",
    "nessun contrasto", "sem contraste", "zonder contrast", "no gadolinium", "Gadovist 0 ml", "Gadolinium not given",
    "unenhanced", "NON CONTRAST", "noncontrast", "NOCONTRAST", "no_contrast", "(none)", "OFF", "平扫", "未使用",
)  # fmt: skip
NAMED = (
    "Gadovist", "Dotarem 10ml", "GADAVIST 7.5", "10 ml", "YES", "Gd-DTPA", "gadoterate meglumine", "IV", "contrast",
    "Non-ionic", "No. 1 Gadovist", "Magnevist (no reaction)", "no reaction, Gadovist 7 ml", "造影剂", "something",
)  # fmt: skip
UNSAID = ("", "N/A", "-", "--", "?", "unknown", "UNK", "null", "not available", "n.a.", "anonymized", "unbekannt")


@pytest.mark.parametrize(
    ("said", "given"),
    [*((each, False) for each in DENIED), *((each, True) for each in NAMED), *((each, None) for each in UNSAID)],
)
def test_an_agent_is_named_denied_or_unsaid(said: str, given: bool | None):
    assert agent_named(said) is given


def only(files: list[Path]) -> Volume:
    (found,) = read_headers(files).volumes
    return found


@pytest.mark.parametrize(
    ("header", "given", "denied"),
    [
        ({"ContrastBolusAgent": "none given"}, False, True),
        ({"ContrastBolusAgent": "unknown"}, False, False),
        ({"ContrastBolusAgent": "Gadovist"}, True, False),
        ({"ContrastBolusVolume": "0"}, False, False),
        ({"ContrastBolusVolume": "7.5"}, True, False),
        ({"ContrastBolusAgent": "NONE", "ContrastBolusVolume": "7.5"}, True, False),
        ({"ContrastBolusAgent": "N/A", "ContrastBolusTotalDose": "0"}, False, False),
        ({"ContrastBolusIngredient": "GADOLINIUM"}, True, False),
        ({"ContrastBolusRoute": "IV"}, False, False),
        ({"ContrastBolusAgentSequence": [item(CodeMeaning="Gadobutrol")]}, True, False),
        ({"ContrastBolusAgentSequence": [item(CodeMeaning="No contrast")]}, False, True),
        ({"ContrastBolusAgent": "unknown", "ContrastBolusAgentSequence": [item(CodeMeaning="Gd")]}, True, False),
        ({"ContrastBolusAgentSequence": []}, False, False),
    ],
)
def test_a_header_says_whether_an_agent_was_given(sent, header, given, denied):
    series = only([edit(file, **header) for file in write(sent, series_tags(Contrast.T1W))])
    assert (series.contrast_agent, series.agent_denied) == (given, denied)
    assert judge(series).verdict is (Verdict.NONE if given else Verdict.T1W)


# --- body parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "HEAD", "HEADNECK", "HEAD AND NECK", "HEAD_NECK", "BRAIN ORBITS", "BRAIN", "Brain/Orbits", "HIPPOCAMPUS",
        "HEAD-NECK-CHEST", "SKULL BASE", "BRAINSTEM", "HEAD\\NECK", "Schädel/Hals", "CRÂNE", "NEURO", "SPINE HEAD",
    ],
)  # fmt: skip
def test_what_includes_the_head_is_no_other_body_part(said):
    assert names_head(said)
    assert not names_another_part(said)


@pytest.mark.parametrize(
    "said",
    [
        "NECK", "CSPINE", "C-SPINE", "TLSPINE", "CERVICAL SPINE", "CHESTABDPELVIS", "NECKCHEST", "KNEES", "HIP",
        "ORBIT", "FEMUR HEAD", "HEAD OF HUMERUS", "ARM", "LEFT KNEE", "EXTREMITY", "PITUITARY",
    ],
)  # fmt: skip
def test_a_known_part_without_the_head_is_another_one(said):
    assert names_another_part(said)


@pytest.mark.parametrize("said", ["", "UNKNOWN", "WHOLEBODY", "ALARM", "COLLEGE", "PHARMA", "Programm 7", "ANONYMIZED"])
def test_an_unknown_part_says_nothing(said):
    assert not names_head(said)
    assert not names_another_part(said)
    assert judge(volume("t1_se", body_part=said, tr_ms=550.0, te_ms=12.0)).verdict is Verdict.T1W


# --- zeros and words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", ["UNKNOWN", "unk", "NULL", "N/A", "ANONYMIZED", "None", "-", "", "***", "<removed>", "NaN"]
)
def test_words_for_no_value(said):
    assert is_unknown(said)


@pytest.mark.parametrize("said", ["T1", "NONE OF IT", "SIEMENS", "1.2.840", "0", "Kopf", "头部", "M", "x1"])
def test_values(said):
    assert not is_unknown(said)


@pytest.mark.parametrize("digits", ["19000101", "00010101", "00000000", "19700101", "20261301", "20260100", "2026", ""])
def test_dates_that_no_scanner_had(digits):
    assert known_date(digits) == ""
    assert known_date("20260131") == "20260131"


@pytest.mark.parametrize("digits", ["000000", "000000.000000", "0000", "246060", "250000", "12", "", "999999"])
def test_clocks_that_show_no_time(digits):
    assert known_clock(digits) == ""
    assert known_clock("000001") == "000001"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("times", "acquired"),
    [
        ({"AcquisitionTime": "000000"}, "20250101120000"),
        ({"AcquisitionTime": "000000.000000", "SeriesTime": "000000"}, None),
        ({"AcquisitionDateTime": "20250102000000"}, "20250101120000"),
        ({"AcquisitionDateTime": "19000101101112"}, "20250101120000"),
        ({"AcquisitionDate": "19000101"}, "20250101120000"),
        ({"AcquisitionDate": "19000101", "SeriesDate": "00010101", "StudyDate": "19000101"}, None),
        # passing midnight, where only series or study have a date
        (
            {"AcquisitionDate": "", "SeriesDate": "", "StudyTime": "234000", "AcquisitionTime": "000500"},
            "20250102000500",
        ),
        ({"AcquisitionDate": "", "SeriesTime": "000100", "AcquisitionTime": "235900"}, "20241231235900"),
        (
            {"AcquisitionDate": "", "SeriesDate": "", "StudyTime": "120000", "AcquisitionTime": "115900"},
            "20250101115900",
        ),
    ],
)
def test_a_zero_is_no_time_of_acquisition(sent, times, acquired):
    files = [edit(file, **times) for file in write(sent, series_tags(Contrast.T1W))]
    assert only(files).acquired == acquired


ZEROS = {
    "RepetitionTime": "tr_ms", "EchoTime": "te_ms", "InversionTime": "ti_ms", "FlipAngle": "flip_deg",
    "MagneticFieldStrength": "field_strength_t", "EchoNumbers": "echo_number",
}  # fmt: skip


@pytest.mark.parametrize("keyword", ZEROS)
@pytest.mark.parametrize("value", [0, -1])
def test_zero_is_no_value_of_a_number(sent, keyword, value):
    files = [edit(file, **{keyword: value}) for file in write(sent, series_tags(Contrast.FLAIR))]
    assert getattr(only(files), ZEROS[keyword]) is None


def test_a_zero_gives_way_to_the_next_attribute_that_says_it(sent):
    planes = [{"position": (0.0, 0.0, float(z)), "te": 0.0} for z in range(3)]
    file = write_enhanced(sent / "e.dcm", "1.2.3", planes, EchoTime=95.0)
    assert only([file]).te_ms == 95.0


@pytest.mark.parametrize(
    ("keyword", "field", "nothing"),
    [
        ("SeriesDescription", "description", ""), ("ProtocolName", "protocol", ""),
        ("Manufacturer", "manufacturer", ""), ("BodyPartExamined", "body_part", ""),
        ("SequenceName", "sequence_name", ""),
        ("ScanningSequence", "scanning_sequence", ()), ("MRAcquisitionType", "acquisition_type", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("word", ["UNKNOWN", "ANONYMIZED", "N/A", "NULL", "UNK"])
@pytest.mark.filterwarnings("ignore")  # pydicom does not like a slash in a code string
def test_a_word_for_no_value_is_none(sent, keyword, field, nothing, word):
    files = [edit(file, **{keyword: word}) for file in write(sent, series_tags(Contrast.FLAIR))]
    assert getattr(only(files), field) == nothing


@pytest.mark.parametrize(
    "times",
    [
        {"tr_ms": 0.0, "te_ms": 95.0}, {"tr_ms": 4500.0, "te_ms": 0.0}, {"tr_ms": 90.0, "te_ms": 4500.0},
        # seconds
        {"tr_ms": 4.5, "te_ms": 0.095}, {"tr_ms": 9.0, "te_ms": 0.12, "ti_ms": 2.5}, {"tr_ms": 0.55, "te_ms": 0.012},
    ],
)  # fmt: skip
def test_times_that_are_none_say_nothing(times):
    reading = read_physics(volume(**times, scanning_sequence=("SE",)))
    assert (reading.role, reading.against) == (None, frozenset())
    assert judge(volume("", **times)).verdict is Verdict.NONE
    assert judge(volume("t2_tse", **times)).verdict is Verdict.T2W


@pytest.mark.parametrize("sequence", [("RM",), ("TSE",), ()])
def test_a_sequence_that_is_not_named_rules_nothing_out(sequence):
    mute = judge(volume("", tr_ms=9000.0, te_ms=120.0, scanning_sequence=sequence))
    assert mute.verdict is Verdict.AMBIGUOUS, text(mute)
    assert judge(volume("flair", tr_ms=9000.0, te_ms=120.0, scanning_sequence=sequence)).verdict is Verdict.FLAIR


# --- a whole study ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # pydicom does not like some of the values
@pytest.mark.parametrize(
    "header",
    [
        {"ContrastBolusAgent": "none given"}, {"ContrastBolusAgent": "unknown"}, {"BodyPartExamined": "HEADNECK"},
        {"BodyPartExamined": "BRAIN ORBITS"}, {"AcquisitionTime": "000000", "SeriesTime": "000000"},
        {"StudyDate": "19000101", "SeriesDate": "19000101", "AcquisitionDate": "19000101"},
        {"SpacingBetweenSlices": "0", "SliceThickness": "0"}, {"MagneticFieldStrength": "0"}, {"EchoNumbers": 0},
        {"FlipAngle": 0}, {"Manufacturer": "UNKNOWN", "SequenceName": "NULL"}, {"ScanningSequence": "UNKNOWN"},
        {"RepetitionTime": 0}, {"EchoTime": 0}, {"SeriesDescription": "UNKNOWN", "ProtocolName": "N/A"},
        {"ImageType": "UNKNOWN"}, {"SeriesNumber": None}, {"SeriesNumber": 2}, {"MRAcquisitionType": "UNKNOWN"},
        {"Modality": "UNKNOWN"}, {"TriggerTime": 0}, {"TemporalPositionIdentifier": 0},
    ],
)  # fmt: skip
def test_what_says_nothing_changes_no_choice(sent, header):
    files = triplet(sent)
    before = select_study(flat(files))
    after = select_study([edit(path, **header) for path in flat(files)])
    assert after.held is None, after.held
    assert {r: s.series_uid for r, s in after.roles.items()} == {r: s.series_uid for r, s in before.roles.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"ContrastBolusAgent": "Gadovist"}, "missing_role"),
        ({"BodyPartExamined": "KNEE"}, "missing_role"),
        ({"PixelSpacing": [0, 0]}, "geometry_spacing"),
        ({"RepetitionTime": 0, "EchoTime": 0, "SeriesDescription": "UNKNOWN", "ProtocolName": ""}, "missing_role"),
    ],
)
def test_what_says_something_or_leaves_nothing_is_held(sent, header, code):
    selection = select_study([edit(path, **header) for path in flat(triplet(sent))])
    assert selection.held is not None
    assert selection.held.code == code
