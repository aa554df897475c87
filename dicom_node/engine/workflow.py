"""The durable life of one study: the only module that imports dbos.

::

    receive --> [intake] open_study --> [studies] read_study --> outbox, a row for each object and peer

Each box is a queue in the database; each workflow is replayed after a crash, and its finished steps return what they
returned before. Ids make work idempotent: ``open_study`` is keyed by the study and all it holds, ``read_study`` by the
study and the content of its selected series. A retry by hand adds its number. What waits for a destination is no
workflow: see `outbox`.

Inputs and outputs are UIDs, digests, names and numbers: no patient data reaches the database.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dbos import DBOS, DBOSClient, Serializer, SetWorkflowID

from dicom_node.config import Config
from dicom_node.engine.contract import Delivering, Reading, Step, Value
from dicom_node.errors import StudyUnknown
from dicom_node.log import say
from dicom_node.studies.spool import Study
from dicom_node.studies.timeline import NOT_READ_YET, Event, State
from models.whole_files import open_own

logger = logging.getLogger(__name__)

WORKFLOW_VERSION = "1"
"""Raised only when the order or meaning of steps changes; every worker is drained first."""
MAX_RECOVERIES = 3
STEP_LIMIT_S = 1800.0
_DEAD_LETTER_LOOK_S = 5.0
_INTAKE, _STUDIES = "intake", "studies"
_QUEUED_BY_VERSIONS_BEFORE = "deliver-"
_TEMPORARY_FAILURE = 75
"""EX_TEMPFAIL of sysexits.h: the supervisor starts the worker again."""


class _Json(Serializer):
    """Readable rows instead of pickles."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_plain)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "json"


def _plain(value: Any) -> Any:
    """Exceptions reach the serializer too: only their type is stored, since a text could quote a header."""
    return {"error": type(value).__name__}


def migrate(config: Config) -> None:
    """Create the engine's tables, or bring them up to date."""
    if config.node.database_url is None:
        # SQLite itself would go by the umask.
        os.close(open_own(config.node.engine_file, os.O_RDWR))
    DBOS.migrate(config.node.engine_url)


class Engine:
    """Hands work to the queues from outside the worker; connects to the migrated database."""

    def __init__(self, config: Config) -> None:
        self._client = DBOSClient(system_database_url=config.node.engine_url, serializer=_Json())

    def submit(self, study: Study, reason: str, digest: str) -> None:
        """Queue a study whose files have a digest; the same content again is the same work."""
        self._enqueue(study, digest, reason, attempt=0)

    def retry(self, study: Study) -> int:
        """Queue a study again whatever became of it; return the number of the attempt."""
        attempt = 1 + study.timeline().attempts
        study.note(Event.RETRIED, attempt=attempt)
        self._enqueue(study, f"{study.digest()}.retry{attempt}", "retry", attempt)
        return attempt

    def _enqueue(self, study: Study, key: str, reason: str, attempt: int) -> None:
        # Noted first: the worker's own notes come after it, and the last state noted is the study's. Late bystanders
        # of a study that has its result must not make it look unfinished: the same selection is not read again.
        state = State.QUEUED if attempt or study.state() in NOT_READ_YET else None
        study.note(Event.QUEUED, state, reason=reason)
        options = {
            "workflow_name": "open_study",
            "queue_name": _INTAKE,
            "workflow_id": f"{study.uid}.{key}",
            "app_version": WORKFLOW_VERSION,
        }
        self._client.enqueue(options, study.uid, attempt)  # type: ignore[arg-type]

    def close(self) -> None:
        """Disconnect."""
        self._client.destroy()


def run(
    reading: Reading, delivering: Delivering, config: Config, executor: str, stop: threading.Event, drain_s: int
) -> None:
    """Take work from the queues until `stop` is set, then finish the study at hand.

    Parameters
    ----------
    reading
        What is done in the steps, with models loaded: work begins at once.
    delivering
        Takes what was read.
    config
        Of the node.
    executor
        Stable over restarts and held by no other process: unfinished work is found again by this name.
    stop
        Set from outside.
    drain_s
        Longest wait for the study at hand.
    """
    DBOS(
        config={
            "name": "dicom-node",
            "system_database_url": config.node.engine_url,
            "application_version": WORKFLOW_VERSION,
            "executor_id": executor,
            "serializer": _Json(),
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 1.0,
        }
    )
    _quieten()
    _register(reading, delivering)
    before = [f"{_QUEUED_BY_VERSIONS_BEFORE}{peer.name}" for peer in config.destinations]
    queues = [_INTAKE, _STUDIES, *before]
    DBOS.listen_queues(queues)
    DBOS.launch()
    for name in queues:
        DBOS.register_queue(name, worker_concurrency=1, polling_interval_sec=0.5, on_conflict="always_update")
    say(logger, "worker ready", executor=executor)
    while not stop.wait(_DEAD_LETTER_LOOK_S):
        _note_dead_letters(reading)
    DBOS.destroy(workflow_completion_timeout_sec=drain_s)


def _register(reading: Reading, delivering: Delivering) -> None:
    """Define the workflows around what their steps do."""

    @DBOS.workflow(name="deliver", max_recovery_attempts=None)
    def deliver(study_uid: str, _input_digest: str, _kind: str, _peer: str) -> str:
        """Hand on what a version before had begun to deliver, or had queued."""
        with suppress(StudyUnknown):
            delivering.take_over(study_uid)
        return "handed on"

    @DBOS.workflow(name="read_study", max_recovery_attempts=MAX_RECOVERIES)
    def read_study(study_uid: str, input_digest: str, attempt: int) -> str:
        with _set_aside(reading, study_uid):
            state = str(reading.read(study_uid, input_digest, _durable(study_uid))["state"])
            # What is on its way already is tried at once by a retry only, never because bystanders came late.
            delivering.address(study_uid, state, wake=bool(attempt))
        return state

    @DBOS.workflow(name="open_study", max_recovery_attempts=MAX_RECOVERIES)
    def open_study(study_uid: str, attempt: int) -> str:
        with _set_aside(reading, study_uid):
            input_digest = str(_durable(study_uid)("select", lambda: reading.select(study_uid))["input_digest"])
        with SetWorkflowID(_key(f"{study_uid}.{input_digest}", attempt)):
            DBOS.enqueue_workflow(_STUDIES, read_study, study_uid, input_digest, attempt)
        return input_digest


def _key(base: str, attempt: int) -> str:
    return f"{base}.retry{attempt}" if attempt else base


def _durable(study_uid: str) -> Step:
    """Return a runner of steps whose values the database remembers."""

    def step(name: str, function: Callable[[], Value]) -> Value:
        def run_step() -> Value:
            say(logger, "step started", study=study_uid, step=name)
            with _clock(study_uid, name):
                value = function()
            say(logger, "step finished", study=study_uid, step=name)
            return value

        return DBOS.run_step({"name": name}, run_step)

    return step


@contextmanager
def _clock(study_uid: str, name: str) -> Iterator[None]:
    """End the process if a step hangs; the recovery count then keeps it from hanging for ever."""

    def end() -> None:
        say(logger, "step hangs, worker ends", level=logging.ERROR, study=study_uid, step=name)
        os._exit(_TEMPORARY_FAILURE)

    timer = threading.Timer(STEP_LIMIT_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _set_aside(reading: Reading, study_uid: str) -> Iterator[None]:
    """Note a fault of the node at the study before the engine records it."""
    try:
        yield
    except Exception as error:
        reading.failed(study_uid, str(DBOS.workflow_id), type(error).__name__)
        raise


def _note_dead_letters(reading: Reading) -> None:
    """Show studies that the engine will not try again because they ended the worker too often."""
    for status in DBOS.list_workflows(status="MAX_RECOVERY_ATTEMPTS_EXCEEDED", name=["open_study", "read_study"]):
        if status.input:
            reading.failed(str(status.input["args"][0]), status.workflow_id, "it ended the worker too often")


def _quieten() -> None:
    """Let the engine speak through the node's own log."""
    library = logging.getLogger("dbos")
    library.handlers.clear()
    library.propagate = True
    library.setLevel(logging.WARNING)
