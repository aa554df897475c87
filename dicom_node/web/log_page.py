"""The log: its last lines, in which a study is a pseudonym that leads to its page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from dicom_node.watch import audit
from dicom_node.watch.last_lines import Line, last_lines
from dicom_node.web.access import Operator
from dicom_node.web.page import page, site_of

router = APIRouter()
_MOST: Final = 300


class Level(StrEnum):
    """What is shown: lines of this level and of those behind it."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@router.get("/log")
def log(
    request: Request,
    _visit: Operator,
    level: Level = Level.INFO,
    process: Annotated[str, Query(max_length=64)] = "",
    study: Annotated[str, Query(max_length=12)] = "",
    text: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """Return the last lines that are asked for, the newest first."""
    every = last_lines(site_of(request).config.node.data_dir)
    study, text = study.strip(), text.strip()
    lines = list(islice(_wanted(every, level, process, study, text), _MOST))
    audit.listed(f"web, log, study {study or 'any'}", len({line.study for line in lines if line.study}))
    return page(
        request,
        "log.html",
        lines=[(line, _told(line.facts)) for line in lines],
        asked={"level": level, "process": process, "study": study, "text": text},
        levels=Level,
        processes=sorted({line.process for line in every}),
        most=_MOST,
    )


def _wanted(lines: Iterable[Line], level: Level, process: str, study: str, text: str) -> Iterator[Line]:
    shown = set(list(Level)[list(Level).index(level) :])
    for line in lines:
        loud = level is Level.INFO or line.level in shown
        if loud and process in ("", line.process) and study in ("", line.study) and text.lower() in _said(line):
            yield line


def _said(line: Line) -> str:
    return f"{line.event} {_told(line.facts)}".lower()


def _told(facts: Mapping[str, Any]) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
