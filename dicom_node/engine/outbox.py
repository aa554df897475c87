"""What waits to be delivered: a row for each object and destination, with a due time, in the engine's database.

Waiting costs nothing: no thread, no place, no workflow. A row is there from when its study is read until its object is
proved, and its key keeps it from being there twice. Whoever takes a due row holds it for a while; what a dead worker
held comes free by itself. A row that was set aside has no due time. The timelines know what became of everything: a
lost database is made anew from them.

No decision hangs on a clock that may be set: the time to give up is used up by pauses, not by dates, and what seems to
be due later than any pause lasts is due now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    delete,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from dicom_node.errors import NodeError

LONGEST_PAUSE_S = 3600.0
HELD_S = 900.0
"""How long a taken row is held: longer than any attempt, all of whose stages have time limits, lasts."""
# Of a jittered pause, or of the wait for a commitment.
_FAR_S = 2 * LONGEST_PAUSE_S
_DATABASE_WAIT_S = 20
_TRIED = 8
_FREE = {"held_by": "", "held_until_s": 0.0}

_TABLES = MetaData()
_KEY = ("study_uid", "input_digest", "kind", "peer")
_rows = Table(
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
_away = Table(
    "destinations_away",
    _TABLES,
    Column("peer", String, primary_key=True),
    Column("probe_s", Float, nullable=False),
    Column("pause_s", Float, nullable=False),
)
_requests = Table(
    "commitment_requests",
    _TABLES,
    Column("transaction_uid", String, primary_key=True),
    *(Column(name, String, nullable=False) for name in _KEY),
    Column("sop_instance_uid", String, nullable=False),
    Column("asked_s", Float, nullable=False),
)
_begun = Table("deliveries_begun", _TABLES, Column("begun", Integer, primary_key=True))


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


@dataclass(frozen=True, slots=True)
class Request:
    """A storage commitment that was asked for."""

    item: Item
    sop_instance_uid: str


class Outbox:
    """The rows; every method is one short transaction, and several workers may call at the same time.

    Parameters
    ----------
    url
        Of the engine's database, SQLite or PostgreSQL.
    clock
        Seconds since the epoch.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        wait = {"timeout": _DATABASE_WAIT_S} if url.startswith("sqlite") else {"connect_timeout": _DATABASE_WAIT_S}
        self._engine = create_engine(url, connect_args=wait, pool_pre_ping=True)
        self._clock = clock
        with self._transaction() as database:
            _TABLES.create_all(database)

    def close(self) -> None:
        """Disconnect."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def begun(self) -> bool:
        """Whether what the timelines say was taken over into this database."""
        with self._transaction() as database:
            return database.execute(select(_begun)).first() is not None

    def begin(self) -> None:
        """Note that what the timelines say was taken over."""
        with self._transaction() as database:
            if database.execute(select(_begun)).first() is None:
                database.execute(insert(_begun).values(begun=1))

    def put(self, item: Item, give_up_s: float, *, aside: bool = False, wake: bool = False) -> bool:
        """Have an item delivered, now and from now on; return whether its row is new.

        Parameters
        ----------
        item
            One that is there already stays as it is, unless `wake`.
        give_up_s
            How long the pauses between attempts may last together.
        aside
            Only keep it for an operator.
        wake
            Try at once what waits or was set aside.
        """
        due_s = None if aside else self._clock()
        try:
            with self._transaction() as database:
                database.execute(insert(_rows).values(**_named(item), due_s=due_s, left_s=give_up_s))
        except IntegrityError:
            if wake:
                self.wake([item], give_up_s)
            return False
        return True

    def undelivered(self, *, study_uid: str | None = None, peer: str | None = None, waiting: bool = True) -> list[Item]:
        """Return what is not delivered.

        Parameters
        ----------
        study_uid, peer
            Only that of a study, or for a destination.
        waiting
            What waits too, and not only what was set aside.
        """
        wanted: list[ColumnElement[bool]] = [] if waiting else [_rows.c.due_s.is_(None)]
        wanted += [_rows.c.study_uid == study_uid] if study_uid else []
        wanted += [_rows.c.peer == peer] if peer else []
        with self._transaction() as database:
            return [_item(row) for row in database.execute(select(_rows).where(*wanted))]

    def wake(self, items: Iterable[Item], give_up_s: float) -> None:
        """Have items tried at once, with all their time before them, even if their destination seems to be away."""
        values = {"due_s": self._clock(), "left_s": give_up_s, "failures": 0, "told": False, "asked": ""}
        with self._transaction() as database:
            for item in items:
                database.execute(update(_rows).where(_is(item)).values(**values))
                database.execute(update(_away).where(_away.c.peer == item.peer).values(probe_s=self._clock()))

    def take(self, peer: str, holder: str, *, fresh: bool = False) -> Due | None:
        """Return what a destination is to get next, held for the caller; None if nothing is due.

        While a destination is away, one row at a time goes out to see whether it is back.

        Parameters
        ----------
        peer
            Name of the destination.
        holder
            Who takes it.
        fresh
            Only what did not fail yet.
        """
        now_s = self._clock()
        due = or_(_rows.c.due_s <= now_s, _rows.c.due_s > now_s + _FAR_S)
        with self._transaction() as database:
            away = database.execute(select(_away).where(_away.c.peer == peer)).first()
            if away is None:
                first = _rows.c.failures == 0 if fresh else true()
                return self._first(database, and_(_rows.c.peer == peer, due, first), holder)
            # That the time of a commitment is over can be said without the destination.
            over = self._first(database, and_(_rows.c.peer == peer, due, _rows.c.asked != ""), holder)
            if over or not self._may_probe(database, away):
                return over
            probe = self._first(database, and_(_rows.c.peer == peer, _rows.c.asked == ""), holder)
            if probe is None:
                database.execute(delete(_away).where(_away.c.peer == peer))
            return replace(probe, probe=True) if probe else None

    def release(self, holder: str) -> None:
        """Let go of everything that was taken under a name: who had it has ended."""
        soon_s = self._clock() + _away.c.pause_s
        with self._transaction() as database:
            database.execute(update(_rows).where(_rows.c.held_by == holder).values(**_FREE))
            database.execute(update(_away).where(_away.c.probe_s > soon_s).values(probe_s=soon_s))

    def again(self, due: Due, pause_s: float, jitter: float = 1.0) -> None:
        """Have an item tried again after a pause, which a factor near 1 makes unlike others."""
        due_s, left_s = self._clock() + pause_s * jitter, due.left_s - pause_s
        self._set(_is(due.item), {"due_s": due_s, "left_s": left_s, "failures": due.failures + 1, "asked": ""})

    def ask(self, due: Due, transaction_uid: str, sop_instance_uid: str, timeout_s: float) -> None:
        """Have an item wait for the result of a storage commitment; noted before that is asked for."""
        now_s = self._clock()
        facts = {"transaction_uid": transaction_uid, "sop_instance_uid": sop_instance_uid, "asked_s": now_s}
        waits = {"due_s": now_s + timeout_s, "left_s": due.left_s - timeout_s, "asked": transaction_uid}
        with self._transaction() as database:
            database.execute(insert(_requests).values(**_named(due.item), **facts))
            database.execute(update(_rows).where(_is(due.item)).values(**waits))

    def asked(self, transaction_uid: str) -> None:
        """Let go of the item that waits for a result, unless that has come."""
        self._set(_rows.c.asked == transaction_uid, {})

    def set_aside(self, item: Item) -> None:
        """Keep an item for an operator."""
        self._set(_is(item), {"due_s": None, "asked": ""})

    def remove(self, item: Item) -> None:
        """Forget an item that is delivered, or that nobody wants any more."""
        with self._transaction() as database:
            database.execute(delete(_rows).where(_is(item)))
            database.execute(delete(_requests).where(_is(item, _requests)))

    def forget(self, study_uid: str) -> None:
        """Forget everything of a study."""
        with self._transaction() as database:
            for table in (_rows, _requests):
                database.execute(delete(table).where(table.c.study_uid == study_uid))

    def away(self, due: Due, first_pause_s: float, jitter: float = 1.0) -> tuple[float, list[Item], list[Item]]:
        """Note that a destination is away; all that waits for it uses up its time together.

        Parameters
        ----------
        due
            What was to go there.
        first_pause_s
            Before the first look whether it is back; later ones wait longer.
        jitter
            Factor of the pause, near 1.

        Returns
        -------
        tuple
            The pause before the next look; what has no time left and is set aside; and what else waits and does not
            know yet.
        """
        peer, now_s = due.item.peer, self._clock()
        tried = {"due_s": now_s, "left_s": due.left_s, "asked": ""}
        with self._transaction() as database:
            database.execute(update(_rows).where(_is(due.item)).values(**_FREE, **tried))
            known = database.execute(select(_away).where(_away.c.peer == peer)).first()
            if known is not None and not due.probe:
                return max(known.probe_s - now_s, 0.0), [], []
            pause_s = min(2 * known.pause_s, LONGEST_PAUSE_S) if known is not None else first_pause_s
            values = {"probe_s": now_s + pause_s * jitter, "pause_s": pause_s}
            database.execute(delete(_away).where(_away.c.peer == peer))
            database.execute(insert(_away).values(peer=peer, **values))
            waiting = and_(_rows.c.peer == peer, _rows.c.due_s.is_not(None), _rows.c.asked == "")
            over = [_item(row) for row in database.execute(select(_rows).where(waiting, _rows.c.left_s <= 0))]
            for item in over:
                database.execute(update(_rows).where(_is(item)).values(due_s=None))
            untold = and_(waiting, _rows.c.told.is_(False))
            told = [_item(row) for row in database.execute(select(_rows).where(untold))]
            database.execute(update(_rows).where(waiting).values(left_s=_rows.c.left_s - pause_s, told=True))
        return pause_s * jitter, over, told

    def back(self, peer: str) -> bool:
        """Note that a destination answers; return whether it was away."""
        with self._transaction() as database:
            was_away = database.execute(delete(_away).where(_away.c.peer == peer)).rowcount > 0
            if was_away:
                database.execute(update(_rows).where(_rows.c.peer == peer).values(told=False))
        return was_away

    def answered(self, transaction_uid: str) -> Request | None:
        """Return what a storage commitment was asked for, once; None if it is none of ours."""
        one = _requests.c.transaction_uid == transaction_uid
        with self._transaction() as database:
            row = database.execute(select(_requests).where(one)).first()
            if row is None or database.execute(delete(_requests).where(one)).rowcount == 0:
                return None
        return Request(_item(row), row.sop_instance_uid)

    def waits_for(self, transaction_uid: str) -> Due | None:
        """Return the item that waits for this very result, if one does."""
        with self._transaction() as database:
            row = database.execute(select(_rows).where(_rows.c.asked == transaction_uid)).first()
        return Due(_item(row), row.left_s, row.failures, "", probe=False) if row else None

    def _may_probe(self, database: Connection, away: Row[Any]) -> bool:
        """Return whether the caller is the one who looks if a destination is back."""
        now_s = self._clock()
        if now_s < away.probe_s <= now_s + _FAR_S:
            return False
        mine = and_(_away.c.peer == away.peer, _away.c.probe_s == away.probe_s)
        return database.execute(update(_away).where(mine).values(probe_s=now_s + HELD_S)).rowcount == 1

    def _first(self, database: Connection, wanted: ColumnElement[bool], holder: str) -> Due | None:
        """Return the first free row of some that wait, and hold it; another worker may be faster."""
        now_s = self._clock()
        waiting = and_(wanted, _rows.c.due_s.is_not(None), self._free(now_s))
        ordered = select(_rows).where(waiting).order_by(_rows.c.failures > 0, _rows.c.due_s).limit(_TRIED)
        for row in database.execute(ordered).all():
            mine = update(_rows).where(_is(_item(row)), self._free(now_s))
            if database.execute(mine.values(held_by=holder, held_until_s=now_s + HELD_S)).rowcount == 1:
                return Due(_item(row), row.left_s, row.failures, row.asked, probe=False)
        return None

    def _free(self, now_s: float) -> ColumnElement[bool]:
        until = _rows.c.held_until_s
        return or_(until <= now_s, until > now_s + _FAR_S)

    def _set(self, wanted: ColumnElement[bool], values: dict[str, Any]) -> None:
        with self._transaction() as database:
            database.execute(update(_rows).where(wanted).values(**_FREE, **values))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as database:
                yield database
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise NodeError(
                f"The database cannot be used ({type(error).__name__}): check node.database_url, and that the disk is "
                "not full.",
                "database_unusable",
            ) from None


def _named(item: Item) -> dict[str, str]:
    return {name: getattr(item, name) for name in _KEY}


def _is(item: Item, table: Table = _rows) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in _named(item).items()))


def _item(row: Row[Any]) -> Item:
    return Item(row.study_uid, row.input_digest, row.kind, row.peer)
