"""The studies of ``dicom-node demo --pages``: one head, in five ways in which studies come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import SimpleITK as sitk
from pydicom import dcmread

from dicom_node.studies.timeline import State
from models.contrast import Contrast
from pipeline.synthetic import QUICK, write_study
from pipeline.synthetic.anatomy import procedural_head
from pipeline.synthetic.study_tags import StudyTags, derive_uid

_SPACING_MM = 1.5
_SECOND = 9
"""Number of the series that is there twice."""


class Case(StrEnum):
    """How a study of the demonstration comes."""

    GOOD = "good"
    AMBIGUOUS = "ambiguous"
    WITHOUT_FLAIR = "without FLAIR"
    REFUSED = "its PACS refuses, and comes back"
    OUT_OF_RANGE = "out of range"


ENDS = {
    Case.GOOD: State.DELIVERED,
    Case.AMBIGUOUS: State.HELD,
    Case.WITHOUT_FLAIR: State.HELD,
    Case.REFUSED: State.DELIVERED,
    Case.OUT_OF_RANGE: State.DELIVERED,
}
"""What becomes of each."""
SHOWS = {
    Case.GOOD: "its report, the pictures with the outline of the brain, the deliveries",
    Case.AMBIGUOUS: "two T2W fit equally well: sign in, and release it by a click on one of them",
    Case.WITHOUT_FLAIR: "no score, and what to do",
    Case.REFUSED: "the PACS was full twice: the timeline has each attempt, and the proof",
    Case.OUT_OF_RANGE: "65 years old, the model knows children: the report begins with a caution",
}
"""What is to be seen of each."""


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One study, ready to be sent."""

    case: Case
    study_uid: str
    files: Sequence[Path]


def write_studies(folder: Path, cases: Sequence[Case]) -> list[DemoStudy]:
    """Write a study for each case below a folder; all show one small head that is drawn once."""
    head = procedural_head(1, spacing_mm=_SPACING_MM)
    return [_write(folder / case.name.lower(), case, head) for case in cases]


def _write(folder: Path, case: Case, head: sitk.Image) -> DemoStudy:
    tags = StudyTags(
        study_uid=derive_uid("demonstration", case),
        patient_name=f"DEMO^{case.name.replace('_', ' ')}",
        patient_id=f"DEMO-{case.name.replace('_', '-')}",
        age="065Y" if case is Case.OUT_OF_RANGE else "009Y",
    )
    acquisitions = {role: QUICK[role] for role in Contrast if (role, case) != (Contrast.FLAIR, Case.WITHOUT_FLAIR)}
    written = write_study(folder, study=tags, quick=True, labels=head, acquisitions=acquisitions)
    files = list(written.all_files)
    if case is Case.AMBIGUOUS:
        files += _again(written.files[Contrast.T2W], folder / "again")
    return DemoStudy(case, written.study_uid, files)


def _again(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return a series a second time, as one of its own."""
    folder.mkdir()
    copies = []
    for path in files:
        dataset = dcmread(path)
        dataset.SeriesNumber = _SECOND
        dataset.SeriesInstanceUID = derive_uid(dataset.SeriesInstanceUID, "again")
        dataset.SOPInstanceUID = derive_uid(dataset.SOPInstanceUID, "again")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        copies.append(folder / path.name)
        dataset.save_as(copies[-1])
    return copies
