"""What was told of, and what has to be told: one message for a cause, and one when it is over, over any restart.

::

    <data_dir>/alarms.json        causes that are open, messages that wait for each address

What is new waits for the end of quiet hours and for a pause since the last message of its rule, and is put together
then; what is over before it was told is told to nobody. A message waits for each address by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any, Final

from dicom_node.config import AlarmsSection
from dicom_node.watch.alarm_rules import Cause, Rule
from models.whole_files import write_json

FILE: Final = "alarms.json"
MOST_WAITING: Final = 50
"""Messages for one address; beyond them the oldest are dropped."""
_MOST_LINES: Final = 20


@dataclass(slots=True)
class Open:
    """A cause that is there: since when, and whether it was told."""

    sentence: str
    since_s: float
    told: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What an address is told."""

    title: str
    body: str


@dataclass(slots=True)
class Alarms:
    """What is open, and what waits.

    Attributes
    ----------
    began_s
        When alarms first ran, in seconds since the epoch: what stopped before is of the past.
    open
        Causes that are there, or are over and not told to be, by their keys.
    told_s
        When a message of each rule was last written.
    waiting
        Messages that an address has not taken, by its digest, the oldest first.
    """

    began_s: float
    open: dict[str, Open] = field(default_factory=dict)
    told_s: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, list[Message]] = field(default_factory=dict)

    def look(self, found: Iterable[Cause], now_s: float) -> None:
        """Take over which causes are there now."""
        present = {cause.key: cause.sentence for cause in found}
        for key, sentence in present.items():
            self.open.setdefault(key, Open(sentence, now_s)).over = False
            if not self.open[key].told:
                self.open[key].sentence = sentence
        for key in [key for key in self.open if key not in present]:
            if self.open[key].told:
                self.open[key].over = True
            else:
                del self.open[key]

    def write(self, section: AlarmsSection, addresses: Sequence[str], node: str, now: datetime) -> None:
        """Write the messages that are due, for every address.

        Parameters
        ----------
        section
            When nothing is sent, and how long between two messages of a rule.
        addresses
            Whom to tell.
        node
            What the node is called in a title.
        now
            In local time.
        """
        known = {digest(address) for address in addresses}
        self.waiting = {name: messages for name, messages in self.waiting.items() if name in known}
        if not _is_quiet(section.quiet_hours, now.time()):
            for rule in Rule:
                if now.timestamp() - self.told_s.get(rule, 0.0) >= section.pause_min * 60:
                    self._tell(rule, known, node, now.timestamp())

    def _tell(self, rule: Rule, names: Iterable[str], node: str, now_s: float) -> None:
        of_rule = {key: cause for key, cause in self.open.items() if key.startswith(f"{rule}:")}
        for resolved, keys in (
            (False, [key for key, cause in of_rule.items() if not cause.told]),
            (True, [key for key, cause in of_rule.items() if cause.over]),
        ):
            if keys:
                message = _message(rule, [self.open[key].sentence for key in keys], node, resolved=resolved)
                self.told_s[rule] = now_s
                for name in names:
                    self.waiting[name] = [*self.waiting.get(name, []), message][-MOST_WAITING:]
            for key in keys:
                self.open[key].told = True
                if resolved:
                    del self.open[key]


def digest(address: str) -> str:
    """Return what stands for an address in the file: it may hold a secret."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def read_alarms(data_dir: Path, now_s: float) -> Alarms:
    """Return what was open and waited; nothing if there is no file, or a damaged one."""
    try:
        said: Mapping[str, Any] = json.loads((data_dir / FILE).read_text("utf-8"))
        return Alarms(
            said["began_s"],
            {key: Open(**each) for key, each in said["open"].items()},
            dict(said["told_s"]),
            {name: [Message(**each) for each in messages] for name, messages in said["waiting"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Alarms(now_s)


def write_alarms(data_dir: Path, alarms: Alarms) -> None:
    """Keep what is open and waits."""
    write_json(data_dir / FILE, asdict(alarms))


def trial(node: str) -> Message:
    """Return a message that only says that messages arrive."""
    return Message(f"dicom-node {node}: test", "This is a test of the alarms of the node. Nothing is wrong.")


def _message(rule: Rule, sentences: Sequence[str], node: str, *, resolved: bool) -> Message:
    what = f"{'resolved: ' if resolved else ''}{rule.replace('_', ' ')}"
    lines = [f"It is over: {sentence}" if resolved else sentence for sentence in sentences[:_MOST_LINES]]
    more = len(sentences) - len(lines)
    return Message(f"dicom-node {node}: {what}", "\n".join([*lines, *([f"and {more} more"] if more else [])]))


def _is_quiet(hours: str, now: time) -> bool:
    if not hours:
        return False
    start, end = map(time.fromisoformat, hours.split("-"))
    return start <= now < end if start <= end else now >= start or now < end
