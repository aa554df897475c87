"""Values that stand where none is known: they speak neither for nor against anything.

Scanners, archives and tools that take identities out write zeros and words where they know nothing.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORDS = frozenset({
    "anon", "anonym", "anonymisiert", "anonymised", "anonymized", "anonymous", "blank", "de-identified", "deidentified",
    "deleted", "desconhecido", "desconocida", "desconocido", "empty", "inconnu", "inconnue", "keine angabe", "masked",
    "missing", "n.a", "n.a.", "n/a", "#n/a", "na", "nan", "nicht bekannt", "nieznany", "no data", "no value",
    "non connu", "non disponible", "no disponible", "none", "not applicable", "not available", "not defined",
    "not known", "not provided", "not recorded", "not set", "not specified", "not stated", "null", "okänd", "onbekend",
    "redacted", "removed", "sconosciuto", "tba", "tbd", "unbekannt", "uncertain", "undefined", "undetermined", "unk",
    "unkn", "unknown", "unnamed", "unspecified", "untitled", "withheld", "xx", "xxx", "xxxx", "неизвестно", "不明",
    "未知",
})  # fmt: skip
"""Of English and of the languages of ``words.toml``; in small letters."""
_ENCLOSED = re.compile(r"^[\s<(\[{'\"*]+|[\s>)\]}'\"*]+$")
_DUMMY_DATES = frozenset({"00000000", "00010101", "11111111", "18000101", "18581117", "19000101", "19700101"})
"""First days of calendars, which programs write for no date: years 1 and 1900, of VMS and of Unix."""
_CLOCK = re.compile(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d|60)?(\.\d+)?")


@lru_cache(2**12)  # slices of a series repeat each other
def is_unknown(text: str) -> bool:
    """Return whether a text stands for no value.

    Parameters
    ----------
    text
        One value of an attribute; one without letters and digits says nothing either.
    """
    if text[:1].isdigit():
        return False
    folded = _ENCLOSED.sub("", unicodedata.normalize("NFKC", text)).casefold().replace("_", " ")
    return folded in _WORDS or not any(map(str.isalnum, folded))


def known_date(digits: str) -> str:
    """Return a date as digits ``YYYYMMDD``, empty where it is none that a scanner had.

    Parameters
    ----------
    digits
        Of a DICOM date (PS3.5 6.2).
    """
    month, day = digits[4:6], digits[6:]
    plausible = re.fullmatch(r"\d{8}", digits) and "01" <= month <= "12" and "01" <= day <= "31"
    return digits if plausible and digits not in _DUMMY_DATES else ""


def known_clock(digits: str) -> str:
    """Return a time of day as digits ``hhmm``, ``hhmmss`` or with a fraction, empty where it is none.

    Parameters
    ----------
    digits
        Of a DICOM time (PS3.5 6.2); midnight to the second is what programs write for no time.
    """
    return digits if _CLOCK.fullmatch(digits) and digits.strip("0.") else ""
