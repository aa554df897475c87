"""FHIR servers that the result goes to as a record, beside or in place of a PACS."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from dicom_node.config.values import Section


class FhirServer(Section):
    """One FHIR R4 server that takes the result as a transaction. Repeat [[fhir_servers]] for each."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$",
        description="Short name used on the command line and in logs; no peer has it.",
        examples=["ehr"],
    )
    url: str = Field(
        pattern=r"^https?://[^\s?#]+$",
        description="Base address, under which its resources lie.",
        examples=["https://fhir.hospital.example/r4"],
    )
    token_file: Path | None = Field(
        default=None,
        description="File with a bearer token, read at each call. Default: none.",
        examples=["/etc/dicom-node/fhir-token"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed its certificate. Default: those of the system.",
        examples=["/etc/dicom-node/fhir-ca.pem"],
    )

    @model_validator(mode="after")
    def _token_in_secret(self) -> FhirServer:
        if self.token_file and not self.url.startswith("https://"):
            raise ValueError(f'the token of "{self.name}" would be sent in the clear: give it an https:// url')
        return self
