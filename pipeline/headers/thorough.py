"""The header of any DICOM file, by pydicom: functional groups, every transfer syntax and character set."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dicom_file import open_dataset
from pipeline.headers.attributes import (
    DESCRIPTIONS,
    IDENTITY,
    ISSUER_QUALIFIERS,
    NUMERIC,
    WANTED,
    Header,
    Value,
    Values,
    as_numbers,
    as_texts,
)
from pipeline.headers.texts import Text, is_ascii, read_plain_text, read_text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = {tag: keyword for keyword, (tag, _) in WANTED.items()}


_UNIVERSAL_ENTITY_ID = 0x00400032


class DamagedHeaderError(Exception):
    """Functional groups cannot be read; what the data set itself says stands in `values`."""

    def __init__(self, values: Values) -> None:
        super().__init__()
        self.values = values


def read_thoroughly(path: Path) -> Header:
    """Return the header of a DICOM file.

    Parameters
    ----------
    path
        Of any class, transfer syntax and character set.

    Returns
    -------
    Header
        An attribute that its value representation does not allow counts as absent (PS3.5 6.2).

    Raises
    ------
    InflatesTooLargeError
        See `open_dataset`.
    DamagedHeaderError
        From whatever pydicom's parser stumbled over in the functional groups.
    Exception
        Whatever pydicom's parser stumbles over before.
    """
    dataset, pixels = open_dataset(path, pixels=False)
    identity = identity_bytes(dataset)
    raw = _raw_descriptions(dataset)
    values = _plain(dataset, besides=raw)
    texts = _texts(raw, values)
    values |= {keyword: (text.shown,) for keyword, text in texts.items()}
    if agents := dataset.get("ContrastBolusAgentSequence"):
        named = map(str, values.get("ContrastBolusAgent", ()))
        coded = (str(agent.get("CodeMeaning") or "named by a code") for agent in agents)
        values["ContrastBolusAgent"] = (*named, *coded)
    try:
        shared = dataset.get("SharedFunctionalGroupsSequence") or []
        frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
        return Header(
            values=values,
            shared=_macros(shared[0]) if shared else {},
            frames=tuple(map(_macros, frames)),
            transfer_syntax=str(dataset.file_meta.get("TransferSyntaxUID") or ""),
            pixels=pixels,
            texts={keyword: text for keyword, text in texts.items() if text != read_plain_text(text.shown)},
            identity=identity,
        )
    except Exception as error:  # any malformed sequence
        raise DamagedHeaderError(values) from error


def _raw_descriptions(dataset: Dataset) -> dict[str, bytes]:
    """Return the bytes of descriptions beyond ASCII, before pydicom decodes them by their label alone."""
    from pydicom.dataelem import RawDataElement  # noqa: PLC0415 - see `open_dataset`

    tags = [tag for tag in (WANTED[keyword][0] for keyword in DESCRIPTIONS) if tag in dataset]
    elements = {_KEYWORDS[tag]: dataset.get_item(tag) for tag in tags}
    raw = {key: element.value or b"" for key, element in elements.items() if isinstance(element, RawDataElement)}
    return {key: value for key, value in raw.items() if not is_ascii(value)}


def _texts(raw: dict[str, bytes], values: Values) -> dict[str, Text]:
    declared = tuple(map(str, values.get("SpecificCharacterSet", ())))
    texts = {keyword: read_text(value, declared) for keyword, value in raw.items()}
    return {keyword: text for keyword, text in texts.items() if text.shown}


def identity_bytes(dataset: Dataset) -> dict[str, bytes]:
    """Return the bytes of what says whose images they are; nothing is decoded.

    Parameters
    ----------
    dataset
        As it was read.
    """
    found = {keyword: _bytes(dataset, tag) for keyword, tag in IDENTITY.items()}
    qualifiers = dataset.get(ISSUER_QUALIFIERS)
    items = qualifiers.value if qualifiers is not None and qualifiers.VR == "SQ" else ()
    found["UniversalEntityID"] = _bytes(items[0], _UNIVERSAL_ENTITY_ID) if items else b""
    return {keyword: value for keyword, value in found.items() if value}


def _bytes(dataset: Dataset, tag: int) -> bytes:
    """Return the bytes of an attribute without padding; pydicom has decoded the character set by itself."""
    value = dataset.get_item(tag).value if tag in dataset else None
    if isinstance(value, bytes):
        return value.strip(b" \0")
    parts = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return "\\".join("" if part is None else str(part) for part in parts).encode("latin-1", "replace").strip(b" \0")


def _macros(groups: Dataset) -> dict[str, Value]:
    """Return the attributes of one functional-group item, whose macros each nest one item in a sequence.

    Private macros do not count: that of Philips has a second ImagePositionPatient, half a pixel aside.
    """
    found: dict[str, Value] = {}
    for macro in groups:
        if macro.VR == "SQ" and macro.value and not macro.tag.is_private:
            found |= _plain(macro.value[0])
    return found


def _plain(dataset: Dataset, besides: Container[str] = ()) -> dict[str, Value]:
    """Return the wanted attributes of a data set; one that its VR does not allow counts as absent."""
    found: dict[str, Value] = {}
    for keyword in map(_KEYWORDS.__getitem__, dataset.keys() & _KEYWORDS.keys()):
        if keyword in besides:
            continue
        try:
            value = dataset.get(keyword)
        except Exception:  # noqa: S112 - whatever pydicom stumbled over
            continue
        if plain := _as_value(value, numeric=WANTED[keyword][1] in NUMERIC):
            found[keyword] = plain
    return found


def _as_value(value: Any, *, numeric: bool) -> Value | None:
    if value is None:
        return None
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    parts = list(value) if several else [value]
    return as_numbers(parts) if numeric else as_texts(parts)
