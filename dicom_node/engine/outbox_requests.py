"""Storage commitments that were asked for: a row in the database, which the result ends whenever it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from dicom_node.engine.outbox_tables import FREE, REQUESTS, ROWS, Database, Due, Item, is_of, item_of, named


@dataclass(frozen=True, slots=True)
class Request:
    """A storage commitment that was asked for."""

    item: Item
    sop_instance_uid: str


class Requests:
    """The rows of requests, and the items that wait for their results.

    Parameters
    ----------
    database
        Of the outbox.
    clock
        Seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def begin(self, due: Due, transaction_uid: str, sop_instance_uid: str, timeout_s: float) -> None:
        """Have an item wait for the result of a storage commitment; noted before that is asked for."""
        now_s = self._clock()
        facts = {"transaction_uid": transaction_uid, "sop_instance_uid": sop_instance_uid, "asked_s": now_s}
        waits = {"due_s": now_s + timeout_s, "left_s": due.left_s - timeout_s, "asked": transaction_uid}
        with self._database.transaction() as database:
            database.execute(insert(REQUESTS).values(**named(due.item), **facts))
            database.execute(update(ROWS).where(is_of(due.item)).values(**waits))

    def sent(self, transaction_uid: str) -> None:
        """Let go of the item that waits for a result, unless that has come."""
        with self._database.transaction() as database:
            database.execute(update(ROWS).where(ROWS.c.asked == transaction_uid).values(**FREE))

    def answered(self, transaction_uid: str) -> Request | None:
        """Return what a storage commitment was asked for, once; None if it is none of ours."""
        one = REQUESTS.c.transaction_uid == transaction_uid
        with self._database.transaction() as database:
            row = database.execute(select(REQUESTS).where(one)).first()
            if row is None or database.execute(delete(REQUESTS).where(one)).rowcount == 0:
                return None
        return Request(item_of(row), row.sop_instance_uid)

    def waits_for(self, transaction_uid: str) -> Due | None:
        """Return the item that waits for this very result, if one does."""
        with self._database.transaction() as database:
            row = database.execute(select(ROWS).where(ROWS.c.asked == transaction_uid)).first()
        return Due(item_of(row), row.left_s, row.failures, "", probe=False) if row else None
