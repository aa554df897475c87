"""Who may talk to us: configured peers, known by AE title, address and, over TLS, certificate."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from dicom_node.config import Config, Peer, PeerRole
from dicom_node.errors import ConfigError
from dicom_node.log import say
from dicom_node.net.addresses import Addresses
from dicom_node.net.certificates import Shown, belongs_to, fingerprints, trusted_files
from dicom_node.studies.timeline import Ending

logger = logging.getLogger(__name__)

# PS3.8 9.3.2: padded with spaces, which do not count, to 16 characters; PS3.5 6.2, VR AE; never spaces alone.
_TITLE = re.compile(rb"[\x20-\x5b\x5d-\x7e]{1,16}")


class Reason(StrEnum):
    """Why the association of a caller is refused."""

    CALLED_TITLE = "called_title"
    CALLED_TITLE_MALFORMED = "called_title_malformed"
    TITLE_MALFORMED = "title_malformed"
    TITLE_UNKNOWN = "title_unknown"
    TITLE_CASE = "title_case"
    ADDRESS = "address"
    HOST_UNKNOWN = "host_unknown"
    WITHOUT_TLS = "without_tls"
    CERTIFICATE_OF_ANOTHER = "certificate_of_another"
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    PROTOCOL_VERSION = "protocol_version"
    APPLICATION_CONTEXT = "application_context"
    TOO_MANY_ASSOCIATIONS = "too_many_associations"


@dataclass(frozen=True, slots=True)
class Call:
    """A request for an association, before anything of it is believed.

    Attributes
    ----------
    called, calling
        Both AE titles, as their 16 bytes came.
    address
        As `plain_address` spells it.
    over_tls
        Whether it came in at the TLS port.
    shown
        The certificate of the caller, where it showed one.
    """

    called: bytes
    calling: bytes
    address: str
    over_tls: bool = False
    shown: Shown | None = None


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


class _Named(NamedTuple):
    """An AE title of a peer, where it calls from, and whether it may store."""

    peer: Peer
    ae_title: str
    host: str
    may_store: bool


def recognise(config: Config, addresses: Addresses, call: Call) -> Caller | Reason:
    """Return who is calling, or why nobody of that kind may.

    Parameters
    ----------
    config
        Our own AE title, the peers, and whether every caller is accepted.
    addresses
        Of the hosts of peers.
    call
        What is known of the caller.
    """
    called, calling = _title(call.called), _title(call.calling)
    if called is None:
        return Reason.CALLED_TITLE_MALFORMED
    if called != config.node.ae_title:
        return Reason.CALLED_TITLE
    if calling is None:
        return Reason.TITLE_MALFORMED
    if config.receive.accept == "any":
        return Caller(calling, call.address, may_store=True)
    here = _here(config, addresses, calling, call.address)
    if not isinstance(here, Reason):
        here = _of_this_connection(config, here, call)
    return here if isinstance(here, Reason) else Caller(calling, call.address, any(each.may_store for each in here))


def visible_title(title: bytes) -> str:
    """Return an AE title for people: without the spaces that pad it, and every byte that is no character escaped."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in title.strip(b" ")
    )


def _title(raw: bytes) -> str | None:
    return raw.decode("ascii").strip(" ") if _TITLE.fullmatch(raw) and raw.strip(b" ") else None


def _named(config: Config) -> Iterator[_Named]:
    """Yield every AE title of a peer: its own, and those that it only reports storage commitment from."""
    for peer in config.peers:
        yield _Named(peer, peer.ae_title, peer.host, PeerRole.SOURCE in peer.roles)
        for title, _, host in (text.partition("@") for text in peer.commitment_from):
            yield _Named(peer, title, host or peer.host, may_store=False)


def _here(config: Config, addresses: Addresses, title: str, address: str) -> list[_Named] | Reason:
    """Return what is known by this title at this address."""
    known = [*_named(config)]
    named = [each for each in known if each.ae_title == title]
    if not named:
        other_letters = any(each.ae_title.lower() == title.lower() for each in known)
        return Reason.TITLE_CASE if other_letters else Reason.TITLE_UNKNOWN
    places = {each.host: addresses.of(each.host) for each in named}
    here = [each for each in named if address in places[each.host]]
    return here or (Reason.ADDRESS if any(places.values()) else Reason.HOST_UNKNOWN)


def _of_this_connection(config: Config, here: list[_Named], call: Call) -> list[_Named] | Reason:
    """Return those who may call in this way."""
    if not call.over_tls:
        return [each for each in here if not each.peer.tls or config.tls.port is None] or Reason.WITHOUT_TLS
    if call.shown is None:
        return here
    owners = [peer for peer in config.peers if _owns(config, peer, call.shown)]
    if not owners:
        return Reason.CERTIFICATE_UNKNOWN
    return [each for each in here if each.peer in owners] or Reason.CERTIFICATE_OF_ANOTHER


def _owns(config: Config, peer: Peer, shown: Shown) -> bool:
    try:
        return belongs_to(shown, peer, fingerprints(trusted_files(config, peer)))
    except ConfigError:
        say(logger, "certificates cannot be read", level=logging.ERROR, peer=peer.name)
        return False
