"""An SR's content tree as indented text, for terminals; reads any SR, not only our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from pipeline.report import codes

_NOTICE = (codes.NOTICE.value, codes.NOTICE.scheme_designator)
_INDENT = "  "


def render_tree(dataset: Dataset) -> str:
    """Return the content tree of an SR, one line per content item.

    Parameters
    ----------
    dataset
        Any SR document; items with missing names or values are shown as far as they go.

    Returns
    -------
    str
        First the notice, if the document has one of ours; then the tree, each item as ``name: value``, indented by its
        depth. No final line break.
    """
    notice = [" ".join(words.split()) for words in _notices(dataset)][:1]
    return "\n".join([*notice, *_lines(dataset, 0)])


def _notices(item: Dataset) -> Iterator[str]:
    for child in _items(item, "ContentSequence"):
        name = _first(child, "ConceptNameCodeSequence")
        if (name.get("CodeValue"), name.get("CodingSchemeDesignator")) == _NOTICE:
            yield str(child.get("TextValue") or "")


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    name = _meaning(_first(item, "ConceptNameCodeSequence"))
    value = _value(item)
    label = name or str(item.get("ValueType") or "item")
    yield _INDENT * depth + (f"{label}: {value}" if value else label)
    for child in _items(item, "ContentSequence"):
        yield from _lines(child, depth + 1)


def _value(item: Dataset) -> str:
    if "ReferencedContentItemIdentifier" in item:
        return f"see item {item.ReferencedContentItemIdentifier}"
    read = _VALUES.get(str(item.get("ValueType") or ""))
    return " ".join(read(item).split()) if read else ""


def _plain(keyword: str) -> Callable[[Dataset], str]:
    return lambda item: str(item.get(keyword) or "")


def _code(item: Dataset) -> str:
    return _meaning(_first(item, "ConceptCodeSequence"))


def _number(item: Dataset) -> str:
    measured = _first(item, "MeasuredValueSequence")
    if "NumericValue" not in measured:
        return _meaning(_first(item, "NumericValueQualifierCodeSequence")) or "no value"
    unit = _first(measured, "MeasurementUnitsCodeSequence")
    value, name = measured.NumericValue, str(unit.get("CodeValue") or "")
    return str(value) if name in {"1", ""} else f"{value} {name}"


def _reference(item: Dataset) -> str:
    reference = _first(item, "ReferencedSOPSequence")
    sop_class = UID(str(reference.get("ReferencedSOPClassUID") or ""))
    return f"{sop_class.name} {reference.get('ReferencedSOPInstanceUID') or ''}"


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = dataset.get(keyword)
    return list(value) if isinstance(value, Sequence) else []


def _first(dataset: Dataset, keyword: str) -> Dataset:
    items = _items(dataset, keyword)
    return items[0] if items else Dataset()


def _meaning(code: Dataset) -> str:
    return str(code.get("CodeMeaning") or code.get("CodeValue") or "")


_VALUES: dict[str, Callable[[Dataset], str]] = {
    "TEXT": _plain("TextValue"),
    "CODE": _code,
    "NUM": _number,
    "UIDREF": _plain("UID"),
    "PNAME": _plain("PersonName"),
    "DATE": _plain("Date"),
    "TIME": _plain("Time"),
    "DATETIME": _plain("DateTime"),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _plain("GraphicType"),
    "SCOORD3D": _plain("GraphicType"),
    "TCOORD": _plain("TemporalRangeType"),
}
