"""Deliver result objects: prove, try again for days, set aside.

Sent is not delivered: a delivery counts when the peer has shown that it holds the object, by storage commitment or by
C-FIND, as the peer is configured. What is sent are the stored bytes of the run, never a report built anew.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pydicom

from dicom_node import scu
from dicom_node.config import Config, Peer
from dicom_node.errors import DeliveryError, PeerError
from dicom_node.log import say
from dicom_node.spool import Spool

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 3600.0
_POLL_S = 0.2
# PS3.4 B.2.3: out of resources passes; the object itself being refused does not.
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_STORE_CLASS_FAILURES = range(0xA000, 0xD000)


def delays_s(retry_s: float, give_up_hours: float) -> Iterator[float]:
    """Yield pauses that double up to an hour, until together they exceed the time to give up.

    Examples
    --------
    >>> list(delays_s(1000, 1))
    [1000, 2000, 3600.0]
    """
    pause_s, total_s = retry_s, 0.0
    while total_s < give_up_hours * 3600:
        yield pause_s
        total_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def is_permanent(error: PeerError) -> bool:
    """Tell whether the peer refused the object itself, so that trying again is of no use."""
    status = error.status if isinstance(error, DeliveryError) else None
    return status is not None and status in _STORE_CLASS_FAILURES and status not in _OUT_OF_RESOURCES


def verify(config: Config, peer: Peer, file: Path, spool: Spool) -> str:
    """Return how the peer proved that it holds the object: ``commitment``, ``find`` or ``none`` if none is asked for.

    Raises
    ------
    PeerError
        If it did not prove it.
    """
    if peer.verify == "none":
        return "none"
    dataset = pydicom.dcmread(file, stop_before_pixels=True)
    uid = str(dataset.SOPInstanceUID)
    if peer.verify == "find":
        found = scu.find_instances(config, peer, str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID))
        if uid not in found:
            raise DeliveryError(f"Peer {peer.name} does not list the object it accepted: look at its log.", "not_found")
        return "find"
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    scu.request_commitment(config, peer, [(str(dataset.SOPClassUID), uid)], transaction_uid)
    answer = _await_commitment(spool.data_dir / "commitments" / f"{transaction_uid}.json", config, peer)
    if uid not in answer["committed"]:
        raise DeliveryError(f"Peer {peer.name} does not commit to the object: look at its log.", "not_committed")
    return "commitment"


def _await_commitment(file: Path, config: Config, peer: Peer) -> dict[str, list[str]]:
    """Return the peer's answer, which the receiving process writes down when it comes."""
    deadline_s = time.monotonic() + config.delivery.commitment_timeout_s
    while not file.exists():
        if time.monotonic() > deadline_s:
            raise DeliveryError(
                f"Peer {peer.name} did not answer the storage commitment request within "
                f"{config.delivery.commitment_timeout_s:g} s: see that it knows our AE title, host and port.",
                "commitment_timeout",
            )
        time.sleep(_POLL_S)
    answer: dict[str, list[str]] = json.loads(file.read_text("utf-8"))
    file.unlink()
    say(logger, "storage commitment answered", peer=peer.name, committed=len(answer["committed"]))
    return answer
