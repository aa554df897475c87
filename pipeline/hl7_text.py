"""What has a meaning in HL7 v2, as texts say it (HL7 v2.5.1, chapter 2.7)."""

from __future__ import annotations

from typing import Final

_ESCAPES: Final = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


def escaped(text: str) -> str:
    r"""Return a text as the value of a field: separators and backslashes as ``\F\`` and the like.

    Parameters
    ----------
    text
        Any; control characters become blanks.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text).translate(_ESCAPES)
