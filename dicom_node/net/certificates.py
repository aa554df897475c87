"""What a certificate says, whose it is, and until when it holds."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dicom_node.config import Config, Peer
from dicom_node.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is read of a certificate.

    Attributes
    ----------
    subject
        As RFC 4514 writes it.
    hosts
        Host names and addresses of the Subject Alternative Name; the common name where there are none.
    names
        The hosts, every common name, and the subject.
    not_before, not_after
        When it holds.
    fingerprint
        SHA-256 in hexadecimal digits.
    """

    subject: str
    hosts: frozenset[str]
    names: frozenset[str]
    not_before: datetime
    not_after: datetime
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What the other side of a connection showed.

    Attributes
    ----------
    certificate
        Its own one.
    chain
        Fingerprints of the certificates by which it was verified, from its own one to the one that is trusted.
    """

    certificate: Certificate
    chain: tuple[str, ...]


def parse_certificate(der: bytes) -> Certificate:
    """Return what a certificate in DER says; one that cannot be read has no names, and its fingerprint still."""
    try:
        return _facts(x509.load_der_x509_certificate(der))
    except ValueError:
        nothing: frozenset[str] = frozenset()
        always = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        return Certificate("a certificate that cannot be read", nothing, nothing, *always, fingerprint_of(der))


def fingerprint_of(der: bytes) -> str:
    """Return the SHA-256 of a certificate in DER."""
    return hashlib.sha256(der).hexdigest()


def read_certificates(file: Path) -> list[Certificate]:
    """Return the certificates in a PEM file, in its order.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds none (``tls_file_unusable``).
    """
    try:
        return [_facts(each) for each in x509.load_pem_x509_certificates(file.read_bytes())]
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValueError:
        why = "it holds no certificate in PEM, or a damaged one"
    raise ConfigError(f"{file} cannot be used ({why}): correct the path, or the file.", "tls_file_unusable")


def trusted_files(config: Config, peer: Peer) -> tuple[Path, ...]:
    """Return the files of the CAs that vouch for `peer`."""
    return peer.tls_ca or config.tls.ca


def belongs_to(shown: Shown, peer: Peer, trusted: frozenset[str]) -> bool:
    """Return whether a verified certificate is one of `peer`.

    Parameters
    ----------
    shown
        Verified for this connection, perhaps by the CA of somebody else.
    peer
        Its fingerprints count, else its names, else its hosts. One that stands itself in its ``tls_ca`` is its own.
    trusted
        Fingerprints of the certificates in `trusted_files` of the peer.
    """
    if trusted.isdisjoint(shown.chain):
        return False
    certificate = shown.certificate
    if peer.tls_fingerprints:
        return certificate.fingerprint in peer.tls_fingerprints
    if peer.tls_names:
        return any(_covers(name, wanted) for name in certificate.names for wanted in peer.tls_names)
    pinned = bool(peer.tls_ca) and certificate.fingerprint in trusted
    hosts = {peer.host, *filter(None, (text.partition("@")[2] for text in peer.commitment_from))}
    return pinned or any(_covers(name, host) for name in certificate.hosts for host in hosts)


def configured_certificates(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield what each file of certificates is called, and the file: the node's own, CAs, those of peers."""
    if config.tls.certificate is not None:
        yield "own certificate", config.tls.certificate
    for file in config.tls.ca:
        yield f"CA {file.name}", file
    for peer in config.peers:
        for file in peer.tls_ca:
            yield f"{file.name} of peer {peer.name}", file


def fingerprints(files: Sequence[Path]) -> frozenset[str]:
    """Return the fingerprints of all certificates in `files`; raise as `read_certificates`."""
    return frozenset(each.fingerprint for file in files for each in read_certificates(file))


def _facts(certificate: x509.Certificate) -> Certificate:
    common = {str(name.value).lower() for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    subject = certificate.subject.rfc4514_string()
    hosts = _alternative_hosts(certificate) or common
    return Certificate(
        subject,
        frozenset(hosts),
        frozenset({*hosts, *common, subject.lower()}),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        fingerprint_of(certificate.public_bytes(Encoding.DER)),
    )


def _alternative_hosts(certificate: x509.Certificate) -> set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    hosts = {name.lower() for name in extension.value.get_values_for_type(x509.DNSName)}
    return hosts | {str(address) for address in extension.value.get_values_for_type(x509.IPAddress)}


def _covers(name: str, wanted: str) -> bool:
    """Return whether a name of a certificate stands for `wanted`: the same, or ``*`` in place of its first label."""
    wanted = _plain(wanted)
    first, _, rest = wanted.partition(".")
    return name in (wanted, f"*.{rest}" if first and "." in rest else wanted)


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")
