"""What is known of a node at one moment: the one source of health, metrics and alarms; nothing of a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dicom_node.watch.pulse import Process, Pulse

MOST_STOPPED = 2000
"""Studies held and failed that are told apart."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A study that got no report: its pseudonym in the log, its state, the code of the reason, since when."""

    pseudonym: str
    state: str
    code: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Studies whose report waits for a destination: how many, the code of its last failure, since when the oldest."""

    peer: str
    studies: int
    code: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Studies:
    """What the index says.

    Attributes
    ----------
    states
        How many studies are in each state.
    reasons
        How many are held or failed, for each reason.
    received
        How many were received within the last hour and the last day.
    queued_since_s
        Since when the oldest study in the queue waits; None if none does.
    heard_s
        When each source last sent something, by its name; one that never did is missing.
    stopped
        Those held and failed, the newest first, `MOST_STOPPED` at most.
    undelivered
        What waits for each destination, and for none in particular (``""``).
    filtered
        How many are filtered and still kept, for each reason.
    """

    states: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    received: Mapping[str, int] = field(default_factory=dict)
    queued_since_s: float | None = None
    heard_s: Mapping[str, float] = field(default_factory=dict)
    stopped: tuple[Stopped, ...] = ()
    undelivered: tuple[Undelivered, ...] = ()
    filtered: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Objects for a destination: how many wait for their next attempt, and how many were set aside."""

    waiting: int = 0
    set_aside: int = 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whose certificate it is, how many days it still holds, and whether it holds today."""

    what: str
    days: int
    holds: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a node.

    Attributes
    ----------
    now_s
        When, in seconds since the epoch.
    version
        Of the node.
    pulses
        What its processes said of themselves.
    studies
        None where the index cannot be read.
    deliveries
        By destination; None where the database cannot be read.
    refused
        How often callers were refused, by reason.
    free_bytes, total_bytes, reserve_bytes
        Of the disk of the data folder, and what is kept free of it.
    certificates
        Those that are configured, and what could not be read of them with 0 days.
    """

    now_s: float
    version: str
    pulses: tuple[Pulse, ...]
    studies: Studies | None
    deliveries: Mapping[str, Deliveries] | None
    refused: Mapping[str, int]
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    certificates: tuple[Certificate, ...] = ()

    @property
    def listening(self) -> bool:
        """Whether a receiver takes connections: asking its port would be one more caller in the log."""
        return any(p.process is Process.RECEIVER and p.ready and p.lives(self.now_s) for p in self.pulses)
