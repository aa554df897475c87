"""DICOM over TLS: what the node shows, whom it trusts, and where it listens."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from dicom_node.config.values import Port, Section


class TLSProfile(StrEnum):
    """A Secure Transport Connection Profile of PS3.15 Annex B."""

    BCP195 = "bcp195"
    BCP195_MODIFIED = "bcp195-modified"


class ClientCertificates(StrEnum):
    """What callers on the TLS port must show."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class TLSSection(Section):
    """DICOM over TLS, both ways. Files are PEM, read anew when they change; a relative path starts at this file."""

    certificate: Path | None = Field(
        default=None,
        description="Certificate of the node, followed by those that lead to its CA.",
        examples=["tls/node.pem"],
    )
    key: Path | None = Field(
        default=None,
        description="Its private key, without a password; readable by the node's user alone.",
        examples=["tls/node.key"],
    )
    ca: tuple[Path, ...] = Field(
        default=(), description="CAs whose certificates are trusted, such as ['tls/hospital-ca.pem']."
    )
    port: Port | None = Field(
        default=None, description="TLS port beside node.port. Default: nobody can call over TLS.", examples=[2762]
    )
    plain: bool = Field(default=True, description="Whether node.port is open as well.")
    profile: TLSProfile = Field(
        default=TLSProfile.BCP195,
        description='PS3.15 profile: "bcp195" (B.12), or "bcp195-modified" (B.13); both TLS 1.2 and 1.3.',
    )
    client_certificates: ClientCertificates = Field(
        default=ClientCertificates.REQUIRED,
        description='Of callers at the TLS port: "required", "optional" or "none"; one that is shown must be theirs.',
    )

    @model_validator(mode="after")
    def _whole(self) -> TLSSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: set both, or neither")
        if self.port is not None and self.certificate is None:
            raise ValueError("port needs a certificate: set certificate and key, or remove port")
        if self.port is None and not self.plain:
            raise ValueError("plain is false and there is no TLS port: set port, or remove plain")
        return self
