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
    known = [peer for peer in config.peers if peer.ae_title == calling and address in _addresses(peer, peer.host)]
    if config.receive.accept == "any":
        return {PeerRole.SOURCE}
    if not known and any(_reports(peer, calling, address) for peer in config.peers):
        return set()
    return {role for peer in known for role in peer.roles} if known else None


def plain_address(text: str) -> str:
    """Return an address in one spelling; IPv4 inside IPv6 is IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _reports(peer: Peer, calling: str, address: str) -> bool:
    """Return whether a caller is one that a peer only reports storage commitment from."""
    named = (text.partition("@") for text in peer.commitment_from)
    return any(title == calling and address in _addresses(peer, host or peer.host) for title, _, host in named)


def _addresses(peer: Peer, host: str) -> set[str]:
    """Return the addresses that a host of a peer has now."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        say(logger, "peer host unknown", level=logging.WARNING, peer=peer.name, host=host)
        return set()
    return {plain_address(str(entry[4][0])) for entry in found}
