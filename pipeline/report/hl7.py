"""The result as HL7 v2.5.1: an ORU^R01 for systems without FHIR.

::

    MSH  PID (where the patient's number is certain)  OBR (study, order, P or C)
    OBX  notice, score, threshold, category, sentence, what is replaced, the score of each sequence, study

All results are preliminary; those that replace an earlier score are corrections. Texts are UTF-8, and what has a
meaning in HL7 is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Group, Message
from pydicom.sr.coding import Code

from models.contrast import Contrast
from pipeline.hl7_text import escaped
from pipeline.predict import Category
from pipeline.report import codes
from pipeline.report.patient_study import certain_text
from pipeline.report.run import ScoredRun
from pipeline.report.wording import replaced_words, research_notice, result_sentence
from pipeline.rounding import rounded, shown_score, shown_threshold

VERSION: Final = "2.5.1"
_CHARACTER_SET: Final = "UNICODE UTF-8"
_CONTROL_LENGTH: Final = 20
"""What every version allows for Message Control ID (MSH-10)."""
_STUDY: Final = Code("110180", "DCM", "Study Instance UID")
_CATEGORIES: Final = {Category.AT_OR_ABOVE: codes.AT_OR_ABOVE, Category.BELOW: codes.BELOW}
_PRELIMINARY, _CORRECTED = "P", "C"


def build_hl7(run: ScoredRun) -> str:
    """Return the result of a run as a message whose segments end with a carriage return.

    Parameters
    ----------
    run
        With a score; equal ones give equal messages.
    """
    uid = run.names.uid("hl7", "message")
    message = Message("ORU_R01", version=VERSION, validation_level=VALIDATION_LEVEL.TOLERANT)
    head = message.msh
    head.msh_3, head.msh_4 = "DICOM-NODE", ""
    head.msh_7, head.msh_9 = _moment(run), "ORU^R01^ORU_R01"
    head.msh_10 = f"{int(uid.rpartition('.')[2]):032x}"[:_CONTROL_LENGTH]
    head.msh_11, head.msh_12, head.msh_18 = "P", VERSION, _CHARACTER_SET
    result = message.add_group("ORU_R01_PATIENT_RESULT")
    _patient(run, result)
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    _order(run, order, uid)
    for number, (kind, code, value) in enumerate(_observations(run), start=1):
        segment = order.add_group("ORU_R01_OBSERVATION").obx
        segment.obx_1, segment.obx_2, segment.obx_3 = str(number), kind, _coded(code)
        segment.obx_5, segment.obx_11 = value, _status(run)
    message.validate()
    return f"{message.to_er7()}\r"


def _patient(run: ScoredRun, result: Group) -> None:
    number, issuer = (certain_text(run.header, keyword) for keyword in ("PatientID", "IssuerOfPatientID"))
    if number:
        patient = result.add_group("ORU_R01_PATIENT").pid
        # The name stays where it is: PID-5 says that none is told (HL7 table 0200).
        patient.pid_3, patient.pid_5 = f"{escaped(number)}^^^{escaped(issuer)}".rstrip("^"), "^^^^^^U"


def _order(run: ScoredRun, order: Group, uid: str) -> None:
    request = order.obr
    request.obr_1, request.obr_3, request.obr_4 = "1", f"{uid}^DICOM-NODE", _coded(codes.TITLE)
    request.obr_7 = request.obr_22 = _moment(run)
    request.obr_18 = escaped(certain_text(run.header, "AccessionNumber"))
    request.obr_25 = _status(run)


def _observations(run: ScoredRun) -> Iterator[tuple[str, Code, str]]:
    finding = run.finding
    yield "TX", codes.NOTICE, escaped(research_notice(run.model))
    yield "NM", codes.ENSEMBLE_SCORE, shown_score(finding)
    yield "NM", codes.DECISION_THRESHOLD, shown_threshold(finding)
    yield "CWE", codes.OUTPUT_CATEGORY, _coded(_CATEGORIES[finding.category])
    yield "TX", codes.SUMMARY, escaped(result_sentence(finding))
    for words in replaced_words(run.provenance.predecessors):
        yield "TX", codes.REPLACES, escaped(words)
    for role in finding.sequences:
        yield "NM", _of(role), rounded(finding.scores[role])
    yield "ST", _STUDY, run.sources.study_uid


def _of(role: Contrast) -> Code:
    return Code(codes.SEQUENCE_SCORE.value, codes.SCHEME, f"{codes.SEQUENCE_SCORE.meaning}: {role}")


def _status(run: ScoredRun) -> str:
    return _CORRECTED if any(one.scored for one in run.provenance.predecessors) else _PRELIMINARY


def _coded(code: Code) -> str:
    return "^".join(map(escaped, (code.value, code.meaning, code.scheme_designator)))


def _moment(run: ScoredRun) -> str:
    started = run.provenance.started
    return (started if started.tzinfo else started.astimezone()).strftime("%Y%m%d%H%M%S%z")
