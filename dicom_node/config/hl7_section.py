"""Receivers of HL7 v2 that the result goes to as a message, for systems without FHIR."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from dicom_node.config.values import Port, Section


class Hl7Receiver(Section):
    """One receiver of HL7 v2 messages (ORU^R01) over MLLP. Repeat [[hl7_receivers]] for each."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$",
        description="Short name used on the command line and in logs; nobody else has it.",
        examples=["ris"],
    )
    host: str = Field(min_length=1, description="Host name or address.", examples=["ris.hospital.example"])
    port: Port = Field(description="Port of MLLP.", examples=[2575])
    application: str = Field(
        default="", max_length=180, description="Its name as Receiving Application (MSH-5).", examples=["RIS"]
    )
    facility: str = Field(
        default="", max_length=180, description="Its place as Receiving Facility (MSH-6).", examples=["HOSPITAL"]
    )
    tls: bool = Field(default=False, description="Whether it is called over TLS.", examples=[True])
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed its certificate. Default: those of the system.",
        examples=["/etc/dicom-node/ris-ca.pem"],
    )
