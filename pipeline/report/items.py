"""Content items of the report, each made by one call; all text becomes ASCII."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    GraphicTypeValues,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    ScoordContentItem,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom.sr.coding import Code

from pipeline.report import codes
from pipeline.report.character_sets import ascii_text
from pipeline.report.sources import Instance
from pipeline.rounding import DECIMALS

CONTAINS = RelationshipTypeValues.CONTAINS
MODIFIER = RelationshipTypeValues.HAS_CONCEPT_MOD
OBSERVATION = RelationshipTypeValues.HAS_OBS_CONTEXT
ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT


def container(
    name: Code,
    children: Iterable[ContentItem],
    *,
    template: str | None = None,
    relation: RelationshipTypeValues | None = CONTAINS,
) -> ContainerContentItem:
    """Return a container that shows each child with its name (continuity SEPARATE).

    Parameters
    ----------
    name
        Heading.
    children
        Each with its relationship to this container.
    template
        Template Identifier in DCMR, without ``TID``.
    relation
        To the parent; ``None`` for the root.
    """
    item = ContainerContentItem(name, is_content_continuous=False, template_id=template, relationship_type=relation)
    item.ContentSequence = ContentSequence(list(children), is_root=False, is_sr=True)
    return item


def text(name: Code, value: str, relation: RelationshipTypeValues | None = CONTAINS) -> TextContentItem:
    """Return a TEXT item; lines of `value` stay apart, other white space becomes a space.

    Parameters
    ----------
    name
        Of the item.
    value
        What is not ASCII becomes ``?``.
    relation
        To the parent; None where the item is no node of a tree.
    """
    lines = (ascii_text(line).strip() for line in value.splitlines())
    return TextContentItem(name, "\r\n".join(lines), relation)


def code(name: Code, value: Code, relation: RelationshipTypeValues = CONTAINS) -> CodeContentItem:
    """Return a CODE item.

    Parameters
    ----------
    name
        Of the item.
    value
        Its code.
    relation
        To the parent.
    """
    return CodeContentItem(name, value, relation)


def uid(name: Code, value: str, relation: RelationshipTypeValues = CONTAINS) -> UIDRefContentItem:
    """Return a UIDREF item.

    Parameters
    ----------
    name
        Of the item.
    value
        Its UID.
    relation
        To the parent.
    """
    return UIDRefContentItem(name, value, relation)


def number(name: Code, value: float, unit: Code, *, decimals: int = DECIMALS) -> NumContentItem:
    """Return a NUM item with `decimals` decimals, as people read it everywhere else.

    Parameters
    ----------
    name
        Of the item.
    value
        Finite.
    unit
        UCUM code.
    decimals
        After rounding; all are written, zeros too.
    """
    item = NumContentItem(name, round(float(value), decimals), unit, relationship_type=CONTAINS)
    item.MeasuredValueSequence[0].NumericValue = f"{float(value):.{decimals}f}"
    return item


def image(instance: Instance, relation: RelationshipTypeValues = CONTAINS) -> ImageContentItem:
    """Return an IMAGE item that refers to one input instance.

    Parameters
    ----------
    instance
        Gives SOP class and instance.
    relation
        To the parent.
    """
    return ImageContentItem(codes.SOURCE, instance.sop_class_uid, instance.sop_instance_uid, relationship_type=relation)


def whole_frame(instance: Instance) -> ScoordContentItem:
    """Return the border of a whole image as the region that a number is inferred from: it asserts no place in it.

    Parameters
    ----------
    instance
        Whose header tells its size.
    """
    columns, rows = instance.size
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows], [0, 0]], dtype=float)
    item = ScoordContentItem(
        codes.IMAGE_REGION, GraphicTypeValues.POLYLINE, corners, relationship_type=RelationshipTypeValues.INFERRED_FROM
    )
    selected = image(instance, RelationshipTypeValues.SELECTED_FROM)
    item.ContentSequence = ContentSequence([selected], is_root=False, is_sr=True)
    return item
