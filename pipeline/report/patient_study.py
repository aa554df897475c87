"""Patient, study and request of the source into a result object: copied, never improved, emptied where invalid."""

from __future__ import annotations

import re
from datetime import date

from pydicom.dataset import Dataset

from pipeline.headers.texts import read_plain_text, read_text
from pipeline.report.character_sets import CharacterSet, character_set, copy_text, items_of, text_of

_TYPE_2_TEXT = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName")
_OPTIONAL_TEXT = ("IssuerOfPatientID", "StudyDescription", "DeidentificationMethod")
# Only these attributes of an item are copied, so that a vendor's oddities do not make the result invalid.
_SEQUENCES = {
    "IssuerOfPatientIDQualifiersSequence": ("UniversalEntityID",),
    "IssuerOfAccessionNumberSequence": ("LocalNamespaceEntityID", "UniversalEntityID"),
}
_ENTITY_ID_TYPES = frozenset({"DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"})
_DATE = re.compile(r"\d{8}", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")


def copy_patient_and_study(source: Dataset, target: Dataset, charset: CharacterSet) -> None:
    """Copy the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1), and age, into `target`.

    Parameters
    ----------
    source
        Header of an input instance; what it lacks becomes empty.
    target
        Result object; must stay in the study of `source`.
    charset
        As :func:`~pipeline.report.character_sets.character_set` returned for `source`.
    """
    target.StudyInstanceUID = str(source.StudyInstanceUID)
    _copy_or_empty(source, target, _TYPE_2_TEXT, charset)
    for keyword in _OPTIONAL_TEXT:
        copy_text(source, target, keyword, charset)
    for keyword in ("PatientBirthDate", "StudyDate"):
        setattr(target, keyword, _date(text_of(source, keyword)))
    target.StudyTime = _matched(_TIME, text_of(source, "StudyTime"))
    target.PatientSex = _sex(text_of(source, "PatientSex"))
    age = _matched(_AGE, text_of(source, "PatientAge"))
    if age:
        target.PatientAge = age
    _copy_issuers(source, target, charset)
    procedures = _copy_codes(source, "ProcedureCodeSequence", charset)
    if procedures:
        target.ProcedureCodeSequence = procedures
    _copy_yes_or_no(source, target, "PatientIdentityRemoved")
    _copy_yes_or_no(source, target, "SyntheticData")
    methods = _copy_codes(source, "DeidentificationMethodCodeSequence", charset)
    if methods:
        target.DeidentificationMethodCodeSequence = methods
    if target.get("PatientIdentityRemoved") == "YES" and not methods and "DeidentificationMethod" not in target:
        target.DeidentificationMethod = "UNKNOWN"


def request_reference(source: Dataset) -> list[Dataset]:
    """Return the items of Referenced Request Sequence (PS3.3 Table C.17-2); none if nothing is known of a request.

    Parameters
    ----------
    source
        Header of an input instance.
    """
    requests = items_of(source, "RequestAttributesSequence")
    request = requests[0] if requests else Dataset()
    if not text_of(source, "AccessionNumber") and not text_of(request, "RequestedProcedureID"):
        return []
    charset = character_set(source)
    item = Dataset()
    item.StudyInstanceUID = str(source.StudyInstanceUID)
    item.ReferencedStudySequence = []
    _copy_or_empty(source, item, ("AccessionNumber",), charset)
    orders = ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest")
    _copy_or_empty(source, item, orders, charset)
    _copy_or_empty(request, item, ("RequestedProcedureID", "RequestedProcedureDescription"), charset)
    item.RequestedProcedureCodeSequence = _copy_codes(request, "RequestedProcedureCodeSequence", charset)
    return [item]


def _copy_or_empty(source: Dataset, target: Dataset, keywords: tuple[str, ...], charset: CharacterSet) -> None:
    for keyword in keywords:
        copy_text(source, target, keyword, charset)
        if keyword not in target:
            setattr(target, keyword, "")


def _copy_issuers(source: Dataset, target: Dataset, charset: CharacterSet) -> None:
    for keyword, members in _SEQUENCES.items():
        items = [_copy_item(item, members, charset) for item in items_of(source, keyword)[:1]]
        if any(len(item) for item in items):
            setattr(target, keyword, items)


def _copy_item(source: Dataset, keywords: tuple[str, ...], charset: CharacterSet) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        copy_text(source, item, keyword, charset)
    kind = text_of(source, "UniversalEntityIDType")
    if "UniversalEntityID" in item and kind in _ENTITY_ID_TYPES:
        item.UniversalEntityIDType = kind
    elif "UniversalEntityID" in item:
        del item.UniversalEntityID
    return item


def _copy_codes(source: Dataset, keyword: str, charset: CharacterSet) -> list[Dataset]:
    """Return the items of a code sequence that are whole."""
    required = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    items = []
    for code in items_of(source, keyword):
        if all(text_of(code, member) for member in required):
            item = Dataset()
            for member in (*required, "CodingSchemeVersion"):
                copy_text(code, item, member, charset)
            items.append(item)
    return items


def _copy_yes_or_no(source: Dataset, target: Dataset, keyword: str) -> None:
    value = text_of(source, keyword)
    if value in {"YES", "NO"}:
        setattr(target, keyword, value)


def _sex(value: str) -> str:
    return value.upper() if value.upper() in {"M", "F", "O"} else ""


def _date(value: str) -> str:
    if not _DATE.fullmatch(value):
        return ""
    try:
        date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return ""
    return value


def _matched(pattern: re.Pattern[str], value: str) -> str:
    return value if pattern.fullmatch(value) else ""


def certain_text(source: Dataset, keyword: str) -> str:
    """Return an attribute that can be read in one way alone; empty where it would name somebody by guessing.

    Parameters
    ----------
    source
        Header of an input instance.
    keyword
        Of an attribute with a VR of text.
    """
    element = source.get_item(keyword)
    raw = element.value if element is not None and isinstance(element.value, bytes | str) else ""
    declared = tuple(text_of(source, "SpecificCharacterSet").split("\\"))
    text = read_text(raw, declared) if isinstance(raw, bytes) else read_plain_text(raw.strip())
    one = text.readings[0] if len(text.readings) == 1 else ""
    # A backslash parts several values (PS3.5 6.2), of which none is more right than another.
    return one if one.isprintable() and "\\" not in one else ""
