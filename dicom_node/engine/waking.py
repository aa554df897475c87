"""Try what waits, or was set aside, at once."""

from __future__ import annotations

from dicom_node.config import Config
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.errors import StudyUnknown
from dicom_node.studies.spool import Spool
from dicom_node.studies.standings import state_of
from dicom_node.studies.timeline import Event

_SECONDS_PER_HOUR = 3600


def wake(
    config: Config, spool: Spool, *, study_uid: str | None = None, peer: str | None = None, waiting: bool = True
) -> list[Item]:
    """Have deliveries tried at once, with all their time before them; return them.

    Parameters
    ----------
    config, spool
        Of the node.
    study_uid, peer
        Only those of a study, or for a destination.
    waiting
        Those that wait too, and not only those that were set aside.

    Raises
    ------
    NodeError
        If the database cannot be used.
    """
    with Outbox(config.node.engine_url) as outbox:
        found = outbox.undelivered(study_uid=study_uid, peer=peer, waiting=waiting)
        items = [item for item in found if _noted(spool, item)]
        outbox.wake(items, config.delivery.give_up_hours * _SECONDS_PER_HOUR)
    return items


def _noted(spool: Spool, item: Item) -> bool:
    """Note at its study that an item is woken; return whether the study is there."""
    try:
        study = spool.study(item.study_uid)
    except StudyUnknown:
        return False
    # Before it is: what the worker notes comes after it.
    study.note(Event.WOKEN, state_of, peer=item.peer, kind=item.kind, input_digest=item.input_digest)
    return True
