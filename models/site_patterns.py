"""Regular expressions that a site writes, run in time that grows with the text alone: RE2 never backtracks.

Python's own engine takes longer than anybody waits for ``(a+)+$`` and 64 letters. What RE2 knows for ASCII only is
given to it for every alphabet; what it does not know is refused with a sentence.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Any, Final

import re2

LONGEST_PATTERN: Final = 200
"""A Series Description has at most 64 characters (PS3.5 6.2, VR LO)."""
_UNICODE = {"w": r"\pL\pM\pN_", "d": r"\p{Nd}", "s": r"\s\pZ"}
_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")


class PatternError(ValueError):
    """A pattern is refused; the sentence says why."""


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> Any:
    """Return a compiled pattern that ignores case.

    Parameters
    ----------
    pattern
        In the syntax of Python, without look-around, back-references and possessive or atomic groups.

    Raises
    ------
    PatternError
        If it is none, or asks for what cannot be run in linear time.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise PatternError(f"a pattern has at most {LONGEST_PATTERN} characters; write several shorter ones")
    _require_expression(pattern)
    if _LOOKS_AROUND.search(pattern):
        raise PatternError("look-around is not known here; write two patterns, or name what may stand there")
    if re.search(r"(?<!\\)(\\\\)*\\[bB]", pattern) and not pattern.isascii():
        raise PatternError(r"\b knows ASCII letters only; write (^|\s) or ($|\s) in its place")
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        return re2.compile(_for_every_alphabet(pattern), options)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if error.args else "unknown"
        raise PatternError(f"it does not run in linear time ({said}); write it in a simpler way") from None


def _require_expression(pattern: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise PatternError(
            f"it is not a regular expression ({error}); put \\ before a character that is meant itself"
        ) from None


def search(pattern: str, text: str) -> str | None:
    """Return the first words of `text` that a pattern matches, None where there are none.

    Parameters
    ----------
    pattern
        See `compile_pattern`.
    text
        Any; what is no character is a question mark.
    """
    found = compile_pattern(pattern).search(text.encode("utf-8", "replace").decode("utf-8"))
    return found.group(0) if found else None


def _for_every_alphabet(pattern: str) -> str:
    r"""Return a pattern whose \w, \d and \s mean what they mean in Python; \Z is \z in RE2."""
    parts, in_class, at = [], False, 0
    while at < len(pattern):
        letter, after = pattern[at], pattern[at + 1 : at + 2]
        if letter == "\\" and after:
            parts.append(_escape(after, in_class=in_class))
            at += 2
            continue
        if letter == "[" and not in_class:
            in_class = True
            # A bracket that stands first in a class is one of its characters.
            first = re.match(r"\[\^?\]?", pattern[at:])
            letter = first.group() if first else letter
        elif letter == "]":
            in_class = False
        parts.append(letter)
        at += len(letter)
    return "".join(parts)


def _escape(letter: str, *, in_class: bool) -> str:
    if letter.lower() in _UNICODE and (letter.islower() or not in_class):
        inside = _UNICODE[letter.lower()]
        return inside if in_class else f"[{'^' * letter.isupper()}{inside}]"
    return r"\z" if letter == "Z" else f"\\{letter}"
