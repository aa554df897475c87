"""The errors of the node: every one has a stable code and a sentence that says what to do.

::

    NodeError
    ├── ConfigError          the configuration is refused; exit code 2
    ├── CommandError         the command line is refused; exit code 2
    ├── SpoolError           the data folder cannot take or give something
    │   ├── SpoolFull        disk_full: the sender tries again later
    │   └── StudyUnknown     study_unknown: no such study was ever received
    ├── DatabaseUnusable     database_unusable: the engine's database is away or refuses; what needs it waits
    ├── IndexUnavailable     index_unavailable: lists cannot be shown; nothing else needs the index
    ├── WorkerError          the worker refuses to start: model, weights or device
    ├── AlreadyRunningError  a receiver or worker of this name is running; exit code 2
    └── PeerError            a peer did not answer as it should; tried again with back-off
        ├── PeerAway         there is no association with it: nothing else would fare better
        └── DeliveryError    a peer answered but did not take an object
            ├── ObjectDenied     it says that it does not hold an object
            └── ObjectMissing    object_missing: there is nothing to send

A study that cannot be scored is not an error of the node: those reasons belong to `pipeline`. Anything else that is
raised is a bug and keeps its traceback.
"""

from __future__ import annotations

# PS3.4 B.2.3: out of resources passes; the object itself being refused does not.
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_STORE_CLASS_FAILURES = range(0xA000, 0xD000)


class NodeError(Exception):
    """Base of all errors an operator can do something about.

    Parameters
    ----------
    message
        One sentence: what is wrong and what to do. No patient attribute.
    code
        Stable lower-case word for scripts and the error table; the class has a default.

    Attributes
    ----------
    exit_code : int
        What a command-line verb exits with.
    """

    code = "node_error"
    exit_code = 1

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.code


class ConfigError(NodeError):
    """The configuration is refused before anything is started."""

    code = "config_invalid"
    exit_code = 2


class CommandError(NodeError):
    """The command line contradicts itself or cannot be read."""

    code = "command_invalid"
    exit_code = 2


class SpoolError(NodeError):
    """The data folder refuses something or cannot be written."""

    code = "spool_failed"


class SpoolFull(SpoolError):
    """Less than the reserve is free on the disk of the data folder."""

    code = "disk_full"


class StudyUnknown(SpoolError):
    """No instance of the study was ever received."""

    code = "study_unknown"


class DatabaseUnusable(NodeError):
    """The database of the engine does not answer, or refuses: what needs it is tried again."""

    code = "database_unusable"


class IndexUnavailable(NodeError):
    """The index of the studies is away, locked or damaged.

    Parameters
    ----------
    message
        One sentence: what is wrong and what to do.
    damaged
        Whether it has to be made anew.
    """

    code = "index_unavailable"

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


class WorkerError(NodeError):
    """The worker refuses to start: model, weights or device."""

    code = "worker_unusable"


class AlreadyRunningError(NodeError):
    """Another process holds the name under which this one would work."""

    code = "already_running"
    exit_code = 2


class PeerError(NodeError):
    """A peer cannot be reached or breaks off; tried again with back-off."""

    code = "peer_failed"

    @property
    def permanent(self) -> bool:
        """Whether the peer refused the object itself, so that trying again is of no use."""
        return False


class PeerAway(PeerError):
    """There is no association with a peer: whatever else is for it would fail alike."""


class DeliveryError(PeerError):
    """A peer answers but does not take, find or commit an object; tried again with back-off.

    Parameters
    ----------
    message
        One sentence: what is wrong and what to do.
    code
        Stable lower-case word.
    status
        The DIMSE status of the refusal, where there was one.
    """

    code = "delivery_failed"

    def __init__(self, message: str, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message, code)
        self.status = status

    @property
    def permanent(self) -> bool:
        """Whether the peer refused the object itself, so that trying again is of no use."""
        return self.status in _STORE_CLASS_FAILURES and self.status not in _OUT_OF_RESOURCES


class ObjectDenied(DeliveryError):
    """A peer says that it does not hold an object that it took."""


class ObjectRefused(DeliveryError):
    """A peer that speaks no DIMSE refuses the object itself."""

    @property
    def permanent(self) -> bool:
        """Always: it would be refused again."""
        return True


class ObjectMissing(DeliveryError):
    """The run left no object of the kind that is to be sent."""

    code = "object_missing"

    @property
    def permanent(self) -> bool:
        """Always: trying again makes no object."""
        return True


def disk_refusal(error: OSError) -> NodeError:
    """Return a refusal of the operating system as an error that the command line prints."""
    where = f" {error.filename}" if error.filename else ""
    return NodeError(f"The system refuses{where}: {error.strerror or type(error).__name__}.", "file_refused")
