"""Messages to whom the alarms go: each address is served by a thread of its own, so that none waits for another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import apprise

from dicom_node.config import AlarmsSection
from dicom_node.errors import ConfigError
from dicom_node.log import say
from dicom_node.watch.alarms import Message, digest

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 900.0


def addresses(section: AlarmsSection) -> list[str]:
    """Return whom to tell.

    Raises
    ------
    ConfigError
        ``alarms_unusable``: the file of addresses cannot be read, or apprise does not know one of them.
    """
    found = list(section.to)
    if section.to_file:
        try:
            lines = section.to_file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            said = f"{section.to_file} of alarms.to_file cannot be read ({type(error).__name__}): correct its rights."
            raise ConfigError(said, "alarms_unusable") from None
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for number, address in enumerate(found, 1):
        if apprise.Apprise.instantiate(address, suppress_exceptions=True) is None:
            kind = address.partition("://")[0]
            said = f"Address {number} of [alarms] ({kind}://...) is none that apprise knows: correct it."
            raise ConfigError(said, "alarms_unusable")
    return found


def send(address: str, message: Message) -> bool:
    """Send a message, and return whether it was taken; whatever goes wrong is no error of the caller."""
    try:
        one = apprise.Apprise()
        one.add(address)
        return bool(one.notify(title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT))
    except Exception:
        return False


@dataclass(slots=True)
class _Line:
    """The way to one address."""

    busy: bool = False
    due_s: float = 0.0
    pause_s: float = _FIRST_PAUSE_S


class Lines:
    """The ways to all addresses.

    Parameters
    ----------
    taken
        Told the digest of an address and the message that it took, from the thread that sent it.
    """

    def __init__(self, taken: Callable[[str, Message], None]) -> None:
        self._taken = taken
        self._lines: dict[str, _Line] = {}

    def serve(self, address: str, message: Message) -> None:
        """Try to send a message, unless one is on its way or failed a moment ago; return at once."""
        line = self._lines.setdefault(digest(address), _Line())
        if not line.busy and time.monotonic() >= line.due_s:
            line.busy = True
            threading.Thread(target=self._send, args=(line, address, message), name="alarm", daemon=True).start()

    def _send(self, line: _Line, address: str, message: Message) -> None:
        if send(address, message):
            line.pause_s, line.due_s = _FIRST_PAUSE_S, 0.0
            self._taken(digest(address), message)
        else:
            kind = address.partition("://")[0]
            say(logger, "alarm not sent", level=logging.WARNING, to=kind, again_in_s=line.pause_s)
            line.due_s = time.monotonic() + line.pause_s
            line.pause_s = min(2 * line.pause_s, _LONGEST_PAUSE_S)
        line.busy = False
