"""Which studies a list is to show, and the conditions in SQL that choose them without a look at every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, or_, select
from sqlalchemy.engine import Connection

from dicom_node.studies.index import PEERS, STUDIES
from dicom_node.studies.timeline import State

_COLUMNS = STUDIES.c
FEW = 3000
"""So many studies are gathered and then sorted; of more, each in order is asked until a page is full."""
_NAMES = (
    (_COLUMNS.pseudonym, frozenset("0123456789abcdef")),
    (_COLUMNS.study_uid, frozenset("0123456789.")),
)
"""The names of a study, and of which letters they are."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which studies are wanted; what is empty or None filters nothing.

    Attributes
    ----------
    states
        Any of these.
    codes
        Any of these reasons.
    peer
        AE title of a sender, or name of a destination.
    since, until
        Last received at or after the one, and before the other.
    text
        Part of a Study Instance UID, its pseudonym, a state, a code or a peer, in any case; a whole UID or pseudonym
        means that study alone.
    troubled
        Whether a delivery failed and nothing has overcome that.
    stored
        Whether images are still in the spool.
    """

    states: tuple[State | str, ...] = ()
    codes: tuple[str, ...] = ()
    peer: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    troubled: bool | None = None
    stored: bool | None = None


EVERYTHING = Filters()


def conditions(connection: Connection, filters: Filters) -> Iterator[ColumnElement[bool]]:
    """Yield what must hold of a row for its study to be wanted.

    Parameters
    ----------
    connection
        To the index: which words occur in it decides how they are looked for.
    filters
        Which studies.
    """
    if filters.states:
        yield _COLUMNS.state.in_([str(state) for state in filters.states])
    if filters.codes:
        yield _COLUMNS.code.in_(filters.codes)
    if filters.peer:
        yield _of_peers(connection, [filters.peer])
    if filters.since:
        yield _COLUMNS.received_last_s >= filters.since.timestamp()
    if filters.until:
        yield _COLUMNS.received_last_s < filters.until.timestamp()
    if filters.text:
        yield or_(false(), *_containing(connection, filters.text.lower()))
    if filters.troubled is not None:
        yield (_COLUMNS.trouble_code != "") == filters.troubled
    if filters.stored is not None:
        yield (_COLUMNS.stored > 0) == filters.stored


def _of_peers(connection: Connection, peers: Sequence[str]) -> ColumnElement[bool]:
    theirs = select(PEERS.c.study_uid).where(PEERS.c.peer.in_(peers))
    if _are_few(connection, theirs):
        return _COLUMNS.study_uid.in_(theirs)
    return theirs.where(PEERS.c.study_uid == _COLUMNS.study_uid).exists()


def _containing(connection: Connection, text: str) -> Iterator[ColumnElement[bool]]:
    """Yield the ways in which a study may contain a text."""
    columns = [column for column, letters in _NAMES if letters.issuperset(text)]
    same = connection.execute(select(_COLUMNS.study_uid).where(or_(false(), *(name == text for name in columns))))
    if whole := same.scalars().all():
        yield _COLUMNS.study_uid.in_(whole)
        return
    if columns:
        yield _chosen(connection, *[or_(*(name.contains(text, autoescape=True) for name in columns))] * 2)
    for column in (_COLUMNS.state, _COLUMNS.code, _COLUMNS.trouble_code):
        if words := _words(connection, column, text):
            yield _chosen(connection, column.in_(words), (column + "").in_(words))
    if peers := _words(connection, PEERS.c.peer, text):
        yield _of_peers(connection, peers)


def _chosen(
    connection: Connection, looked_up: ColumnElement[bool], of_each: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Return what chooses studies: few are looked up beforehand; of many, each in order is asked, by no index."""
    theirs = select(_COLUMNS.study_uid).where(looked_up)
    return _COLUMNS.study_uid.in_(theirs) if _are_few(connection, theirs) else of_each


def _are_few(connection: Connection, studies: Select[Any]) -> bool:
    counted = select(func.count()).select_from(studies.limit(FEW + 1).subquery())
    return (connection.execute(counted).scalar() or 0) <= FEW


def _words(connection: Connection, column: ColumnElement[str], text: str) -> list[str]:
    """Return the words of a column that contain a text: from one different word to the next, not from row to row."""
    word = select(func.min(column).label("word")).cte(recursive=True)
    following = select(func.min(column)).where(column > word.c.word).scalar_subquery()
    every = word.union_all(select(following).where(word.c.word.is_not(None)))
    return [each for each in connection.execute(select(every.c.word)).scalars() if each and text in each.lower()]
