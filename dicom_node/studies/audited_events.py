"""Which events of a study are audited: what left the node, and what a human decided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dicom_node.studies.timeline import Event
from dicom_node.watch import audit
from dicom_node.watch.audit_message import ActionCode

_DECIDED = frozenset({Event.RELEASED, Event.STATED, Event.RETRIED})


def audit_event(study_uid: str, folder: Path, event: Event, facts: Mapping[str, object]) -> None:
    """Record an event of a timeline in the audit trail, if it belongs there.

    Parameters
    ----------
    study_uid, folder
        Of the study in the spool.
    event, facts
        As they were noted.
    """
    if event in (Event.SENT, Event.SEND_FAILED):
        code = str(facts.get("code") or "unknown") if event is Event.SEND_FAILED else ""
        audit.sent(study_uid, folder, str(facts.get("peer", "")), str(facts.get("kind", "")), code)
    elif event in _DECIDED:
        audit.looked((study_uid, folder), action=ActionCode.UPDATE, verb=event.value)
