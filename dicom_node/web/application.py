"""The application of the web pages put together: routes, headers, and what a refusal looks like."""

from __future__ import annotations

import logging
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from dicom_node.errors import CommandError, ConfigError, IndexUnavailable, NodeError, StudyUnknown
from dicom_node.log import say
from dicom_node.web import (
    live,
    log_page,
    models_page,
    peers_page,
    probes,
    rules_page,
    sign_in_page,
    studies_page,
    study_actions,
    study_page,
    system_page,
)
from dicom_node.web.access import AccessRefused, SignInNeeded
from dicom_node.web.headers import SecureHeaders
from dicom_node.web.page import page
from dicom_node.web.pictures import NoPicture
from dicom_node.web.site import Site

logger = logging.getLogger(__name__)

_STATUSES: Final = {
    StudyUnknown: HTTPStatus.NOT_FOUND,
    IndexUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    CommandError: HTTPStatus.BAD_REQUEST,
    ConfigError: HTTPStatus.CONFLICT,
    SignInNeeded: HTTPStatus.UNAUTHORIZED,
    AccessRefused: HTTPStatus.FORBIDDEN,
    NoPicture: HTTPStatus.NOT_FOUND,
}
_ROUTERS: Final = (
    sign_in_page.router,
    studies_page.router,
    live.router,
    study_page.router,
    study_actions.router,
    peers_page.router,
    rules_page.router,
    models_page.router,
    system_page.router,
    log_page.router,
    probes.router,
)


def make_app(site: Site) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    site
        What its pages are about.
    """
    app = FastAPI(title="dicom-node", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    app.add_middleware(SecureHeaders)
    for router in _ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_api_route("/", _first, include_in_schema=False)
    app.add_exception_handler(NodeError, _refused)
    app.add_exception_handler(HTTPException, _not_answered)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    app.add_exception_handler(Exception, _failed)
    return app


def _first() -> Response:
    return RedirectResponse("/studies")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, NodeError)
    if isinstance(error, SignInNeeded) and request.method == "GET":
        asked = urlencode({"then": request.url.path})
        return RedirectResponse(f"/sign-in?{asked}", HTTPStatus.SEE_OTHER)
    if error.code == "too_many_attempts":
        return page(request, "refusal.html", HTTPStatus.TOO_MANY_REQUESTS, code=error.code, sentence=str(error))
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), HTTPStatus.CONFLICT)
    return page(request, "refusal.html", status, code=error.code, sentence=str(error))


def _not_answered(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return page(request, "refusal.html", status, code=status.name.lower(), sentence=f"{status.phrase}.")


def _misunderstood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    names = ", ".join(sorted({str(found["loc"][1]) for found in error.errors()}))
    sentence = f"This is not understood: {names}. Go back and correct it."
    return page(request, "refusal.html", HTTPStatus.BAD_REQUEST, code="request_invalid", sentence=sentence)


def _failed(request: Request, error: Exception) -> Response:
    say(logger, "page failed", level=logging.ERROR, page=request.url.path.split("/")[1], cause=type(error).__name__)
    sentence = f"A fault in the node ({type(error).__name__}): its log has the details."
    return page(request, "refusal.html", HTTPStatus.INTERNAL_SERVER_ERROR, code="internal_error", sentence=sentence)
