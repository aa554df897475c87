"""Several files of one instance -> the one that counts, or why none does.

Copies of the same image are compared in what they show, in what is read of them, and in what a report copies from
them. Where only the last differs, the patient or the order was corrected, and the newest received copy says whose image
it is; where nothing says which is newer, or the images differ, nobody guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.dicom_file import content_digest
from pipeline.errors import StudyHeld
from pipeline.headers.attributes import Value, Values
from pipeline.headers.copied import differences, read_copied, time_of
from pipeline.headers.identity import date_of
from pipeline.headers.instance import Plane
from pipeline.headers.records import Copies, CopyVerdict

_PIXELS = "PixelData"
_IMAGE = frozenset(
    {
        _PIXELS, "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "ImagePositionPatient",
        "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    }
)  # fmt: skip
"""What no statement of a human settles: the copies are different images, or stand at different places."""
_DATES = frozenset({"StudyDate", "SeriesDate", "AcquisitionDate"})
_TIMES = frozenset({"StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"})
_ABOUT_THE_FILE = frozenset({"SpecificCharacterSet", "BitsAllocated"})
"""Differences between encodings of the same texts and pixels."""


@dataclass(frozen=True, slots=True)
class Received:
    """What files do not say of themselves.

    Attributes
    ----------
    order
        Every receipt of an instance that came in different copies, oldest first: the file that holds the copy, as
        often as it came. Empty where nothing is known of it.
    stated
        Copies that a human has stated to be right.
    """

    order: tuple[Path, ...] = ()
    stated: frozenset[Path] = frozenset()


NOTHING_KNOWN = Received()


def settle(instances: Sequence[list[Plane]], received: Received) -> tuple[list[list[Plane]], Copies | None]:
    """Return the copies of an instance that count, and what is to be said of those that differ.

    Parameters
    ----------
    instances
        The planes of each file that claims the instance.
    received
        In which order the files came, and which are right.

    Returns
    -------
    tuple
        One copy, or one for each series where they claim several; and None where they do not differ.
    """
    if len(instances) == 1:
        return list(instances), None
    came = _Receipts({content_digest(_path(planes)): planes for planes in instances}, received.order)
    newest = came.newest or came.copies[0]
    compared = {_path(other): _compare(newest, other) for other in came.copies if other is not newest}
    attributes = frozenset().union(*(each.attributes for each in compared.values()))
    equal = [newest, *(other for other in came.copies if other is not newest and not compared[_path(other)].attributes)]
    kept = min(equal, key=came.first) if came.newest else newest
    if not attributes:
        return [kept], None
    if not any(each.read for each in compared.values()):
        verdict = CopyVerdict.CORRECTED if came.newest else CopyVerdict.UNORDERED
    elif not attributes & _IMAGE and _path(newest) in received.stated:
        verdict = CopyVerdict.STATED
    else:
        return _one_for_each_series(came.copies), Copies(CopyVerdict.CONFLICT, attributes, _path(newest))
    aside = frozenset(map(_path, came.copies)) - {_path(kept)}
    return [kept], Copies(verdict, attributes, _path(newest), came.turns(set(map(_path, equal))), aside)


class _Receipts:
    """The different copies of an instance, in the order of their digests, and when they came."""

    def __init__(self, by_digest: dict[str, list[Plane]], order: tuple[Path, ...]) -> None:
        self.copies = [by_digest[digest] for digest in sorted(by_digest)]
        paths = {_path(planes) for planes in self.copies}
        self._order = [path for path in order if path in paths]

    @property
    def newest(self) -> list[Plane] | None:
        """The copy that came last; None where that is not known."""
        return next((planes for planes in self.copies if self._order and _path(planes) == self._order[-1]), None)

    def first(self, planes: list[Plane]) -> int:
        """Return when a copy came first; one that is not known to have come counts as the last."""
        return self._order.index(_path(planes)) if _path(planes) in self._order else len(self._order)

    def turns(self, equal: set[Path]) -> int:
        """Return how often copies like the newest took the place of others."""
        alike = [path in equal for path in self._order]
        return sum(not before and after for before, after in pairwise(alike))


@dataclass(frozen=True, slots=True)
class _Difference:
    """Keywords in which two copies differ: of what is read to select and to make an image, and of what is copied."""

    read: frozenset[str]
    copied: frozenset[str]

    @property
    def attributes(self) -> frozenset[str]:
        """All of them."""
        return self.read | self.copied


def _compare(one: list[Plane], other: list[Plane]) -> _Difference:
    read = _differing_values(one, other)
    if not read & _IMAGE and not _same_pixels(one, other):
        read |= {_PIXELS}
    return _Difference(read, differences(read_copied(_path(one)), read_copied(_path(other))))


def _differing_values(one: list[Plane], other: list[Plane]) -> frozenset[str]:
    if len(one) != len(other):
        return frozenset({"NumberOfFrames"})
    pairs = [(first.facts.values, second.facts.values) for first, second in zip(one, other, strict=True)]
    return frozenset(
        keyword
        for first, second in pairs
        for keyword in (first.keys() | second.keys()) - _ABOUT_THE_FILE
        if _spelt(keyword, first) != _spelt(keyword, second)
    )


def _spelt(keyword: str, values: Values) -> Value | None:
    """Return a value in one spelling."""
    value = values.get(keyword)
    if value and keyword in _TIMES:
        return (time_of(str(value[0])),)
    if value and keyword in _DATES:
        return (date_of(str(value[0]).encode()) or str(value[0]),)
    return value


def _same_pixels(one: list[Plane], other: list[Plane]) -> bool:
    """Return whether two files hold the same image, maybe in different encodings."""
    from pipeline.pixels import read_pixels  # noqa: PLC0415 - rare, and decoders take long to load

    try:
        arrays = [read_pixels([plane.frame for plane in planes]) for planes in (one, other)]
    except StudyHeld:
        return False
    return bool((arrays[0] == arrays[1]).all())


def _one_for_each_series(copies: list[list[Plane]]) -> list[list[Plane]]:
    """Return the first copy that claims each series: a conflict is reported as such, not as slices at one position."""
    series = {planes[0].facts.text("SeriesInstanceUID"): planes for planes in reversed(copies)}
    return list(series.values())


def _path(planes: list[Plane]) -> Path:
    return planes[0].frame.path
