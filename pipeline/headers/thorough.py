"""The header of any DICOM file, by pydicom: functional groups, every transfer syntax and character set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dicom_file import open_dataset
from pipeline.headers.attributes import NUMERIC, WANTED, Header, Value, Values, as_numbers, as_texts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = {tag: keyword for keyword, (tag, _) in WANTED.items()}


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
    values = _plain(dataset)
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
        )
    except Exception as error:  # any malformed sequence
        raise DamagedHeaderError(values) from error


def _macros(groups: Dataset) -> dict[str, Value]:
    """Return the attributes of one functional-group item, whose macros each nest one item in a sequence.

    Private macros do not count: that of Philips has a second ImagePositionPatient, half a pixel aside.
    """
    found: dict[str, Value] = {}
    for macro in groups:
        if macro.VR == "SQ" and macro.value and not macro.tag.is_private:
            found |= _plain(macro.value[0])
    return found


def _plain(dataset: Dataset) -> dict[str, Value]:
    """Return the wanted attributes of a data set; one that its VR does not allow counts as absent."""
    found: dict[str, Value] = {}
    for keyword in map(_KEYWORDS.__getitem__, dataset.keys() & _KEYWORDS.keys()):
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
