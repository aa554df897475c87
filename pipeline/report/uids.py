"""Deterministic UIDs: the same result of the same study always has the same name."""

from __future__ import annotations

import hashlib

# RFC 9562: version 8 marks a UUID whose bits are the application's own, variant 0b10 is the usual layout.
_VERSION_MASK, _VERSION = 0xF << 76, 0x8 << 76
_VARIANT_MASK, _VARIANT = 0x3 << 62, 0x2 << 62


def result_uid(kind: str, *parts: str) -> str:
    """Return the UID of one result object, made from what it depends on.

    Parameters
    ----------
    kind
        What is named, for example ``"sr instance"``.
    *parts
        Everything that distinguishes one such object from another, for example study UID, digests and SOP class.
        The order matters, and no two different lists of parts are joined to the same text.

    Returns
    -------
    str
        A UID under 2.25 (PS3.5 B.2), at most 44 characters: 128 bits of the SHA-256 of the parts, with the version
        and variant bits of a UUID.
    """
    digest = hashlib.sha256()
    for part in (kind, *parts):
        encoded = part.encode("utf-8")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    bits = int.from_bytes(digest.digest()[:16], "big")
    bits = bits & ~_VERSION_MASK | _VERSION
    bits = bits & ~_VARIANT_MASK | _VARIANT
    return f"2.25.{bits}"


IMPLEMENTATION_CLASS_UID = result_uid("implementation class", "dicom-node")
"""Implementation Class UID (0002,0012) of every file that is written here."""
