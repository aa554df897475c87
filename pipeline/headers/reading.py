"""All files of a study -> its volumes, each instance once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pipeline.dicom_file import content_digest
from pipeline.errors import StudyHeld
from pipeline.headers.instance import Plane, read_instance
from pipeline.headers.records import Headers, Problem
from pipeline.headers.volumes import form_volumes


def read_headers(paths: Iterable[Path]) -> Headers:
    """Return the volumes of the DICOM images among some files.

    Parameters
    ----------
    paths
        Files in any order; their names mean nothing.

    Returns
    -------
    Headers
        Volumes ordered by series number; every file that is not a usable MR image stands under `problems`. An instance
        that came twice counts once, also if it came in two encodings of the same pixels.
    """
    problems: list[Problem] = []
    instances: dict[str, list[list[Plane]]] = defaultdict(list)
    for path in sorted(paths):
        planes = read_instance(path)
        if isinstance(planes, Problem):
            problems.append(planes)
        else:
            instances[planes[0].frame.sop_instance_uid].append(planes)
    different = {uid: _different(copies) for uid, copies in instances.items()}
    kept = [planes for copies in different.values() for planes in _one_for_each_series(copies)]
    volumes = form_volumes(plane for planes in kept for plane in planes)
    conflicts = frozenset(uid for uid, copies in different.items() if len(copies) > 1)
    return Headers(tuple(volumes), tuple(problems), conflicts)


def _different(copies: list[list[Plane]]) -> list[list[Plane]]:
    """Return the copies of an instance that differ in what they show, whatever they are called."""
    if len(copies) == 1:
        return copies
    by_digest = {content_digest(planes[0].frame.path): planes for planes in copies}
    different: list[list[Plane]] = []
    for _, planes in sorted(by_digest.items()):
        if not any(_same_image(planes, other) for other in different):
            different.append(planes)
    return different


def _one_for_each_series(copies: list[list[Plane]]) -> list[list[Plane]]:
    """Return the first copy that claims each series: a conflict is reported as such, not as slices at one position."""
    series = {planes[0].facts.text("SeriesInstanceUID"): planes for planes in reversed(copies)}
    return list(series.values())


def _same_image(one: list[Plane], other: list[Plane]) -> bool:
    """Return whether two files hold the same image in different encodings."""
    if [plane.facts.values for plane in one] != [plane.facts.values for plane in other]:
        return False
    from pipeline.pixels import read_pixels  # noqa: PLC0415 - rare, and decoders take long to load

    try:
        arrays = [read_pixels([plane.frame for plane in planes]) for planes in (one, other)]
    except StudyHeld:
        return False
    return bool((arrays[0] == arrays[1]).all())
