"""Who may talk to us: configured peers, known by AE title and address."""

from __future__ import annotations

import ipaddress
import logging
import socket
from dataclasses import dataclass, field

from dicom_node.config import Config, Peer, PeerRole
from dicom_node.log import say
from dicom_node.studies.timeline import Ending

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Caller:
    """Who opened an association.

    Attributes
    ----------
    ae_title, address
        As it named itself, and where it is.
    may_store
        Whether it is a source.
    studies
        What it has sent so far.
    ending
        How it ended its association, where that is known.
    """

    ae_title: str
    address: str
    may_store: bool
    studies: set[str] = field(default_factory=set)
    ending: Ending | None = None


def known_roles(config: Config, calling: str, address: str) -> set[PeerRole] | None:
    """Return the roles of who is calling, None for a stranger.

    Parameters
    ----------
    config
        Peers, and whether every caller is accepted.
    calling
        AE title.
    address
        As `plain_address` spells it. The hosts of peers are looked up anew: their addresses may change.
    """
    known = [peer for peer in config.peers if peer.ae_title == calling and address in _addresses(peer)]
    if config.receive.accept == "any":
        return {PeerRole.SOURCE}
    return {role for peer in known for role in peer.roles} if known else None


def plain_address(text: str) -> str:
    """Return an address in one spelling; IPv4 inside IPv6 is IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _addresses(peer: Peer) -> set[str]:
    """Return the addresses the host of a peer has now."""
    try:
        found = socket.getaddrinfo(peer.host, None, type=socket.SOCK_STREAM)
    except OSError:
        say(logger, "peer host unknown", level=logging.WARNING, peer=peer.name, host=peer.host)
        return set()
    return {plain_address(str(entry[4][0])) for entry in found}
