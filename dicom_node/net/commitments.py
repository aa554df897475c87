"""Results of storage commitment: the receiver writes down what a peer reports, the worker reads it.

A result counts by its transaction UID, which only the peer that was asked knows, whenever it comes and whatever title
and address it comes from, as long as those may associate.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import DeliveryError, ObjectDenied
from dicom_node.log import say
from dicom_node.studies.spool import check_uid
from models.whole_files import make_folder, write_json

logger = logging.getLogger(__name__)

NO_SUCH_INSTANCE = 0x0112
FAILURE_REASONS: Final = {
    0x0110: "processing failure",
    NO_SUCH_INSTANCE: "it holds no such instance",
    0x0119: "the instance is of another SOP class there",
    0x0122: "it does not commit to this SOP class",
    0x0131: "the transaction UID was used before",
    0x0213: "it has no room",
}
"""Failure Reason of storage commitment (PS3.3 C.14.1.1)."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a peer reported.

    Attributes
    ----------
    transaction_uid
        Of the request.
    committed
        SOP Instance UIDs that it will keep.
    failed
        SOP Instance UIDs that it will not keep, each with the Failure Reason (PS3.4 J.3.3).
    """

    transaction_uid: str
    committed: Sequence[str]
    failed: Sequence[tuple[str, int]]


def commitment_file(data_dir: Path, transaction_uid: str) -> Path:
    """Return where the result of a storage commitment is kept."""
    return data_dir / "commitments" / f"{transaction_uid}.json"


def write_commitment(data_dir: Path, information: Dataset) -> Path:
    """Keep the result of a storage commitment as JSON, whole, and return its path.

    Parameters
    ----------
    data_dir
        The node's data folder.
    information
        Event Information of the N-EVENT-REPORT (PS3.4 J.3.3.1).

    Raises
    ------
    SpoolError
        If the transaction UID is invalid (``uid_invalid``).
    """
    commitment = _reported(information)
    check_uid(commitment.transaction_uid)
    path = commitment_file(data_dir, commitment.transaction_uid)
    make_folder(path.parent)
    write_json(path, asdict(commitment))
    say(logger, "storage commitment", committed=len(commitment.committed), failed=len(commitment.failed))
    return path


def reported(data_dir: Path) -> list[Path]:
    """Return the files of results that wait to be read, each named by its transaction UID."""
    return sorted((data_dir / "commitments").glob("[0-9]*.json"))


def read_commitment(file: Path) -> Commitment:
    """Return the result in a file that `write_commitment` wrote."""
    return Commitment(**json.loads(file.read_text("utf-8")))


def unanswered(peer: str, timeout_s: float) -> DeliveryError:
    """Return the error of a request that no result came to."""
    return DeliveryError(
        f'Peer "{peer}" did not answer the storage commitment request within {timeout_s:g} s: see that it knows our '
        "AE title, host and port, and that we know the title and address that it reports from (`commitment_from`).",
        "commitment_timeout",
    )


def not_committed(peer: str, commitment: Commitment, sop_instance_uid: str) -> DeliveryError:
    """Return the error of a result that does not commit to an object, with the reason in words."""
    reason = dict(commitment.failed).get(sop_instance_uid)
    if reason is None:
        return DeliveryError(
            f'Peer "{peer}" says nothing of the object in the result of its storage commitment: look at its log.',
            "not_committed",
        )
    kind = ObjectDenied if reason == NO_SUCH_INSTANCE else DeliveryError
    words = FAILURE_REASONS.get(reason, "a reason of its own")
    return kind(
        f'Peer "{peer}" does not commit to the object: {words} ({reason:04X}H); look at its log.', "not_committed"
    )


def _reported(information: Dataset) -> Commitment:
    return Commitment(
        str(information.get("TransactionUID", "")),
        [str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence") or ()],
        [
            (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0))
            for item in information.get("FailedSOPSequence") or ()
        ],
    )
