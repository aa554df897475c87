"""The durable life of one study: the only module that imports dbos.

::

    receive --> [intake] open_study --> [studies] read_study --> outbox, a row for each object and peer

Each box is a queue in the database; each workflow is replayed after a crash, and its finished steps return what they
returned before. A study is opened and read as often as something of it is submitted: what makes that harmless are the
files, since a selection that was scored is known by its digest. What waits for a destination is no workflow: see
`outbox`. Whatever is stopped, or finds the disk full or the database away, is put back: the engine keeps it as begun,
and it goes on later.

Inputs and outputs are UIDs, digests, names and numbers: no patient data reaches the database.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from dbos import DBOS, DBOSClient, Serializer, SetWorkflowID
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.config import Config
from dicom_node.engine.contract import Delivering, Reading, Step, Value
from dicom_node.engine.underway import CrashedTooOften, Underway
from dicom_node.errors import DatabaseUnusable, StudyUnknown
from dicom_node.log import say
from dicom_node.studies.spool import Study
from dicom_node.studies.timeline import NOT_READ_YET, Event, State
from models.whole_files import open_own

logger = logging.getLogger(__name__)

WORKFLOW_VERSION = "1"
"""Raised only when the order or meaning of steps changes; every worker is drained first."""
STEP_LIMIT_S = 1800.0
DRAIN_S = 1200.0
"""Longest wait for the steps that run when the worker is to end."""
_LOOK_S, _QUIET_S = 5.0, 15.0
_ABOUT_THE_DATABASE = ("OperationalError", "InterfaceError", "InternalError", "psycopg", "sqlite3", "connect")
_LIMITS = {"connect_timeout": "10", "tcp_user_timeout": "30000", "keepalives_idle": "30"}
"""Of libpq: in seconds, milliseconds, seconds."""
_REMOVED, _FILTERED = "removed", "filtered"
_INTAKE, _STUDIES = "intake", "studies"
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_ROWS_AT_ONCE = 200
_QUEUED_BY_VERSIONS_BEFORE = "deliver-"
_TEMPORARY_FAILURE = 75
"""EX_TEMPFAIL of sysexits.h: the supervisor starts the worker again."""


class Json(Serializer):
    """Readable rows instead of pickles."""

    def serialize(self, data: Any) -> str:
        """Return a value as JSON."""
        return json.dumps(data, default=_plain)

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value of a row."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """Return what rows say that they were written by."""
        return "json"


def _plain(value: Any) -> Any:
    """Exceptions reach the serializer too: only their type is stored, since a text could quote a header."""
    return {"error": type(value).__name__}


def migrate(config: Config) -> None:
    """Create the engine's tables, or bring them up to date.

    Raises
    ------
    DatabaseUnusable
        If it cannot be used.
    """
    _quieten()
    if config.node.database_url is None:
        # SQLite itself would go by the umask.
        os.close(open_own(config.node.engine_file, os.O_RDWR))
    with _database():
        DBOS.migrate(_patient_url(config))


class Engine:
    """Hands work to the queues from outside the worker; connects to the migrated database when it is first used.

    Raises
    ------
    DatabaseUnusable
        In every method.
    """

    def __init__(self, config: Config) -> None:
        self._client = DBOSClient(
            system_database_url=_patient_url(config), serializer=Json(), lazy=True, retry_connection_errors=False
        )

    def submit(self, study: Study, reason: str, _digest: str) -> None:
        """Queue a study; what it holds when its turn comes is read, and a selection that has its report is known."""
        self._enqueue(study, reason, attempt=0)

    def retry(self, study: Study) -> int:
        """Queue a study again whatever became of it; return the number of the attempt."""
        attempt = 1 + study.timeline().attempts
        self._enqueue(study, "retry", attempt)
        return attempt

    def _enqueue(self, study: Study, reason: str, attempt: int) -> None:
        with _database():
            self._client.check_connection()
            # Noted first: the worker's own notes come after it, and the last state noted is the study's. Late
            # bystanders of a study that has its result must not make it look unfinished: its selection is known.
            if attempt:
                study.note(Event.RETRIED, attempt=attempt)
            study.note(Event.QUEUED, State.QUEUED if attempt or study.state() in NOT_READ_YET else None, reason=reason)
            options = {
                "workflow_name": "open_study",
                "queue_name": _INTAKE,
                # An id of its own each time: the engine drops work of an id that it knows, without a word.
                "workflow_id": f"{study.uid}.{uuid.uuid4().hex}",
                "app_version": WORKFLOW_VERSION,
            }
            self._client.enqueue(options, study.uid, attempt)  # type: ignore[arg-type]
        _OUTAGE.answered()

    def forget(self, study_uid: str) -> None:
        """End all work of a study, and delete what is kept of it."""
        with _database():
            self._client.check_connection()
            begun = self._client.list_workflows(workflow_id_prefix=f"{study_uid}.", load_output=False)
            ids = [status.workflow_id for status in begun if status.input and status.input["args"][0] == study_uid]
            if ids:
                self._client.cancel_workflows(ids)
                self._client.delete_workflows(ids)

    def forget_finished(self, before: datetime) -> int:
        """Delete the rows of work that ended before a time; return how many."""
        count = 0
        with _database():
            self._client.check_connection()
            while ids := self._finished(before):
                self._client.delete_workflows(ids)
                count += len(ids)
        return count

    def close(self) -> None:
        """Disconnect."""
        self._client.destroy()

    def _finished(self, before: datetime) -> list[str]:
        ended = self._client.list_workflows(
            status=_ENDED,
            completed_before=before.isoformat(),
            limit=_ROWS_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        return [status.workflow_id for status in ended]


@contextmanager
def _database() -> Iterator[None]:
    """Say in one sentence that the database cannot be used."""
    try:
        yield
    except SQLAlchemyError as error:
        raise DatabaseUnusable(
            f"The database cannot be used ({type(error).__name__}): check node.database_url, its server and its disk."
        ) from error


def run(
    reading: Reading,
    delivering: Delivering,
    config: Config,
    executor: str,
    underway: Underway,
    stop: threading.Event,
) -> None:
    """Take work from the queues until `stop` is set, then finish the steps that run; the process has to end then.

    The engine is not asked to end: its threads may wait for a database that is away.

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
    underway
        Knows what runs.
    stop
        Set from outside.
    """
    DBOS(
        config={
            "name": "dicom-node",
            "system_database_url": _patient_url(config),
            "application_version": WORKFLOW_VERSION,
            "executor_id": executor,
            "serializer": Json(),
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 1.0,
        }
    )
    _quieten()
    _register(reading, delivering, underway)
    before = [f"{_QUEUED_BY_VERSIONS_BEFORE}{peer.name}" for peer in config.destinations]
    queues = [_INTAKE, _STUDIES, *before]
    DBOS.listen_queues(queues)
    DBOS.launch()
    for name in queues:
        DBOS.register_queue(name, worker_concurrency=1, polling_interval_sec=0.5, on_conflict="always_update")
    say(logger, "worker ready", executor=executor)
    threading.Thread(target=_take_up, args=(underway, executor, stop), name="take-up", daemon=True).start()
    stop.wait()
    underway.end(DRAIN_S)


def _take_up(underway: Underway, executor: str, stop: threading.Event) -> None:
    """Queue again what the engine counts as begun and nobody runs: put back, or lost with the database's connection."""
    idle: set[str] = set()
    while not stop.wait(_LOOK_S):
        before, idle = idle, set()
        try:
            begun = DBOS.list_workflows(status="PENDING", executor_id=executor, load_input=False, load_output=False)
            _OUTAGE.answered()
            idle = {status.workflow_id for status in begun if status.workflow_id not in underway}
            for status in begun if underway.has_room() else ():
                # Seen twice: what was taken a moment ago may not have begun.
                if status.workflow_id in before & idle:
                    DBOS.resume_workflow(status.workflow_id, queue_name=status.queue_name)
        except Exception as error:
            say(logger, "work not taken up, tried again", level=logging.WARNING, cause=type(error).__name__)


def _register(reading: Reading, delivering: Delivering, underway: Underway) -> None:
    """Define the workflows around what their steps do."""

    @DBOS.workflow(name="deliver", max_recovery_attempts=None)
    def deliver(study_uid: str, _input_digest: str, _kind: str, _peer: str) -> str:
        """Hand on what a version before had begun to deliver, or had queued."""
        with suppress(StudyUnknown):
            delivering.take_over(study_uid)
        return "handed on"

    @DBOS.workflow(name="read_study", max_recovery_attempts=None)
    def read_study(study_uid: str, input_digest: str, attempt: int) -> str:
        state = _REMOVED
        with _work(reading, underway, study_uid) as step, underway.alone(study_uid):
            state = str(reading.read(study_uid, input_digest, step)["state"])
            # What is on its way already is tried at once by a retry only, never because bystanders came late.
            delivering.address(study_uid, state, wake=bool(attempt))
        return state

    @DBOS.workflow(name="open_study", max_recovery_attempts=None)
    def open_study(study_uid: str, attempt: int) -> str:
        input_digest = _REMOVED
        with _work(reading, underway, study_uid) as step:
            input_digest = str(step("select", lambda: reading.select(study_uid))["input_digest"])
            if not input_digest:
                return _FILTERED
            # Read again even if it was read before: what was scored is known, and what was held says so once more.
            with SetWorkflowID(f"{DBOS.workflow_id}.{input_digest}"):
                DBOS.enqueue_workflow(_STUDIES, read_study, study_uid, input_digest, attempt)
        return input_digest


@contextmanager
def _work(reading: Reading, underway: Underway, study_uid: str) -> Iterator[Step]:
    """Yield a runner of durable steps; note a fault of the node at the study before the engine records it."""
    workflow_id = str(DBOS.workflow_id)
    try:
        with underway.work(study_uid, workflow_id):
            try:
                yield _durable(underway, study_uid, workflow_id)
            except StudyUnknown:
                raise
            except Exception as error:
                underway.put_back_if_it_passes(study_uid, error)
                reading.failed(study_uid, workflow_id, type(error).__name__)
                raise
    except CrashedTooOften:
        reading.failed(study_uid, workflow_id, "it ended the worker too often")
        raise
    except StudyUnknown:
        # Its folder was removed: there is nothing to do and nobody to tell.
        say(logger, "study is gone, its work is dropped", level=logging.WARNING, study=study_uid)


def _durable(underway: Underway, study_uid: str, workflow_id: str) -> Step:
    """Return a runner of steps whose values the database remembers."""

    def step(name: str, function: Callable[[], Value]) -> Value:
        def run_step() -> Value:
            with underway.step(workflow_id, name), _clock(study_uid, name):
                say(logger, "step started", study=study_uid, step=name)
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


class _Outage(logging.Filter):
    """Says once what the threads of the engine say several times a second while the database is away."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Hold back what the engine says about its database."""
        if not any(word in record.getMessage() for word in _ABOUT_THE_DATABASE):
            return True
        if self._last_s is None:
            say(logger, "database away, work waits", level=logging.ERROR)
        self._last_s = time.monotonic()
        return False

    def answered(self) -> None:
        """Say that the outage is over, some time after the engine complained for the last time."""
        if self._last_s is not None and time.monotonic() - self._last_s > _QUIET_S:
            self._last_s = None
            say(logger, "database answers again")


_OUTAGE = _Outage()


def _quieten() -> None:
    """Let the engine speak through the node's own log."""
    library = logging.getLogger("dbos")
    library.handlers.clear()
    library.propagate = True
    library.setLevel(logging.WARNING)
    library.addFilter(_OUTAGE)


def _patient_url(config: Config) -> str:
    """Return the address of the database, with limits to how long a server that is away is waited for."""
    url = make_url(config.node.engine_url)
    limits = _LIMITS if url.get_backend_name() == "postgresql" else {}
    known = {key: value for key, value in limits.items() if key not in url.query}
    return url.update_query_dict(known).render_as_string(hide_password=False)
