"""What names a result object that is delivered: an instance by its UIDs, a record by its identifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pydicom

from models.result_records import RECORD_FILES, Record

_RECORDS: Final = {RECORD_FILES[Record.FHIR]: "FHIR R4 Bundle", RECORD_FILES[Record.HL7]: "HL7 v2 ORU^R01"}
_CONTROL_ID: Final = 9
"""Field of the first segment, MSH-10; the separator is its first."""


def object_uid(path: Path) -> str:
    """Return the UID of a result object: SOP Instance UID, the OID of a Bundle, or the control ID of a message."""
    if path.name == RECORD_FILES[Record.HL7]:
        return path.read_text("utf-8").split("|", _CONTROL_ID + 1)[_CONTROL_ID]
    if path.name == RECORD_FILES[Record.FHIR]:
        value: str = json.loads(path.read_text("utf-8"))["identifier"]["value"]
        return value.removeprefix("urn:oid:")
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    return str(header.SOPInstanceUID)


def identity(path: Path) -> dict[str, object]:
    """Return what kind of object was sent, and the UIDs by which a revision names it."""
    if path.name in _RECORDS:
        return {"sop_class": _RECORDS[path.name], "sop_instance_uid": object_uid(path)}
    header = pydicom.dcmread(path, stop_before_pixels=True)
    uids = {"series_uid": header.SeriesInstanceUID, "sop_class_uid": header.SOPClassUID}
    uids |= {"sop_instance_uid": header.SOPInstanceUID}
    return {"sop_class": header.SOPClassUID.name, **{name: str(uid) for name, uid in uids.items()}}
