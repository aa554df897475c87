"""A human's choice of series: checked against the study, kept with it, and held to ever after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dicom_node.errors import CommandError
from dicom_node.studies.spool import Study
from dicom_node.studies.statements import forget_statements, received, statements
from dicom_node.studies.timeline import Event
from models.contrast import Contrast
from pipeline.select import Selection, SiteRules, durable_choice, is_choice, select_study


def read_choices(arguments: Sequence[str]) -> dict[Contrast, str]:
    """Return the choices of arguments such as ``FLAIR=1.2.840.1``, ``T2W=5`` or ``T1W=2:echo1``.

    Raises
    ------
    CommandError
        ``role_invalid``.
    """
    chosen: dict[Contrast, str] = {}
    for argument in arguments:
        name, _, choice = argument.partition("=")
        if name not in set(Contrast) or not is_choice(choice):
            example = (
                "write T1W, T2W or FLAIR, = and a series number, a Series Instance UID or one of its volumes as "
                "`dicom-node show` prints it, as in T2W=5, FLAIR=1.2.840.1 or T1W=2:echo1"
            )
            raise CommandError(f"--role {argument} is not understood: {example}.", "role_invalid")
        if Contrast(name) in chosen:
            raise CommandError(f"--role names {name} twice: choose one series for it.", "role_invalid")
        chosen[Contrast(name)] = choice
    return chosen


def release(study: Study, chosen: Mapping[Contrast, str], rules: SiteRules, *, anew: bool = False) -> Selection:
    """Keep a human's choices with a study if they make its selection complete.

    Parameters
    ----------
    study
        A received study.
    chosen
        As `read_choices` returns them; they are added to earlier choices.
    rules
        By which the roles that nobody chose are filled.
    anew
        Whether earlier choices are dropped.

    Returns
    -------
    Selection
        As it is from now on; if it is held, nothing was changed. What is kept names series by their UIDs: a number may
        no longer be unique when further series arrive.
    """
    together = ({} if anew else study.choices()) | dict(chosen)
    stated = statements(study)
    selection = select_study(study.instances(), rules, together, received(study, stated), stated.identity)
    if selection.held is None:
        study.choose({role: durable_choice(selection.chosen(role)) for role in together})
        study.note(Event.RELEASED, series_numbers={role: selection.roles[role].series_number for role in together})
    return selection


def forget(study: Study) -> None:
    """Remove the choices of a study and what was stated of it; its next selection is made by the rules alone."""
    study.choose({})
    forget_statements(study)
    study.note(Event.RELEASED, series_numbers={})
