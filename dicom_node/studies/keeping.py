"""How an instance gets its name in a study: whoever is first stays, and other bytes under the same UID stand beside it.

::

    <study>/instances/<sop_instance_uid>.dcm
                      <sop_instance_uid>~<sha256>.dcm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.studies.copies import note_receipt, received
from dicom_node.studies.incoming import IncomingInstance
from dicom_node.studies.slots import Slots
from models.whole_files import sync_folder


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


def keep(
    folder: Path, sop_instance_uid: str, incoming: IncomingInstance, mark: Callable[[], None], slots: Slots
) -> Stored:
    """Give what was received its name, and make it survive a power failure by one of its names.

    Parameters
    ----------
    folder
        ``instances`` of its study.
    sop_instance_uid
        A valid one.
    incoming
        Written whole.
    mark
        Called before the study is changed.
    slots
        Where a new instance stays until its name here is durable too.
    """
    target = folder / f"{sop_instance_uid}.dcm"
    if not target.exists():
        mark()
        sealed = incoming.seal(folder.parent.name, sop_instance_uid)
        if incoming.link(target):
            if sealed:
                incoming.keep_slot()
                slots.named(incoming.path, folder)
            else:
                sync_folder(folder)
            return Stored(target, Outcome.NEW)
    copy = target
    differs = not incoming.holds_the_same_as(target)
    if differs or received(folder.parent):
        mark()
    if differs:
        copy = _copy(folder, sop_instance_uid, incoming)
        incoming.link(copy)
    sync_folder(folder)
    return Stored(copy, Outcome.CONFLICT if note_receipt(target, copy) else Outcome.SAME)


def is_kept(folder: Path, sop_instance_uid: str, incoming: IncomingInstance) -> bool:
    """Return whether these bytes of an instance are kept already, by whatever name; parameters as for `keep`."""
    target = folder / f"{sop_instance_uid}.dcm"
    if not target.exists():
        return False
    return incoming.holds_the_same_as(target) or _copy(folder, sop_instance_uid, incoming).exists()


def _copy(folder: Path, sop_instance_uid: str, incoming: IncomingInstance) -> Path:
    return folder / f"{sop_instance_uid}~{incoming.digest()[:16]}.dcm"
