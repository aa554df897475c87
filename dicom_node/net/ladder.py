"""The way to a peer, rung by rung: the first that does not hold says why, and what its administrator has to enter."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dicom_node.config import Config, Peer, PeerRole
from dicom_node.errors import NodeError
from dicom_node.net import scu
from dicom_node.net.association import CONNECT_TIMEOUT_S
from dicom_node.net.commitment_trial import try_commitment
from dicom_node.net.expiry import expiry_of
from dicom_node.net.tls import greet
from dicom_node.net.tls_faults import fault_of
from dicom_node.net.tls_sentences import REFUSED

_NOWHERE = "2.25.1"
"""A study that nobody has."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung.

    Attributes
    ----------
    what
        Is tried.
    good
        Whether it holds.
    sentence
        What was found.
    """

    what: str
    good: bool
    sentence: str


def climb(config: Config, peer: Peer) -> Iterator[Rung]:
    """Yield the rungs to a peer up to the first that does not hold.

    Parameters
    ----------
    config
        Of the node.
    peer
        One with a port.
    """
    for what, trial in _rungs(config, peer):
        try:
            yield Rung(what, True, trial())
        except NodeError as error:
            yield Rung(what, False, f"{error} ({error.code})")
            return
        except OSError as error:
            yield Rung(what, False, _refused(peer, what, error))
            return


def sentence_for(config: Config, peer: Peer) -> str:
    """Return what the administrator of a peer has to enter, to be copied."""
    node = config.node
    name = socket.getfqdn() if node.bind in ("0.0.0.0", "::") else node.bind  # noqa: S104 - compared, not bound
    asked = [f"Please enter the DICOM node {node.ae_title}, host {name}, port {node.port}, in {peer.ae_title}"]
    if PeerRole.SOURCE in peer.roles:
        asked.append("as a destination of the head MR studies of TSC patients, all series")
    if PeerRole.DESTINATION in peer.roles:
        asked.append("as allowed to store Structured Reports and Secondary Captures")
        if peer.verify == "commitment":
            asked.append("as an entity to which results of storage commitment are reported at that host and port")
        if peer.verify == "find":
            asked.append("as allowed to query by C-FIND")
    return ", ".join(asked) + "."


def _rungs(config: Config, peer: Peer) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "name", lambda: _name(peer)
    yield "connection", lambda: _connection(peer)
    if peer.tls:
        yield "TLS certificate", lambda: _certificate(config, peer)
    yield "association and C-ECHO", lambda: _echo(config, peer)
    if PeerRole.DESTINATION in peer.roles:
        if peer.verify == "find":
            yield "C-FIND", lambda: _find(config, peer)
        if peer.verify == "commitment":
            yield "storage commitment", lambda: try_commitment(config, peer)


def _name(peer: Peer) -> str:
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)}
    return f"{peer.host} is {', '.join(sorted(found))}"


def _connection(peer: Peer) -> str:
    began_s = time.monotonic()
    socket.create_connection((peer.host, peer.port), timeout=CONNECT_TIMEOUT_S).close()
    return f"port {peer.port} answers in {1000 * (time.monotonic() - began_s):.0f} ms"


def _certificate(config: Config, peer: Peer) -> str:
    shown = greet(config, peer, CONNECT_TIMEOUT_S).shown
    return expiry_of(shown.certificate).sentence if shown else "accepted"


def _echo(config: Config, peer: Peer) -> str:
    return f"{peer.ae_title} accepts {config.node.ae_title}; C-ECHO in {1000 * scu.echo(config, peer):.0f} ms"


def _find(config: Config, peer: Peer) -> str:
    scu.find_instances(config, peer, _NOWHERE)
    return "answers queries"


def _refused(peer: Peer, what: str, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"The name service knows no {peer.host}: correct host, or write its address."
    if what == "TLS certificate":
        fault = fault_of(error)
        return REFUSED.get(fault, str(fault))
    why = error.strerror or "time is over"
    return f"{peer.host} does not answer at port {peer.port} ({why}): check port and firewall."
