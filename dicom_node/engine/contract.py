"""What the workflows ask for, and what comes back: the values of their steps are rows of JSON in the database.

A row may be years old, or of another version: keys are added, and never renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NotRequired, Protocol, TypedDict, TypeVar

from dicom_node.studies.timeline import Delivery, State

Value = TypeVar("Value")


class Step(Protocol):
    """Runs a named step, or returns what it returned before; values are of JSON's types."""

    def __call__(self, name: str, function: Callable[[], Value]) -> Value:
        """Return the value of the step."""
        ...


class Selected(TypedDict):
    """Value of selecting."""

    input_digest: str


class Recalled(TypedDict):
    """Value of looking for an earlier score of a run."""

    scored: bool


class Read(TypedDict):
    """What reading came to; `known` if the study had this result already."""

    state: State
    known: NotRequired[bool]


class Offered(TypedDict):
    """Value of sending: the file that was taken, or whether trying again is of no use."""

    ok: bool
    permanent: NotRequired[bool]
    file: NotRequired[str]


class Proved(TypedDict):
    """Value of verifying."""

    ok: bool


class Reading(Protocol):
    """Selects and reads studies; everything is safe to repeat."""

    def select(self, study_uid: str) -> Selected:
        """Select the series of the study as it is now, and write down which files it holds."""
        ...

    def read(self, study_uid: str, input_digest: str, step: Step) -> Read:
        """Score the study."""
        ...

    def failed(self, study_uid: str, workflow_id: str, cause: str) -> None:
        """Note, once for each workflow, that a study was set aside because of a fault in the node."""
        ...


class Delivering(Protocol):
    """Delivers what was read; everything is safe to repeat."""

    def destinations(self) -> list[str]:
        """Return the names of the peers that get results."""
        ...

    def deliveries(self, study_uid: str, state: str) -> list[Delivery]:
        """Return what a study in this state sends, and to whom."""
        ...

    def send(self, study_uid: str, input_digest: str, kind: str, peer: str) -> Offered:
        """Offer an object to a peer."""
        ...

    def verify(self, study_uid: str, input_digest: str, kind: str, peer: str, file: str) -> Proved:
        """Ask the peer whether it has what was sent."""
        ...

    def give_up(self, study_uid: str, kind: str, peer: str) -> None:
        """Set a delivery aside for an operator."""
        ...

    def delays_s(self) -> Iterator[float]:
        """Yield the pauses between attempts to deliver, until it is time to give up."""
        ...
