"""What an operator is told of callers who are refused and of connections over TLS that failed."""

from __future__ import annotations

from typing import Final

from dicom_node.config import Config, Peer
from dicom_node.errors import PeerAway
from dicom_node.net.callers import Reason
from dicom_node.net.tls_faults import TLSFault

REFUSED: Final[dict[Reason | TLSFault, str]] = {
    Reason.CALLED_TITLE: "It called another AE title than ours: correct the called AE title there.",
    Reason.CALLED_TITLE_MALFORMED: (
        "The AE title that it called is blank, or holds bytes that are no characters: correct it there; "
        "AE titles are padded with spaces, not with nulls."
    ),
    Reason.TITLE_MALFORMED: (
        "Its own AE title is blank, or holds bytes that are no characters: correct it there; "
        "AE titles are padded with spaces, not with nulls."
    ),
    Reason.TITLE_UNKNOWN: "No peer has its AE title: if it belongs here, add it to [[peers]].",
    Reason.TITLE_CASE: "A peer has its AE title in other letters, and capitals count: correct it on one side.",
    Reason.ADDRESS: (
        "The peer of its AE title has another address: correct peers.host, or add a peer for this address."
    ),
    Reason.HOST_UNKNOWN: "The host of the peer of its AE title has no address: correct it, or the name service.",
    Reason.WITHOUT_TLS: "The peer of its AE title has tls = true, and it called the plain port: use tls.port there.",
    Reason.CERTIFICATE_OF_ANOTHER: (
        "Its certificate is that of another peer than its AE title says: correct the AE title or the certificate there."
    ),
    Reason.CERTIFICATE_UNKNOWN: (
        "Its certificate is trusted, and is none of a peer: set peers.tls_names or peers.tls_fingerprints."
    ),
    Reason.PROTOCOL_VERSION: "It speaks another version of the DICOM upper layer: update it.",
    Reason.APPLICATION_CONTEXT: "It names an application context that is not DICOM's: update it.",
    Reason.TOO_MANY_ASSOCIATIONS: "Too many associations are open: look for one that does not close.",
    TLSFault.NOT_SPOKEN: "It spoke no TLS to the TLS port: turn TLS on there, or use node.port.",
    TLSFault.NEEDED: "It spoke TLS to the plain port: use tls.port there.",
    TLSFault.VERSION: "It knows no TLS 1.2 and no TLS 1.3: update it.",
    TLSFault.NO_CIPHER: "It has no cipher suite in common with the profile: allow one of the conformance statement.",
    TLSFault.NO_CERTIFICATE: "It showed no certificate: give it one there, or see tls.client_certificates.",
    TLSFault.EXPIRED: "Its certificate, or one of its CA, has expired: renew it there.",
    TLSFault.NOT_YET_VALID: "Its certificate, or one of its CA, is not valid yet: look at both clocks.",
    TLSFault.UNTRUSTED: "Its certificate is of a CA that is not trusted: add that to tls.ca, or to its peers.tls_ca.",
    TLSFault.SELF_SIGNED: "Its certificate is self-signed and not known: add it to the peers.tls_ca of that peer.",
    TLSFault.WEAK: "Its certificate has too short a key or a signature with SHA-1: renew it there.",
    TLSFault.PURPOSE: "Its certificate is not meant for clients: renew it with the extended key usage clientAuth.",
    TLSFault.INVALID: "Its certificate cannot be verified: look at it with `openssl verify`.",
    TLSFault.OURS_REFUSED: "It does not accept our certificate: trust our CA there, and compare the names.",
    TLSFault.NO_ANSWER: "It began TLS and did not go on: look at the network, and at its log.",
    TLSFault.BROKEN_OFF: "It broke TLS off: look at its log.",
}
"""Of those who call us."""

FAILED: Final[dict[TLSFault, str]] = {
    TLSFault.NOT_SPOKEN: "speaks no TLS at {host}:{port}: turn TLS on there, or correct the port.",
    TLSFault.NEEDED: "speaks TLS at {host}:{port}: set tls = true, or use its plain port.",
    TLSFault.VERSION: "knows no TLS 1.2 and no TLS 1.3: update it.",
    TLSFault.NO_CIPHER: "has no cipher suite in common with the profile: allow one of the conformance statement there.",
    TLSFault.NO_CERTIFICATE: "wants a certificate of the node: set tls.certificate and tls.key.",
    TLSFault.EXPIRED: "shows a certificate that has expired, or its CA has: renew it there.",
    TLSFault.NOT_YET_VALID: "shows a certificate that is not valid yet: look at both clocks.",
    TLSFault.UNTRUSTED: "shows a certificate of a CA that is not trusted: add that to tls.ca, or to its tls_ca.",
    TLSFault.SELF_SIGNED: "shows a self-signed certificate that is not known: add it to its tls_ca.",
    TLSFault.WEAK: "shows a certificate with too short a key or a signature with SHA-1: renew it there.",
    TLSFault.PURPOSE: "shows a certificate that is not meant for servers: renew it with the usage serverAuth.",
    TLSFault.INVALID: "shows a certificate that cannot be verified: look at it with `openssl s_client`.",
    TLSFault.WRONG_NAME: (
        "shows a certificate with other names than its own: correct its host, or set tls_names or tls_fingerprints."
    ),
    TLSFault.OURS_REFUSED: "does not accept the certificate of the node: trust our CA there, and compare the names.",
    TLSFault.NO_ANSWER: "does not answer to TLS at {host}:{port}: is that its plain port?",
    TLSFault.BROKEN_OFF: "broke TLS off at {host}:{port}: look at its log, and whether that is its plain port.",
}
"""Of those whom we call."""


def tls_error(config: Config, peer: Peer, fault: TLSFault) -> PeerAway:
    """Return the error of a call over TLS that came to nothing."""
    if fault is TLSFault.NO_CIPHER and config.tls.certificate is None:
        # With TLS 1.2 who misses a certificate says the same as who misses a cipher suite.
        fault = TLSFault.NO_CERTIFICATE
    sentence = FAILED[fault].format(host=peer.host, port=peer.port)
    return PeerAway(f'Peer "{peer.name}" {sentence}', fault)
