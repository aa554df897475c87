"""The report for a PACS that takes nothing but Basic Text SR: the same tree with every number written out.

Basic Text SR (PS3.3 A.35.1) has no NUM, so each becomes TEXT under the same name. What is left is no Measurement
Report, so no template is claimed for it.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

_MADE_ANEW = frozenset({"ValueType", "ContentSequence", "ContentTemplateSequence", "MeasuredValueSequence"})
# Annotated units such as {score} say nothing to a reader.
_UNIT_WORDS = {"%": " %", "ml": " ml"}


def text_only(item: Dataset) -> Dataset:
    """Return a content item and all below it without numeric items.

    Parameters
    ----------
    item
        Content item of any SR, for example the root; not changed.

    Returns
    -------
    pydicom.Dataset
        Copy with the same names, order and relationships; NUM became TEXT, templates are no longer identified.
    """
    copy = Dataset()
    # Elements are shared with the original: one that differs is made anew, never set.
    copy.update({element.tag: element for element in item if element.keyword not in _MADE_ANEW})
    is_number = item.ValueType == "NUM"
    copy.ValueType = "TEXT" if is_number else item.ValueType
    if is_number:
        copy.TextValue = number_words(item)
    if "ContentSequence" in item:
        copy.ContentSequence = [text_only(child) for child in item.ContentSequence]
    return copy


def number_words(item: Dataset) -> str:
    """Return the value of a NUM item with its unit, for example ``0.73``, ``30.0 %`` or ``1321 ml``.

    Parameters
    ----------
    item
        Content item with a measured value.
    """
    measured = item.MeasuredValueSequence[0]
    unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
    return f"{measured.NumericValue}{_UNIT_WORDS.get(unit, '')}"
