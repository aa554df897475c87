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
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Self

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, true, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from dicom_node.engine.outbox_requests import Requests
from dicom_node.engine.outbox_tables import (
    AWAY,
    BEGUN,
    FREE,
    REQUESTS,
    ROWS,
    Database,
    Due,
    Item,
    is_of,
    item_of,
    named,
)

LONGEST_PAUSE_S = 3600.0
HELD_S = 120.0
"""How long a row is held unless its worker says again that it is at it: see `Outbox.hold`."""
# Of a jittered pause, or of the wait for a commitment.
_FAR_S = 2 * LONGEST_PAUSE_S
_TRIED = 8


class Outbox:
    """The rows; every method is one short transaction, and several workers may call at the same time.

    Parameters
    ----------
    url
        Of the engine's database, SQLite or PostgreSQL.
    clock
        Seconds since the epoch.

    Attributes
    ----------
    requests
        Storage commitments that were asked for.

    Raises
    ------
    DatabaseUnusable
        In every method.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(url)
        self._clock = clock
        self.requests = Requests(self._database, clock)

    def close(self) -> None:
        """Disconnect."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def begun(self) -> bool:
        """Whether what the timelines say was taken over into this database."""
        with self._database.transaction() as database:
            return database.execute(select(BEGUN)).first() is not None

    def begin(self) -> None:
        """Note that what the timelines say was taken over."""
        with self._database.transaction() as database:
            if database.execute(select(BEGUN)).first() is None:
                database.execute(insert(BEGUN).values(begun=1))

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
            with self._database.transaction() as database:
                database.execute(insert(ROWS).values(**named(item), due_s=due_s, left_s=give_up_s))
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
        wanted: list[ColumnElement[bool]] = [] if waiting else [ROWS.c.due_s.is_(None)]
        wanted += [ROWS.c.study_uid == study_uid] if study_uid else []
        wanted += [ROWS.c.peer == peer] if peer else []
        with self._database.transaction() as database:
            return [item_of(row) for row in database.execute(select(ROWS).where(*wanted))]

    def wake(self, items: Iterable[Item], give_up_s: float) -> None:
        """Have items tried at once, with all their time before them, even if their destination seems to be away."""
        values = {"due_s": self._clock(), "left_s": give_up_s, "failures": 0, "told": False, "asked": ""}
        with self._database.transaction() as database:
            for item in items:
                database.execute(update(ROWS).where(is_of(item)).values(**values))
                database.execute(update(AWAY).where(AWAY.c.peer == item.peer).values(probe_s=self._clock()))

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
        due = or_(ROWS.c.due_s <= now_s, ROWS.c.due_s > now_s + _FAR_S)
        with self._database.transaction() as database:
            away = database.execute(select(AWAY).where(AWAY.c.peer == peer)).first()
            if away is None:
                first = ROWS.c.failures == 0 if fresh else true()
                return self._first(database, and_(ROWS.c.peer == peer, due, first), holder)
            # That the time of a commitment is over can be said without the destination.
            over = self._first(database, and_(ROWS.c.peer == peer, due, ROWS.c.asked != ""), holder)
            if over or not self._may_probe(database, away):
                return over
            probe = self._first(database, and_(ROWS.c.peer == peer, ROWS.c.asked == ""), holder)
            if probe is None:
                database.execute(delete(AWAY).where(AWAY.c.peer == peer))
            return replace(probe, probe=True) if probe else None

    def release(self, holder: str) -> None:
        """Let go of everything that was taken under a name: who had it has ended."""
        soon_s = self._clock() + AWAY.c.pause_s
        with self._database.transaction() as database:
            database.execute(update(ROWS).where(ROWS.c.held_by == holder).values(**FREE))
            database.execute(update(AWAY).where(AWAY.c.probe_s > soon_s).values(probe_s=soon_s))

    def hold(self, holder: str, working: Iterable[Due]) -> None:
        """Go on holding what attempts run for, and let go of whatever else is held under a name.

        Nobody is at that: it was lost between the database and its worker.
        """
        until_s = self._clock() + HELD_S
        held = ROWS.c.held_by == holder
        with self._database.transaction() as database:
            for due in working:
                mine = update(ROWS).where(is_of(due.item), held).values(held_until_s=until_s)
                if database.execute(mine).rowcount and due.probe:
                    database.execute(update(AWAY).where(AWAY.c.peer == due.item.peer).values(probe_s=until_s))
            database.execute(update(ROWS).where(held, ROWS.c.held_until_s != until_s).values(**FREE))

    def again(self, due: Due, pause_s: float, jitter: float = 1.0) -> None:
        """Have an item tried again after a pause, which a factor near 1 makes unlike others."""
        due_s, left_s = self._clock() + pause_s * jitter, due.left_s - pause_s
        self._set(is_of(due.item), {"due_s": due_s, "left_s": left_s, "failures": due.failures + 1, "asked": ""})

    def set_aside(self, item: Item) -> None:
        """Keep an item for an operator."""
        self._set(is_of(item), {"due_s": None, "asked": ""})

    def remove(self, item: Item) -> None:
        """Forget an item that is delivered, or that nobody wants any more."""
        with self._database.transaction() as database:
            database.execute(delete(ROWS).where(is_of(item)))
            database.execute(delete(REQUESTS).where(is_of(item, REQUESTS)))

    def forget(self, study_uid: str) -> None:
        """Forget everything of a study."""
        with self._database.transaction() as database:
            for table in (ROWS, REQUESTS):
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
        with self._database.transaction() as database:
            database.execute(update(ROWS).where(is_of(due.item)).values(**FREE, **tried))
            known = database.execute(select(AWAY).where(AWAY.c.peer == peer)).first()
            if known is not None and not due.probe:
                return max(known.probe_s - now_s, 0.0), [], []
            pause_s = min(2 * known.pause_s, LONGEST_PAUSE_S) if known is not None else first_pause_s
            values = {"probe_s": now_s + pause_s * jitter, "pause_s": pause_s}
            database.execute(delete(AWAY).where(AWAY.c.peer == peer))
            database.execute(insert(AWAY).values(peer=peer, **values))
            waiting = and_(ROWS.c.peer == peer, ROWS.c.due_s.is_not(None), ROWS.c.asked == "")
            over = [item_of(row) for row in database.execute(select(ROWS).where(waiting, ROWS.c.left_s <= 0))]
            for item in over:
                database.execute(update(ROWS).where(is_of(item)).values(due_s=None))
            untold = and_(waiting, ROWS.c.told.is_(False))
            told = [item_of(row) for row in database.execute(select(ROWS).where(untold))]
            database.execute(update(ROWS).where(waiting).values(left_s=ROWS.c.left_s - pause_s, told=True))
        return pause_s * jitter, over, told

    def back(self, peer: str) -> bool:
        """Note that a destination answers; return whether it was away."""
        with self._database.transaction() as database:
            was_away = database.execute(delete(AWAY).where(AWAY.c.peer == peer)).rowcount > 0
            if was_away:
                database.execute(update(ROWS).where(ROWS.c.peer == peer).values(told=False))
        return was_away

    def _may_probe(self, database: Connection, away: Row[Any]) -> bool:
        """Return whether the caller is the one who looks if a destination is back."""
        now_s = self._clock()
        if now_s < away.probe_s <= now_s + _FAR_S:
            return False
        mine = and_(AWAY.c.peer == away.peer, AWAY.c.probe_s == away.probe_s)
        return database.execute(update(AWAY).where(mine).values(probe_s=now_s + HELD_S)).rowcount == 1

    def _first(self, database: Connection, wanted: ColumnElement[bool], holder: str) -> Due | None:
        """Return the first free row of some that wait, and hold it; another worker may be faster."""
        now_s = self._clock()
        waiting = and_(wanted, ROWS.c.due_s.is_not(None), self._free(now_s))
        ordered = select(ROWS).where(waiting).order_by(ROWS.c.failures > 0, ROWS.c.due_s).limit(_TRIED)
        for row in database.execute(ordered).all():
            mine = update(ROWS).where(is_of(item_of(row)), self._free(now_s))
            if database.execute(mine.values(held_by=holder, held_until_s=now_s + HELD_S)).rowcount == 1:
                return Due(item_of(row), row.left_s, row.failures, row.asked, probe=False)
        return None

    def _free(self, now_s: float) -> ColumnElement[bool]:
        until = ROWS.c.held_until_s
        return or_(until <= now_s, until > now_s + _FAR_S)

    def _set(self, wanted: ColumnElement[bool], values: dict[str, Any]) -> None:
        with self._database.transaction() as database:
            database.execute(update(ROWS).where(wanted).values(**FREE, **values))
