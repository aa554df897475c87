"""The short forms of `tests.faults`: deaths at random."""

from __future__ import annotations

from pathlib import Path

from tests.faults.crash import crash_run


def test_random_deaths_cost_nothing(tmp_path: Path):
    toll = crash_run(tmp_path, kills=6, seed=3)
    assert toll.kills.total() == 6
    assert toll.acknowledged >= 5
    assert toll.clean, toll
