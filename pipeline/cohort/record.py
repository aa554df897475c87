"""One study of a cohort: its tensors, or why there are none, and what is remembered of either."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from models.bounded_json import read_json
from models.brain_extractor import BrainExtractor
from models.bundle import Grid, Intensity
from models.contrast import Contrast
from models.training.cohort import INCLUDED, has_tensors, write_tensors
from models.whole_files import make_folder, write_json
from pipeline.errors import StudyHeld
from pipeline.out_of_range import after_contrast_agent, stated_age_years, tesla
from pipeline.select import Selection, SiteRules, select_study
from pipeline.steps import convert, strip, tensors
from pipeline.synthetic.study_tags import SeriesTags

RECORDS, WORK, IMAGES = "records", "work", "images"
_SYNTHETIC = "The images are made, not scanned, but no synthetic.json lies beside the labels file: put it back."


@dataclass(frozen=True, slots=True)
class Making:
    """How the tensors of a cohort are made, and where they go.

    Attributes
    ----------
    out
        Folder of the cohort.
    rules, grid, intensity
        See :func:`pipeline.cohort.build.build_cohort`.
    synthetic
        Whether the studies are said to be made.
    """

    out: Path
    rules: SiteRules
    grid: Grid
    intensity: Intensity
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a study.

    Attributes
    ----------
    input
        Digest of the selected series, or of the reason why none were selected.
    status, sentence
        ``included`` and nothing, or code and sentence of why the study is left out.
    content
        SHA-256 of the tensors; empty if there are none.
    age_years
        As the header states it; None where it does not.
    field_strength_t
        Of the three series; None where they differ or one does not state it.
    contrast_agent
        Whether one was given before the T1W series, as the node judges it; None where there are no tensors.
    """

    input: str
    status: str
    sentence: str = ""
    content: str = ""
    age_years: float | None = None
    field_strength_t: float | None = None
    contrast_agent: bool | None = None

    @property
    def included(self) -> bool:
        """Whether the study has tensors."""
        return self.status == INCLUDED


def read_study(case: str, folder: Path, making: Making, extractor: BrainExtractor) -> Record:
    """Return the record of a study, whose tensors are in the cohort's folder if it is included.

    A study of which the same input was read before is not read again.

    Parameters
    ----------
    case
        Names the tensors and the record.
    folder
        With the DICOM files of one study, in any depth.
    making
        How the tensors are made.
    extractor
        Finds the brain.

    Returns
    -------
    Record
        Of an included study, or the code and the sentence of why it is left out; a bad study raises nothing.
    """
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        if not files:
            return Record("", "study_missing", "The folder is not there, or contains no files.")
        selection = select_study(files, making.rules)
    except OSError as error:
        return Record("", "study_unreadable", f"A file cannot be read ({error.strerror}).")
    remembered = _remembered(case, making)
    if remembered and remembered.input == selection.digest:
        return remembered
    record = _read(case, selection, making, extractor)
    _remember(case, record, making)
    return record


def _read(case: str, selection: Selection, making: Making, extractor: BrainExtractor) -> Record:
    if not making.synthetic and _made(selection):
        return Record(selection.digest, "study_synthetic", _SYNTHETIC)
    work = making.out / WORK / case
    make_folder(work)
    try:
        if selection.held:
            raise selection.held
        convert(selection, work)
        strip(selection, work, extractor)
        tensors_zyx = dict(tensors(work, making.grid, making.intensity))
        _keep_images(work, making.out / IMAGES / case)
    except StudyHeld as held:
        return Record(selection.digest, held.code, held.sentence)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # SimpleITK's only kind of error: one bad study must not end the build
        return Record(selection.digest, "study_unreadable", f"The images cannot be used ({type(error).__name__}).")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    write_tensors(making.out, case, tensors_zyx)
    fields_t = {tesla(volume.field_strength_t) for volume in selection.volumes.values()}
    return Record(
        selection.digest,
        INCLUDED,
        content=_content(tensors_zyx),
        age_years=stated_age_years(selection.volumes),
        field_strength_t=fields_t.pop() if len(fields_t) == 1 else None,
        contrast_agent=after_contrast_agent(selection.volumes, selection.candidates),
    )


def _keep_images(work: Path, folder: Path) -> None:
    """Keep volumes and masks, packed: repeatability is measured with them."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    for file in sorted(work.glob("*.nrrd")):
        sitk.WriteImage(sitk.ReadImage(str(file)), str(folder / file.name), useCompression=True)


def _made(selection: Selection) -> bool:
    """Return whether a series comes from :mod:`pipeline.synthetic`."""
    return any(volume.manufacturer == SeriesTags().manufacturer for volume in selection.volumes.values())


def _content(tensors_zyx: dict[Contrast, np.ndarray]) -> str:
    total = hashlib.sha256()
    for contrast in Contrast:
        total.update(np.ascontiguousarray(tensors_zyx[contrast]).data)
    return total.hexdigest()


def _file(case: str, making: Making) -> Path:
    return making.out / RECORDS / f"{case}.json"


def _remembered(case: str, making: Making) -> Record | None:
    """Return the record of an earlier build, unless its tensors are gone or damaged."""
    try:
        record = Record(**read_json(_file(case, making)))
    except (OSError, ValueError, TypeError):
        return None
    return record if not record.included or has_tensors(making.out, case) else None


def _remember(case: str, record: Record, making: Making) -> None:
    file = _file(case, making)
    make_folder(file.parent)
    write_json(file, asdict(record))
