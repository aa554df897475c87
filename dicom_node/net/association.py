"""An association that we open: with a timeout at every stage, and an error for every way in which it may fail."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.config import Config, Peer
from dicom_node.errors import ConfigError, DeliveryError, PeerAway, PeerError
from dicom_node.net.tls import ClientContext, answers_tls, client_context
from dicom_node.net.tls_faults import TLSFault, fault_of
from dicom_node.net.tls_sentences import tls_error
from dicom_node.net.upper_layer import Rejection

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 30
MESSAGE_TIMEOUT_S = 120


def send_at_once(event: evt.Event) -> None:
    """Turn Nagle's algorithm off: messages are small, and the other side waits for each.

    pynetdicom has no setting for it (no upstream issue known).
    """
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        with contextlib.suppress(OSError):
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.contextmanager
def associated(
    config: Config, peer: Peer, contexts: list[PresentationContext], handlers: Sequence[Any] = ()
) -> Iterator[Association]:
    """Yield an established association; it is released afterwards, or aborted if something is raised.

    Parameters
    ----------
    config
        Our own AE title.
    peer
        With a port.
    contexts
        What is proposed.
    handlers
        Of pynetdicom's events, for what the peer asks of us meanwhile.

    Raises
    ------
    PeerAway
        If there is no association.
    DeliveryError
        If the peer accepts nothing of what is proposed (``sop_class_refused``).
    """
    association = _associate(config, peer, contexts, handlers)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _associate(config: Config, peer: Peer, contexts: list[PresentationContext], handlers: Sequence[Any]) -> Association:
    _config.LOG_HANDLER_LEVEL = "none"
    connected = threading.Event()
    events = [(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_CONN_OPEN, lambda _: connected.set()), *handlers]
    entity = _application_entity(config.node.ae_title)
    for address in _addresses(peer):
        secured = _tls_of(config, peer)
        try:
            association = entity.associate(
                *(address, peer.port or 0, contexts),
                ae_title=peer.ae_title,
                tls_args=(secured, peer.host) if secured else None,
                evt_handlers=events,
            )
        except OSError:
            raise _unreachable(peer) from None
        if association.is_established:
            _keep_answers(association)
            return association
        if secured and secured.error:
            raise _no_tls(config, peer, secured.error)
        if connected.is_set():
            raise _no_association(config, peer, association)
    raise _unreachable(peer)


def _addresses(peer: Peer) -> list[str]:
    """Return the addresses of a peer, which are tried one after the other; pynetdicom knows but one."""
    try:
        found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _unreachable(peer) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _tls_of(config: Config, peer: Peer) -> ClientContext | None:
    try:
        return client_context(config, peer) if peer.tls else None
    except ConfigError as error:
        # Whoever calls tries again: files are put in order while the node runs.
        raise PeerAway(str(error), error.code) from None


def _keep_answers(association: Association) -> None:
    """Give an answer back to whoever waits for it.

    pynetdicom 3.0.4 can lose one: its own loop leaves the checkpoint, is suspended, and then takes the answer to a
    message that was sent meanwhile off the queue and drops it as unexpected; the caller waits until the timeout. Its
    issue 875 shows the symptom and was closed as a question.
    """
    serve, queue = association._serve_request, association.dimse.msg_queue

    def serve_or_give_back(message: Any, context_id: int) -> None:
        if message.is_valid_request:
            serve(message, context_id)
            return
        with queue.mutex:
            queue.queue.appendleft((context_id, message))
            queue.not_empty.notify()

    association._serve_request = serve_or_give_back  # type: ignore[method-assign,assignment]


def _application_entity(ae_title: str) -> AE:
    entity = AE(ae_title)
    entity.connection_timeout = CONNECT_TIMEOUT_S
    entity.acse_timeout = ANSWER_TIMEOUT_S
    entity.dimse_timeout = MESSAGE_TIMEOUT_S
    entity.network_timeout = MESSAGE_TIMEOUT_S
    return entity


def status_of(peer: Peer, answer: Dataset) -> int:
    """Return the status of an answer; pynetdicom gives an empty one for a timeout or a lost connection."""
    if "Status" not in answer:
        raise broken_off(peer)
    return int(answer.Status)


def _no_tls(config: Config, peer: Peer, error: OSError) -> PeerAway:
    fault = fault_of(error)
    if fault is TLSFault.BROKEN_OFF and not answers_tls(peer, CONNECT_TIMEOUT_S):
        fault = TLSFault.NOT_SPOKEN
    return tls_error(config, peer, fault)


def _no_association(config: Config, peer: Peer, association: Association) -> PeerError:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        return PeerAway(_rejected(config, peer, answer), "association_rejected")
    if answer is not None and answer.result == 0:
        return no_context(peer)
    if not peer.tls and answers_tls(peer, CONNECT_TIMEOUT_S):
        return tls_error(config, peer, TLSFault.NEEDED)
    return _silent(config, peer)


def _rejected(config: Config, peer: Peer, answer: Any) -> str:
    """Return whose AE title the other side does not know, where it says so (PS3.8 9.3.4)."""
    match (answer.result, answer.result_source, answer.diagnostic):
        case Rejection.CALLING_AE_TITLE.value:
            return f'Peer "{peer.name}" does not know the AE title {config.node.ae_title}: have it entered there.'
        case Rejection.CALLED_AE_TITLE.value:
            return f'Peer "{peer.name}" does not answer to the AE title {peer.ae_title}: ask for its own, and set it.'
    return (
        f'Peer "{peer.name}" rejects the association ({answer.reason_str}): compare the AE titles and addresses '
        "configured on both sides."
    )


def _silent(config: Config, peer: Peer) -> PeerAway:
    """Return the error of a request without an answer; one that is closed at once behind a rejection takes it along."""
    return PeerAway(
        f'Peer "{peer.name}" does not answer the request for an association: look whether its DICOM service runs, and '
        f"whether it knows the AE title {config.node.ae_title}.",
        "association_unanswered",
    )


def _unreachable(peer: Peer) -> PeerAway:
    return PeerAway(
        f'Peer "{peer.name}" cannot be reached at {peer.host}:{peer.port}: check host, port, network and firewall.',
        "peer_unreachable",
    )


def broken_off(peer: Peer) -> PeerError:
    """Return the error of an association that ended before the answer."""
    return PeerError(f'Peer "{peer.name}" broke off or did not answer in time: look at its log.', "peer_broke_off")


def no_context(peer: Peer) -> DeliveryError:
    """Return the error of a peer that has none of the services asked for."""
    return DeliveryError(
        f'Peer "{peer.name}" accepts none of the SOP classes offered: enable them there.', "sop_class_refused"
    )


def refusal(peer: Peer, call: str, code: str, status: int) -> DeliveryError:
    """Return the error of a call that was answered with another status than Success."""
    return DeliveryError(
        f'{call} was refused by peer "{peer.name}" with status {status:04X}H: see its log.', code, status
    )
