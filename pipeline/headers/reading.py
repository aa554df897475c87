"""All files of a study -> its volumes, each instance once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.headers.copies import NOTHING_KNOWN, Received, settle
from pipeline.headers.instance import Plane, read_instance
from pipeline.headers.records import CopyVerdict, Headers, Problem
from pipeline.headers.volumes import form_volumes


def read_headers(
    paths: Iterable[Path],
    received: Received = NOTHING_KNOWN,
    read: Callable[[Path], list[Plane] | Problem] = read_instance,
) -> Headers:
    """Return the volumes of the DICOM images among some files.

    Parameters
    ----------
    paths
        Files in any order; their names mean nothing.
    received
        In which order copies of an instance came, and which are right.
    read
        Reads a file, or remembers what was read of it.

    Returns
    -------
    Headers
        Volumes ordered by series number; every file that is not a usable MR image stands under `problems`. An instance
        that came twice counts once, also if it came in two encodings of the same pixels (`pipeline.headers.copies`).
    """
    problems: list[Problem] = []
    instances: dict[str, list[list[Plane]]] = defaultdict(list)
    for path in sorted(paths):
        found = read(path)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            instances[found[0].frame.sop_instance_uid].append(found)
    settled = {uid: settle(copies, received) for uid, copies in instances.items()}
    planes = [plane for kept, _ in settled.values() for copy in kept for plane in copy]
    copies = {uid: said for uid, (_, said) in settled.items() if said}
    return Headers(
        tuple(form_volumes(planes)),
        tuple(problems),
        frozenset(uid for uid, said in copies.items() if said.verdict is CopyVerdict.CONFLICT),
        copies,
        {plane.frame.path: plane.identity for plane in planes},
    )
