"""What the words of a series description say; the words themselves stand in ``words.toml``."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from models.contrast import Contrast
from pipeline.select.clues import Clue, ClueKind, Unsuited

_WEIGHTING = (
    r"(?<![a-z0-9])(?:[a-z]|[sde][sde]|sss|vs|fs|ce|gd|km|pre|post|ir|tse|fse|frfse|o?ax|axi|axial|o?sag|o?cor|tra|trs|wip|vwip|[23]d)?"
    r"t-?{}(?!\d)"
)
"""T1 or T2 with the prefixes that are written without a space before it."""
_POST = (
    r"post(?!erior|ural|[ _-]?(?:op|surg|fossa|treat|ther|chemo|radi|rest|test|train|stim|tms|dbs|interv|implant|ablat"
    r"|ictal|partum|natal|mortem|trauma|stroke))\w*"
)
"""After contrast agent, as far as the word itself says."""

_LETTER = "[a-zß-öø-žα-ωά-ώа-яё]"
"""Of the alphabets that put spaces between words."""
_LOOKALIKES = str.maketrans({"İ": "i", "ı": "i"})
_CYRILLIC = re.compile(r"Т(?=[12])|(?<=\+)С|(?<=\+ )С|С(?=\+)", re.IGNORECASE)
"""Letters that some consoles write in place of a T or C, which look the same."""


def _pattern(block: Mapping[str, Sequence[str]]) -> re.Pattern[str]:
    words = [rf"(?<!{_LETTER})(?:{word})(?!{_LETTER})" for word in block.get("words", ())]
    text = "|".join([*block.get("parts", ()), *words])
    for name, stands_for in (("{t1}", _WEIGHTING.format(1)), ("{t2}", _WEIGHTING.format(2)), ("{post}", _POST)):
        text = text.replace(name, stands_for)
    return re.compile(text, re.IGNORECASE)


_TABLE = tomllib.loads(files("pipeline.select").joinpath("words.toml").read_text("utf-8"))
_ROLES = tuple((Contrast(block["role"]) if block["role"] else None, _pattern(block)) for block in _TABLE["roles"])
_NEVER = tuple((Unsuited(block["name"]), _pattern(block)) for block in _TABLE["never"])
_CONTRAST, _NO_CONTRAST = _pattern(_TABLE["contrast"]), _pattern(_TABLE["no_contrast"])

_BEFORE = re.compile(r"(?<![a-z])(pre|pr[äé]|avant|nati(v|ve|f)|unenh\w*)(?![a-z])", re.IGNORECASE)
"""Words that say so without naming the agent."""


def _fold(description: str) -> str:
    """Return a description in the letters of the patterns: some consoles write a wide or Cyrillic T."""
    text = unicodedata.normalize("NFKC", description).translate(_LOOKALIKES)
    return _CYRILLIC.sub(lambda letter: "T" if letter.group(0) in "Тт" else "C", text)


def read_description(description: str) -> tuple[Contrast | None, Clue]:
    """Return the role that a series description names, and why.

    Parameters
    ----------
    description
        Of the series, or the name of its protocol; empty where unknown.

    Returns
    -------
    tuple of Contrast or None, and Clue
        None where it names no role, or leaves open which.
    """
    if not description:
        return None, Clue(ClueKind.NO_DESCRIPTION)
    for role, pattern in _ROLES:
        if found := pattern.search(_fold(description)):
            if role is None:
                return None, Clue(ClueKind.LEAVES_ROLE_OPEN, {"words": found.group(0)})
            return role, Clue(ClueKind.NAMES_ROLE, {"role": role, "words": found.group(0)})
    return None, Clue(ClueKind.NAMES_NO_ROLE)


def exclusions(description: str) -> list[Clue]:
    """Return what a description names that is never chosen, in the order of ``words.toml``.

    Parameters
    ----------
    description
        Of the series; empty where unknown.

    Returns
    -------
    list of Clue
        One for each kind that is named; empty if nothing is.
    """
    text = _fold(description)
    found = ((unsuited, pattern.search(text)) for unsuited, pattern in _NEVER)
    return [Clue(ClueKind.NAMES_UNSUITED, {"words": match.group(0)}, unsuited) for unsuited, match in found if match]


@dataclass(frozen=True, slots=True)
class _Meaning:
    role: Contrast | None
    never: frozenset[Unsuited | None]
    contrast: bool
    denies_contrast: bool


def _meaning(text: str) -> _Meaning:
    never = frozenset(clue.unsuited for clue in exclusions(text))
    return _Meaning(read_description(text)[0], never, names_contrast(text), bool(_NO_CONTRAST.search(_fold(text))))


def is_certain(readings: Sequence[str]) -> bool:
    """Return whether what a description says does not depend on how its bytes are read.

    Parameters
    ----------
    readings
        All that the bytes may say, the likeliest first.

    Returns
    -------
    bool
        False without any reading; where the likeliest says no more than its ASCII letters and another does; and where
        another names contrast agent, of which the likeliest is silent.
    """
    if not readings:
        return False
    likeliest, *others = map(_meaning, readings)
    if any(other.contrast for other in others) and not (likeliest.contrast or likeliest.denies_contrast):
        return False
    in_ascii = _meaning(re.sub(r"[^ -~]+", " ", readings[0]))
    return likeliest != in_ascii or all(other == in_ascii for other in others)


def names_contrast(description: str) -> bool:
    """Return whether a description says that contrast agent was given.

    Parameters
    ----------
    description
        Of the series; words that deny contrast agent are taken out first.
    """
    return bool(_CONTRAST.search(_NO_CONTRAST.sub(" ", _fold(description))))


def denies_contrast(description: str) -> bool:
    """Return whether a description says that contrast agent was not given, or not yet.

    Parameters
    ----------
    description
        Of the series; one that also says that it was given denies nothing.
    """
    text = _fold(description)
    return bool(_NO_CONTRAST.search(text) or _BEFORE.search(text)) and not names_contrast(description)
