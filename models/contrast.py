"""The three contrasts of the ensemble: each network reads one of them."""

from __future__ import annotations

from enum import StrEnum


class Contrast(StrEnum):
    """The weighting of a magnetic resonance image, and the part that its series plays in the ensemble."""

    T1W = "T1W"
    T2W = "T2W"
    FLAIR = "FLAIR"
