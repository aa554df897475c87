"""A study once more: what it owes is delivered at once, or it is read anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dicom_node.config import Config
from dicom_node.engine import workflow
from dicom_node.engine.waking import wake
from dicom_node.errors import SpoolError
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import State

_OWING = frozenset({State.SCORED, State.SENDING, State.DELIVERY_FAILED})


class Retried(NamedTuple):
    """What was begun: so many deliveries, or an attempt to read."""

    woken: int
    attempt: int | str


def retry_study(config: Config, spool: Spool, study: Study) -> Retried:
    """Have what a study owes delivered at once, or the study read anew if it owes nothing.

    Parameters
    ----------
    config, spool
        Of the node.
    study
        A received one.

    Raises
    ------
    SpoolError
        If it would be read, and its images are gone (``images_removed``).
    """
    if study.state() in _OWING and (woken := wake(config, spool, study_uid=study.uid)):
        return Retried(len(woken), 0)
    if not study.instances():
        raise SpoolError("The images of this study were removed: send it again, it is then read.", "images_removed")
    with queues_of(config) as engine:
        return Retried(0, engine.retry(study))


@contextmanager
def queues_of(config: Config) -> Iterator[workflow.Engine]:
    """Yield a connection to the queues."""
    workflow.migrate(config)
    engine = workflow.Engine(config)
    try:
        yield engine
    finally:
        engine.close()
