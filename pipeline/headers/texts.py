"""Bytes of a description -> everything that they may say.

Consoles and archives label texts wrongly, or not at all: Chinese in GBK under ISO_IR 100 is decoded without an error,
as accented letters. A few words are too short for detectors of character sets, which count letters over paragraphs;
so every character set that gives a plausible text counts as a reading, and whoever asks for a meaning asks them all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_DECLARED = {
    "ISO_IR 13": "shift_jis", "ISO_IR 100": "latin_1", "ISO_IR 101": "iso8859_2", "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4", "ISO_IR 126": "iso8859_7", "ISO_IR 127": "iso8859_6", "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5", "ISO_IR 148": "iso8859_9", "ISO_IR 166": "tis_620", "ISO_IR 203": "iso8859_15",
    "ISO_IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gb18030", "ISO 2022 IR 58": "gb18030",
    "ISO 2022 IR 149": "cp949",
}  # fmt: skip
"""Codecs of the defined terms (PS3.3 C.12.1.1.2); those with code extensions are as those without."""
_EVERYWHERE = (
    "utf_8", "gb18030", "big5hkscs", "cp932", "euc_jp", "cp949", "cp1251", "koi8_r", "iso8859_5", "cp866", "cp1253",
    "iso8859_7", "cp1252", "cp1250", "iso8859_2", "cp1254", "cp850", "cp1255", "cp1256", "tis_620",
)  # fmt: skip
"""Codecs of the regions, the likeliest first; of each alphabet those that consoles and PACS are known to write."""
_SEVERAL_BYTES = frozenset({"utf_8", "gb18030", "big5hkscs", "cp932", "shift_jis", "euc_jp", "cp949"})
_FULL_BYTES, _MOST_CUT_OFF = 60, 3
"""A field of 64 bytes may cut the last character in two (PS3.5 6.2 counts characters, old consoles bytes)."""
_UTF_8_IS_SURE = 3
"""Characters of several bytes that no other character set gives by chance; two bytes of GBK may be one of UTF-8."""
_REPLACED = ("\ufffd".encode(), "\ufffd".encode().decode("latin_1").encode())
"""What those who could not read a character put in its place, and the same once more taken for Latin letters."""
_LOST = re.compile(
    r"\?{2,}|(?<=[a-z])\?(?=[a-z])|\ufffd|ï¿½"
    r"|\$\)?[@-C].{2,}\([BJ]|~\{.*~\}"  # escape sequences without their escape character
    r"|&#x?[0-9a-f]+;|\\u[0-9a-f]{4}|(%[0-9a-f]{2}){2}|=\?utf",  # written for another medium
    re.IGNORECASE,
)
_ESCAPES = {
    b"$B": "jisx0208", b"$@": "jisx0208", b"(J": "ascii", b"(B": "ascii", b")I": "cp932", b"(I": "cp932",
    b"$)C": "cp949", b"$)A": "gb18030", b"-A": "latin_1", b"-B": "iso8859_2", b"-C": "iso8859_3", b"-D": "iso8859_4",
    b"-F": "iso8859_7", b"-G": "iso8859_6", b"-H": "iso8859_8", b"-L": "iso8859_5", b"-M": "iso8859_9",
    b"-T": "tis_620",
}  # fmt: skip
"""What follows the escape character, and what it announces (PS3.3 C.12.1.1.2, tables C.12-3 and C.12-4)."""
_ESCAPE = re.compile(rb"\x1b(\$\)[AC]|\$[@B]|[()-][A-Z])")


@dataclass(frozen=True, slots=True)
class Text:
    """A text with everything that its bytes may say.

    Attributes
    ----------
    shown
        The likeliest reading; bytes that nobody can read are question marks in it.
    readings
        All that are plausible, the likeliest first; empty where none is.
    """

    shown: str
    readings: tuple[str, ...]


@lru_cache(2**12)  # slices of a series repeat each other
def read_text(raw: bytes, declared: tuple[str, ...] = ()) -> Text:
    """Return what the bytes of an attribute of one value may say.

    Parameters
    ----------
    raw
        As in the file, with its padding.
    declared
        Values of Specific Character Set (0008,0005); what it declares comes first if it is plausible.

    Returns
    -------
    Text
        With one reading where the bytes leave no doubt, as those of ASCII and longer ones of UTF-8 do.
    """
    raw = raw.strip(b" \t\r\n\0")
    if is_ascii(raw):
        return read_plain_text(raw.decode("ascii"))
    found = _decoded(raw, _codecs(declared)) if not any(lost in raw for lost in _REPLACED) else ()
    readings = tuple(dict.fromkeys(text for text, codec in found if _is_plausible(text, codec)))
    if readings and readings[0] == _strictly(raw, "utf_8") and _several_bytes(readings[0]) >= _UTF_8_IS_SURE:
        readings = readings[:1]
    return Text(readings[0] if readings else _ascii_of(raw), tuple(text for text in readings if not _LOST.search(text)))


def is_ascii(raw: bytes) -> bool:
    """Return whether some bytes mean the same in every character set.

    Parameters
    ----------
    raw
        Of a text; with an escape character other characters follow (PS3.5 6.1.2.5).
    """
    return raw.isascii() and b"\x1b" not in raw


def read_plain_text(text: str) -> Text:
    """Return what a text may say whose characters are known.

    Parameters
    ----------
    text
        Of ASCII, or decoded.

    Returns
    -------
    Text
        Without a reading where other characters were lost on the way, as question marks in a row show.
    """
    return Text(text, () if _LOST.search(text) or not _is_plausible(text, "") else (text,))


def _codecs(declared: tuple[str, ...]) -> tuple[str, ...]:
    terms = (term.strip().upper() for term in declared)
    known = [_DECLARED.get(term) or _DECLARED.get(term.replace("ISO 2022 IR", "ISO_IR")) for term in terms]
    return tuple(dict.fromkeys([*filter(None, known), *_EVERYWHERE]))


def _decoded(raw: bytes, codecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield what some bytes are in every codec that they fit; only in that which they name, if they do."""
    if b"\x1b" in raw:
        if (text := _with_escapes(raw)) is not None:
            yield text, ""
        return
    for codec in codecs:
        may_be_cut = codec in _SEVERAL_BYTES and len(raw) >= _FULL_BYTES
        for cut_off in range(_MOST_CUT_OFF + 1 if may_be_cut else 1):
            if (text := _strictly(raw[: len(raw) - cut_off], codec)) is not None:
                yield text, codec
                yield from ((again, "utf_8") for again in _decoded_twice(text, codec))
                break


def _decoded_twice(text: str, codec: str) -> Iterator[str]:
    """Yield what a text of UTF-8 is if its bytes had been taken for Latin letters before."""
    for latin in ("cp1252", "latin_1") if codec == "utf_8" else ():
        try:
            yield text.encode(latin).decode("utf_8")
        except UnicodeError:
            continue


def _strictly(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _with_escapes(raw: bytes) -> str | None:
    """Return a text with code extensions (PS3.5 6.1.2.5), None where it breaks their rules."""
    first, *rest = _ESCAPE.split(raw)
    try:
        text = first.decode("ascii")
        for announced, part in zip(rest[::2], rest[1::2], strict=True):
            text += _announced(part, _ESCAPES[announced])
    except (KeyError, UnicodeDecodeError):
        return None
    return text


def _announced(part: bytes, codec: str) -> str:
    if codec == "jisx0208":
        return b"".join((b"\x1b$B", part, b"\x1b(B")).decode("iso2022_jp")
    return part.decode(codec)


def _ascii_of(raw: bytes) -> str:
    text = raw.decode("ascii", "replace").replace("\ufffd", "?")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# --- plausible --------------------------------------------------------------------------------------------------------

_SIGNS = frozenset("°²³µ±×·½®™§–—‘’“”„«»…、。・「」ー々〇（）＋－，．：／＊\u3000\xa0")
"""That stand in descriptions beside letters."""
_WORD = re.compile(r"[^\W\d_]+")
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff9f]")
_IDEOGRAPH, _HANGUL = re.compile(r"[\u4e00-\u9fff]"), re.compile(r"[\uac00-\ud7a3]")
_COMMON = {
    "gb18030": ("gb2312", 0xD7),
    "big5hkscs": ("big5", 0xC6),
    "cp932": ("euc_jp", 0xCF),
    "euc_jp": ("euc_jp", 0xCF),
}
"""Last first byte of the ideographs that the standard of a codec's country puts first for being common."""
_WITHIN_A_WORD = re.compile(r"(?<=[a-z])[\u4e00-\u9fff](?=[a-z])")
_BROKEN_LATIN = re.compile(r"[^a-zA-Z]{3}|[a-zß-ÿ][À-ÖØ-Þ]")
_SLAVIC = re.compile(r"[а-яёіїєґў]", re.IGNORECASE)
"""Of Russian, Ukrainian, Belarusian and Bulgarian; other letters of Cyrillic character sets are rather wrong bytes."""
_SURE = frozenset({"", "utf_8"})
"""Codecs that random bytes do not fit; the empty one stands for characters that are known."""
_CYRILLIC_LIKE_LATIN = frozenset("АВЕКМНОРСТХасеорх")
"""Some consoles write them within Latin words, where nobody sees a difference."""


def _is_plausible(text: str, codec: str) -> bool:
    """Return whether somebody may have typed a text: no unknown characters, words of one alphabet, in one case."""
    if not all(letter.isprintable() or letter in "\t\n\r\u3000\xa0" for letter in text):
        return False
    if not all(letter.isascii() or letter.isalpha() or _is_sign(letter) for letter in text):
        return False
    ideographs = _IDEOGRAPH.findall(text)
    rare = sum(not _is_common(ideograph, codec) for ideograph in ideographs)
    if 2 * rare > len(ideographs) or (ideographs and _HANGUL.search(text)) or _WITHIN_A_WORD.search(text):
        return False
    scripts = {_script(letter) for letter in text if letter.isalpha() and not letter.isascii()}
    return len(scripts - {"LATIN"}) <= 1 and all(_is_word(word, codec) for word in _WORD.findall(text))


def _is_sign(letter: str) -> bool:
    return letter in _SIGNS or unicodedata.category(letter) in {"Mn", "Mc"} or bool(_EAST_ASIAN.match(letter))


@lru_cache(2**14)
def _script(letter: str) -> str:
    """Return the alphabet of a letter; those of East Asia stand in one text."""
    return "EAST ASIAN" if _EAST_ASIAN.match(letter) else unicodedata.name(letter, "NONE").split()[0]


@lru_cache(2**14)
def _is_common(ideograph: str, codec: str) -> bool:
    standards = [_COMMON[codec]] if codec in _COMMON else _COMMON.values()
    return any(0 < int.from_bytes(_encoded(ideograph, standard)[:1]) <= last for standard, last in standards)


def _encoded(letter: str, codec: str) -> bytes:
    try:
        return letter.encode(codec)
    except UnicodeEncodeError:
        return b""


def _is_word(word: str, codec: str) -> bool:
    """Return whether the letters of a word belong together."""
    others = [letter for letter in word if not letter.isascii()]
    scripts = {_script(letter) for letter in others}
    if not others or scripts == {"EAST ASIAN"} or (codec in _SURE and _CYRILLIC_LIKE_LATIN.issuperset(others)):
        return True
    if scripts == {"CYRILLIC"} and codec not in _SURE and not all(map(_SLAVIC.fullmatch, others)):
        return False
    if scripts == {"LATIN"}:
        return (len(word) == 1 or len(others) < len(word)) and not _BROKEN_LATIN.search(word)
    return len(others) == len(word) and (word.isupper() or word[1:] == word[1:].lower())


def _several_bytes(text: str) -> int:
    return sum(not letter.isascii() for letter in text)
