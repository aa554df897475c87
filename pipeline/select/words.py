"""What the words of a series description say; the words themselves stand in ``words.toml``."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files

from models.contrast import Contrast

_WEIGHTING = r"(?<![a-z0-9])(?:[a-z]|fs|ir|se|tse|fse|ax|axi|axial|sag|cor|tra|trs|wip|vwip|[23]d)?t{}(?!\d)"
"""T1 or T2 with the prefixes that are written without a space before it."""


def _pattern(block: Mapping[str, Sequence[str]]) -> re.Pattern[str]:
    words = [rf"(?<![a-z])(?:{word})(?![a-z])" for word in block.get("words", ())]
    text = "|".join([*block.get("parts", ()), *words])
    return re.compile(text.replace("{t1}", _WEIGHTING.format(1)).replace("{t2}", _WEIGHTING.format(2)), re.IGNORECASE)


_TABLE = tomllib.loads(files("pipeline.select").joinpath("words.toml").read_text("utf-8"))
_ROLES = tuple((Contrast(block["role"]) if block["role"] else None, _pattern(block)) for block in _TABLE["roles"])
_NEVER = tuple((str(block["name"]), _pattern(block)) for block in _TABLE["never"])
_CONTRAST, _NO_CONTRAST = _pattern(_TABLE["contrast"]), _pattern(_TABLE["no_contrast"])


def _fold(description: str) -> str:
    """Return a description in the letters of the patterns: some consoles write a wide or Cyrillic T."""
    return unicodedata.normalize("NFKC", description).replace("\u0422", "T")


def read_description(description: str) -> tuple[Contrast | None, str]:
    """Return the role that a series description names, and the sentence that says why."""
    if not description:
        return None, "no description"
    for role, pattern in _ROLES:
        if found := pattern.search(_fold(description)):
            if role is None:
                return None, f"description leaves the role open ('{found.group(0)}')"
            return role, f"description names {role} ('{found.group(0)}')"
    return None, "description names none of the three"


def exclusions(description: str) -> list[str]:
    """Return what a description names that is never chosen, one sentence each."""
    text = _fold(description)
    return [f"description names {name} ('{found.group(0)}')" for name, p in _NEVER if (found := p.search(text))]


def names_contrast(description: str) -> bool:
    """Tell whether a description says that contrast agent was given."""
    return bool(_CONTRAST.search(_NO_CONTRAST.sub(" ", _fold(description))))
