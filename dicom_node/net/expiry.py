"""How long certificates still hold: told by `check`, and once a day in the log of the receiver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.log import say
from dicom_node.net.certificates import Certificate, configured_certificates, read_certificates

logger = logging.getLogger(__name__)

WARNED_DAYS = 30
"""How long before its end an operator is told of a certificate."""
_DAY_S = 86_400.0


class Standing(StrEnum):
    """Whether a certificate holds."""

    GOOD = "good"
    ENDS_SOON = "ends_soon"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"


@dataclass(frozen=True, slots=True)
class Expiry:
    """Until when a certificate holds.

    Attributes
    ----------
    standing
        What that means today.
    until
        Its last day, or the first of one that is not valid yet.
    days
        From today until then; less than 0 if it has passed.
    subject
        Whose it is.
    """

    standing: Standing
    until: str
    days: int
    subject: str

    @property
    def holds(self) -> bool:
        """Whether it is valid today."""
        return self.standing in (Standing.GOOD, Standing.ENDS_SOON)

    @property
    def sentence(self) -> str:
        """Return what an operator is told."""
        match self.standing:
            case Standing.GOOD:
                return f"{self.subject} holds until {self.until}"
            case Standing.ENDS_SOON:
                return f"{self.subject} ends in {self.days} days, on {self.until}: renew it"
            case Standing.EXPIRED:
                return f"{self.subject} expired on {self.until}: renew it"
            case Standing.NOT_YET_VALID:
                return f"{self.subject} is not valid before {self.until}: look at the clock"


def expiry_of(certificate: Certificate, now: datetime | None = None) -> Expiry:
    """Return until when a certificate holds, seen from `now`."""
    now = now or datetime.now(UTC)
    days = (certificate.not_after - now).days
    if now < certificate.not_before:
        until, standing = certificate.not_before, Standing.NOT_YET_VALID
        days = (until - now).days
    else:
        until = certificate.not_after
        standing = Standing.EXPIRED if days < 0 else Standing.ENDS_SOON if days <= WARNED_DAYS else Standing.GOOD
    return Expiry(standing, f"{until:%Y-%m-%d}", days, certificate.subject)


def first_to_expire(file: Path) -> Expiry:
    """Return the expiry in a file of certificates that comes first, or has passed; raise as `read_certificates`."""
    found = [expiry_of(certificate) for certificate in read_certificates(file)]
    return min(found, key=lambda expiry: (expiry.holds, expiry.days))


class ExpiryWatch:
    """Says once a day which configured certificates end soon or do not hold.

    Parameters
    ----------
    config
        With the files; they are read anew each time.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = threading.Event()

    def start(self) -> None:
        """Look now, and then once a day."""
        threading.Thread(target=self._run, name="expiry", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def look(self) -> None:
        """Say what there is to say today."""
        for what, expiry in _expiries(self._config):
            if expiry.standing is not Standing.GOOD:
                level = logging.WARNING if expiry.holds else logging.ERROR
                say(logger, "certificate ends", level=level, what=what, days=expiry.days, sentence=expiry.sentence)

    def _run(self) -> None:
        while True:
            self.look()
            if self._stop.wait(_DAY_S):
                return


def _expiries(config: Config) -> Iterator[tuple[str, Expiry]]:
    for what, file in configured_certificates(config):
        try:
            yield what, first_to_expire(file)
        except ConfigError as error:
            say(logger, "certificates cannot be read", level=logging.ERROR, what=what, sentence=str(error))
