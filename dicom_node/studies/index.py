"""The index: one row for each study, so that lists need not read the past; a cache, made from the timelines.

It is never on the way of an acknowledgement. Whoever changes a study leaves a mark (`changes`); one process at a time
makes the rows of marked studies anew. What no mark says, a comparison with the spool finds: after each start of the
machine, once a day, and whenever the index is empty, of another version or was damaged. An index that is away loses
nothing.

SQLite in the data folder, or the configured PostgreSQL. No patient attribute stands in it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy
from sqlalchemy import Column, Double, Integer, MetaData, String, Table, delete, event, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DisconnectionError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dicom_node.config import Config, PeerRole
from dicom_node.errors import IndexUnavailable, SpoolError, StudyUnknown
from dicom_node.log import Pseudonym, read_key, say
from dicom_node.studies.changes import take_changed, taking
from dicom_node.studies.overview import Overview, overview, unreadable
from dicom_node.studies.spool import Spool, Study
from models.whole_files import OWNER_ALONE

logger = logging.getLogger(__name__)

VERSION: Final = "3"
"""Of the tables; an index of another version is made anew."""
FILE: Final = "index.sqlite"
_TABLES = MetaData()
STUDIES = Table(
    "indexed_studies",
    _TABLES,
    Column("study_uid", String, primary_key=True),
    Column("pseudonym", String, nullable=False),
    Column("state", String, nullable=False),
    Column("code", String, nullable=False),
    Column("received_first_s", Double, nullable=False),
    Column("received_last_s", Double, nullable=False),
    Column("changed_s", Double, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("stored", Integer, nullable=False),
    Column("trouble_peer", String, nullable=False),
    Column("trouble_code", String, nullable=False),
    Column("next_attempt_s", Double),
    Column("timeline_bytes", Integer, nullable=False),
    # What lists are sorted by ends in the UID, as their cursors do: a page of a list is read, and nothing is sorted.
    sqlalchemy.Index("studies_by_received", "received_last_s", "study_uid"),
    sqlalchemy.Index("studies_by_change", "changed_s", "study_uid"),
    sqlalchemy.Index("studies_by_state", "state", "study_uid"),
    sqlalchemy.Index("studies_by_reason", "code", "study_uid"),
    sqlalchemy.Index("studies_of_state_by_change", "state", "changed_s", "study_uid"),
    sqlalchemy.Index("studies_of_state_by_reason", "state", "code", "study_uid"),
    sqlalchemy.Index("studies_by_trouble", "trouble_code"),
    # Holds both names of a study: a part of one is looked for in it, not in the rows.
    sqlalchemy.Index("studies_by_pseudonym", "pseudonym", "study_uid"),
)
PEERS = Table(
    "indexed_peers",
    _TABLES,
    Column("study_uid", String, primary_key=True),
    Column("role", String, primary_key=True),
    Column("peer", String, primary_key=True, index=True),
)
_STATE = Table(
    "index_state", _TABLES, Column("name", String, primary_key=True), Column("value", String, nullable=False)
)
_COMPARED_ON, _COMPARED_AT = "compared_on", "compared_at_s"
_COMPARED_EVERY_S = 86400.0
_LOCK = 140713  # Of PostgreSQL, held while the tables are made.
_BATCH = 500
_TURN_S = 1.0
_PAUSE_S = 30.0
_WAIT_S = 5
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


class Index:
    """The rows, and how they are kept like the spool.

    Parameters
    ----------
    data_dir
        Of the node.
    database_url
        Of PostgreSQL; default SQLite in `data_dir`.
    keeps
        Connections that stay open for the next transaction, for who asks often.
    """

    def __init__(self, data_dir: Path, database_url: str | None = None, *, keeps: int = 0) -> None:
        self._data_dir = data_dir
        self._file = None if database_url else data_dir / FILE
        wait: dict[str, Any] = {"timeout": _WAIT_S} if self._file else {"connect_timeout": _WAIT_S}
        self.url = database_url or f"sqlite:///{self._file}"
        pool: dict[str, Any] = (
            {"pool_size": keeps, "pool_pre_ping": not self._file} if keeps else {"poolclass": NullPool}
        )
        self._engine = sqlalchemy.create_engine(self.url, connect_args=wait, **pool)
        if self._file:
            event.listen(self._engine, "connect", _set_up)
            event.listen(self._engine, "begin", _begin)
            event.listen(self._engine, "connect", self._note_file)
            event.listen(self._engine, "checkout", self._look_at_file)
        self._making = threading.Lock()
        self._ready = False

    @classmethod
    def of(cls, config: Config, *, keeps: int = 0) -> Self:
        """Return the index of a node."""
        return cls(config.node.data_dir, config.node.database_url, keeps=keeps)

    def close(self) -> None:
        """Disconnect."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        """Yield a connection whose changes are kept together; the tables are made if they are missing or of old.

        Parameters
        ----------
        writes
            Whether something is to be changed: then it waits for others that do so.

        Raises
        ------
        IndexUnavailable
            If the database is away, locked, full or damaged.
        """
        try:
            if not self._ready:
                self._prepare()
            with self._begin(writes=writes) as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            self._ready = False
            raise IndexUnavailable(
                f"The index cannot be used ({_cause(error)}): look at the disk and the database; "
                "`dicom-node reindex` makes it anew.",
                damaged=_is_damaged(error),
            ) from None

    def catch_up(self, spool: Spool, stop: threading.Event | None = None) -> bool:
        """Make the rows like the spool; return whether they are.

        Parameters
        ----------
        spool
            The received studies.
        stop
            Ends it early, from another thread.

        Raises
        ------
        IndexUnavailable
            See `transaction`; whatever was not done stays to be done.
        """
        with taking(self._data_dir) as alone:
            if alone:
                if self._is_due():
                    self._compare(spool, stop or threading.Event())
                while take_changed(self._data_dir, lambda uids: self._update(spool, uids)):
                    pass
        return alone or not self._is_due()

    def clear(self) -> None:
        """Forget everything; the next `catch_up` makes it anew."""
        if self._file:
            self._ready = False
            for suffix in ("", "-wal", "-shm", "-journal"):
                self._file.with_name(f"{FILE}{suffix}").unlink(missing_ok=True)
        else:
            with self.transaction(writes=True) as connection:
                _TABLES.drop_all(connection)
                _make_tables(connection)

    def _begin(self, *, writes: bool) -> AbstractContextManager[Connection]:
        return self._engine.execution_options(writes=writes).begin()

    def _prepare(self) -> None:
        """Make the tables, unless those of this version are there."""
        if self._file:
            with self._making:
                _make_file(self._file)
        if not self._fits():
            with self._begin(writes=True) as connection:
                if not self._file:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                _STATE.create(connection, checkfirst=True)
                if _value(connection, "version") != VERSION:
                    _TABLES.drop_all(connection)
                    _make_tables(connection)
        self._ready = True

    def _note_file(self, _connection: object, record: Any) -> None:
        record.info["file"] = self._which()

    def _look_at_file(self, _connection: object, record: Any, _proxy: object) -> None:
        """Keep no connection to a file that was removed, as by who made the index anew."""
        if record.info.get("file") != self._which():
            raise DisconnectionError

    def _which(self) -> tuple[int, int] | None:
        assert self._file
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _fits(self) -> bool:
        try:
            with self._begin(writes=False) as connection:
                return _value(connection, "version") == VERSION
        except (OperationalError, ProgrammingError):
            return False  # There is no such table, or something else that making it will meet too.

    def _is_due(self) -> bool:
        """Return whether index and spool are to be compared."""
        with self.transaction() as connection:
            if _value(connection, _COMPARED_ON) != _boot():
                return True
            age_s = time.time() - float(_value(connection, _COMPARED_AT) or 0)
        return not 0 <= age_s < _COMPARED_EVERY_S

    def _compare(self, spool: Spool, stop: threading.Event) -> None:
        """Make every row anew that does not fit its study, and remove those that have none."""
        began_s, uids = time.time(), spool.uids()
        while batch := list(islice(uids, _BATCH)):
            self._update(spool, self._outdated(spool, batch))
            take_changed(self._data_dir, lambda marked: self._update(spool, marked))
            if stop.is_set():
                return
        last = ""
        while rows := self._uids_after(last):
            last = rows[-1]
            self._update(spool, [uid for uid in rows if uid not in spool])
        with self.transaction(writes=True) as connection:
            _keep(connection, {_COMPARED_ON: _boot(), _COMPARED_AT: str(began_s)})

    def _outdated(self, spool: Spool, uids: Sequence[str]) -> list[str]:
        with self.transaction() as connection:
            known = select(STUDIES.c.study_uid, STUDIES.c.timeline_bytes).where(STUDIES.c.study_uid.in_(uids))
            sizes = {row.study_uid: row.timeline_bytes for row in connection.execute(known)}
        return [uid for uid in uids if uid in spool and sizes.get(uid) != spool.study(uid).timeline_bytes()]

    def _uids_after(self, uid: str) -> list[str]:
        after = select(STUDIES.c.study_uid).where(STUDIES.c.study_uid > uid).order_by(STUDIES.c.study_uid)
        with self.transaction() as connection:
            return list(connection.execute(after.limit(_BATCH)).scalars())

    def _update(self, spool: Spool, uids: Sequence[str]) -> None:
        """Make the rows of some studies anew; a study that is gone has none."""
        rows, peers, pseudonym = [], [], Pseudonym(read_key(self._data_dir))
        for uid in uids:
            try:
                study = spool.study(uid)
                timeline_bytes = study.timeline_bytes()
                seen = _seen(study)
            except (StudyUnknown, FileNotFoundError):
                continue
            rows.append(_row(seen) | {"pseudonym": pseudonym(uid), "timeline_bytes": timeline_bytes})
            peers += _peers(seen)
        if not uids:
            return
        with self.transaction(writes=True) as connection:
            for table, values in ((STUDIES, rows), (PEERS, peers)):
                connection.execute(delete(table).where(table.c.study_uid.in_(uids)))
                if values:
                    connection.execute(insert(table), values)


def follow(index: Index, spool: Spool, stop: threading.Event) -> None:
    """Keep an index like the spool until `stop` is set; whatever is wrong with it is said once, and tried again."""
    away = False
    while not stop.wait(_PAUSE_S if away else _TURN_S):
        try:
            index.catch_up(spool, stop)
            if away:
                say(logger, "index caught up")
            away = False
        except IndexUnavailable as error:
            if error.damaged:
                say(logger, "index damaged, made anew", level=logging.WARNING)
                index.clear()
            elif not away:
                say(logger, "index away, tried again", level=logging.WARNING, sentence=str(error))
            away = not error.damaged
        except Exception:
            if not away:
                say(logger, "index away, tried again", level=logging.ERROR)
            away = True


def _make_file(file: Path) -> None:
    """Make an empty file; one that is there is not opened: closing it would end the locks of this process on it."""
    if not file.exists():
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, OWNER_ALONE))


def _set_up(connection: Any, _record: object) -> None:
    """Leave transactions to us (the driver would begin none before a SELECT or a CREATE), and let readers read on."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


def _seen(study: Study) -> Overview:
    try:
        return overview(study)
    except SpoolError as error:
        say(logger, "study cannot be read", level=logging.ERROR, study=study.uid)
        return unreadable(study, error.code)


def _row(seen: Overview) -> dict[str, object]:
    trouble = seen.trouble
    return {
        "study_uid": seen.study_uid,
        "state": str(seen.state),
        "code": seen.code,
        "received_first_s": seen.received_first.timestamp(),
        "received_last_s": seen.received_last.timestamp(),
        "changed_s": seen.changed.timestamp(),
        "instances": seen.instances,
        "stored": seen.stored,
        "trouble_peer": trouble.peer if trouble else "",
        "trouble_code": trouble.code if trouble else "",
        "next_attempt_s": trouble.next_attempt.timestamp() if trouble and trouble.next_attempt else None,
    }


def _peers(seen: Overview) -> list[dict[str, str]]:
    named: Iterable[tuple[PeerRole, tuple[str, ...]]] = (
        (PeerRole.SOURCE, seen.senders),
        (PeerRole.DESTINATION, seen.destinations),
    )
    return [{"study_uid": seen.study_uid, "role": role, "peer": peer} for role, peers in named for peer in peers]


def _make_tables(connection: Connection) -> None:
    _TABLES.create_all(connection)
    _keep(connection, {"version": VERSION})


def _keep(connection: Connection, values: dict[str, str]) -> None:
    connection.execute(delete(_STATE).where(_STATE.c.name.in_(values)))
    connection.execute(insert(_STATE), [{"name": name, "value": value} for name, value in values.items()])


def _value(connection: Connection, name: str) -> str | None:
    return connection.execute(select(_STATE.c.value).where(_STATE.c.name == name)).scalar()


def _boot() -> str:
    """Return what is another word after each start of the machine."""
    return _BOOT_FILE.read_text("ascii").strip()


def _cause(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__


def _is_damaged(error: Exception) -> bool:
    """Return whether SQLite says that the file is no database, or a damaged one; others raise subclasses of this."""
    return type(getattr(error, "orig", None)) is sqlite3.DatabaseError
