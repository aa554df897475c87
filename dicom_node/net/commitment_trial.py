"""Try, before the first report needs it, whether the results of storage commitment come back to us."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.uid import Comprehensive3DSRStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicom_node.config import Config, Peer
from dicom_node.errors import DeliveryError
from dicom_node.net import scu
from dicom_node.net.commitments import NO_SUCH_INSTANCE, commitment_file, write_commitment
from dicom_node.net.tls import server_context

TRIAL_S = 15.0
"""How long the result of a trial is waited for: a peer knows at once that it does not hold the object."""
_LOOK_S = 0.1


def try_commitment(config: Config, peer: Peer, wait_s: float = TRIAL_S) -> str:
    """Ask a peer to commit to an object that nobody holds; return what is known when its result has come.

    Where no receiver of the node runs on this machine, its port is opened for the result alone.

    Parameters
    ----------
    config
        Of the node.
    peer
        A destination.
    wait_s
        How long its result may take.

    Raises
    ------
    PeerError
        If there is no association.
    DeliveryError
        If the peer does not have the service (``commitment_unsupported``), refuses (``commitment_refused``), or no
        result comes (``commitment_timeout``).
    """
    transaction_uid, nowhere = (f"2.25.{uuid.uuid4().int}" for _ in range(2))
    port, context = _own_port(config, peer)
    with _port_for_results(config, port, context):
        try:
            scu.request_commitment(config, peer, [(Comprehensive3DSRStorage, nowhere)], transaction_uid)
        except DeliveryError as error:
            if error.status != NO_SUCH_INSTANCE:
                raise
            return "takes requests, and refuses this one at once: whether results come back is not known"
        came = _came(config, transaction_uid, wait_s)
    if not came:
        raise DeliveryError(
            f'Peer "{peer.name}" takes the request, and no result came back within {wait_s:g} s: enter our AE title '
            f"{config.node.ae_title}, host and port {port} there; if it reports from another title or "
            "address, name that in `commitment_from`.",
            "commitment_timeout",
        )
    return "reports storage commitment back"


def _came(config: Config, transaction_uid: str, wait_s: float) -> bool:
    file, until_s = commitment_file(config.node.data_dir, transaction_uid), time.monotonic() + wait_s
    while not file.exists():
        if time.monotonic() > until_s:
            return False
        time.sleep(_LOOK_S)
    file.unlink()
    return True


def _own_port(config: Config, peer: Peer) -> tuple[int, ssl.SSLContext | None]:
    """Return the port that `peer` reports to, and how TLS is spoken there."""
    if config.tls.port is not None and (peer.tls or not config.tls.plain):
        return config.tls.port, server_context(config)
    return config.node.port, None


@contextmanager
def _port_for_results(config: Config, port: int, context: ssl.SSLContext | None) -> Iterator[None]:
    """Take results of storage commitment and nothing else, unless a receiver has the port."""

    def keep(event: evt.Event) -> tuple[int, None]:
        write_commitment(config.node.data_dir, event.event_information)
        return 0x0000, None

    entity = AE(config.node.ae_title)
    entity.require_called_aet = True
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, keep)]
    try:
        server = entity.start_server((config.node.bind, port), block=False, evt_handlers=handlers, ssl_context=context)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        if server:
            server.shutdown()
