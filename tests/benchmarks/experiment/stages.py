"""Stages of a long experiment, each done once: how far it is, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of an experiment.

    Attributes
    ----------
    name
        What it does.
    expected_s
        On two quiet cores.
    do
        Does nothing where it was done before; takes what tells how far it is.
    """

    name: str
    expected_s: float
    do: Callable[[Tell], None]


def carry_out(stages: Iterable[Stage], tell: Tell, now: Callable[[], float] = time.monotonic) -> None:
    """Do the stages in their order, and say before each how long all that are left will take.

    Parameters
    ----------
    stages
        All of the experiment.
    tell
        Takes a line.
    now
        Seconds from any start.
    """
    known, began = tuple(stages), now()

    def told(head: str, line: str) -> None:
        tell(f"{head}: {line}; {_minutes(now() - began)} gone")

    for number, stage in enumerate(known):
        left_s = sum(later.expected_s for later in known[number:])
        head = f"stage {number + 1} of {len(known)}, {stage.name}"
        tell(f"{head}: {_minutes(now() - began)} gone, about {_minutes(left_s)} left on two quiet cores")
        stage.do(partial(told, head))
    tell(f"done after {_minutes(now() - began)}")


def plan(stages: Iterable[Stage]) -> list[str]:
    """Return a line for each stage with its expected minutes, and one for all.

    Parameters
    ----------
    stages
        All of the experiment.
    """
    known = tuple(stages)
    lines = [f"{stage.name}: {_minutes(stage.expected_s)}" for stage in known]
    return [*lines, f"all: {_minutes(sum(stage.expected_s for stage in known))} on two quiet cores"]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
