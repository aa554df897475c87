"""A few of the destinations that ``python -m tests.faults.destinations`` tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.destinations import BEHAVIOURS, Behaviour, tried

SHORT = (
    "refuses the connection, comes back",
    "accepts the connection and hangs",
    "refuses one object for ever, five others pass",
    "does not offer commitment, then does",
    "commitment comes late, for an earlier request",
    "commitment from another title",
)


@pytest.mark.parametrize("behaviour", [one for one in BEHAVIOURS if one.name in SHORT], ids=lambda one: one.name)
def test_a_destination_that_misbehaves_gets_its_object_once(behaviour: Behaviour, tmp_path: Path):
    row = tried(behaviour, tmp_path)
    assert row.faults == []
    assert row.other_s < 20


def test_the_names_are_those_of_the_table():
    assert set(SHORT) <= {behaviour.name for behaviour in BEHAVIOURS}
