"""One study: what became of it and why, its result, and where each of its deliveries stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse
from pydicom import dcmread
from starlette.responses import Response

from dicom_node.errors import StudyUnknown
from dicom_node.studies.inputs import last_table
from dicom_node.studies.listing import uid_of
from dicom_node.studies.overview import overview
from dicom_node.studies.spool import Study
from dicom_node.studies.standings import standings
from dicom_node.studies.timeline import Entry, Timeline
from dicom_node.watch import audit
from dicom_node.web.access import Viewer, Visitor
from dicom_node.web.page import page, site_of
from dicom_node.web.pictures import NoPicture
from dicom_node.web.site import Site
from dicom_node.web.studies_page import trouble_words
from models.contrast import Contrast
from pipeline.explain import SelectionTable
from pipeline.report import render_tree
from pipeline.report.result_files import HELD_FILES, OVERLAY_PICTURE, REPORT_FILES, SUMMARY_PICTURE
from pipeline.result import RESULT_FILE
from pipeline.rounding import decimals_of

router = APIRouter()
Name = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]
_PICTURES: Final = {"overlay": OVERLAY_PICTURE, "summary": SUMMARY_PICTURE}


class Line(NamedTuple):
    """A line of a timeline as it is shown: with the time until the next one."""

    entry: Entry
    lasted: timedelta | None
    facts: str


@router.get("/studies/{name}")
def study(request: Request, visit: Visitor, name: Name, told: str = "") -> HTMLResponse:
    """Return the page of a study; what names its patient only to who signed in."""
    site = site_of(request)
    shown = study_of(site, name)
    audit.looked((shown.uid, shown.folder), verb="web")
    timeline, seen = shown.timeline(), overview(shown)
    signed_in = visit.may("viewer")
    return page(
        request,
        "study.html",
        name=name,
        seen=seen,
        turn=timeline.turn,
        trouble=trouble_words(seen),
        lines=list(_lines(timeline)),
        deliveries=list(standings(timeline).values()),
        signed_in=signed_in,
        table=_table(shown) if signed_in else None,
        result=_result(shown, timeline) if signed_in else None,
        decimals_of=decimals_of,
        pictures=_left(shown, timeline) if signed_in else (),
        report=_report(shown, timeline) if signed_in else None,
        choices=shown.choices() if signed_in else {},
        contrasts=tuple(Contrast),
        told=_TOLD.get(told, ""),
    )


_TOLD: Final = {
    "retried": "It is done once more: its timeline shows how far it is.",
    "released": "It is read again with this choice, which is kept with the study.",
    "forgotten": "The earlier choices are gone; the rules choose at the next reading.",
}


@router.get("/studies/{name}/series/{row}.png")
def series_picture(request: Request, _visit: Viewer, name: Name, row: int) -> Response:
    """Return a picture of a series in the table of a study."""
    site = site_of(request)
    shown = study_of(site, name)
    table = _table(shown)
    if table is None or not 0 <= row < len(table.series):
        raise NoPicture("There is no such series.")
    return _png(site.pictures.of(shown, table.series[row].series.series_uid))


@router.get("/studies/{name}/result/{which}.png")
def result_picture(request: Request, _visit: Viewer, name: Name, which: str) -> Response:
    """Return a picture that the last run left."""
    shown = study_of(site_of(request), name)
    digest = shown.timeline().read_digest
    if which not in _PICTURES or digest is None:
        raise NoPicture("There is no such picture.")
    try:
        return _png((shown.run_folder(digest) / _PICTURES[which]).read_bytes())
    except FileNotFoundError:
        raise NoPicture("The run left no such picture.") from None


def study_of(site: Site, name: str) -> Study:
    """Return the study that the log calls `name`.

    Raises
    ------
    StudyUnknown
        If there is none.
    """
    uid = uid_of(site.index, name)
    if uid is None:
        raise StudyUnknown(f"No received study has the pseudonym {name}: look for it in the list.")
    return site.spool.study(uid)


def _png(picture: bytes) -> Response:
    return Response(picture, media_type="image/png")


def _table(study: Study) -> SelectionTable | None:
    try:
        return last_table(study)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # written by another version


def _result(study: Study, timeline: Timeline) -> dict[str, Any] | None:
    try:
        digest = timeline.read_digest
        told = json.loads((study.run_folder(digest) / RESULT_FILE).read_text("utf-8")) if digest else None
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _left(study: Study, timeline: Timeline) -> tuple[str, ...]:
    digest = timeline.read_digest
    return tuple(name for name, file in _PICTURES.items() if digest and (study.run_folder(digest) / file).exists())


def _report(study: Study, timeline: Timeline) -> str | None:
    """Return the report that the last run left as a tree; the node wrote the file itself."""
    digest = timeline.read_digest
    files = (study.run_folder(digest) / name for name in (*REPORT_FILES, *HELD_FILES)) if digest else ()
    file = next((file for file in files if file.exists()), None)
    try:
        return render_tree(dcmread(file)) if file else None
    except Exception:  # a file of another version, or a damaged one: the page shows the rest
        return None


def _lines(timeline: Timeline) -> Iterator[Line]:
    for entry, then in pairwise((*timeline, None)):
        assert entry
        yield Line(entry, then.time - entry.time if then else None, "; ".join(_facts(entry.facts)))


def _facts(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        if name not in ("sentence", "code"):
            yield f"{name.replace('_', ' ')} {_told(value)}"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)
