"""Live parts of pages: server-sent events that say only that something changed; a browser then asks for the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from dicom_node.errors import NodeError
from dicom_node.web.access import Visitor
from dicom_node.web.page import site_of
from dicom_node.web.site import Site
from dicom_node.web.study_page import Name, study_of

router = APIRouter()
_LOOK_S: Final = 1.0
_ALIVE_S: Final = 15.0
"""A stream that says nothing for longer is ended by proxies."""
_LONGEST_S: Final = 900.0
"""The browser then asks anew, and whether it may is looked at anew."""


@router.get("/studies/live")
async def of_the_list(request: Request, _visit: Visitor) -> StreamingResponse:
    """Say when a study of the list is another one."""
    site = site_of(request)
    return _stream(request, site, site.last_change)


@router.get("/studies/{name}/live")
async def of_a_study(request: Request, _visit: Visitor, name: Name) -> StreamingResponse:
    """Say when something happened to a study."""
    site = site_of(request)
    study = await run_in_threadpool(study_of, site, name)
    return _stream(request, site, study.timeline_bytes)


def _stream(request: Request, site: Site, mark: Callable[[], object]) -> StreamingResponse:
    return StreamingResponse(_events(request, site, mark), media_type="text/event-stream")


async def _events(request: Request, site: Site, mark: Callable[[], object]) -> AsyncIterator[str]:
    if not site.streams.acquire(blocking=False):
        yield "event: full\ndata:\n\n"
        return
    try:
        yield "retry: 5000\n\n"
        async for said in _changes(request, site, mark):
            yield said
    finally:
        site.streams.release()


async def _changes(request: Request, site: Site, mark: Callable[[], object]) -> AsyncIterator[str]:
    began_s = said_s = time.monotonic()
    last = await _marked(mark)
    while not site.stop.is_set() and time.monotonic() - began_s < _LONGEST_S and not await request.is_disconnected():
        await asyncio.sleep(_LOOK_S)
        now = await _marked(mark)
        changed, last = now != last, now
        if changed or time.monotonic() - said_s > _ALIVE_S:
            said_s = time.monotonic()
            yield "data: changed\n\n" if changed else ": nothing yet\n\n"


async def _marked(mark: Callable[[], object]) -> object:
    """Return what is another value after each change; None where nobody knows."""
    try:
        return await run_in_threadpool(mark)
    except (NodeError, OSError):
        return None
