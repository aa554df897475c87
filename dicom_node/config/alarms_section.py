"""Alarms: whom the node tells when something stops, and from when on."""

from __future__ import annotations

import re
from datetime import time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from dicom_node.config.values import Section

_SCHEME = re.compile(r"[a-z][a-z0-9]*://\S+")
_HOURS = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")


def _address(value: str) -> str:
    if not _SCHEME.match(value):
        raise ValueError("it is no address as apprise writes them: mailto://..., msteams://..., jsons://...")
    return value


def _quiet(value: str) -> str:
    match = _HOURS.fullmatch(value)
    try:
        if value and not match:
            raise ValueError
        for each in match.groups() if match else ():
            time.fromisoformat(each)
    except ValueError:
        raise ValueError('write quiet hours as "22:00-06:00", or "" for none') from None
    return value


Address = Annotated[str, AfterValidator(_address)]
QuietHours = Annotated[str, AfterValidator(_quiet)]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class AlarmsSection(Section):
    """Whom the node tells when something stops, and when that is over; 0 switches a rule off."""

    to: tuple[Address, ...] = Field(
        default=(),
        description="Whom to tell, in the addresses of apprise: ['mailto://relay.example/?from=node@a.example&"
        "to=it@a.example'].",
    )
    to_file: Path | None = Field(
        default=None,
        description="File of further such addresses, one a line, for those that hold a secret.",
        examples=["/etc/dicom-node/alarms.txt"],
    )
    quiet_hours: QuietHours = Field(
        default="", description='Local time in which nothing is sent, such as "22:00-06:00"; it is sent afterwards.'
    )
    pause_min: Number = Field(
        default=15.0, description="Minutes between two messages of the same rule; what comes meanwhile is put together."
    )
    nothing_received_hours: Number = Field(
        default=72.0, description="Hours without a study from a source that sent some before."
    )
    stopped: bool = Field(default=True, description="Whether a study that is held or failed is told.")
    undelivered_min: Number = Field(default=60.0, description="Minutes that a report waits for its destination.")
    queue_min: Number = Field(default=60.0, description="Minutes that a study waits to be read.")
    down_min: Number = Field(default=3.0, description="Minutes that receiver or worker are down.")
    disk_gb: Number = Field(
        default=10.0, description="Free space (GB) beyond disk_reserve_gb below which the disk is told."
    )
    certificate_days: Number = Field(default=30.0, description="Days before a certificate ends.")
    out_of_range_rise: Number = Field(
        default=2.0,
        description="How many times the share of studies unlike the model's in a week is that of four weeks before.",
    )

    @property
    def wanted(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self.to or self.to_file)
