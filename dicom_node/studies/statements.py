"""What a human stated of a study that its files do not say: whose it is, and that the newest copies are right.

A statement is about what the human saw, and about nothing that comes later: about one contradiction of identities, by
its digest, and about copies by their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from dicom_node.errors import CommandError
from dicom_node.studies import copies
from dicom_node.studies.spool import Study
from dicom_node.studies.timeline import Event
from models.whole_files import write_json
from pipeline.headers import Received
from pipeline.select import IdentityStatement, Selection, SiteRules, TwoPatients, select_study

STATEMENTS_FILE: Final = "statements.json"


@dataclass(frozen=True, slots=True)
class Statements:
    """What a human stated.

    Attributes
    ----------
    identity
        Whose the selected series are; None where nothing is stated.
    copies
        Names of the files of copies that are right.
    """

    identity: IdentityStatement | None = None
    copies: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what ``statements.json`` holds."""
        return {"identity": asdict(self.identity) if self.identity else None, "copies": list(self.copies)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Statements:
        """Return the statements that `as_json` wrote; nothing stated where a key is missing."""
        identity = stored.get("identity")
        return cls(IdentityStatement(**identity) if identity else None, tuple(stored.get("copies", ())))


def statements(study: Study) -> Statements:
    """Return what was stated of a study."""
    try:
        return Statements.from_json(json.loads((study.folder / STATEMENTS_FILE).read_text("utf-8")))
    except FileNotFoundError:
        return Statements()


def received(study: Study, stated: Statements) -> Received:
    """Return in which order copies came, and which are stated to be right."""
    folder = study.folder / "instances"
    return Received(copies.received(study.folder), frozenset(folder / name for name in stated.copies))


def select_as_stated(study: Study, rules: SiteRules, stated: Statements | None = None) -> Selection:
    """Return the selection of a study as it is now, with everything that a human said of it.

    Parameters
    ----------
    study
        A received study.
    rules
        Of the site.
    stated
        In place of what is kept with the study.
    """
    stated = statements(study) if stated is None else stated
    return select_study(study.instances(), rules, study.choices(), received(study, stated), stated.identity)


def state_identity(study: Study, series: str, rules: SiteRules) -> Selection:
    """Keep that all selected series are of the patient of one of them.

    Parameters
    ----------
    study
        A received study.
    series
        Series Number, or Series Instance UID.
    rules
        Of the site.

    Returns
    -------
    Selection
        As it is from now on; if it is held for the same reason, nothing was changed.

    Raises
    ------
    CommandError
        ``identity_undisputed`` where nothing contradicts, ``series_unknown`` where no series is meant, or several are.
    """
    before = select_as_stated(study, rules)
    if not isinstance(before.held, TwoPatients):
        raise CommandError("The selected series do not contradict each other in whose they are.", "identity_undisputed")
    found = {(c.volume.series_uid, c.volume.series_number) for c in before.candidates}
    meant = {uid for uid, number in found if series in (uid, str(number))}
    if len(meant) != 1:
        raise CommandError(
            f"--identity {series} names {len(meant)} series of the study: give its number or UID.", "series_unknown"
        )
    stated = Statements(IdentityStatement(meant.pop(), before.held.about), statements(study).copies)
    return _keep(study, stated, rules, identity=series)


def state_newest_copies(study: Study, rules: SiteRules) -> Selection:
    """Keep that of every instance with copies that differ the newest is right.

    Parameters
    ----------
    study
        A received study.
    rules
        Of the site.

    Returns
    -------
    Selection
        As it is from now on; if it is held for the same reason, nothing was changed.
    """
    kept = statements(study)
    known = copies.received(study.folder)
    newest = {path.name.partition("~")[0].removesuffix(".dcm"): path.name for path in known}
    stated = Statements(kept.identity, tuple(sorted(newest.values())))
    return _keep(study, stated, rules, copies=len(newest))


def forget_statements(study: Study) -> None:
    """Take everything back that was stated of a study."""
    (study.folder / STATEMENTS_FILE).unlink(missing_ok=True)


def _keep(study: Study, stated: Statements, rules: SiteRules, **facts: object) -> Selection:
    before, selection = select_as_stated(study, rules).held, select_as_stated(study, rules, stated)
    # One statement may settle one reason of two: it is kept where the study is held for another one, or for none.
    if selection.held is None or (before is not None and before.code is not selection.held.code):
        write_json(study.folder / STATEMENTS_FILE, stated.as_json())
        study.note(Event.STATED, None, **facts)
    return selection
