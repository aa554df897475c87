"""One study: what became of it, and where each of its deliveries stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from dicom_node.errors import StudyUnknown
from dicom_node.studies.listing import uid_of
from dicom_node.studies.overview import overview
from dicom_node.studies.spool import Study
from dicom_node.studies.standings import standings
from dicom_node.studies.timeline import Entry, Timeline
from dicom_node.watch import audit
from dicom_node.web.page import page, site_of
from dicom_node.web.site import Site
from dicom_node.web.studies_page import trouble_words

router = APIRouter()
Name = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]


class Line(NamedTuple):
    """A line of a timeline as it is shown: with the time until the next one."""

    entry: Entry
    lasted: timedelta | None
    facts: str


@router.get("/studies/{name}")
def study(request: Request, name: Name) -> HTMLResponse:
    """Return the page of a study."""
    site = site_of(request)
    shown = study_of(site, name)
    audit.looked((shown.uid, shown.folder), verb="web")
    timeline, seen = shown.timeline(), overview(shown)
    return page(
        request,
        "study.html",
        name=name,
        seen=seen,
        turn=timeline.turn,
        trouble=trouble_words(seen),
        lines=list(_lines(timeline)),
        deliveries=list(standings(timeline).values()),
    )


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
