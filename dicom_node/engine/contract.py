"""What the workflows ask for, and what comes back: the values of their steps are rows of JSON in the database.

A row may be years old, or of another version: keys are added, and never renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypedDict, TypeVar

from dicom_node.studies.timeline import State

Value = TypeVar("Value")


class Step(Protocol):
    """Runs a named step, or returns what it returned before; values are of JSON's types."""

    def __call__(self, name: str, function: Callable[[], Value]) -> Value:
        """Return the value of the step."""
        ...


class Selected(TypedDict):
    """Value of selecting; without a digest where the study was filtered."""

    input_digest: str


class Recalled(TypedDict):
    """Value of looking for an earlier score of a run."""

    scored: bool


class Read(TypedDict):
    """What reading came to."""

    state: State


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
    """Takes what is to be delivered; everything is safe to repeat."""

    def address(self, study_uid: str, state: str, *, wake: bool) -> None:
        """Have everything delivered that a study owes after it was read."""
        ...

    def take_over(self, study_uid: str) -> None:
        """Have delivered what a study owes by its timeline."""
        ...
