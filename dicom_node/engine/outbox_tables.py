"""The tables of the outbox in the engine's database, and the records that their rows are.

One row waits for each object and destination; destinations that are away have a row, and so has each storage commitment
that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Boolean, Column, ColumnElement, Float, Integer, MetaData, String, Table, and_, create_engine
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from dicom_node.errors import DatabaseUnusable

_DATABASE_WAIT_S = 20
_TABLES = MetaData()
_KEY = ("study_uid", "input_digest", "kind", "peer")
ROWS: Final = Table(
    "deliveries",
    _TABLES,
    *(Column(name, String, primary_key=True) for name in _KEY),
    Column("due_s", Float, index=True),
    Column("left_s", Float, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("asked", String, nullable=False, default=""),
    Column("told", Boolean, nullable=False, default=False),
    Column("held_by", String, nullable=False, default=""),
    Column("held_until_s", Float, nullable=False, default=0.0),
)
AWAY: Final = Table(
    "destinations_away",
    _TABLES,
    Column("peer", String, primary_key=True),
    Column("probe_s", Float, nullable=False),
    Column("pause_s", Float, nullable=False),
)
REQUESTS: Final = Table(
    "commitment_requests",
    _TABLES,
    Column("transaction_uid", String, primary_key=True),
    *(Column(name, String, nullable=False) for name in _KEY),
    Column("sop_instance_uid", String, nullable=False),
    Column("asked_s", Float, nullable=False),
)
BEGUN: Final = Table("deliveries_begun", _TABLES, Column("begun", Integer, primary_key=True))
FREE: Final = {"held_by": "", "held_until_s": 0.0}
"""What stands in a row that nobody has taken."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is delivered: an object of a run, to a peer."""

    study_uid: str
    input_digest: str
    kind: str
    peer: str


@dataclass(frozen=True, slots=True)
class Due:
    """An item that was taken.

    Attributes
    ----------
    item
        What is delivered.
    left_s
        What is left of the time to give up; the attempt that finds nothing left is the last one.
    failures
        How often it failed for reasons of its own.
    asked
        Transaction UID of a storage commitment whose time is over; empty if none was asked for.
    probe
        Whether it goes out to see if the destination is back.
    """

    item: Item
    left_s: float
    failures: int
    asked: str
    probe: bool


class Database:
    """The engine's database, SQLite or PostgreSQL; the tables are made if they are missing.

    Parameters
    ----------
    url
        Of it.

    Raises
    ------
    DatabaseUnusable
        Here, and at the end of a transaction.
    """

    def __init__(self, url: str) -> None:
        wait = {"timeout": _DATABASE_WAIT_S} if url.startswith("sqlite") else {"connect_timeout": _DATABASE_WAIT_S}
        self._engine = create_engine(url, connect_args=wait, pool_pre_ping=True)
        with self.transaction() as connection:
            _TABLES.create_all(connection)

    def close(self) -> None:
        """Disconnect."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection whose changes are kept together."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise DatabaseUnusable(
                f"The database cannot be used ({type(error).__name__}): check node.database_url, and that the disk is "
                "not full."
            ) from None


def named(item: Item) -> dict[str, str]:
    """Return the columns that name an item."""
    return {name: getattr(item, name) for name in _KEY}


def is_of(item: Item, table: Table = ROWS) -> ColumnElement[bool]:
    """Return the condition that a row is of an item."""
    return and_(*(table.c[name] == value for name, value in named(item).items()))


def item_of(row: Row[Any]) -> Item:
    """Return the item that a row is of."""
    return Item(row.study_uid, row.input_digest, row.kind, row.peer)
