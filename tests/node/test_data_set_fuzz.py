"""A short run of `tests.faults.data_set_fuzz`: damaged data sets have named outcomes."""

from __future__ import annotations

from pathlib import Path

from tests.faults.data_set_fuzz import MOST_BYTES, PARTS, fuzz, seeds_of
from tests.support.services import real_data


def test_damaged_data_sets_have_named_outcomes(tmp_path: Path):
    seeds = seeds_of(real_data("pydicom").parent)
    assert len(seeds) > 100
    outcomes = fuzz(300, 1, tmp_path, seeds)
    assert outcomes.faults == []
    assert sum(outcomes.named.values()) == 300 * len(PARTS)
    assert len(outcomes.named) > 10, "the mutations reach many places"
    assert outcomes.grown_bytes < MOST_BYTES
