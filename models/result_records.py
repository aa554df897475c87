"""As what a result is written besides DICOM, for systems that read none."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Record(StrEnum):
    """What a result is written as."""

    FHIR = "fhir"
    HL7 = "hl7"


RECORD_FILES: Final[Mapping[Record, str]] = MappingProxyType(
    {Record.FHIR: "result.fhir.json", Record.HL7: "result.hl7"}
)
"""The file of each record in the folder of a run."""
