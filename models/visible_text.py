"""Text from outside as text: what would steer a terminal, a viewer or a reader's eye becomes visible instead."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any, Final

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, formats (directions of writing among them), surrogates and separators of lines."""


def visible(text: str) -> str:
    r"""Return a text as one line that steers nothing.

    Parameters
    ----------
    text
        Whatever a header, a file name or another program says.

    Returns
    -------
    str
        Each invisible character as its escape in JSON, such as ``\u001b``; all others as they were.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def visible_json(
    value: Any, *, indent: int | None = None, allow_nan: bool = True, default: Callable[[Any], Any] | None = None
) -> str:
    """Return a value as JSON whose texts steer nothing; reading it gives the texts as they were.

    Parameters
    ----------
    value
        Of JSON's types.
    indent
        Columns of an indented form; None for one line.
    allow_nan
        Whether NaN and infinities are written as JavaScript has them; JSON does not.
    default
        Returns what is written for a value of another type.

    Raises
    ------
    ValueError
        If a number is not finite although `allow_nan` is False.
    TypeError
        If a value is of another type and there is no `default`.
    """
    # Line feeds stand between the lines only: within a text they are escapes already.
    written = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=allow_nan, default=default)
    return "\n".join(map(visible, written.split("\n")))


def _shown(character: str) -> str:
    return json.dumps(character)[1:-1] if unicodedata.category(character) in _INVISIBLE else character
