"""What a run left in its folder: its result, and the objects that are delivered."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.studies.timeline import Kind
from models.contrast import Contrast
from models.result_records import RECORD_FILES, Record
from models.whole_files import make_folder
from pipeline.report.result_files import HELD_FILES, OBJECT_FILES, SALIENCY_FILES
from pipeline.result import RESULT_FILE, Outcome, read_result

if TYPE_CHECKING:
    from pipeline.study import Models

_RECORDS: Final = {record.value: (name,) for record, name in RECORD_FILES.items()}
FILES: Final = {
    Kind(kind): names for kind, names in {**OBJECT_FILES, **SALIENCY_FILES, **_RECORDS, "held": HELD_FILES}.items()
}
"""Files of each kind of object; of several a peer gets the first that it takes."""
OBJECTS: Final = tuple(name for names in OBJECT_FILES.values() for name in names)
SALIENCY: Final = tuple(name for names in SALIENCY_FILES.values() for name in names)


def objects(folder: Path, kind: Kind) -> list[Path]:
    """Return the files of a kind that a run left, the best first."""
    return [folder / name for name in FILES[kind] if (folder / name).exists()]


def saliency_kinds(folder: Path | None) -> tuple[Kind, ...]:
    """Return the page, and the maps that a run left: of a sequence that it used, and fine enough to be one."""
    maps = [Kind(f"saliency_{role}") for role in Contrast]
    return (Kind.SALIENCY, *(kind for kind in maps if folder and objects(folder, kind)))


def recall(folder: Path, models: Models, *, saliency: bool = False, records: Collection[Record] = ()) -> bool:
    """Return whether these models have scored a run; what others left is kept in a folder of its own.

    Parameters
    ----------
    folder
        Of the run; may be missing.
    models
        Loaded ones.
    saliency
        Whether the maps are asked for too.
    records
        As what the result is asked for too.
    """
    if is_scored(folder, models, saliency=saliency, records=records):
        return True
    names = (*OBJECTS, *SALIENCY, *RECORD_FILES.values(), RESULT_FILE)
    left = [folder / name for name in names if (folder / name).exists()]
    if folder / OBJECTS[0] in left:
        aside = folder / f"earlier-{time.time_ns()}"
        make_folder(aside)
        for path in left:
            path.rename(aside / path.name)
    return False


def is_scored(folder: Path, models: Models, *, saliency: bool = False, records: Collection[Record] = ()) -> bool:
    """Return whether a run has a score of these models and all its objects, with what is asked for besides."""
    # The page is written last: where it is, the maps are.
    page = FILES[Kind.SALIENCY] if saliency else ()
    more = (*page, *(RECORD_FILES[record] for record in records))
    stored = read_result(folder)
    if stored is None or not all((folder / name).exists() for name in (*OBJECTS, *more)):
        return False
    made_by = (stored.model_digest, stored.brain_weights_digest)
    return stored.outcome is Outcome.SCORED and made_by == (models.bundle.digest, models.brain_weights.digest)
