"""How often anybody has looked at the test patients of a cohort: every bundle that was judged on them is a look.

A figure of the second look may have been chosen among two. Looks lie beside the cohort, a file each; they are forgotten
where the cohort is built in another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from models.bounded_json import read_json
from models.bundle import Bundle, sha256
from models.training.cohort import Case, Cohort
from models.whole_files import make_folder, write_json

LOOKS: Final = "looks"
_DIGITS: Final = 16


def judged_by(bundle: Bundle) -> str:
    """Return what a bundle scores by, as a digest: its networks, weights and threshold, whatever else it states.

    Parameters
    ----------
    bundle
        Verified bundle.
    """
    metadata = bundle.metadata
    files = sorted({name for names in (metadata.network_files or {}).values() for name in names})
    parts = [metadata.seed, dict(metadata.weights), metadata.threshold]
    said = json.dumps([*parts, [sha256(bundle.folder / name) for name in files]])
    return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]


def count_look(cohort: Cohort, cases: Iterable[Case], judged: str) -> int | None:
    """Note a look at cases, and return how many there were at any of them; None where looks cannot be kept or read.

    Parameters
    ----------
    cohort
        Keeps the looks in its folder.
    cases
        That were looked at.
    judged
        What was judged on them: the same again is no other look.
    """
    names = sorted(case.case for case in cases)
    digest = hashlib.sha256("\n".join([judged, *names]).encode()).hexdigest()[:_DIGITS]
    try:
        make_folder(cohort.folder / LOOKS)
        write_json(cohort.folder / LOOKS / f"{digest}.json", {"judged": judged, "cases": names})
        return len({judged for judged, seen in _looks(cohort.folder / LOOKS) if seen & set(names)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _looks(folder: Path) -> Iterable[tuple[str, set[str]]]:
    for file in sorted(folder.glob("*.json")):
        look = read_json(file)
        yield str(look["judged"]), set(look["cases"])
