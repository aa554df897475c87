"""Deliver result objects: prove, try again for days, set aside.

Sent is not delivered: a delivery counts when the peer has shown that it holds the object, by storage commitment or by
C-FIND, as the peer is configured. What is sent are the stored bytes of the run, never a report built anew.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pydicom

from dicom_node.config import Config, Peer
from dicom_node.errors import DeliveryError
from dicom_node.net import scu
from dicom_node.net.commitments import await_commitment, commitment_file
from dicom_node.studies.spool import Spool

_LONGEST_PAUSE_S = 3600.0


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


def verify(config: Config, peer: Peer, object_file: Path, spool: Spool) -> str:
    """Return how the peer proved that it holds the object: ``commitment``, ``find`` or ``none`` if none is asked for.

    Raises
    ------
    PeerError
        If it did not prove it.
    """
    if peer.verify == "none":
        return "none"
    dataset = pydicom.dcmread(object_file, stop_before_pixels=True)
    uid = str(dataset.SOPInstanceUID)
    if peer.verify == "find":
        found = scu.find_instances(config, peer, str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID))
        if uid not in found:
            raise DeliveryError(f"Peer {peer.name} does not list the object it accepted: look at its log.", "not_found")
        return "find"
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    scu.request_commitment(config, peer, [(str(dataset.SOPClassUID), uid)], transaction_uid)
    file = commitment_file(spool.data_dir, transaction_uid)
    answer = await_commitment(file, peer.name, config.delivery.commitment_timeout_s)
    if uid not in answer["committed"]:
        raise DeliveryError(f"Peer {peer.name} does not commit to the object: look at its log.", "not_committed")
    return "commitment"
