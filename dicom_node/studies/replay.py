"""What would be selected today: the last studies of the spool judged again, beside what was selected then.

A rehearsal of changed rules; nothing in the node changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicom_node.studies.inputs import choices, last_selected, last_table, pinned
from dicom_node.studies.spool import Spool, Study
from models.contrast import Contrast
from pipeline.explain import explain
from pipeline.select import SiteRules, select_study

OUTCOMES = ("unchanged", "changed", "not_judged")


def replay(spool: Spool, rules: SiteRules, last: int) -> Iterator[dict[str, Any]]:
    """Yield, newest first, what the selections of the last studies would be now.

    Parameters
    ----------
    spool
        The received studies; those that were selected at least once are judged.
    rules
        To judge by; choices of a human hold as they are stored now.
    last
        How many studies.

    Yields
    ------
    dict
        ``study_uid``; ``selected``, the time of the stored selection; ``outcome``, one of `OUTCOMES`; ``sentence``, why
        the study would be held or could not be judged; ``changes``, by role, ``state``, ``reason`` or ``images``, each
        with ``old`` and ``new``.
    """
    dated = [(entry["time"], study) for study in spool.studies() if (entry := last_selected(study))]
    for time, study in sorted(dated, key=lambda pair: pair[0], reverse=True)[:last]:
        yield {"study_uid": study.uid, "selected": time, **_judged(study, rules)}


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many studies came to each outcome."""
    return {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in OUTCOMES}


def _judged(study: Study, rules: SiteRules) -> dict[str, Any]:
    entry, old = last_selected(study), last_table(study)
    if entry is None or old is None:
        return _not_judged("No table is stored with it: an older version selected it.")
    then = pinned(study, entry["input_digest"]).files
    gone = sum(not path.exists() for path in then)
    if gone:
        return _not_judged(f"{gone} of its {len(then)} files are no longer there.")
    selection = select_study(study.instances(), rules, choices(study))
    if selection.without is not None and old["roles"].keys() == {role.value for role in selection.without.roles}:
        # The study was selected for a model of two sequences.
        selection = selection.without
    new = explain(selection)
    changes = _changes(old, new)
    if not changes and new["state"] == "ready" and selection.digest != entry["input_digest"]:
        # Another volume of the same series, or a slice that came late.
        changes = {"images": {"old": entry["input_digest"], "new": selection.digest}}
    return {"outcome": "changed" if changes else "unchanged", "sentence": new["sentence"], "changes": changes}


def _not_judged(sentence: str) -> dict[str, Any]:
    return {"outcome": "not_judged", "sentence": sentence, "changes": {}}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every role that another series would play, and state and reason where they would be others."""
    changes = {
        role.value: {"old": _series(old, role), "new": _series(new, role)}
        for role in Contrast
        if _series(old, role) != _series(new, role)
    }
    for key in ("state", "reason"):
        if old[key] != new[key]:
            changes[key] = {"old": old[key], "new": new[key]}
    return changes


def _series(table: dict[str, Any], role: Contrast) -> dict[str, Any] | None:
    series = table["roles"].get(role.value)
    return series and {key: series[key] for key in ("series_uid", "series_number", "description")}
