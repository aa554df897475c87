"""The audit trail: for how long, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dicom_node.config.values import Port, Section


class AuditSection(Section):
    """The audit trail: who sent, received, looked at and changed studies (DICOM PS3.15 A.5)."""

    keep_days: Annotated[int, Field(strict=True, ge=1, le=36500)] = Field(
        default=365, description="Days that the audit trail is kept; many rules ask for half a year or more."
    )
    syslog_host: str | None = Field(
        default=None,
        min_length=1,
        description="Host of a collector of audit messages by syslog over TLS (RFC 5425). Default: none.",
        examples=["audit.hospital.example"],
    )
    syslog_port: Port = Field(default=6514, description="Port of the collector.")
    syslog_ca: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed the collector's certificate. Default: those of the system.",
        examples=["/etc/dicom-node/audit-ca.pem"],
    )
    syslog_certificate: Path | None = Field(
        default=None,
        description="PEM file with the node's certificate and key, where the collector asks for one.",
        examples=["/etc/dicom-node/audit-client.pem"],
    )
