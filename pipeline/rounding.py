"""With how many decimals people see a number: the same in the report, on the pages and on the command line.

Full precision stands in ``result.json`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # The command line asks for decimals before anything of imaging is loaded.
    from pipeline.predict import Finding

DECIMALS: Final = 2
"""Of scores: more would say more than a model knows."""
_MOST_DECIMALS: Final = 8


def decimals_of(score: float, threshold: float) -> int:
    """Return the decimals of score and threshold: two, or more where rounding would hide the side.

    Parameters
    ----------
    score, threshold
        In [0, 1].
    """
    above = score >= threshold
    for decimals in range(DECIMALS, _MOST_DECIMALS):
        if (round(score, decimals) >= round(threshold, decimals)) == above:
            return decimals
    return _MOST_DECIMALS


def shown_score(finding: Finding) -> str:
    """Return the ensemble score as people see it, for example ``0.73``.

    Parameters
    ----------
    finding
        With score and threshold.
    """
    return f"{finding.score:.{decimals_of(finding.score, finding.threshold)}f}"


def shown_threshold(finding: Finding) -> str:
    """Return the decision threshold with as many decimals as the score.

    Parameters
    ----------
    finding
        With score and threshold.
    """
    return f"{finding.threshold:.{decimals_of(finding.score, finding.threshold)}f}"


def rounded(value: float) -> str:
    """Return any other score, for example that of one sequence.

    Parameters
    ----------
    value
        Finite.
    """
    return f"{value:.{DECIMALS}f}"
