"""What the values of keys may be: AE titles, ports, times, patterns, fingerprints; and what all sections share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from models.site_patterns import compile_pattern

# PS3.5 6.2, VR AE: 1-16 characters of the default repertoire without backslash and control characters.
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")


def _ae_title(value: str) -> str:
    if not _AE_TITLE.fullmatch(value) or value != value.strip():
        raise ValueError("an AE title has 1 to 16 ASCII characters, no backslash and no space at either end")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]


def _reporter(value: str) -> str:
    """Refuse what is no AE title, with or without a host behind an @."""
    title, _, host = value.partition("@")
    if "@" in value and not host.strip():
        raise ValueError('name a host behind the "@", or leave the "@" out')
    return f"{_ae_title(title)}@{host}" if host else _ae_title(title)


Reporter = Annotated[str, AfterValidator(_reporter)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Days = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


def _pattern(value: str) -> str:
    """Refuse a regular expression that is broken, that may take for ever, or that says nothing about a description."""
    if compile_pattern(value).search(""):
        raise ValueError("it matches every description, an empty one too; name at least one character")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


def _fingerprint(value: str) -> str:
    """Return a SHA-256 as `openssl x509 -fingerprint -sha256` prints it, in one spelling."""
    digits = value.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("a fingerprint is a SHA-256: 64 hexadecimal digits, with or without colons")
    return digits


Fingerprint = Annotated[str, AfterValidator(_fingerprint)]


class Section(BaseModel):
    """A section: what it does not know is refused, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
