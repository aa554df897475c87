"""The peers: who sends and who gets what, how to reach them, who was refused; changed here, and at once."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse
from starlette.responses import RedirectResponse, Response

from dicom_node.config import Config, Peer, PeerRole
from dicom_node.config.writing import change, changes, go_back, put_peer, remove_peer
from dicom_node.errors import CommandError
from dicom_node.net.ladder import climb, sentence_for
from dicom_node.net.refused import read_refused
from dicom_node.web.access import AdministratorForm, Form, OperatorForm, Visitor
from dicom_node.web.page import page, site_of

router = APIRouter()
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]
_VERIFY = ("commitment", "find", "none")


@router.get("/peers")
def peers(request: Request, _visit: Visitor) -> HTMLResponse:
    """Return the list of peers, of refused callers and of changes."""
    config = site_of(request).config
    return page(
        request,
        "peers.html",
        config=config,
        refused=read_refused(config.node.data_dir),
        changes=list(changes(config.node.data_dir).items())[:20],
        blank=_BLANK,
        verify=_VERIFY,
        roles=PeerRole,
    )


@router.get("/peers/{name}")
def peer(request: Request, _visit: Visitor, name: Name) -> HTMLResponse:
    """Return the page of a peer."""
    return _peer_page(request, site_of(request).config.peer(name))


@router.post("/peers/{name}/test")
def test(request: Request, _form: OperatorForm, name: Name) -> HTMLResponse:
    """Climb the ladder to a peer."""
    config = site_of(request).config
    found = config.peer(name)
    if found.port is None:
        raise CommandError(f"{name} has no port: nobody can be called there.", "peer_without_port")
    return _peer_page(request, found, list(climb(config, found)))


@router.post("/peers")
def add(request: Request, form: AdministratorForm) -> Response:
    """Add a peer."""
    name = form.text("name")
    if any(each.name == name for each in site_of(request).config.peers):
        raise CommandError(f'There is a peer "{name}" already: choose another name.', "peer_known")
    return _put(request, form, name, f"peer {name} added")


@router.post("/peers/{name}")
def edit(request: Request, form: AdministratorForm, name: Name) -> Response:
    """Change a peer; keys that the form does not have stay as they are."""
    site_of(request).config.peer(name)
    return _put(request, form, name, f"peer {name} changed")


@router.post("/peers/{name}/remove")
def remove(request: Request, form: AdministratorForm, name: Name) -> Response:
    """Remove a peer."""
    site_of(request).config.peer(name)
    return _changed(request, form, f"peer {name} removed", lambda document: remove_peer(document, name))


@router.post("/callers/allow")
def allow(request: Request, form: AdministratorForm) -> Response:
    """Let a caller that was refused send studies from now on."""
    config = site_of(request).config
    title, address = form.text("title"), form.text("address")
    if not any((each.title, each.address) == (title, address) for each in read_refused(config.node.data_dir)):
        raise CommandError("This caller was not refused of late: add it as a peer.", "caller_unknown")
    name = _free_name(config, title)
    values = {"name": name, "ae_title": title, "host": address, "roles": ["source"]}
    return _changed(request, form, f"caller {name} allowed", lambda document: put_peer(document, name, values))


@router.post("/changes/{when}/back")
def back(request: Request, form: AdministratorForm, when: Annotated[str, Path(pattern=r"^[0-9T.-]{26}$")]) -> Response:
    """Put the configuration back as it was before a change."""
    site = site_of(request)
    site.take(go_back(site.config_file, site.config.node.data_dir, form.visit.name, when))
    return RedirectResponse("/rules" if form.text("from") == "/rules" else "/peers", HTTPStatus.SEE_OTHER)


def _peer_page(request: Request, shown: Peer, rungs: list[Any] | None = None) -> HTMLResponse:
    config = site_of(request).config
    return page(
        request,
        "peer.html",
        peer=shown,
        rungs=rungs,
        sentence=sentence_for(config, shown),
        sent=config.sent_to(shown) if PeerRole.DESTINATION in shown.roles else (),
        verify=_VERIFY,
        roles=PeerRole,
    )


_BLANK = {"name": "", "ae_title": "", "host": "", "port": "", "roles": (), "verify": "commitment", "tls": False}


def _put(request: Request, form: Form, name: str, what: str) -> Response:
    port = form.text("port")
    values = {
        "name": name,
        "ae_title": form.text("ae_title"),
        "host": form.text("host"),
        "port": int(port) if port.isdecimal() and len(port) < 6 else port or None,
        "roles": [str(role) for role in PeerRole if role in form.texts("roles")],
        "verify": form.text("verify") or "commitment",
        "tls": True if form.text("tls") else None,
    }
    return _changed(request, form, what, lambda document: put_peer(document, name, values))


def _changed(request: Request, form: Form, what: str, edit: Any) -> Response:
    site = site_of(request)
    site.take(change(site.config_file, site.config.node.data_dir, form.visit.name, what, edit))
    return RedirectResponse("/peers", HTTPStatus.SEE_OTHER)


def _free_name(config: Config, title: str) -> str:
    """Return a name for a caller that no peer has."""
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "caller"
    taken = {peer.name for peer in config.peers}
    return next(name for number in range(1, 1000) if (name := f"{base}-{number}" if number > 1 else base) not in taken)
