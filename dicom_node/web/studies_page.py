"""The list of studies: filtered, sorted, page by page, from the index."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from dicom_node.errors import CommandError
from dicom_node.studies.filters import Filters
from dicom_node.studies.listing import find
from dicom_node.studies.overview import Order, Overview
from dicom_node.studies.timeline import State
from dicom_node.watch import audit
from dicom_node.web.access import Viewer, Visitor
from dicom_node.web.page import moment, page, site_of
from models.visible_text import visible

router = APIRouter()
_A_PAGE: Final = 50
_MOST_ROWS: Final = 10_000
_COLUMNS: Final = ("study", "uid", "state", "reason", "images", "from", "to", "received", "changed", "delivery")
_NEWEST_FIRST: Final = (Order.CHANGED, Order.RECEIVED)


@router.get("/studies.csv")
def as_csv(request: Request, _visit: Viewer) -> Response:
    """Return the last studies as a table for other programs; no cell is a formula."""
    site = site_of(request)
    found = find(site.index, limit=_MOST_ROWS).studies
    audit.listed(f"web, CSV, at most {_MOST_ROWS}", len(found))
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(_COLUMNS)
    for seen in found:
        cells = (site.pseudonym(seen.study_uid), seen.study_uid, seen.state, seen.code, str(seen.instances))
        peers, times = (seen.senders, seen.destinations), (seen.received_last, seen.changed)
        row = (*cells, *(" ".join(each) for each in peers), *(time.isoformat() for time in times), trouble_words(seen))
        table.writerow([_cell(each) for each in row])
    return Response(written.getvalue(), media_type="text/csv", headers={"Content-Disposition": "attachment"})


@router.get("/studies")
def studies(
    request: Request,
    _visit: Visitor,
    state: Annotated[list[State | Literal[""]] | None, Query(max_length=10)] = None,
    reason: Annotated[str, Query(max_length=64)] = "",
    peer: Annotated[str, Query(max_length=64)] = "",
    since: Annotated[str, Query(max_length=32)] = "",
    until: Annotated[str, Query(max_length=32)] = "",
    text: Annotated[str, Query(max_length=64)] = "",
    sort: Order = Order.CHANGED,
    cursor: Annotated[str | None, Query(max_length=256)] = None,
    told: Annotated[str, Query(max_length=16)] = "",
) -> HTMLResponse:
    """Return a page of the list."""
    site = site_of(request)
    states = tuple(each for each in state or () if each)
    asked = {"reason": reason, "peer": peer, "since": since, "until": until, "text": text}
    filters = Filters(states, (reason,) if reason else (), peer, _day(since, "since"), _day(until, "until"), text)
    found = find(site.index, filters, sort, descending=sort in _NEWEST_FIRST, limit=_A_PAGE, cursor=cursor)
    audit.listed(f"web, {filters}, sorted by {sort}, at most {_A_PAGE}", len(found.studies))
    same = {"state": states, "sort": sort, **asked}
    return page(
        request,
        "studies.html",
        rows=[(site.pseudonym(seen.study_uid), seen, trouble_words(seen)) for seen in found.studies],
        counts=site.counts(),
        states=State,
        chosen=states,
        asked=asked,
        sort=sort,
        orders={order: _address({**same, "sort": order}) for order in Order},
        more=_address({**same, "cursor": found.cursor}) if found.cursor else None,
        told=told == "woken",
        filtered=filters != Filters(),
    )


def trouble_words(seen: Overview) -> str:
    """Return what is wrong with the deliveries of a study, and when the next attempt is."""
    trouble = seen.trouble
    if trouble is None:
        return ""
    if trouble.next_attempt:
        return f"{trouble.peer}: {trouble.code}, tried again at {moment(trouble.next_attempt)} at the latest"
    aside = seen.state == State.DELIVERY_FAILED
    return f"{trouble.peer}: {trouble.code}" + (", set aside until somebody retries" if aside else "")


def _cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    shown = visible(text)
    return f"'{shown}" if shown[:1] in "=+-@" and shown else shown


def _day(text: str, what: str) -> datetime | None:
    """Return the time that a form says, in the time zone of the node."""
    if not text:
        return None
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).astimezone(UTC)
    raise CommandError(f"{what} {text} is no time: write 2026-11-28 or 2026-11-28T14:00.")


def _address(asked: Mapping[str, Any]) -> str:
    return "/studies?" + urlencode({name: value for name, value in asked.items() if value}, doseq=True)
