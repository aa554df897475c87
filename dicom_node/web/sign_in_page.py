"""Signing in and out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response

from dicom_node.errors import NodeError
from dicom_node.watch import audit
from dicom_node.web.access import COOKIE, AccessRefused, is_private, read_form, session_of
from dicom_node.web.page import page, site_of
from dicom_node.web.users import Role, Users

router = APIRouter()
_LONGEST_PASSWORD: Final = 128


@router.get("/sign-in")
async def ask(request: Request, then: Annotated[str, Query(max_length=300)] = "/studies") -> HTMLResponse:
    """Return the form."""
    return page(request, "sign_in.html", then=_inside(then), wrong=False)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Let somebody in whose password is right, with a new session whatever token the browser had."""
    if not is_private(request):
        raise AccessRefused(
            "Passwords are taken over TLS or on this machine alone: put a proxy with TLS in front.",
            "password_in_the_clear",
        )
    fields = await read_form(request)
    name, password, then = ((fields.get(key) or [""])[0] for key in ("name", "password", "then"))
    role = await run_in_threadpool(_role, request, name[:64], password[:_LONGEST_PASSWORD])
    if role is None:
        return page(request, "sign_in.html", HTTPStatus.UNAUTHORIZED, then=_inside(then), wrong=True)
    sessions = site_of(request).sessions
    sessions.close(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse(_inside(then), HTTPStatus.SEE_OTHER)
    answer.set_cookie(COOKIE, sessions.open(name, role), secure=True, httponly=True, samesite="lax", path="/")
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session."""
    await read_form(request)
    if session_of(request):
        site_of(request).sessions.close(request.cookies[COOKIE])
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax", path="/")
    return answer


def _role(request: Request, name: str, password: str) -> Role | None:
    site, address = site_of(request), request.client.host if request.client else ""
    if not site.sessions.may_try(name):
        raise NodeError("Too many wrong passwords: wait five minutes, then sign in.", "too_many_attempts")
    with site.hashing:
        role = Users(site.config).signed_in(name, password)
    if role is None:
        site.sessions.failed(name)
    audit.signed_in(name, address, good=role is not None)
    return None if role is Role.VISITOR else role


def _inside(place: str) -> str:
    """Return a place of this site; nobody is led elsewhere."""
    return (
        place if place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable() else "/studies"
    )
