"""The received studies on disk: one folder per study; the files are the truth.

::

    <data_dir>/                                    0700
      collecting/, changed/                                          see `unfinished` and `changes`
      spool/incoming/                              what is being received; empty at rest
      spool/<study_uid>/instances/<sop_instance_uid>.dcm
                                  <sop_instance_uid>~<sha256>.dcm    same UID, other bytes: both are kept
                        copies.txt                 in which order copies of an instance came; absent if none did
                        timeline.jsonl             what happened, append-only
                        choices.json               series that a human chose, by role; absent if none
                        statements.json            what a human stated of copies and patients; absent if nothing
                        runs/<input_digest>/       written by the engine

An instance appears under its name complete and fsynced, or not at all: it is written in ``incoming``, piece by piece as
it comes, fsynced and then linked. A link fails where a name exists, so two associations never overwrite each other.

One fsync keeps an instance: the name that it has in ``incoming`` is durable before it comes (see `slots`), and it says
itself whose it is and that it is whole (see `seal`). The folder of its study is fsynced for many at once, before the
study is read or removed, and when nothing is being received; then the first names go. A start puts in place what a
power failure left in ``incoming`` alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.errors import SpoolError, SpoolFull, StudyUnknown
from dicom_node.studies import changes
from dicom_node.studies.data_folder import disk_error, make_private, unusable
from dicom_node.studies.incoming import IncomingInstance
from dicom_node.studies.keeping import Outcome, Stored, is_kept, keep
from dicom_node.studies.received_study import TIMELINE, Study
from dicom_node.studies.seal import Seal, read_seal
from dicom_node.studies.slots import Slots
from dicom_node.studies.unfinished import Unfinished
from models.uid import is_uid
from models.whole_files import drop_unfinished, make_folder, sync_folder

__all__ = ["TIMELINE", "Outcome", "Spool", "Stored", "Study", "check_uid"]


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
        self._slots = Slots(self._incoming)
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
            return IncomingInstance(*self._slots.open(), self.require_space, self._disk_errors)

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
                if self._slots.are_full:
                    self._slots.settle()
                instances = self._instances_folder(study_uid)
                with self.unfinished.adding(study_uid) as mark:
                    return keep(instances, sop_instance_uid, incoming, mark, self._slots)
        except SpoolError:
            self._durable.discard(study_uid)
            raise

    def settle(self) -> None:
        """Let what was received be durable without its slots: as it has to be before it is read for good.

        Raises
        ------
        SpoolError
            If the disk refuses; then it stays durable by its slots.
        """
        with self._disk_errors():
            self._slots.settle()

    def rest(self) -> None:
        """Settle, and leave nothing in ``incoming``, because nothing is being received; raises as `settle` does."""
        with self._disk_errors():
            self._slots.clear()

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
        """Put what an earlier process received in its place, and remove what it left half-written.

        Only before receiving starts.

        Returns
        -------
        int
            How many half-written files there were.

        Raises
        ------
        SpoolError, SpoolFull
            If the disk refuses.
        """
        with self._disk_errors():
            make_folder(self._incoming)
            for slot in sorted(self._incoming.glob("*.part")):
                seal = read_seal(slot)
                if seal:
                    self._put_in_place(slot, seal)
                if seal or not slot.stat().st_size:
                    slot.unlink(missing_ok=True)
            return drop_unfinished(self._incoming)

    def settle_study(self, study: Study) -> None:
        """Make what is there of a study durable without its slots, also those of another process: it may be removed.

        Parameters
        ----------
        study
            A received one.

        Raises
        ------
        SpoolError
            If the disk refuses.
        """
        with self._disk_errors():
            self._slots.let_go(study.folder / "instances")

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

    def _put_in_place(self, slot: Path, seal: Seal) -> None:
        """Give what was received whole the name that it had, or was about to get."""
        is_named = slot.stat().st_nlink > 1
        if is_named and seal.study_uid not in self:
            return
        instances = self._instances_folder(seal.study_uid)
        if not is_named:
            incoming = IncomingInstance(slot, os.open(slot, os.O_RDWR), self.require_space, self._disk_errors)
            incoming.keep_slot()
            with incoming, self.unfinished.adding(seal.study_uid) as mark:
                if not is_kept(instances, seal.sop_instance_uid, incoming):
                    keep(instances, seal.sop_instance_uid, incoming, mark, self._slots)
        sync_folder(instances)

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
