"""Procedure steps (MPPS, PS3.4 annex F) and notifications of available instances (IAN, annex R), as their SCP."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
)

from dicom_node.log import say
from dicom_node.net.contexts import AcceptedContext
from dicom_node.net.dimse import Command, Request, Status
from dicom_node.studies.announced import Announcement, Announcements, Standing
from models.uid import is_uid

logger = logging.getLogger(__name__)

ANNOUNCED_IN: Final = (ModalityPerformedProcedureStep, InstanceAvailabilityNotification)
LONGEST_BYTES: Final = 2**24
"""Of an announcement: some 100,000 instances."""
_STANDINGS = {
    "IN PROGRESS": Standing.IN_PROGRESS,
    "COMPLETED": Standing.COMPLETED,
    "DISCONTINUED": Standing.DISCONTINUED,
}
_AVAILABLE = frozenset({"ONLINE", "NEARLINE"})


class _Refused(Exception):
    def __init__(self, status: Status, comment: str) -> None:
        super().__init__(comment)
        self.answer = status, comment


class AnnounceOperation:
    """One N-CREATE or N-SET.

    Parameters
    ----------
    announcements
        Where it is kept.
    context
        In which it comes.
    request
        Its command set.
    """

    def __init__(self, announcements: Announcements, context: AcceptedContext, request: Request) -> None:
        self._announcements = announcements
        self._context = context
        self._request = request
        self._attributes = bytearray()

    def write(self, piece: memoryview) -> None:
        """Take a piece, as far as an announcement may be long."""
        if len(self._attributes) <= LONGEST_BYTES:
            self._attributes += piece

    def perform(self) -> tuple[Status, str]:
        """Keep what was announced, and return status and comment."""
        try:
            announcement = self._announcement()
            self._announcements.keep(announcement)
        except _Refused as refused:
            return refused.answer
        except Exception:
            say(logger, "announcement not kept", level=logging.ERROR)
            return Status.PROCESSING_FAILURE, ""
        for study_uid in announcement.studies:
            count = len(announcement.instances)
            say(logger, "announced", study=study_uid, standing=announcement.standing, instances=count)
        return Status.SUCCESS, ""

    def discard(self) -> None:
        """Forget what was taken."""
        self._attributes.clear()

    def _announcement(self) -> Announcement:
        if len(self._attributes) > LONGEST_BYTES:
            raise _Refused(Status.PROCESSING_FAILURE, "longer than any announcement")
        syntax = self._context.transfer_syntax
        attributes = read_dataset(BytesIO(self._attributes), syntax.is_implicit_VR, syntax.is_little_endian)
        if self._request.command == Command.N_SET:
            return self._changed(attributes)
        uid = self._request.sop_instance
        if not is_uid(uid):
            raise _Refused(Status.INVALID_OBJECT_INSTANCE, "no UID")
        if self._announcements.get(uid):
            raise _Refused(Status.DUPLICATE_SOP_INSTANCE, "it is known already")
        if self._context.abstract_syntax == InstanceAvailabilityNotification:
            return _available(uid, attributes)
        return _begun(uid, attributes)

    def _changed(self, attributes: Dataset) -> Announcement:
        if self._context.abstract_syntax != ModalityPerformedProcedureStep:
            raise _Refused(Status.UNRECOGNISED_OPERATION, "a notification is not changed")
        before = self._announcements.get(self._request.sop_instance)
        if before is None:
            raise _Refused(Status.NO_SUCH_SOP_INSTANCE, "no such procedure step")
        if before.standing is not Standing.IN_PROGRESS:
            raise _Refused(Status.PROCESSING_FAILURE, "procedure step may no longer be updated")
        instances = _performed(attributes) or before.instances
        return replace(before, standing=_standing(attributes, before.standing), instances=instances)


def _begun(uid: str, attributes: Dataset) -> Announcement:
    scheduled = attributes.get("ScheduledStepAttributesSequence") or ()
    studies = _uids(str(item.get("StudyInstanceUID", "")) for item in scheduled)
    if not studies:
        raise _Refused(Status.MISSING_ATTRIBUTE, "no Study Instance UID")
    return Announcement(uid, _standing(attributes, None), studies, _performed(attributes))


def _available(uid: str, attributes: Dataset) -> Announcement:
    studies = _uids([str(attributes.get("StudyInstanceUID", ""))])
    if not studies:
        raise _Refused(Status.MISSING_ATTRIBUTE, "no Study Instance UID")
    series = attributes.get("ReferencedSeriesSequence") or ()
    items = [item for each in series for item in each.get("ReferencedSOPSequence") or ()]
    there = (item for item in items if str(item.get("InstanceAvailability", "ONLINE")) in _AVAILABLE)
    return Announcement(uid, Standing.AVAILABLE, studies, _uids(_referenced(there)))


def _standing(attributes: Dataset, before: Standing | None) -> Standing:
    said = str(attributes.get("PerformedProcedureStepStatus", "")).strip().upper()
    standing = _STANDINGS.get(said) if said else before
    if standing is None:
        raise _Refused(Status.INVALID_ATTRIBUTE_VALUE, "Performed Procedure Step Status")
    return standing


def _performed(attributes: Dataset) -> tuple[str, ...]:
    """Return the images that were made; what else was, such as reports, is not waited for."""
    series = attributes.get("PerformedSeriesSequence") or ()
    return _uids(_referenced(item for each in series for item in each.get("ReferencedImageSequence") or ()))


def _referenced(items: Iterable[Dataset]) -> Iterator[str]:
    return (str(item.get("ReferencedSOPInstanceUID", "")) for item in items)


def _uids(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(is_uid, texts)))
