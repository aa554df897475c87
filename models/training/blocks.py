"""Which cases are not independent of each other: they stay together in every split and in every interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from models.training.cohort import Case


def independent_blocks(cases: Sequence[Case]) -> np.ndarray:
    """Return the block of each case, int (n,): cases linked by patients or groups, directly or by others, share one.

    Parameters
    ----------
    cases
        One at least.
    """
    linked = [_numbered(cases, lambda case: case.patient), _numbered(cases, lambda case: case.group or case.patient)]
    rows = np.tile(np.arange(len(cases)), 2)
    nodes = np.concatenate([linked[0], linked[1] + linked[0].max() + 1]) + len(cases)
    size = int(nodes.max()) + 1
    graph = coo_array((np.ones(len(rows)), (rows, nodes)), shape=(size, size))
    blocks: np.ndarray = connected_components(graph, directed=False)[1][: len(cases)]
    return blocks


def _numbered(cases: Sequence[Case], key: Callable[[Case], str]) -> np.ndarray:
    return np.unique([key(case) for case in cases], return_inverse=True)[1]
