"""The received studies on disk: one folder per study; the files are the truth.

::

    <data_dir>/                                    0700
      collecting/, changed/                                          see `unfinished` and `changes`
      spool/incoming/                              what is being received; emptied at a start
      spool/<study_uid>/instances/<sop_instance_uid>.dcm
                                  <sop_instance_uid>~<sha256>.dcm    same UID, other bytes: both are kept
                        copies.txt                 in which order copies of an instance came; absent if none did
                        timeline.jsonl             what happened, append-only
                        choices.json               series that a human chose, by role; absent if none
                        statements.json            what a human stated of copies and patients; absent if nothing
                        runs/<input_digest>/       written by the engine

An instance appears under its name complete and fsynced, or not at all: it is written in ``incoming``, piece by piece as
it comes, fsynced and then linked. A link fails where a name exists, so two associations never overwrite each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError, SpoolFull, StudyUnknown
from dicom_node.studies import changes, timeline
from dicom_node.studies.audited_events import audit_event
from dicom_node.studies.copies import note_receipt, received
from dicom_node.studies.data_folder import disk_error, make_private, unusable
from dicom_node.studies.incoming import IncomingInstance
from dicom_node.studies.timeline import Entry, Event, State, Timeline
from dicom_node.studies.unfinished import Unfinished
from models.contrast import Contrast
from models.uid import is_uid
from models.whole_files import drop_unfinished, make_folder, sync_folder, write_json

TIMELINE: Final = "timeline.jsonl"
_RUN = re.compile(r"[0-9A-Za-z_-]{1,128}")


class Outcome(StrEnum):
    """What storing an instance came to."""

    NEW = "new"
    SAME = "same"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an instance is, and whether it was new."""

    path: Path
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Study:
    """One received study.

    Parameters
    ----------
    uid
        Study Instance UID.
    folder
        Its folder in the spool.
    """

    uid: str
    folder: Path

    def instances(self) -> list[Path]:
        """Return the complete instance files, sorted by name."""
        return sorted((self.folder / "instances").glob("[0-9]*.dcm"))

    def digest(self) -> str:
        """Return the SHA-256 over the names and contents of all instances, and the order of their copies, in hex."""
        whole = hashlib.sha256()
        for path in self.instances():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.name}\0{content}\n".encode())
        for path in received(self.folder):
            whole.update(f"{path.name}\n".encode())
        return whole.hexdigest()

    def note(
        self, event: Event, state: State | Callable[[Timeline], State | None] | None = None, /, **facts: object
    ) -> Entry:
        """Append an event to the timeline, durably, and return the entry.

        Parameters
        ----------
        event
            What happened.
        state
            What the study is from now on, or what makes it of the timeline; None if it stays what it was.
        **facts
            What else is to be known of it; no patient attribute.
        """
        entry = timeline.append(self._timeline, event, state, facts)
        audit_event(self.uid, self.folder, event, facts)
        self.changed()
        return entry

    def changed(self) -> None:
        """Let the index look at the study again."""
        changes.mark_changed(self.folder.parents[1], self.uid)

    def timeline(self) -> Timeline:
        """Return what was noted.

        Raises
        ------
        SpoolError
            If the disk refuses to read it (``timeline_unreadable``).
        """
        try:
            return timeline.read(self._timeline)
        except OSError as error:
            raise SpoolError(
                f"The timeline of this study cannot be read ({error.strerror}): look at its folder and at the disk.",
                "timeline_unreadable",
            ) from None

    def timeline_bytes(self) -> int:
        """Return the size of the timeline, which only grows; 0 before there is one."""
        try:
            return self._timeline.stat().st_size
        except OSError:
            return 0

    def state(self) -> State | str:
        """Return the last noted state, ``receiving`` before there is one."""
        return self.timeline().state

    def run_folder(self, input_digest: str) -> Path:
        """Return the folder for the results of one input set; it is not created.

        Raises
        ------
        SpoolError
            If `input_digest` is not a plain name (``run_bad_name``).
        """
        if not _RUN.fullmatch(input_digest):
            raise SpoolError("An input digest has letters, digits, - and _ only: pass it as noted.", "run_bad_name")
        return self.folder / "runs" / input_digest

    def choices(self) -> dict[Contrast, str]:
        """Return the Series Instance UIDs that a human chose, by role."""
        try:
            chosen = json.loads(self._choices.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {Contrast(role): str(series_uid) for role, series_uid in chosen.items()}

    def choose(self, choices: Mapping[Contrast, str]) -> None:
        """Replace the choices of a human, durably and whole; every later selection of the study keeps to them."""
        write_json(self._choices, dict(choices))

    @property
    def _choices(self) -> Path:
        return self.folder / "choices.json"

    @property
    def _timeline(self) -> Path:
        return self.folder / TIMELINE


class Spool:
    """The received studies under one data folder.

    Parameters
    ----------
    data_dir
        Made with mode 0700 if missing.
    reserve_bytes
        Free space on that disk that is never used for instances.
    make
        Whether a missing folder is made; who only looks makes none, and finds no study.

    Raises
    ------
    SpoolError
        If the folder cannot be made (``spool_unusable``).

    Attributes
    ----------
    unfinished
        Which studies hold something that is not collected yet; where the folder is there.
    """

    def __init__(self, data_dir: Path, reserve_bytes: int = 0, *, make: bool = True) -> None:
        self.data_dir = data_dir
        self.reserve_bytes = reserve_bytes
        self._folder = data_dir / "spool"
        self._incoming = self._folder / "incoming"
        self._durable: set[str] = set()
        try:
            if make or data_dir.exists():
                make_private(data_dir)
                for folder in (self._folder, self._incoming, data_dir / changes.FOLDER):
                    make_folder(folder)
                self.unfinished = Unfinished(data_dir)
        except OSError as error:
            raise SpoolError(unusable(data_dir, error), "spool_unusable") from None

    def store(self, study_uid: str, sop_instance_uid: str, content: bytes) -> Stored:
        """Keep one instance; when this returns it survives a power failure.

        Parameters
        ----------
        study_uid, sop_instance_uid
            UIDs; checked before they are used as names.
        content
            A complete DICOM file (PS3.10). Two files that differ in the File Meta Information only are the same.

        Returns
        -------
        Stored
            See `keep`.

        Raises
        ------
        SpoolError
            If a UID is invalid (``uid_invalid``) or the disk refuses (``spool_failed``).
        SpoolFull
            If the reserve would be touched (``disk_full``).
        """
        check_uid(study_uid)
        check_uid(sop_instance_uid)
        with self.receive() as incoming:
            incoming.write(content)
            return self.keep(incoming, study_uid, sop_instance_uid)

    def receive(self) -> IncomingInstance:
        """Return a file to which an instance is written as it comes; it is in no study until `keep`.

        Raises
        ------
        SpoolFull
            If the reserve is touched already (``disk_full``).
        SpoolError
            If the disk refuses (``spool_failed``).
        """
        with self._disk_errors():
            self.require_space(0)
            make_folder(self._incoming)
            return IncomingInstance(self._incoming, self.require_space, self._disk_errors)

    def keep(self, incoming: IncomingInstance, study_uid: str, sop_instance_uid: str) -> Stored:
        """Keep what was received; when this returns it survives a power failure.

        Parameters
        ----------
        incoming
            Written whole, File Meta Information and data set.
        study_uid, sop_instance_uid
            UIDs; checked before they are used as names.

        Returns
        -------
        Stored
            ``SAME`` if these bytes were there already, and the newest under this UID; ``CONFLICT`` if other bytes were.

        Raises
        ------
        SpoolError
            If a UID is invalid (``uid_invalid``) or the disk refuses (``spool_failed``).
        SpoolFull
            If the disk is full (``disk_full``).
        """
        check_uid(study_uid)
        check_uid(sop_instance_uid)
        try:
            with self._disk_errors():
                instances = self._instances_folder(study_uid)
                with self.unfinished.adding(study_uid) as mark:
                    stored = _keep(instances, sop_instance_uid, incoming, mark)
                    sync_folder(instances)
        except SpoolError:
            self._durable.discard(study_uid)
            raise
        return stored

    def studies(self) -> list[Study]:
        """Return all studies, sorted by UID."""
        return [Study(uid, self._folder / uid) for uid in sorted(self.uids())]

    def __contains__(self, study_uid: str) -> bool:
        return (self._folder / study_uid).is_dir()

    def uids(self) -> Iterator[str]:
        """Yield the UIDs of all studies, in no order; no study is looked into."""
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            yield from (entry.name for entry in entries if is_uid(entry.name))

    def folder(self, study_uid: str) -> Path:
        """Return where a study lies, or would."""
        return self._folder / study_uid

    def study(self, study_uid: str) -> Study:
        """Return one study.

        Raises
        ------
        SpoolError
            If `study_uid` is not a UID (``uid_invalid``).
        StudyUnknown
            If it was never received (``study_unknown``).
        """
        if not is_uid(study_uid):
            raise SpoolError("That is no Study Instance UID: take one that `dicom-node studies` lists.", "uid_invalid")
        folder = self._folder / study_uid
        if not folder.is_dir():
            raise StudyUnknown(f"Study {study_uid} was never received: compare `dicom-node studies`.")
        return Study(study_uid, folder)

    def clean(self) -> int:
        """Remove what a crash left half-written and return how many files; only before receiving starts."""
        return drop_unfinished(self._incoming)

    def forget(self, study_uid: str) -> None:
        """Let go of what this process remembers of a study to which nothing is added for now."""
        self._durable.discard(study_uid)

    def free_bytes(self) -> int:
        """Return the free space on the disk of the data folder."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def require_space(self, size_bytes: int) -> None:
        """Refuse to touch the reserve with so many bytes more.

        Raises
        ------
        SpoolFull
            If they would (``disk_full``).
        """
        if self.free_bytes() - size_bytes < self.reserve_bytes:
            raise SpoolFull(f"The disk of {self.data_dir} is full up to its reserve: free space on it.")

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Give what the disk says its code and its sentence."""
        try:
            yield
        except OSError as error:
            raise disk_error(self.data_dir, error) from error

    def _instances_folder(self, study_uid: str) -> Path:
        """Make the folder of a study and its name durable, unless this process has."""
        instances = self._folder / study_uid / "instances"
        if study_uid not in self._durable or not instances.is_dir():
            make_folder(instances)
            for folder in (instances.parent, self._folder, self.data_dir):
                sync_folder(folder)
            self._durable.add(study_uid)
        return instances


def check_uid(text: str) -> None:
    """Refuse what is not a UID.

    Raises
    ------
    SpoolError
        With code ``uid_invalid``.
    """
    if not is_uid(text):
        raise SpoolError("A UID is 1 to 64 digits and dots: the sender has to correct it.", "uid_invalid")


def _keep(folder: Path, sop_instance_uid: str, incoming: IncomingInstance, mark: Callable[[], None]) -> Stored:
    target = folder / f"{sop_instance_uid}.dcm"
    if not target.exists():
        mark()
        if incoming.link(target):
            return Stored(target, Outcome.NEW)
    copy = target
    differs = not incoming.holds_the_same_as(target)
    if differs or received(folder.parent):
        mark()
    if differs:
        copy = folder / f"{sop_instance_uid}~{incoming.digest()[:16]}.dcm"
        incoming.link(copy)
        sync_folder(folder)
    return Stored(copy, Outcome.CONFLICT if note_receipt(target, copy) else Outcome.SAME)
