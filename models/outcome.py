"""The one outcome: what label 1 means, in every place that says it."""

from __future__ import annotations

from typing import Final

MONTHS: Final = 12.0
"""Of anti-seizure medication, in which the outcome comes about (CN114170162A [0057])."""
UNCONTROLLED: Final = (
    "at least one seizure, or death, within one year of the start of anti-seizure medication (CN114170162A [0057])"
)
"""Label 1."""
CONTROLLED: Final = "no seizure within that year"
"""Label 0."""
NOT_ILAE: Final = "This is not drug resistance as the ILAE (2010) defines it, which takes two adequate trials."
