"""What machines ask of a node: does it live, can it receive, how is it in numbers; no identifier is in an answer."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from dicom_node.engine.survey import survey
from dicom_node.watch.facts import Facts
from dicom_node.watch.health import is_ready
from dicom_node.watch.metrics import CONTENT_TYPE, exposition
from dicom_node.web.site import Site

router = APIRouter()
PROBES: Final = {
    "/healthz": "whether the pages answer; nothing is looked at",
    "/readyz": "200 if studies can be received: the receiver takes connections, the disk has room; else 503",
    "/metrics": "the metrics, as Prometheus reads them",
}
_FRESH_S: Final = 2.0
"""Who asks again within this time is told the same: many who ask cost as much as one."""


class _Known:
    """The facts as they were a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: Facts | None = None
        self._looked_s = 0.0

    def of(self, site: Site) -> Facts:
        with self._lock:
            if self._facts is None or time.monotonic() - self._looked_s > _FRESH_S:
                self._facts, self._looked_s = survey(site.config), time.monotonic()
            return self._facts


def facts(request: Request) -> Facts:
    """Return the facts of the node, a moment old at most."""
    state = request.app.state
    if not hasattr(state, "known"):
        state.known = _Known()
    known: Facts = state.known.of(state.site)
    return known


@router.get("/healthz")
def healthz() -> Response:
    """Say that the pages answer."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def readyz(request: Request) -> Response:
    """Say whether studies can be received."""
    ready = is_ready(facts(request))
    return PlainTextResponse(
        "ready\n" if ready else "not ready: `dicom-node status` says why\n",
        HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
    )


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Return the metrics."""
    return Response(exposition(facts(request)), media_type=CONTENT_TYPE)
