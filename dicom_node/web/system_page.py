"""The system: how the node is in ten lines, and what it runs on: processes, devices, disk, queues, versions, clock."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dicom_node.engine.survey import survey
from dicom_node.watch import health
from dicom_node.watch.clock import read_clock
from dicom_node.watch.facts import Facts
from dicom_node.watch.pulse import Pulse
from dicom_node.web.access import Visitor
from dicom_node.web.page import page, site_of

router = APIRouter()
_GB: Final = 10**9
_PACKAGES: Final = (
    *("dicom-node", "torch", "monai", "nnunetv2", "SimpleITK", "numpy", "pydicom", "pynetdicom", "highdicom"),
    *("dbos", "sqlalchemy", "psycopg", "fastapi", "uvicorn", "cryptography"),
)


class Runs(NamedTuple):
    """A process: whether it lives, since when it runs, and how long ago it last said so."""

    pulse: Pulse
    lives: bool
    since: datetime
    heard: timedelta


@router.get("/system")
def system(request: Request, _visit: Visitor) -> HTMLResponse:
    """Return the page of the system."""
    config = site_of(request).config
    facts = survey(config)
    return page(
        request,
        "system.html",
        config=config,
        facts=facts,
        lines=health.status(facts),
        processes=[_runs(pulse, facts) for pulse in facts.pulses],
        gigabytes=_gigabytes,
        clock=read_clock(),
        now=datetime.fromtimestamp(facts.now_s, UTC),
        versions=_versions(),
    )


def _runs(pulse: Pulse, facts: Facts) -> Runs:
    heard = timedelta(seconds=max(0.0, facts.now_s - pulse.beaten_s))
    return Runs(pulse, pulse.lives(facts.now_s), datetime.fromtimestamp(pulse.started_s, UTC), heard)


def _gigabytes(size_bytes: float) -> str:
    return f"{size_bytes / _GB:.1f} GB"


@cache
def _versions() -> Mapping[str, str]:
    """Return the versions of what the node is made of; what is not installed is not used."""
    found = {"Python": platform.python_version(), "Linux": platform.release()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
