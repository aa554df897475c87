"""Lists of studies from the index: filtered, sorted, page by page."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.engine import Connection, Row

from dicom_node.config import PeerRole
from dicom_node.errors import CommandError
from dicom_node.studies.filters import EVERYTHING, Filters, conditions
from dicom_node.studies.index import PEERS, STUDIES, Index
from dicom_node.studies.overview import Order, Overview, Trouble
from dicom_node.studies.timeline import State

_COLUMNS = STUDIES.c
_PAGE = 500


_KEYS: Mapping[Order, ColumnElement[Any]] = {
    Order.CHANGED: _COLUMNS.changed_s,
    Order.RECEIVED: _COLUMNS.received_last_s,
    Order.STATE: _COLUMNS.state,
    Order.REASON: _COLUMNS.code,
    Order.STUDY: _COLUMNS.study_uid,
}


@dataclass(frozen=True, slots=True)
class Page:
    """Some studies, and where the next ones begin: None behind the last one."""

    studies: tuple[Overview, ...]
    cursor: str | None


def find(
    index: Index,
    filters: Filters = EVERYTHING,
    order: Order = Order.CHANGED,
    *,
    descending: bool = True,
    limit: int = 50,
    cursor: str | None = None,
) -> Page:
    """Return the studies behind a cursor.

    Parameters
    ----------
    index
        Kept like the spool by who runs the node.
    filters
        Which studies.
    order, descending
        What they are sorted by; those that are equal in it by their UIDs.
    limit
        Most studies of a page.
    cursor
        Of the page before; the same filters and order belong to it.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read.
    CommandError
        If the cursor is none (``cursor_invalid``).
    """
    key, uid = _KEYS[order], _COLUMNS.study_uid
    wanted = select(STUDIES)
    if cursor is not None:
        place = tuple_(key, uid)
        start = _start(cursor, order)
        wanted = wanted.where(place < start if descending else place > start)
    wanted = wanted.order_by(*((key.desc(), uid.desc()) if descending else (key, uid))).limit(limit + 1)
    with index.transaction() as connection:
        rows = connection.execute(wanted.where(*conditions(connection, filters))).all()
        more, rows = len(rows) > limit, rows[:limit]
        studies = tuple(_overviews(connection, rows))
    return Page(studies, _cursor(order, rows[-1]) if more else None)


def find_all(index: Index, filters: Filters) -> Iterator[Overview]:
    """Yield every wanted study, by its UID; those whose state changes meanwhile are not missed.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read.
    """
    cursor: str | None = None
    while True:
        page = find(index, filters, Order.STUDY, descending=False, limit=_PAGE, cursor=cursor)
        yield from page.studies
        cursor = page.cursor
        if cursor is None:
            return


def count(index: Index, filters: Filters = EVERYTHING) -> Mapping[str, int]:
    """Return how many studies there are in each state.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read.
    """
    query = select(_COLUMNS.state, func.count()).group_by(_COLUMNS.state)
    with index.transaction() as connection:
        return dict(connection.execute(query.where(*conditions(connection, filters))).all())


def last_change(index: Index) -> tuple[float | None, float | None]:
    """Return when a study last changed its state, and when one was last received.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read.
    """
    last = (select(func.max(column)).scalar_subquery() for column in (_COLUMNS.changed_s, _COLUMNS.received_last_s))
    with index.transaction() as connection:
        changed_s, received_s = connection.execute(select(*last)).one()
    return changed_s, received_s


def refuse_unknown(index: Index | None, filters: Filters, peers: Iterable[str], codes: Iterable[str]) -> None:
    """Refuse a filter by a peer or a reason that there is not.

    Parameters
    ----------
    index
        Kept like the spool by who runs the node; None where nothing was received yet.
    filters
        Which studies are wanted.
    peers, codes
        Those that are known, whether or not a study has them.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read.
    CommandError
        With what there is.
    """
    wanted = {("peer", filters.peer, PEERS.c.peer, frozenset(peers))} if filters.peer else set()
    wanted |= {("reason", code, _COLUMNS.code, frozenset(codes)) for code in filters.codes}
    for what, name, column, known in wanted:
        there = known if name in known else known | _distinct(index, column)
        if name in there:
            continue
        close = difflib.get_close_matches(name, sorted(there), n=3) or sorted(there)
        words = f"use {', '.join(close)}" if close else "none is known"
        raise CommandError(f'There is no {what} "{name}": {words}.')


def _distinct(index: Index | None, column: ColumnElement[str]) -> set[str]:
    if index is None:
        return set()
    with index.transaction() as connection:
        return set(connection.execute(select(column).distinct()).scalars()) - {""}


def uid_of(index: Index, pseudonym: str) -> str | None:
    """Return the study that the log calls by a pseudonym, if there is one.

    Raises
    ------
    IndexUnavailable
        If the index cannot be read.
    """
    with index.transaction() as connection:
        found: str | None = connection.execute(
            select(_COLUMNS.study_uid).where(_COLUMNS.pseudonym == pseudonym)
        ).scalar()
        return found


def _cursor(order: Order, row: Row[Any]) -> str:
    return f"{row._mapping[_KEYS[order]]!s}~{row.study_uid}"


def _start(cursor: str, order: Order) -> tuple[Any, str]:
    value, separator, uid = cursor.rpartition("~")
    try:
        if separator:
            return float(value) if order in (Order.CHANGED, Order.RECEIVED) else value, uid
    except ValueError:
        pass
    raise CommandError("This is not where a page begins: start with the first one.", "cursor_invalid")


_LISTED = (PeerRole.SOURCE, PeerRole.DESTINATION)


def _overviews(connection: Connection, rows: Iterable[Row[Any]]) -> Iterable[Overview]:
    rows = list(rows)
    named = select(PEERS).where(PEERS.c.study_uid.in_([row.study_uid for row in rows])).order_by(PEERS.c.peer)
    peers: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in connection.execute(named):
        peers[row.study_uid, row.role] = (*peers.get((row.study_uid, row.role), ()), row.peer)
    for row in rows:
        senders, destinations = (peers.get((row.study_uid, role), ()) for role in _LISTED)
        yield Overview(
            row.study_uid,
            State(row.state) if row.state in set(State) else row.state,
            row.code,
            _time(row.received_first_s),
            _time(row.received_last_s),
            _time(row.changed_s),
            row.instances,
            row.stored,
            senders,
            destinations,
            _trouble(row),
        )


def _trouble(row: Row[Any]) -> Trouble | None:
    if not row.trouble_code:
        return None
    due = None if row.next_attempt_s is None else _time(row.next_attempt_s)
    return Trouble(row.trouble_peer, row.trouble_code, due)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
