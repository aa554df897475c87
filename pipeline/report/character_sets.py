r"""Text of source headers into results: verbatim bytes wherever possible, so that no name is ever made worse.

Chinese sites send GB18030, GBK under a wrong label, UTF-8 and ``\ISO 2022 IR 58``. The first three survive only if the
bytes are copied together with the label that came with them; decoding and encoding again would turn a wrong label
into lasting damage. The last one is not decoded by pydicom 3.0.2 (Python's codec leaves the escape sequence in the
text, and its escape is missing when written; no upstream issue known), so it becomes UTF-8 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import PersonName

LO_LENGTH: Final = 64
SH_LENGTH: Final = 16
"""Most characters of a value (PS3.5 6.2)."""

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_GB2312 = "ISO 2022 IR 58"
_OTHER_MULTI_BYTE = frozenset({"ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 159"})
# PS3.3 Table C.12-4: G1 becomes GB 2312; G0 becomes ASCII.
_GB2312_ESCAPES = (b"\x1b$)A", b"\x1b(B")
_SPECIFIC_CHARACTER_SET = Tag(0x0008, 0x0005)


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """How text of one source enters its results.

    Attributes
    ----------
    label
        Bytes of Specific Character Set (0008,0005) for the results; empty where the source has none.
    from_gb2312
        Whether text is decoded from ISO 2022 IR 58, to be written in the character set of `label`.
    """

    label: bytes
    from_gb2312: bool = False


def character_set(source: Dataset) -> CharacterSet:
    """Return how text of `source` is to be copied; its own character set, unless that is ISO 2022 IR 58.

    Parameters
    ----------
    source
        Header as read from a file; not changed.
    """
    label = _bytes_of(source, "SpecificCharacterSet")
    names = {name.strip() for name in label.decode("ascii", "replace").split("\\")}
    if _GB2312 in names and not names & _OTHER_MULTI_BYTE and _is_gb2312(source):
        return CharacterSet(b"ISO_IR 192", from_gb2312=True)
    return CharacterSet(label)


def declare(target: Dataset, charset: CharacterSet) -> None:
    """Label `target` with the character set of its text.

    Parameters
    ----------
    target
        Outermost data set of a result.
    charset
        Of the source that its text was copied from.
    """
    if charset.label:
        target[_SPECIFIC_CHARACTER_SET] = _raw(int(_SPECIFIC_CHARACTER_SET), "CS", charset.label)


def copy_text(source: Dataset, target: Dataset, keyword: str, charset: CharacterSet) -> None:
    """Copy one text attribute by its bytes; an attribute that is absent or empty is left out.

    Parameters
    ----------
    source, target
        Data sets or items of sequences.
    keyword
        DICOM keyword of an attribute with a VR of text.
    charset
        Of the outermost data set of `source`.
    """
    value = _bytes_of(source, keyword)
    if not value:
        return
    if charset.from_gb2312:
        text = _decode_gb2312(value, errors="replace")
        target.add(DataElement(_tag(keyword), dictionary_VR(keyword), text.rstrip(" "), validation_mode=0))
    else:
        target[_tag(keyword)] = _raw(_tag(keyword), dictionary_VR(keyword), value)


def text_of(source: Dataset, keyword: str) -> str:
    """Return an attribute as ASCII without padding, other bytes as ``?``; empty if absent.

    Parameters
    ----------
    source
        Data set or item of a sequence.
    keyword
        DICOM keyword of an attribute with a VR of text.
    """
    return ascii_text(_bytes_of(source, keyword).decode("ascii", "replace")).strip()


def items_of(source: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none if it is absent, empty or not a sequence.

    Parameters
    ----------
    source
        Data set or item of a sequence.
    keyword
        DICOM keyword of an attribute with VR SQ.
    """
    value = source.get(keyword)
    return list(value) if isinstance(value, Sequence) else []


def ascii_text(text: str) -> str:
    """Return `text` with everything that is not printable ASCII replaced by ``?``, and white space by a space.

    Parameters
    ----------
    text
        Any characters; each becomes one.
    """
    spaced = (" " if character.isspace() else character for character in text)
    return "".join(character if " " <= character <= "~" else "?" for character in spaced)


def short_text(text: str, length: int = LO_LENGTH) -> str:
    """Return `text` in ASCII for a VR of LO or SH: no backslash, at most `length` characters.

    Parameters
    ----------
    text
        Any characters.
    length
        64 for LO, 16 for SH (PS3.5 6.2).
    """
    return ascii_text(text).replace("\\", "/").strip()[:length].strip()


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        msg = f"{keyword} is not a DICOM keyword"
        raise KeyError(msg)
    return tag


def _raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    padded = value + b" " * (len(value) % 2)
    return RawDataElement(Tag(tag), vr, len(padded), padded, 0, is_implicit_VR=False, is_little_endian=True)


def _bytes_of(source: Dataset, keyword: str) -> bytes:
    tag = _tag(keyword)
    if tag not in source:
        return b""
    element = source.get_item(tag)
    if isinstance(element, RawDataElement):
        return (element.value or b"").rstrip(b" \0")
    return _encoded(element, source).rstrip(b" \0")


def _encoded(element: DataElement, source: Dataset) -> bytes:
    """Return the bytes of an element that was decoded before it came here."""
    value = element.value
    if value is None or isinstance(value, Sequence):
        return b""
    encodings = source.original_character_set or "iso8859"
    names = [encodings] if isinstance(encodings, str) else list(encodings)
    if isinstance(value, PersonName):
        return value.encode(names)
    values = value if element.VM > 1 else [value]
    return "\\".join(str(each) for each in values).encode(names[0], "replace")


def _decode_gb2312(value: bytes, errors: str = "strict") -> str:
    for escape in _GB2312_ESCAPES:
        value = value.replace(escape, b"")
    return value.decode("gb18030", errors)


def _is_gb2312(source: Dataset) -> bool:
    """Say whether all text of `source` can be decoded; if not, its bytes are better left alone."""
    raw = (element for element in source.elements() if isinstance(element, RawDataElement))
    text = (element.value or b"" for element in raw if _vr(element) in _TEXT_VRS)
    try:
        for value in text:
            _decode_gb2312(value)
    except UnicodeDecodeError:
        return False
    return True


def _vr(element: RawDataElement) -> str:
    if element.VR:
        return element.VR
    try:
        return dictionary_VR(element.tag)
    except KeyError:
        return "UN"
