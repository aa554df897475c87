"""Whether a study that still arrives has everything that is scored: by its headers, without a look at pixels."""

from __future__ import annotations

from collections.abc import Mapping

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.geometry import ordered_frames
from pipeline.headers import Headers
from pipeline.select.choose import select_roles
from pipeline.select.judge import judge
from pipeline.select.naming import with_names
from pipeline.select.one_patient import IdentityStatement, whose
from pipeline.select.rules import BUILT_IN, SiteRules
from pipeline.select.selection import refuse_unusable


def contrasts_whole(
    headers: Headers,
    rules: SiteRules = BUILT_IN,
    choices: Mapping[Contrast, str] | None = None,
    statement: IdentityStatement | None = None,
) -> bool:
    """Return whether each contrast has a series without doubt, and its slices make a whole head.

    It says when to begin, never what is scored: that is selected again, from all files and with a look at pixels.

    Parameters
    ----------
    headers
        Of the files that have arrived.
    rules, choices, statement
        As `select_study` takes them.
    """
    candidates = tuple(with_names(judge(volume, rules) for volume in headers.volumes))
    try:
        refuse_unusable(headers, candidates, choices or {})
        chosen = select_roles(candidates, rules, choices)
        whose(chosen, headers, statement)
        for candidate in chosen.values():
            ordered_frames(candidate.volume.frames)
    except StudyHeld:
        return False
    return chosen.keys() == set(Contrast)
