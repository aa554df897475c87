"""What people decide about studies on the pages, by the same functions as the verbs of the command line."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from dicom_node.engine.housekeeping import purge, refuse_busy
from dicom_node.engine.retrying import queues_of, retry_study
from dicom_node.engine.waking import wake
from dicom_node.errors import CommandError, SpoolError
from dicom_node.studies import choices
from dicom_node.web.access import AdministratorForm, Form, OperatorForm
from dicom_node.web.page import site_of
from dicom_node.web.study_page import Name, study_of
from models.contrast import Contrast

router = APIRouter()


@router.post("/studies/{name}/retry")
def retry(request: Request, _form: OperatorForm, name: Name) -> Response:
    """Deliver at once what a study owes, or read it anew."""
    site = site_of(request)
    retry_study(site.config, site.spool, study_of(site, name))
    return _back(name, "retried")


@router.post("/studies/{name}/release")
def release(request: Request, form: OperatorForm, name: Name) -> Response:
    """Choose series by hand, and read the study again."""
    site = site_of(request)
    study, chosen = study_of(site, name), _chosen(form)
    if form.text("forget") and not chosen:
        choices.forget(study)
        return _back(name, "forgotten")
    if not chosen:
        raise CommandError("No series was chosen: mark one for a role.", "role_invalid")
    with site.selecting:
        selection = choices.release(study, chosen, site.config.selection.rules(), anew=bool(form.text("forget")))
    if selection.held:
        raise CommandError(f"It would still be held: {selection.held.sentence}", selection.held.code)
    with queues_of(site.config) as engine:
        engine.retry(study)
    return _back(name, "released")


@router.post("/studies/{name}/purge")
def remove(request: Request, form: AdministratorForm, name: Name) -> Response:
    """Remove a study everywhere."""
    site = site_of(request)
    study = study_of(site, name)
    if form.text("sure") != name:
        raise CommandError("Nothing was removed: write the pseudonym of the study into the field.", "not_confirmed")
    refuse_busy(site.spool, study)
    if not purge(site.config, site.spool, study):
        raise SpoolError("Instances of the study arrived just now: nothing was removed.", "study_busy")
    return RedirectResponse("/studies", HTTPStatus.SEE_OTHER)


@router.post("/deliveries/retry")
def retry_peer(request: Request, form: OperatorForm) -> Response:
    """Try every delivery to a destination at once, as after an outage; without one those that were set aside."""
    site, peer = site_of(request), form.text("peer")
    if peer:
        wake(site.config, site.spool, peer=site.config.receiver(peer).name)
    else:
        wake(site.config, site.spool, waiting=False)
    return RedirectResponse("/studies?told=woken", HTTPStatus.SEE_OTHER)


def _chosen(form: Form) -> dict[Contrast, str]:
    return choices.read_choices([f"{role}={choice}" for role in Contrast if (choice := form.text(role))])


def _back(name: str, told: str) -> Response:
    return RedirectResponse(f"/studies/{name}?told={told}", HTTPStatus.SEE_OTHER)
