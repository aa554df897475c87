"""Build a cohort folder: every labelled study through the node's own way up to the model tensor.

Beside what :mod:`models.training.cohort` describes, the folder holds ``images/<case>/``, volumes and brain masks, with
which repeatability is measured, and ``records/<case>.json``: what was found out about a case, and the digest of the
input it was found out from. A case whose input is the same is not read again, so a build
that was stopped goes on, and a study that was mended is read anew. ``cases.csv`` is written last: without it the folder
is not a cohort yet.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from models.brain_extractor import BrainExtractor
from models.bundle import Grid, Intensity, ModelError
from models.training.cohort import (
    CASES,
    DESCRIPTION,
    TENSORS,
    Case,
    Cohort,
    CohortDescription,
    case_name,
    open_cohort,
    write_cases,
    write_description,
)
from models.whole_files import drop_unfinished, make_folder
from pipeline.cohort.labels import LabelledStudy, Labels, read_labels
from pipeline.cohort.parallel import read_all
from pipeline.cohort.record import WORK, Making, Record
from pipeline.select import BUILT_IN, SiteRules
from pipeline.study import SOFTWARE

LOW_PASS_VOXELS = 0.6
"""Leaves a fifth of what one voxel of the grid can just hold, so that it hardly counts where between two it falls."""
SMALL = Grid(
    size_xyz=(128, 128, 64), spacing_xyz_mm=(2.0, 2.0, 3.0), centre="brain_mass", low_pass_voxels=LOW_PASS_VOXELS
)
"""For small experiments: an eighth of the voxels, the same extent."""
FULL = Grid(
    size_xyz=(256, 256, 128), spacing_xyz_mm=(1.0, 1.0, 1.5), centre="brain_mass", low_pass_voxels=LOW_PASS_VOXELS
)
"""The matrix of CN114170162A."""
PERCENTILES = Intensity(clip_percentiles=(0.5, 99.5))
_MADE = ("grid", "intensity", "brain_weights", "software", "synthetic")


def build_cohort(
    labels_file: Path,
    out: Path,
    *,
    extractor: BrainExtractor,
    grid: Grid,
    intensity: Intensity = PERCENTILES,
    rules: SiteRules = BUILT_IN,
    workers: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> Cohort:
    """Return the cohort of a table of labelled studies, built or completed.

    Parameters
    ----------
    labels_file
        See :func:`pipeline.cohort.labels.read_labels`. If ``synthetic.json`` lies beside it, the cohort says what it
        states.
    out
        Folder of the cohort; a build that was stopped goes on there.
    extractor
        Finds the brain.
    grid, intensity
        Of the tensors, and of the bundle that is trained with them.
    rules
        What the site knows of its own series.
    workers
        Studies that are read at the same time, each by a process with its share of the threads. The number of threads
        may change the last bits of a mask's network, as on the node.
    tell
        Takes a line about what is going on.

    Raises
    ------
    ModelError
        ``labels_missing``, ``labels_invalid``, ``synthetic_invalid``, ``cohort_differs`` (the folder holds a cohort
        that was made in another way), ``cohort_folder_taken`` (it holds something else) or ``cohort_worker_ended``.
    """
    labels = read_labels(labels_file)
    making = Making(out, rules, grid, intensity, synthetic=labels.synthetic is not None)
    _prepare(out, _description(labels, extractor, grid, intensity))
    records = dict(_records(labels.studies, making, extractor, workers, tell))
    cases = [_case(study, records.get(_name(study))) for study in labels.studies]
    write_cases(out, without_copies(cases, labels.studies, records))
    shutil.rmtree(out / WORK, ignore_errors=True)
    return open_cohort(out)


def _description(labels: Labels, extractor: BrainExtractor, grid: Grid, intensity: Intensity) -> CohortDescription:
    weights = {"name": extractor.weights.name, "digest": extractor.weights.digest}
    return CohortDescription(
        grid=grid,
        intensity=intensity,
        brain_weights=weights,
        software=SOFTWARE,
        synthetic=labels.synthetic,
        criteria=labels.criteria,
    )


def _prepare(out: Path, description: CohortDescription) -> None:
    """Make the folder that of an unfinished cohort, or refuse it."""
    if (out / DESCRIPTION).exists():
        _refuse_other(out, description)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError("cohort_folder_taken", f"{out} contains something other than a cohort: name a new folder.")
    make_folder(out)
    for folder in (out, out / TENSORS):
        drop_unfinished(folder)
    write_description(out, description)
    (out / CASES).unlink(missing_ok=True)


def _refuse_other(out: Path, description: CohortDescription) -> None:
    try:
        there = CohortDescription.model_validate_json((out / DESCRIPTION).read_bytes())
    except ValueError:
        raise ModelError("cohort_damaged", f"{out / DESCRIPTION} cannot be read: name a new folder.") from None
    differing = [name for name in _MADE if getattr(there, name) != getattr(description, name)]
    if differing:
        raise ModelError(
            "cohort_differs",
            f"The cohort in {out} was made in another way ({', '.join(differing)}): name a new folder for this one.",
        )


def _records(
    studies: tuple[LabelledStudy, ...],
    making: Making,
    extractor: BrainExtractor,
    workers: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, Record]]:
    """Yield the record of every study that meets the criteria, as it becomes known."""
    wanted = {_name(study): study.folder for study in studies if study.excluded is None}
    left_out = len(studies) - len(wanted)
    tell(f"0 of {len(wanted)} studies read, {left_out} of {len(studies)} left out")
    for done, (case, record) in enumerate(read_all(wanted, making, extractor, workers), 1):
        left_out += not record.included
        tell(f"{done} of {len(wanted)} studies read, {left_out} of {len(studies)} left out")
        yield case, record


def _name(study: LabelledStudy) -> str:
    return case_name(study.patient, study.study)


def _case(study: LabelledStudy, record: Record | None) -> Case:
    status, sentence = study.excluded or (("", "") if record is None else (record.status, record.sentence))
    age_years = study.age_years if study.age_years is not None or record is None else record.age_years
    return Case(
        case=_name(study),
        patient=study.patient,
        label=study.label,
        status=status,
        sentence=sentence,
        group=study.group,
        subgroup=study.subgroup,
        age_years=age_years,
        field_strength_t=record.field_strength_t if record else None,
        contrast_agent=record.contrast_agent if record else None,
        content=record.content if record else "",
    )


def without_copies(cases: list[Case], studies: Iterable[LabelledStudy], records: dict[str, Record]) -> list[Case]:
    """Leave out images that stand in several lines: they would be learnt from and tested on at once.

    Of one patient's copies the first stays. Of copies under several patients none does, since nobody knows whose they
    are.

    Parameters
    ----------
    cases
        One for each line of the table.
    studies
        The lines.
    records
        By case, of the included ones at least.
    """
    lines = {_name(study): study.line for study in studies}
    alike: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.included:
            alike[records[case.case].content].append(case)
    left_out: dict[str, str] = {}
    for copies in (found for found in alike.values() if len(found) > 1):
        named = " and ".join(str(lines[case.case]) for case in copies)
        same_patient = len({case.patient for case in copies}) == 1
        for case in copies[1:] if same_patient else copies:
            left_out[case.case] = f"Lines {named} have the same images; correct the labels file if this is a mistake."
    return [
        replace(case, status="excluded_copy", sentence=left_out[case.case]) if case.case in left_out else case
        for case in cases
    ]
