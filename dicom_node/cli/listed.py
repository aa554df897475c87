"""Studies as the command line lists them: rows of the index, for people and for machines."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dicom_node import log
from dicom_node.cli.printing import print_json, print_line, print_problem, print_table, progress
from dicom_node.errors import CommandError, IndexUnavailable, SpoolError
from dicom_node.studies.filters import Filters
from dicom_node.studies.index import Index
from dicom_node.studies.listing import Page, count, find, find_all, refuse_unknown
from dicom_node.studies.overview import Order, Overview
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import State
from dicom_node.watch import audit
from pipeline.errors import HoldReason

if TYPE_CHECKING:
    from dicom_node.config import Config

_NEWEST_FIRST = (Order.CHANGED, Order.RECEIVED)
_AGE = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def print_studies(config: Config, filters: Filters, order: Order, last: int, *, as_json: bool) -> None:
    """Print the studies that are wanted, `last` of them at most."""
    spool, index = Spool(config.node.data_dir, make=False), Index.of(config)
    page = Page((), None)
    received = spool.data_dir.is_dir()
    with progress() as tell:
        tell("looking for changed studies")
        whole = _caught_up(index, spool) if received else True
        refuse_unknown(index if received else None, filters, _peers(config), HoldReason)
        if received:
            page = find(index, filters, order, descending=order in _NEWEST_FIRST, limit=last)
    audit.listed(f"studies, {filters}, sorted by {order}, at most {last}", len(page.studies))
    if not whole:
        print_problem("The index is being made: the list is not whole yet.")
    pseudonym = pseudonyms(config) if page.studies else str
    if as_json:
        print_json([as_row(seen, pseudonym, _sentence(spool, seen)) for seen in page.studies])
        return
    print_table(_COLUMNS, [_cells(seen, pseudonym(seen.study_uid)) for seen in page.studies])
    if page.cursor:
        print_line(f"{last} of {sum(count(index, filters).values())} studies; --last N prints more.")


def _peers(config: Config) -> set[str]:
    return {name for peer in config.peers for name in (peer.name, peer.ae_title)}


def all_in_state(config: Config, state: State) -> list[str]:
    """Return the UIDs of all studies in a state; a list that is not whole is said."""
    spool, index = Spool(config.node.data_dir, make=False), Index.of(config)
    if not spool.data_dir.is_dir():
        return []
    if not _caught_up(index, spool):
        print_problem("The index is being made: the list is not whole yet, try again in a while.")
    return [seen.study_uid for seen in find_all(index, Filters(states=(state,)))]


def pseudonyms(config: Config) -> Callable[[str], str]:
    """Return what the log of a node calls a study."""
    return log.Pseudonym(log.read_key(config.node.data_dir))


def as_row(seen: Overview, pseudonym: Callable[[str], str], sentence: str) -> dict[str, Any]:
    """Return a study as it is printed for machines."""
    trouble = seen.trouble
    due = trouble.next_attempt.isoformat() if trouble and trouble.next_attempt else None
    return {
        "study_uid": seen.study_uid,
        "pseudonym": pseudonym(seen.study_uid),
        "state": seen.state,
        "code": seen.code,
        "sentence": sentence,
        "instances": seen.instances,
        "stored": seen.stored,
        "received_first": seen.received_first.isoformat(),
        "received_last": seen.received_last.isoformat(),
        "changed": seen.changed.isoformat(),
        "senders": list(seen.senders),
        "destinations": list(seen.destinations),
        "trouble": {"peer": trouble.peer, "code": trouble.code, "next_attempt": due} if trouble else None,
    }


def moment(text: str) -> datetime:
    """Return the time that a text such as ``2h``, ``3d``, ``2026-11-28`` or ``2026-11-28T14:00`` means, here and now.

    Raises
    ------
    CommandError
        If it means none.
    """
    if age := _AGE.fullmatch(text):
        with suppress(OverflowError):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).astimezone()
    raise CommandError(f"--since {text} is no time: write 2h, 3d, 2026-11-28 or 2026-11-28T14:00.")


def _caught_up(index: Index, spool: Spool) -> bool:
    try:
        return index.catch_up(spool)
    except IndexUnavailable:
        return True  # Reading it says why, where it cannot be read either.


def _sentence(spool: Spool, seen: Overview) -> str:
    """Return the reason in words, which stands in the timeline alone."""
    if not seen.code:
        return ""
    try:
        turn = spool.study(seen.study_uid).timeline().turn
    except SpoolError as error:
        return str(error)
    return turn.sentence if turn else ""


_COLUMNS = ("received", "from", "images", "state", "reason", "delivery", "in the log", "study")


def _cells(seen: Overview, pseudonym: str) -> tuple[str, ...]:
    more = f" +{len(seen.senders) - 1}" if len(seen.senders) > 1 else ""
    return (
        f"{seen.received_last.astimezone():%Y-%m-%d %H:%M}",
        f"{seen.senders[0]}{more}" if seen.senders else "",
        str(seen.instances) if seen.stored else f"{seen.instances} (removed)",
        seen.state,
        seen.code,
        _delivery(seen),
        pseudonym,
        seen.study_uid,
    )


def _delivery(seen: Overview) -> str:
    trouble = seen.trouble
    if trouble is None:
        return ""
    again = f", again {trouble.next_attempt.astimezone():%H:%M}" if trouble.next_attempt else ""
    return f"{trouble.peer}: {trouble.code}{again}"
