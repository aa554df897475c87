"""Certificates for the tests: an authority that signs whatever it is asked to, on elliptic curves, which is quick."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True)
class Authority:
    """A certification authority whose files lie in one folder."""

    folder: Path
    name: str
    key: Key
    certificate: x509.Certificate

    @classmethod
    def new(cls, folder: Path, name: str = "hospital-ca", **more: int) -> Self:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        built = _build(name, key, name, key, (), True, **more)
        made = cls(folder, name, key, built)
        made.file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
        return made

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def issue(self, name: str, *hosts: str, key: Key | None = None, **more: int) -> Pair:
        """Return a certificate for `hosts`, signed; ``begins`` and ``ends`` are days from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        return _written(self.folder, name, key, _build(name, key, self.name, self.key, hosts, False, **more))

    def self_signed(self, name: str, *hosts: str, **more: int) -> Pair:
        """Return a certificate that this authority knows nothing of."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _written(self.folder, name, key, _build(name, key, name, key, hosts, False, **more))


def _written(folder: Path, name: str, key: Key, certificate: x509.Certificate) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pair.key.touch(0o600)
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return pair


def _build(
    name: str,
    key: Key,
    issuer: str,
    issuer_key: Key,
    hosts: tuple[str, ...],
    authority: bool = False,
    *,
    begins: int = -1,
    ends: int = 365,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * _DAY)
        .not_valid_after(now + ends * _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
