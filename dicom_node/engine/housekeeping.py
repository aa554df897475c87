"""What goes on beside receiving: the index follows the spool, and what was kept long enough goes; nothing waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from dicom_node.config import Config
from dicom_node.engine import workflow
from dicom_node.engine.outbox import Outbox
from dicom_node.errors import SpoolError
from dicom_node.log import say
from dicom_node.studies import retention
from dicom_node.studies.index import Index, follow
from dicom_node.studies.retention import Expired, What
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import State
from dicom_node.watch import audit

logger = logging.getLogger(__name__)

_END_S = 5.0
_FIRST_S, _EVERY_S = 60.0, 600.0
_BUSY = frozenset({State.RECEIVING, State.ARRIVING_LATE, State.QUEUED, State.RUNNING, State.SCORED, State.SENDING})


@contextmanager
def housekeeping(config: Config, spool: Spool) -> Iterator[None]:
    """Keep house for as long as the block lasts.

    Parameters
    ----------
    config
        Of the node.
    spool
        Of the process that receives.
    """
    stop, index = threading.Event(), Index.of(config)
    threads = [
        threading.Thread(target=follow, args=(index, spool, stop), name="index", daemon=True),
        threading.Thread(target=_retain, args=(config, spool, index, stop), name="retention", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(_END_S)
        index.close()


def expired_now(config: Config, spool: Spool, index: Index) -> Iterator[Expired]:
    """Yield what ``[retention]`` and ``[routing]`` no longer keep; whoever removes it does so before asking on."""
    reserve_gb, filtered_days = config.receive.disk_reserve_gb, config.routing.keep_days
    return retention.expired(spool, index, config.retention, datetime.now(UTC), reserve_gb, filtered_days)


def remove_expired(config: Config, spool: Spool, index: Index, stop: threading.Event | None = None) -> list[Expired]:
    """Remove what ``[retention]`` no longer keeps, and the rows of its work; return what went.

    Parameters
    ----------
    config, spool, index
        Of the node.
    stop
        Ends it early, from another thread.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read: then nothing goes.
    """
    retention.empty_trash(spool.data_dir)
    gone: list[Expired] = []
    for study in expired_now(config, spool, index):
        if stop and stop.is_set():
            return gone
        patient_id = audit.patient_id(spool.folder(study.study_uid))
        if study.what is What.STUDY:
            _forget(config, study.study_uid)
        if retention.remove(spool, study):
            gone.append(study)
            audit.deleted(study.study_uid, patient_id)
    engine = workflow.Engine(config)
    try:
        engine.forget_finished(datetime.now(UTC) - timedelta(days=config.retention.delivered_days))
    finally:
        engine.close()
    return gone


def is_busy(spool: Spool, study: Study) -> bool:
    """Return whether a study still arrives, is read or is delivered."""
    return study.state() in _BUSY or study.uid in spool.unfinished


def refuse_busy(spool: Spool, study: Study) -> None:
    """Refuse to remove a study that still arrives, is read or is delivered.

    Raises
    ------
    SpoolError
        ``study_busy``.
    """
    if is_busy(spool, study):
        raise SpoolError(f"The study is {study.state()}: wait until it is done, or pass --force.", "study_busy")


def purge(config: Config, spool: Spool, study: Study) -> bool:
    """Remove a study everywhere; return False if instances of it came in meanwhile.

    Parameters
    ----------
    config, spool
        Of the node.
    study
        Work of it that waits is ended; a step that runs is not.
    """
    patient_id = audit.patient_id(study.folder)
    _forget(config, study.uid)
    gone = retention.remove_study(spool, study)
    if gone:
        audit.deleted(study.uid, patient_id)
    return gone


def _forget(config: Config, study_uid: str) -> None:
    """Delete all rows of a study."""
    workflow.migrate(config)
    engine = workflow.Engine(config)
    try:
        engine.forget(study_uid)
    finally:
        engine.close()
    with Outbox(config.node.engine_url) as outbox:
        outbox.forget(study_uid)


def _retain(config: Config, spool: Spool, index: Index, stop: threading.Event) -> None:
    pause_s = _FIRST_S
    while not stop.wait(pause_s):
        pause_s = _EVERY_S
        try:
            workflow.migrate(config)
            remove_expired(config, spool, index, stop)
        except Exception:
            say(logger, "retention failed, tried again", level=logging.ERROR)
