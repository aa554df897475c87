"""What a volume is called: in sentences, and by who chooses it by hand.

A series number names a series where it is unique, else the Series Instance UID does. Where a series holds several
volumes, what distinguishes one of them follows after a colon: ``2:echo1``, ``2:W``, ``1.2.840.1:te4.92``. Labels are
values of the header, so that they stay what they are when further images arrive.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import combinations

from models.uid import is_uid
from pipeline.geometry import axes_of
from pipeline.headers import Frame, Volume
from pipeline.select.judge import Candidate

_CLOCK = slice(8, 14)
_NOT_OF_A_LABEL = re.compile(r"[^\w.+-]+")
_CHOICE = re.compile(r"([\d.]+)((?::[\w.+-]+)*)")


def with_names(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates of one study that know what a choice by hand calls them.

    Parameters
    ----------
    candidates
        Every volume of the study.
    """
    candidates = list(candidates)
    numbers: dict[int | None, set[str]] = defaultdict(set)
    series: dict[str, list[Volume]] = defaultdict(list)
    for candidate in candidates:
        numbers[candidate.volume.series_number].add(candidate.volume.series_uid)
        series[candidate.volume.series_uid].append(candidate.volume)
    named = []
    for candidate in candidates:
        volume = candidate.volume
        unique = volume.series_number is not None and len(numbers[volume.series_number]) == 1
        base = str(volume.series_number) if unique else volume.series_uid
        named.append(replace(candidate, argument=":".join((base, *_distinction(volume, series[volume.series_uid])))))
    return named


def name(candidate: Candidate) -> str:
    """Return how a sentence calls a candidate.

    Parameters
    ----------
    candidate
        Its series may have no number, or share it with another.
    """
    number, argument = candidate.volume.series_number, candidate.argument
    if number is None:
        return f"A series without a number ({argument})" if argument else "A series without a number"
    of_number = not argument or argument.partition(":")[0] == str(number)
    return f"Series {argument or number}" if of_number else f"Series {number} ({argument})"


def is_choice(text: str) -> bool:
    """Return whether a text has the form of a choice; the study decides whether it names a volume.

    Parameters
    ----------
    text
        A series number or Series Instance UID, and labels of a volume after colons.
    """
    found = _CHOICE.fullmatch(text)
    return found is not None and (is_uid(found.group(1)) or found.group(1).isdigit())


def meant_by(choice: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates that a choice names: those of a series, or one of its volumes.

    Parameters
    ----------
    choice
        As `is_choice` takes it.
    candidates
        Every volume of the study.
    """
    base, *labels = choice.split(":")
    candidates = list(candidates)
    meant = [c for c in candidates if c.volume.series_uid == base]
    meant = meant or [c for c in candidates if base.isdigit() and c.volume.series_number == int(base)]
    wanted = {label.casefold() for label in labels}
    return [c for c in meant if wanted <= {label.casefold() for label in _labels(c.volume)}]


def durable_choice(candidate: Candidate) -> str:
    """Return the choice that names a candidate whatever series arrive later.

    Parameters
    ----------
    candidate
        Of `with_names`.
    """
    return ":".join((candidate.volume.series_uid, *candidate.argument.split(":")[1:]))


def _distinction(volume: Volume, of_series: Sequence[Volume]) -> tuple[str, ...]:
    """Return the fewest labels that no other volume of the series has, none if it is the only one."""
    others = [set(_labels(other)) for other in of_series if other is not volume]
    labels = _labels(volume)
    chosen = (some for count in (0, 1, 2) for some in combinations(labels[:-1], count))
    return next((some for some in chosen if not any(set(some) <= other for other in others)), labels[-1:])


def _normal(frame: Frame) -> list[float]:
    """Return how far a plane's normal points along each axis; nothing of an orientation that is none."""
    try:
        return [abs(part) for part in axes_of(frame)[2]] if frame.orientation else []
    except ZeroDivisionError:
        return []


def _labels(volume: Volume) -> tuple[str, ...]:
    """Return what may distinguish volumes of one series, the most telling first; the last is always unique."""
    times = (("te", volume.te_ms), ("ti", volume.ti_ms), ("b", volume.b_value))
    frame, first = volume.frames[0], min((f.sop_instance_uid, f.index) for f in volume.frames)
    normal = _normal(frame)
    found = (
        f"echo{volume.echo_number}" if volume.echo_number else "",
        *(_NOT_OF_A_LABEL.sub("_", term) for term in volume.image_type),
        *(f"{what}{value:g}" for what, value in times if value is not None),
        (volume.acquired or "")[_CLOCK],
        ("sagittal", "coronal", "axial")[normal.index(max(normal))] if normal else "",
        f"{frame.columns}x{frame.rows}",
        f"{len(volume.frames)}slices",
        "i" + sha256(f"{first[0]} {first[1]}".encode()).hexdigest()[:8],
    )
    return tuple(label for label in found if label)
