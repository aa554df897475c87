"""What is kept for how long, by ``[retention]`` and ``routing.keep_days``; and the removal of images and whole studies.

Only what is settled goes: a delivered study, whose destinations have proved every object, a held one, which nobody
took up for a long time, and a filtered one. What is on its way, failed or was never delivered stays until somebody
purges it. Images go long before results.

A removal renames first, into ``<data_dir>/trash``, and deletes then: a crash leaves a study whole, or without. If an
instance came in just then, all is put back.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from dicom_node.config import RetentionSection
from dicom_node.errors import SpoolError, StudyUnknown
from dicom_node.log import say
from dicom_node.studies.filters import Filters
from dicom_node.studies.index import Index
from dicom_node.studies.listing import find
from dicom_node.studies.overview import Order, Overview, overview
from dicom_node.studies.spool import TIMELINE, Spool, Study
from dicom_node.studies.standings import DONE, Progress, standings
from dicom_node.studies.timeline import Event, State, Timeline
from models.whole_files import OWNER_ALONE, make_folder, sync_folder, write_whole

logger = logging.getLogger(__name__)

TRASH: Final = "trash"
YOUNGEST: Final = timedelta(days=1)
"""What is younger stays even if the disk is full: late series and corrections need the images."""
_GB = 10**9
_PAGE = 200
_ANSWERS = frozenset({Event.READ, Event.RECALLED, Event.FILTERED})
_SETTLED = DONE | {Progress.WITHDRAWN}


class What(StrEnum):
    """What of a study goes."""

    IMAGES = "images"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Expired:
    """A study of which something may go.

    Attributes
    ----------
    study_uid
        Which study.
    what
        Its images, or all of it.
    state
        Which it is in.
    instances
        How many are stored.
    since
        When it was last received or changed.
    """

    study_uid: str
    what: What
    state: str
    instances: int
    since: datetime


def expired(
    spool: Spool, index: Index, rules: RetentionSection, now: datetime, reserve_gb: float, filtered_days: float
) -> Iterator[Expired]:
    """Yield what may go now, the oldest first; whoever removes it does so before asking for the next.

    Parameters
    ----------
    spool
        The received studies; the timeline of each decides.
    index
        Says which ones to look at.
    rules
        What is kept for how long.
    now
        With a time zone.
    reserve_gb
        See ``receive.disk_reserve_gb``: `rules.free_gb` comes on top.
    filtered_days
        See ``routing.keep_days``: of a filtered study nothing is kept.
    """
    yield from _older(spool, index, Filters((State.FILTERED,)), What.STUDY, now - timedelta(days=filtered_days))
    images_until = {State.DELIVERED: rules.delivered_days, State.HELD: rules.held_days}
    results_until = now - timedelta(days=rules.results_days)
    for state, days in images_until.items():
        yield from _older(spool, index, Filters((state,)), What.STUDY, results_until)
        images = Filters((state,), stored=True)
        yield from _older(spool, index, images, What.IMAGES, now - timedelta(days=days), results_until)
    if not rules.free_gb:
        return
    missing_bytes = int((reserve_gb + rules.free_gb) * _GB) - spool.free_bytes()
    delivered, began = Filters((State.DELIVERED,), stored=True), now - timedelta(days=rules.delivered_days)
    for study in _older(spool, index, delivered, What.IMAGES, now - YOUNGEST, began):
        if missing_bytes <= 0:
            return
        missing_bytes -= sum(path.stat().st_size for path in spool.study(study.study_uid).instances())
        yield study


def remove(spool: Spool, study: Expired) -> bool:
    """Remove what may go of a study; return whether it went."""
    with suppress(StudyUnknown):
        found = spool.study(study.study_uid)
        gone = remove_images(spool, found) if study.what is What.IMAGES else remove_study(spool, found)
        if gone:
            say(logger, "removed by age or for room", study=study.study_uid, what=study.what, state=study.state)
        return gone
    return False


def remove_images(spool: Spool, study: Study) -> bool:
    """Remove the instances of a study, and keep its results; return False if others came in meanwhile."""
    study.note(Event.EXPIRED, instances=len(study.instances()))
    return _remove(spool, study, study.folder / "instances")


def remove_study(spool: Spool, study: Study) -> bool:
    """Remove all of a study; return False if instances came in meanwhile."""
    return _remove(spool, study, study.folder)


def empty_trash(data_dir: Path) -> None:
    """Delete what was removed, also what an earlier process left."""
    trash = data_dir / TRASH
    for left in trash.iterdir() if trash.is_dir() else ():
        shutil.rmtree(left, ignore_errors=True)


def _older(
    spool: Spool, index: Index, filters: Filters, what: What, than: datetime, but_not_than: datetime | None = None
) -> Iterator[Expired]:
    cursor = None
    while True:
        page = find(index, filters, Order.CHANGED, descending=False, limit=_PAGE, cursor=cursor)
        for row in page.studies:
            if row.changed >= than:
                return
            if seen := _rests(spool, row, than):
                since = max(seen.changed, seen.received_last)
                if but_not_than is None or since >= but_not_than:
                    yield Expired(seen.study_uid, what, seen.state, seen.stored, since)
        cursor = page.cursor
        if cursor is None:
            return


def _rests(spool: Spool, row: Overview, than: datetime) -> Overview | None:
    """Return what the timeline says of a study that the index says is old; None if something of it is not settled."""
    if row.study_uid in spool.unfinished:
        return None
    try:
        study = spool.study(row.study_uid)
        seen, timeline = overview(study), study.timeline()
    except SpoolError:
        return None
    old = max(seen.changed, seen.received_last) < than
    return seen if old and seen.state == row.state and is_settled(timeline) else None


def is_settled(timeline: Timeline) -> bool:
    """Return whether nothing of a study is to be read or delivered any more."""
    events = timeline.events
    asked = [place for place, event in enumerate(events) if event in (Event.QUEUED, Event.RETRIED, Event.SELECTED)]
    read = [place for place, event in enumerate(events) if event in _ANSWERS]
    answered = bool(read) and max(asked, default=-1) < read[-1]
    return answered and all(standing.progress in _SETTLED for standing in standings(timeline).values())


def _remove(spool: Spool, study: Study, folder: Path) -> bool:
    marked = study.uid in spool.unfinished
    spool.settle_study(study)
    trash = spool.data_dir / TRASH
    make_folder(trash)
    aside = trash / f"{study.uid}~{time.time_ns()}"
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return True
    if not marked and study.uid in spool.unfinished:
        _put_back(aside, folder)
        return False
    for parent in (folder.parent, trash):
        sync_folder(parent)
    study.changed()
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _put_back(aside: Path, folder: Path) -> None:
    """Undo a removal; what came in since then stays too."""
    for path in sorted(aside.rglob("*")):
        target = folder / path.relative_to(aside)
        if path.is_dir():
            make_folder(target)
        elif target.name == TIMELINE and target.exists():
            write_whole(target, path.read_bytes() + target.read_bytes(), OWNER_ALONE)
        else:
            with suppress(FileExistsError):
                os.link(path, target)
    for made in (folder, *filter(Path.is_dir, folder.rglob("*"))):
        sync_folder(made)
    shutil.rmtree(aside, ignore_errors=True)
