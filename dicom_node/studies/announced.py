"""What scanners and PACS have announced of studies: procedure steps (MPPS) and available instances (IAN).

::

    <data_dir>/announced/<sop_instance_uid>.json       one announcement; UIDs and a state, nothing of a patient

They say when a study may begin, never what it holds: one that is lost costs the quiet time.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from dicom_node.log import say
from dicom_node.studies.completeness import Announced
from models.uid import is_uid
from models.whole_files import make_folder, write_json

logger = logging.getLogger(__name__)

FOLDER: Final = "announced"
KEPT_S: Final = 7 * 86400.0
MOST: Final = 20_000
"""Announcements that are kept: beyond that the oldest go."""


class Standing(StrEnum):
    """How far what was announced has come (PS3.3 C.4.14, PS3.4 R.3)."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"
    AVAILABLE = "available"


@dataclass(frozen=True, slots=True)
class Announcement:
    """One procedure step, or one notification of available instances.

    Attributes
    ----------
    uid
        SOP Instance UID of the announcement itself.
    standing
        How far it has come.
    studies
        Study Instance UIDs.
    instances
        SOP Instance UIDs of what was made, or is available.
    """

    uid: str
    standing: Standing
    studies: tuple[str, ...]
    instances: tuple[str, ...] = ()


class Announcements:
    """All announcements of one data folder, of one process; calls come from many threads.

    Parameters
    ----------
    data_dir
        Of the node.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        self._lock = threading.Lock()
        self._all: dict[str, Announcement] = {}
        self._by_study: defaultdict[str, set[str]] = defaultdict(set)
        for file in self._files():
            if (kept := _read(file)) is not None:
                self._take(kept)

    def get(self, uid: str) -> Announcement | None:
        """Return the announcement of a SOP Instance UID, if it is known."""
        with self._lock:
            return self._all.get(uid)

    def keep(self, announcement: Announcement) -> None:
        """Keep an announcement, in place of an earlier one under its UID.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        make_folder(self._folder)
        write_json(
            self._folder / f"{announcement.uid}.json",
            {
                "standing": announcement.standing,
                "studies": announcement.studies,
                "instances": announcement.instances,
            },
        )
        with self._lock:
            self._take(announcement)
            oldest = next(iter(self._all)) if len(self._all) > MOST else None
        if oldest:
            self._drop(oldest)

    def of(self, study_uid: str, arrived: Collection[str]) -> Announced:
        """Return what the announcements say of a study.

        Parameters
        ----------
        study_uid
            Study Instance UID.
        arrived
            SOP Instance UIDs that are here.
        """
        with self._lock:
            known = [self._all[uid] for uid in self._by_study.get(study_uid, ())]
        instances = {uid for each in known for uid in each.instances}
        if any(each.standing is Standing.IN_PROGRESS for each in known) or not instances <= set(arrived):
            return Announced.OPEN
        return Announced.ALL if instances else Announced.NOTHING

    def _take(self, announcement: Announcement) -> None:
        self._all[announcement.uid] = announcement
        for study_uid in announcement.studies:
            self._by_study[study_uid].add(announcement.uid)

    def _drop(self, uid: str) -> None:
        with self._lock:
            for study_uid in self._all.pop(uid).studies:
                self._by_study[study_uid].discard(uid)
        (self._folder / f"{uid}.json").unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Return what is kept, oldest first; what is too old is removed."""
        found = [(file.stat().st_mtime, file) for file in self._folder.glob("[0-9]*.json")]
        for changed_s, file in found:
            if changed_s < time.time() - KEPT_S:
                file.unlink(missing_ok=True)
        return [file for _, file in sorted(found) if file.exists()]


def _read(file: Path) -> Announcement | None:
    try:
        stored = json.loads(file.read_text("utf-8"))
        studies, instances = (tuple(filter(is_uid, stored[key])) for key in ("studies", "instances"))
        return Announcement(file.stem, Standing(stored["standing"]), studies, instances)
    except (OSError, ValueError, KeyError, TypeError):
        say(logger, "announcement cannot be read", level=logging.WARNING)
        return None
