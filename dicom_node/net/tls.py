"""DICOM over TLS: what is spoken on either side.

The profiles are those of PS3.15 B.12 and B.13 (BCP 195: RFC 8996, RFC 9325): TLS 1.2 and 1.3, no renegotiation, no
compression, forward secrecy and authenticated encryption alone, keys of 2048 bits (RSA) and 256 bits (elliptic curves)
at least. Of the cipher suites of TLS 1.3 those are offered that OpenSSL offers by itself.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import stat
from pathlib import Path
from typing import Any, Final

from dicom_node.config import ClientCertificates, Config, Peer, TLSProfile, TLSSection
from dicom_node.errors import ConfigError
from dicom_node.log import say
from dicom_node.net.certificates import (
    Shown,
    belongs_to,
    configured_certificates,
    fingerprint_of,
    fingerprints,
    parse_certificate,
    read_certificates,
    trusted_files,
)
from dicom_node.net.tls_faults import TLSFault, WrongName, fault_of

logger = logging.getLogger(__name__)

_AES_GCM = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
CIPHERS: Final = {
    TLSProfile.BCP195: _AES_GCM,
    TLSProfile.BCP195_MODIFIED: (
        *_AES_GCM,
        *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        *("ECDHE-ECDSA-AES256-CCM", "ECDHE-ECDSA-AES128-CCM"),
    ),
}
"""Cipher suites of TLS 1.2, as OpenSSL names them, the preferred first."""
# RSA of 2048 bits, elliptic curves of 224, SHA-256 in signatures; the curves themselves begin at 256 bits.
_SECURITY_LEVEL = "@SECLEVEL=2"


class ServerContext(ssl.SSLContext):
    """How the node takes connections over TLS.

    Attributes
    ----------
    chains
        By which certificates were verified, by their fingerprints.
    """

    chains: dict[str, tuple[str, ...]]


def server_context(config: Config) -> ServerContext:
    """Return how the node takes connections over TLS.

    Raises
    ------
    ConfigError
        If a file is missing, damaged, or a key that others can read.
    """
    tls = config.tls
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.chains = {}
    _limit(context, tls)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.num_tickets = 0
    if tls.client_certificates is not ClientCertificates.NONE:
        required = tls.client_certificates is ClientCertificates.REQUIRED
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        _trust(context, {*tls.ca, *(file for peer in config.peers for file in peer.tls_ca)})
    return context


def say_goodbye(connection: socket.socket) -> None:
    """Tell the other side of TLS that nothing was cut off (close_notify, RFC 8446 6.1), without waiting for its own."""
    if isinstance(connection, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            connection.setblocking(False)
            connection.unwrap()


class ClientContext(ssl.SSLContext):
    """How the node calls one peer, and what came of it: pynetdicom keeps neither (no upstream issue known).

    Attributes
    ----------
    shown
        What the peer showed.
    error
        Why the connection failed, if it did.
    spoken
        Version and cipher suite.
    """

    peer: Peer
    trusted: frozenset[str]
    shown: Shown | None = None
    error: OSError | None = None
    spoken: str = ""


class _Connection(ssl.SSLSocket):
    """A connection to a peer whose certificate is compared before anything is said."""

    def shutdown(self, how: int) -> None:
        """Close as well what is connected no longer: pynetdicom leaves it to the garbage collector."""
        say_goodbye(self)
        try:
            super().shutdown(how)
        except OSError:
            self.close()
            raise

    def do_handshake(self, block: bool = False) -> None:
        context = self.context
        assert isinstance(context, ClientContext)
        try:
            super().do_handshake(block)
            context.shown = shown = shown_by(self)
            context.spoken = f"{self.version()}, {(self.cipher() or ('',))[0]}"
            if shown is None or not belongs_to(shown, context.peer, context.trusted):
                raise WrongName("the certificate is not that of the peer")
        except OSError as error:
            context.error = error
            raise

    def recv(self, *arguments: Any) -> bytes:
        """Read as any socket; with TLS 1.3 a peer says only now that it refuses our certificate."""
        try:
            return super().recv(*arguments)
        except ssl.SSLError as error:
            assert isinstance(self.context, ClientContext)
            self.context.error = error
            raise


ClientContext.sslsocket_class = _Connection


def client_context(config: Config, peer: Peer) -> ClientContext:
    """Return how `peer` is called over TLS; for one connection.

    Raises
    ------
    ConfigError
        As `server_context`.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    # The names are compared by `belongs_to`, on both sides in the same way.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    _limit(context, config.tls)
    files = trusted_files(config, peer)
    _trust(context, set(files))
    context.peer, context.trusted = peer, fingerprints(files)
    return context


def greet(config: Config, peer: Peer, timeout_s: float) -> ClientContext:
    """Return what a connection over TLS to `peer` came to, without a word of DICOM.

    Raises
    ------
    ConfigError
        As `server_context`.
    OSError
        If there is no connection; `fault_of` says why.
    """
    context = client_context(config, peer)
    with (
        socket.create_connection((peer.host, peer.port or 0), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=peer.host),
    ):
        return context


def answers_tls(peer: Peer, timeout_s: float) -> bool:
    """Return whether `peer` answers to TLS at its port, be it by a refusal; nothing is verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((peer.host, peer.port or 0), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=peer.host),
        ):
            return True
    except OSError as error:
        return fault_of(error) not in (TLSFault.NOT_SPOKEN, TLSFault.NO_ANSWER, TLSFault.BROKEN_OFF)


class PortTLS:
    """How the TLS port takes connections; its files are read anew when they change.

    Parameters
    ----------
    config
        With a certificate and a key.

    Raises
    ------
    ConfigError
        As `server_context`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stamp = self._files()
        self._context = server_context(config)

    @property
    def context(self) -> ServerContext:
        """What the files say now; what they said before, while they cannot be used."""
        stamp = self._files()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = server_context(self._config)
            except ConfigError as error:
                say(logger, "changed certificates cannot be used", level=logging.ERROR, sentence=str(error))
            else:
                say(logger, "certificates read anew")
        return self._context

    def _files(self) -> tuple[tuple[str, int, int], ...]:
        files = [file for _, file in configured_certificates(self._config)]
        if self._config.tls.key:
            files.append(self._config.tls.key)
        return tuple(_stamp(file) for file in files)


def shown_by(connection: ssl.SSLSocket) -> Shown | None:
    """Return the verified certificate of the other side, None if it showed none."""
    der = connection.getpeercert(binary_form=True)
    if not der:
        return None
    leaf = parse_certificate(der)
    chain = tuple(fingerprint_of(each) for each in _verified_chain(connection))
    if isinstance(connection.context, ServerContext):
        # A resumed session of TLS 1.2 keeps the certificate and not the chain by which this context had verified it.
        known = connection.context.chains
        chain = known.setdefault(leaf.fingerprint, chain) if chain else known.get(leaf.fingerprint, ())
    return Shown(leaf, chain)


def _verified_chain(connection: ssl.SSLSocket) -> list[bytes]:
    """Return the chain in DER; public from Python 3.13 on (its issue 62433), and there before."""
    inner: Any = connection if hasattr(connection, "get_verified_chain") else connection._sslobj  # type: ignore[attr-defined]
    chain = inner.get_verified_chain() or []
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) if hasattr(each, "public_bytes") else each for each in chain]


def _limit(context: ssl.SSLContext, tls: TLSSection) -> None:
    """Allow what the profile allows, and show our certificate where there is one."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(":".join([*CIPHERS[tls.profile], _SECURITY_LEVEL]))
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.certificate and tls.key:
        _show(context, tls.certificate, tls.key)


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    read_certificates(certificate)
    _check_private(key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        why = "it is not the key of the certificate" if error.reason == "KEY_VALUES_MISMATCH" else "no key in PEM"
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            why = "the certificate has a key below 2048 bits, or a signature with SHA-1"
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValueError:
        why = "it has a password; write it without one, readable by the node's user alone"
    else:
        return
    raise ConfigError(f"{key} cannot be used with {certificate}: {why}.", "tls_key_unusable")


def _no_password() -> str:
    raise ValueError("keys with a password are not read")


def _check_private(key: Path) -> None:
    """Refuse a key that others can read; a group may, where root has given it to the group of the node."""
    try:
        found = key.stat()
    except OSError as error:
        raise ConfigError(f"{key} cannot be used ({error.strerror}): correct the path.", "tls_file_unusable") from None
    open_to = stat.S_IRWXO if found.st_uid == 0 else stat.S_IRWXO | stat.S_IRWXG
    if found.st_mode & open_to:
        raise ConfigError(f"{key} can be read by others: `chmod 600 {key}`, and make a new key.", "tls_key_open")


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0
    return str(file), found.st_mtime_ns, found.st_ino


def _trust(context: ssl.SSLContext, files: set[Path]) -> None:
    for file in files:
        read_certificates(file)
        context.load_verify_locations(cafile=file)
