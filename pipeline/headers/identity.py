"""Whose images: what a file says of its patient and order, compared as texts and not as bytes.

An attribute that is absent, empty or no value at all (a sex ``U``, a birth date ``00000000``) is unknown and speaks
neither for nor against. Case, padding, separators of a name, and the encoding of a text are no differences; a leading
zero of a number is one, for the number of a patient is a text (PS3.5 6.2, LO).
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pipeline.headers.attributes import Readings

_NAME_PARTS = {"patient name": 0, "ideographic name": 1, "phonetic name": 2}
"""Groups of a name's components, which name the same person in several scripts (PS3.5 6.2.1)."""
_TEXTS = {
    "PatientID": "patient ID",
    "IssuerOfPatientID": "issuer of the patient ID",
    "UniversalEntityID": "universal issuer of the patient ID",
    "AccessionNumber": "accession number",
}
_SEXES = frozenset({"M", "F", "O"})
_GUESSES = ("utf-8", "gb18030", "latin-1")
"""Encodings in which a text may stand under a wrong label: its own label comes first."""
_GB2312_ESCAPES = (b"\x1b$)A", b"\x1b(B")
"""Which Python's codec leaves in the text (PS3.3 Table C.12-4)."""
_SEPARATORS = re.compile(r"[\^,\s]+")
_DATE = re.compile(r"(\d{4})[.\-/]?(\d\d)[.\-/]?(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """Patient and order of one instance.

    Attributes
    ----------
    known
        By what it is, everything that a known attribute may read as: one text, or several where its bytes are not
        ASCII, since the label of the character set may be wrong.
    """

    known: tuple[tuple[str, Readings], ...]

    def differs(self, other: Identity) -> frozenset[str]:
        """Return in what two identities contradict each other.

        Parameters
        ----------
        other
            Of another instance; what one of both leaves unknown is no contradiction.
        """
        theirs = dict(other.known)
        return frozenset(what for what, texts in self.known if what in theirs and not texts & theirs[what])


def identity_of(raw: Mapping[str, bytes]) -> Identity:
    """Return the identity that the attributes of a file state.

    Parameters
    ----------
    raw
        `pipeline.headers.attributes.IDENTITY` as they stand in the file, with Specific Character Set.
    """
    return _identity(tuple(sorted(raw.items())))


def contradictions(identities: Iterable[Identity]) -> frozenset[str]:
    """Return in what any two of some identities contradict each other.

    Parameters
    ----------
    identities
        In any order, with repetitions.
    """
    different = set(identities)
    return frozenset(what for one in different for other in different for what in one.differs(other))


@lru_cache(2**10)  # the instances of a study repeat each other
def _identity(raw: tuple[tuple[str, bytes], ...]) -> Identity:
    values = dict(raw)
    label = values.get("SpecificCharacterSet", b"")
    known = {what: readings(values.get(keyword, b""), label) for keyword, what in _TEXTS.items()}
    names = readings(values.get("PatientName", b""), label, fold=False)
    known |= {
        what: frozenset(filter(None, (_component(name, at) for name in names))) for what, at in _NAME_PARTS.items()
    }
    known["birth date"] = frozenset(filter(None, [date_of(values.get("PatientBirthDate", b""))]))
    known["sex"] = readings(values.get("PatientSex", b""), label) & {sex.casefold() for sex in _SEXES}
    return Identity(tuple((what, texts) for what, texts in sorted(known.items()) if texts))


def readings(value: bytes, label: bytes, *, fold: bool = True) -> Readings:
    """Return every text that the bytes of an attribute may stand for; none where it is empty.

    Parameters
    ----------
    value
        Bytes as they stand in a file.
    label
        Of Specific Character Set in the same file.
    fold
        Whether case, width and blanks are levelled.
    """
    plain = value.isascii() and b"\x1b" not in value
    texts = {value.decode("ascii")} if plain else set(_decoded(value, label))
    return frozenset(text for text in map(folded if fold else str, texts) if text.strip(" \0"))


def folded(text: str) -> str:
    """Return a text without differences of case, width and blanks.

    Parameters
    ----------
    text
        Any characters.
    """
    return " ".join(unicodedata.normalize("NFKC", text.replace("\0", " ")).casefold().split())


def date_of(value: bytes) -> str:
    """Return a date as eight digits, however it is separated; empty where it is none.

    Parameters
    ----------
    value
        Bytes as they stand in a file; ``2026.01.02`` is how ACR-NEMA wrote it (PS3.5 6.2, DA).
    """
    match = _DATE.fullmatch(value.decode("ascii", "replace").strip(" \0"))
    return "".join(match.groups()) if match and all(int(part) for part in match.groups()) else ""


def _component(name: str, at: int) -> str:
    groups = name.split("=")
    return _SEPARATORS.sub(" ", folded(groups[at])).strip() if at < len(groups) else ""


def _decoded(value: bytes, label: bytes) -> Iterator[str]:
    for encoding in _GUESSES:
        try:
            yield value.decode(encoding)
        except UnicodeDecodeError:
            continue
    yield from _by_label(value, label)


def _by_label(value: bytes, label: bytes) -> Iterator[str]:
    """Yield the text that the label of the character set makes of some bytes, if it can be read by it."""
    # Most files are read without pydicom, which takes longer to load than to read a series.
    from pydicom.charset import convert_encodings, decode_bytes  # noqa: PLC0415

    names = [name.strip() for name in label.decode("ascii", "replace").split("\\")]
    if "ISO 2022 IR 58" in names:
        for escape in _GB2312_ESCAPES:
            value = value.replace(escape, b"")
        names = ["GB18030"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield decode_bytes(value, convert_encodings(names), {0x3D, 0x5C, 0x5E})
    except Exception:  # whatever pydicom and the codecs stumbled over: it is not in this character set
        return
