"""What a cohort consists of, in counts and in sentences, for those who have just built it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.training.cohort import Cohort
from pipeline.cohort.labels import CRITERIA_COLUMNS


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """Counts of a cohort; they name no patient and no study.

    Attributes
    ----------
    digest, synthetic, brain_weights, criteria
        See :class:`models.training.cohort.Cohort` and its description.
    size_xyz, spacing_xyz_mm
        Of its grid, in voxels and millimetres.
    studies, patients, patients_with_event
        How many are included, and how many of the patients have label 1.
    left_out
        Studies by the code of the reason.
    criteria_not_checked
        Criteria of inclusion for which the table of the labels has no column.
    """

    digest: str
    synthetic: str | None
    size_xyz: tuple[int, int, int]
    spacing_xyz_mm: tuple[float, float, float]
    brain_weights: dict[str, str]
    studies: int
    patients: int
    patients_with_event: int
    left_out: dict[str, int]
    criteria: tuple[str, ...]
    criteria_not_checked: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def sentences(self, folder: Path) -> Iterator[str]:
        """Yield what is worth knowing, made data first.

        Parameters
        ----------
        folder
            Of the cohort.
        """
        if self.synthetic:
            yield f"SYNTHETIC DATA: {self.synthetic}"
        yield f"{self.studies} studies of {self.patients} patients, {self.patients_with_event} with label 1."
        for code, count in self.left_out.items():
            yield f"Left out, {code}: {count}"
        if self.left_out:
            yield f"{folder / 'cases.csv'} says why, study by study."
        if self.criteria_not_checked:
            yield f"Not checked, as the table has no such column: {', '.join(self.criteria_not_checked)}"
        size, spacing_mm = (" x ".join(f"{side:g}" for side in sides) for sides in (self.size_xyz, self.spacing_xyz_mm))
        yield f"{folder}: {size} voxels of {spacing_mm} mm, brain weights {self.brain_weights['name']}"


def summarise_cohort(cohort: Cohort) -> CohortSummary:
    """Return the counts of a cohort.

    Parameters
    ----------
    cohort
        As it was built.
    """
    taken, description = cohort.included, cohort.description
    return CohortSummary(
        digest=cohort.digest,
        synthetic=description.synthetic,
        size_xyz=description.grid.size_xyz,
        spacing_xyz_mm=description.grid.spacing_xyz_mm,
        brain_weights=description.brain_weights,
        studies=len(taken),
        patients=len({case.patient for case in taken}),
        patients_with_event=len({case.patient for case in taken if case.label == 1}),
        left_out=dict(sorted(Counter(case.status for case in cohort.cases if not case.included).items())),
        criteria=description.criteria,
        criteria_not_checked=tuple(name for name in CRITERIA_COLUMNS if name not in description.criteria),
    )
