"""Who may see and change what: a role for each page and action, and forms that nobody else can send."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from dicom_node.config import WithoutSignIn
from dicom_node.errors import NodeError
from dicom_node.watch import audit
from dicom_node.web.page import site_of
from dicom_node.web.sessions import Session
from dicom_node.web.users import Role

COOKIE: Final = "__Host-dicom-node"
"""A browser takes it over TLS or from loopback alone, and sends it to nobody else."""
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_LONGEST_FORM: Final = 65536
_MOST_FIELDS: Final = 200


class AccessRefused(NodeError):
    """Somebody may not see or do this."""

    code = "role_missing"


class SignInNeeded(NodeError):
    """Nobody is signed in who may see this."""

    code = "sign_in_needed"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks for a page.

    Attributes
    ----------
    name, role
        Who; the name is empty where nobody is signed in.
    csrf
        For the forms of the page.
    """

    name: str
    role: Role
    csrf: str = ""

    def may(self, role: str) -> bool:
        """Return whether this role, or one above it, is held."""
        return self.role.may(Role(role))


@dataclass(frozen=True, slots=True)
class Form:
    """A form that somebody sent who may: the values of its fields."""

    visit: Visit
    fields: dict[str, list[str]]

    def text(self, name: str) -> str:
        """Return a value without spaces around it; an empty one where the form has none."""
        return next(iter(self.fields.get(name, ())), "").strip()

    def texts(self, name: str) -> list[str]:
        """Return all values of a field."""
        return self.fields.get(name, [])


def needs(role: Role) -> Callable[[Request], Coroutine[Any, Any, Visit]]:
    """Return what lets only those with a role see a page."""

    async def visit(request: Request) -> Visit:
        return _visit(request, role)

    return visit


def changes(role: Role) -> Callable[[Request], Coroutine[Any, Any, Form]]:
    """Return what lets only those with a role send a form, from a page of ours."""

    async def form(request: Request) -> Form:
        visit = _visit(request, role)
        fields = await read_form(request)
        if not hmac.compare_digest(next(iter(fields.get("csrf", ())), "").encode(), visit.csrf.encode()):
            raise AccessRefused(
                "This form is not of this session: open its page again, and send it anew.", "form_of_another_session"
            )
        return Form(visit, fields)

    return form


Visitor = Annotated[Visit, Depends(needs(Role.VISITOR))]
Viewer = Annotated[Visit, Depends(needs(Role.VIEWER))]
Operator = Annotated[Visit, Depends(needs(Role.OPERATOR))]
Administrator = Annotated[Visit, Depends(needs(Role.ADMINISTRATOR))]
OperatorForm = Annotated[Form, Depends(changes(Role.OPERATOR))]
AdministratorForm = Annotated[Form, Depends(changes(Role.ADMINISTRATOR))]


async def read_form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form that a page of ours sent.

    Raises
    ------
    AccessRefused
        If it comes from another site (``other_site``), or is too large (``form_too_large``).
    """
    if not _of_this_site(request):
        raise AccessRefused("This form comes from another site: open the page of the node.", "other_site")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise AccessRefused("This form is too large: shorten it.", "form_too_large")
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise AccessRefused("This form is too large: shorten it.", "form_too_large") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def session_of(request: Request) -> Session | None:
    """Return the session of a browser, if it has one; a live page that is left open does not keep it open."""
    token = request.cookies.get(COOKIE)
    by_script = request.headers.get("sec-fetch-dest") == "empty"
    return site_of(request).sessions.of(token, used=not by_script) if token else None


def comes_from_here(request: Request) -> bool:
    """Return whether a browser on this machine asks, and no proxy for others or page of others."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(request) and (request.url.hostname or "") in _LOOPBACK_NAMES


def is_private(request: Request) -> bool:
    """Return whether nobody on the network can read what is sent: over TLS, or within this machine."""
    return request.url.scheme == "https" or _is_loopback(request)


def _visit(request: Request, role: Role) -> Visit:
    """Return who asks, if they may; from here on they act in the audit trail."""
    visit = _who(request)
    request.state.visit = visit
    if visit is None or not visit.role.may(role):
        if visit is None or not visit.name:
            raise SignInNeeded("Sign in first.")
        raise AccessRefused(f"This needs the role {role}; {visit.name} is {visit.role}.")
    audit.acts(visit.name or "(not signed in)", request.client.host if request.client else "")
    return visit


def _who(request: Request) -> Visit | None:
    session = session_of(request)
    if session:
        return Visit(session.name, session.role, session.csrf)
    here = site_of(request).config.web.without_sign_in is WithoutSignIn.LOOPBACK and comes_from_here(request)
    return Visit("", Role.VISITOR) if here else None


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _of_this_site(request: Request) -> bool:
    """Return whether the browser says that a page of ours sends this, or says nothing."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
