"""How often intervals of 95 % hold the true figure, as ``python -m tests.benchmarks.coverage`` found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DRAWS: Final = 2000
"""Of each design, so that a share has an error of half a percent."""
SIMULATED: Final[Mapping[str, tuple[float, float]]] = {
    "60 patients": (0.955, 0.946),
    "60 patients, three studies each": (0.951, 0.964),
    "60 patients of 3 groups": (0.954, 0.996),
    "60 patients of 5 groups": (0.955, 0.978),
    "60 patients of 8 groups": (0.966, 0.965),
    "60 patients of 20 groups": (0.952, 0.953),
    "60 patients of 10 groups with other shares of events": (0.947, 0.961),
}
"""By design: shares of intervals of the AUC, and of sensitivity, that hold the truth."""


def coverage_rows() -> list[list[str]]:
    """Return a row for each design: its name, and the shares in percent."""
    return [[design, *(f"{share:.1%}".replace("%", " %") for share in shares)] for design, shares in SIMULATED.items()]
