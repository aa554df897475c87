"""The way to a peer, rung by rung: the first that does not hold says why, and what its administrator has to enter."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.config import Config, Peer, PeerRole
from dicom_node.errors import DeliveryError, NodeError
from dicom_node.net import scu
from dicom_node.net.association import CONNECT_TIMEOUT_S, associated
from dicom_node.net.commitment_trial import try_commitment
from dicom_node.net.expiry import expiry_of
from dicom_node.net.tls import greet
from dicom_node.net.tls_faults import fault_of
from dicom_node.net.tls_sentences import REFUSED

_REPORT = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage)
CLASSES: Final[Mapping[str, Mapping[str, Sequence[UID]]]] = {
    "sr": {"Structured Report": _REPORT},
    "summary": {"Secondary Capture": (SecondaryCaptureImageStorage,)},
    "pdf": {"Encapsulated PDF": (EncapsulatedPDFStorage,)},
    "key": {"Key Object Selection": (KeyObjectSelectionDocumentStorage,)},
    "saliency": {"Secondary Capture": (SecondaryCaptureImageStorage,), "Parametric Map": (ParametricMapStorage,)},
}
"""What is sent in which SOP classes, by the kinds of `report.send`; of several one is enough, the best comes first."""
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
        yield "SOP classes", lambda: _classes(config, peer)
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


def _classes(config: Config, peer: Peer) -> str:
    """Say which of the classes it takes, of what it is sent; an association that only proposes stores nothing."""
    kinds = {**CLASSES["sr"]} if config.report.held == "sr" else {}
    for kind in config.sent_to(peer):
        kinds |= CLASSES.get(kind, {})
    asked = list(dict.fromkeys(uid for classes in kinds.values() for uid in classes))
    with associated(config, peer, [build_context(uid, list(scu.PLAIN)) for uid in asked]) as association:
        taken = {context.abstract_syntax for context in association.accepted_contexts}
    missing = [kind for kind, classes in kinds.items() if not taken.intersection(classes)]
    if missing:
        raise DeliveryError(
            f'Peer "{peer.name}" takes no {", no ".join(missing)}: enable it there, or leave it out of send.',
            "sop_class_refused",
        )
    return f"takes {', '.join(uid.name.removesuffix(' Storage') for uid in asked if uid in taken)}"


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
