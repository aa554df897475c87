"""Results of storage commitment: the receiver writes down what a peer reports, the worker waits for it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.errors import DeliveryError
from dicom_node.log import say
from dicom_node.studies.spool import check_uid
from models.whole_files import make_folder, write_json

logger = logging.getLogger(__name__)

_POLL_S = 0.2


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


def await_commitment(file: Path, peer: str, timeout_s: float) -> Commitment:
    """Return the answer of the peer named `peer`, once it stands in `file`; the file is used up.

    Parameters
    ----------
    file
        See `commitment_file`; the receiver writes it.
    peer
        For the sentence of a refusal.
    timeout_s
        From now on.

    Raises
    ------
    DeliveryError
        ``commitment_timeout``.
    """
    deadline_s = time.monotonic() + timeout_s
    while not file.exists():
        if time.monotonic() > deadline_s:
            raise DeliveryError(
                f"Peer {peer} did not answer the storage commitment request within {timeout_s:g} s: see that it knows "
                "our AE title, host and port.",
                "commitment_timeout",
            )
        time.sleep(_POLL_S)
    commitment = Commitment(**json.loads(file.read_text("utf-8")))
    file.unlink()
    say(logger, "storage commitment answered", peer=peer, committed=len(commitment.committed))
    return commitment


def _reported(information: Dataset) -> Commitment:
    return Commitment(
        str(information.get("TransactionUID", "")),
        [str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence") or ()],
        [
            (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0))
            for item in information.get("FailedSOPSequence") or ()
        ],
    )
