"""The rules of this site for choosing series: rehearsed on the last studies, then written to the configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.responses import RedirectResponse, Response

from dicom_node.config import Config, SelectionSection
from dicom_node.config.writing import change, changes, put_section, tried
from dicom_node.errors import ConfigError, StudyUnknown
from dicom_node.studies.filters import Filters
from dicom_node.studies.listing import find
from dicom_node.studies.replay import Judgement, Replayed, replay, summary
from dicom_node.studies.spool import Study
from dicom_node.watch import audit
from dicom_node.web.access import AdministratorForm, Form, OperatorForm, Visitor
from dicom_node.web.page import page, site_of
from dicom_node.web.site import Site

router = APIRouter()
_PATTERNS: Final = ("t1w", "t2w", "flair", "never")
_LAST: Final = (5, 10, 20, 50)
_LONGEST_S: Final = 60.0
"""A rehearsal that takes longer ends with the studies that it came to."""


@router.get("/rules")
def rules(request: Request, _visit: Visitor, told: str = "") -> HTMLResponse:
    """Return the rules as they are."""
    return _rules_page(request, site_of(request).config.selection.model_dump(), told=told == "saved")


@router.post("/rules/rehearse")
def rehearse(request: Request, form: OperatorForm) -> HTMLResponse:
    """Show what other rules would change, study by study; nothing is saved."""
    site, values = site_of(request), _values(form)
    try:
        config = tried(site.config_file, _edit(values))
    except ConfigError as error:
        return _rules_page(request, values, refused=error)
    last = int(form.text("last")) if form.text("last") in map(str, _LAST) else _LAST[0]
    with site.selecting:
        rows = list(_rehearsed(site, config, last))
    audit.looked(*((row.study_uid, site.spool.folder(row.study_uid)) for row in rows), verb="web, rehearsal of rules")
    return _rules_page(request, values, rows=rows, last=last)


@router.post("/rules")
def save(request: Request, form: AdministratorForm) -> Response:
    """Write the rules to the configuration file: they hold for every study that is selected from now on."""
    site, values = site_of(request), _values(form)
    data_dir = site.config.node.data_dir
    try:
        site.take(change(site.config_file, data_dir, form.visit.name, "rules changed", _edit(values)))
    except ConfigError as error:
        return _rules_page(request, values, refused=error)
    return RedirectResponse("/rules?told=saved", HTTPStatus.SEE_OTHER)


def _rules_page(
    request: Request,
    values: Mapping[str, Any],
    *,
    rows: list[Replayed] | None = None,
    last: int = _LAST[1],
    refused: ConfigError | None = None,
    told: bool = False,
) -> HTMLResponse:
    site = site_of(request)
    fields = SelectionSection.model_fields
    return page(
        request,
        "rules.html",
        HTTPStatus.CONFLICT if refused else HTTPStatus.OK,
        values=values,
        patterns=_PATTERNS,
        described={name: field.description for name, field in fields.items()},
        choices={name: get_args(fields[name].annotation) for name in ("contrast", "plane")},
        rows=None if rows is None else [(site.pseudonym(row.study_uid), row) for row in rows],
        summary=summary(rows or ()),
        judgements=Judgement,
        last=last,
        lasts=_LAST,
        refused=refused,
        told=told,
        changes=list(changes(site.config.node.data_dir).items())[:20],
    )


def _rehearsed(site: Site, config: Config, last: int) -> Iterator[Replayed]:
    """Yield the last studies judged by other rules, as many as there is time for."""
    until_s = time.monotonic() + _LONGEST_S
    for row in replay(site.spool, config, last, _lately(site, last)):
        yield row
        if time.monotonic() > until_s:
            return


def _lately(site: Site, last: int) -> Iterator[Study]:
    """Yield the studies that changed lately and whose images are there; some of them may not be selected yet."""
    for seen in find(site.index, Filters(stored=True), limit=2 * last).studies:
        try:
            yield site.spool.study(seen.study_uid)
        except StudyUnknown:
            continue


def _values(form: Form) -> dict[str, Any]:
    """Return what a form says, as it would stand in the file."""
    slices = form.text("min_slices")
    return {
        **{name: [line.strip() for line in form.text(name).splitlines() if line.strip()] for name in _PATTERNS},
        "contrast": form.text("contrast"),
        "plane": form.text("plane"),
        "min_slices": int(slices) if slices.isdecimal() and len(slices) < 6 else slices,
    }


def _edit(values: Mapping[str, Any]) -> Callable[[Any], None]:
    """Return what puts rules into a document; a key that is as without the section is taken away."""
    usual = {name: _listed(value) for name, value in SelectionSection().model_dump().items()}
    written = {name: None if value == usual[name] else value for name, value in values.items()}
    return lambda document: put_section(document, "selection", written)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
