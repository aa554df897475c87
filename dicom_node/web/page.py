"""How a page is made from a template: whatever stands in it is text, and steers neither browser nor eye."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dicom_node.web.site import Site
from dicom_node.web.users import Role
from models.visible_text import visible

PAGES: Final = (
    ("Studies", "/studies", Role.VISITOR),
    ("Peers", "/peers", Role.VISITOR),
    ("Rules", "/rules", Role.VISITOR),
    ("Models", "/models", Role.VISITOR),
    ("System", "/system", Role.VISITOR),
    ("Log", "/log", Role.OPERATOR),
)
"""Name and address of each page that the navigation leads to, and for whom."""
_LONGEST = 2000
"""Characters of a text; what a header says beyond them is cut off, visibly."""


def site_of(request: Request) -> Site:
    """Return what the pages of this application are about."""
    site: Site = request.app.state.site
    return site


def page(request: Request, template: str, status: int = HTTPStatus.OK, **facts: Any) -> HTMLResponse:
    """Return a page.

    Parameters
    ----------
    request
        Which is answered.
    template
        Name of its template.
    status
        Of the answer.
    **facts
        What the template shows.
    """
    visit = getattr(request.state, "visit", None)
    shared = {"site": site_of(request), "pages": PAGES, "path": request.url.path, "visit": visit}
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(**shared, **facts), status)


def _plain(value: Any) -> Any:
    """Return what a template prints, as text that steers nothing; nothing in place of None."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    text = visible(str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def moment(time: datetime) -> str:
    """Return a time as people read it, in the time zone of the node."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def duration(span: timedelta) -> str:
    """Return how long something took, in at most two units."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def words(name: str) -> str:
    """Return the stable name of a state or an event as words."""
    return str(name).replace("_", " ")


def _pair(choice: str) -> tuple[str, str]:
    """Return a choice and what is read of it: the labels of a volume behind its series."""
    return choice, choice.partition(":")[2] or choice


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dicom_node.web"),
        autoescape=True,
        auto_reload=False,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"moment": moment, "duration": duration, "words": words, "pair": _pair}
    return environment


_ENVIRONMENT = _environment()
