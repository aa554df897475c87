"""A whole made study in a folder: T1W, T2W, FLAIR and a localizer of one head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from models.contrast import Contrast
from pipeline.synthetic.anatomy import procedural_head
from pipeline.synthetic.dicom_series import write_series
from pipeline.synthetic.rendering import ORIENTATION, Plane, render
from pipeline.synthetic.study_tags import SeriesTags, StudyTags, derive_uid, localizer_tags, series_tags

LOCALIZER_SPACING_MM = 1.5
LOCALIZER_SIZE = 192


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How one role is scanned: the plane and the voxel size (columns, rows, slices)."""

    plane: Plane
    spacing_xyz_mm: tuple[float, float, float]


ROUTINE: Mapping[Contrast, Acquisition] = {
    Contrast.T1W: Acquisition(Plane.SAGITTAL, (1.0, 1.0, 1.2)),
    Contrast.T2W: Acquisition(Plane.AXIAL, (0.9, 0.9, 4.0)),
    Contrast.FLAIR: Acquisition(Plane.AXIAL, (0.9, 0.9, 4.5)),
}
QUICK: Mapping[Contrast, Acquisition] = {
    Contrast.T1W: Acquisition(Plane.SAGITTAL, (1.5, 1.5, 2.0)),
    Contrast.T2W: Acquisition(Plane.AXIAL, (1.5, 1.5, 5.0)),
    Contrast.FLAIR: Acquisition(Plane.AXIAL, (1.5, 1.5, 5.0)),
}


@dataclass(frozen=True, slots=True)
class WrittenStudy:
    """Where a study lies.

    Attributes
    ----------
    study_uid
        Study Instance UID.
    files
        The instances of each role, in the order of the slices.
    bystanders
        Instances of other series.
    """

    study_uid: str
    files: Mapping[Contrast, tuple[Path, ...]]
    bystanders: tuple[Path, ...] = ()

    @property
    def all_files(self) -> tuple[Path, ...]:
        """Every instance of the study."""
        return (*self.bystanders, *(path for paths in self.files.values() for path in paths))


def write_study(
    folder: Path,
    *,
    seed: int = 1,
    study: StudyTags | None = None,
    quick: bool = False,
    bystanders: bool = True,
    labels: sitk.Image | None = None,
    acquisitions: Mapping[Contrast, Acquisition] | None = None,
    series: Mapping[Contrast, SeriesTags] | None = None,
) -> WrittenStudy:
    """Return a study of a procedural head, written as DICOM.

    Parameters
    ----------
    folder
        Each series gets a folder in it: ``T1W``, ``T2W``, ``FLAIR``, ``localizer``.
    seed
        Of anatomy and noise; the same seed gives the same bytes.
    study
        Patient and study attributes; None: a patient SYNTHETIC^HEAD and a study UID that belongs to the seed.
    quick
        Coarse voxels, for tests: a tenth of the size.
    bystanders
        A localizer too, as a scanner sends it.
    labels
        Another head than the procedural one of this seed, with the same label numbers.
    acquisitions
        Plane and voxels by role; roles that are missing are not written. None: `ROUTINE`, or `QUICK`.
    series
        Tags by role where they differ from `series_tags`.

    Returns
    -------
    WrittenStudy
        A routine study has about 210 files and 25 MB.
    """
    study = study or StudyTags(study_uid=derive_uid("synthetic study", seed, "quick" if quick else "routine"))
    acquisitions = acquisitions or (QUICK if quick else ROUTINE)
    if labels is None:
        labels = procedural_head(seed, spacing_mm=1.5 if quick else 1.0)
    files: dict[Contrast, tuple[Path, ...]] = {}
    localizer: tuple[Path, ...] = ()
    for role, acquisition in acquisitions.items():
        volume = render(
            labels, role, spacing_xyz_mm=acquisition.spacing_xyz_mm, seed=seed, plane=acquisition.plane,
            brain_slices=acquisition.plane is Plane.AXIAL,
        )  # fmt: skip
        tags = (series or {}).get(role) or series_tags(role, plane=acquisition.plane)
        files[role] = tuple(write_series(volume, folder / role, study, tags))
        if bystanders and not localizer:
            localizer = _write_localizer(volume, folder / "localizer", study)
    return WrittenStudy(study.study_uid, files, localizer)


def nifti_study(folder: Path, volumes: Mapping[Contrast, Path], study: StudyTags) -> WrittenStudy:
    """Return a study written from one volume file per role.

    Parameters
    ----------
    folder
        Each role gets a folder in it.
    volumes
        NIfTI or any other file that SimpleITK reads; slices are those of the third axis.
    study
        Patient and study attributes.

    Returns
    -------
    WrittenStudy
        Without bystanders; the tags are those of `series_tags`, not those of the true acquisition.
    """
    files = {
        role: tuple(write_series(sitk.ReadImage(str(path)), folder / role, study, series_tags(role)))
        for role, path in volumes.items()
    }
    return WrittenStudy(study.study_uid, files)


def _write_localizer(volume: sitk.Image, folder: Path, study: StudyTags) -> tuple[Path, ...]:
    """Write one slice of each plane through the middle of a volume, all in one series."""
    middle = np.array(volume.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in volume.GetSize()]))
    files: list[Path] = []
    for plane in Plane:
        frame = sitk.DICOMOrient(volume, ORIENTATION[plane])
        direction = np.reshape(frame.GetDirection(), (3, 3))
        half = (LOCALIZER_SIZE - 1) / 2 * LOCALIZER_SPACING_MM
        origin = middle - half * (direction[:, 0] + direction[:, 1])
        grid = sitk.Image([LOCALIZER_SIZE, LOCALIZER_SIZE, 1], sitk.sitkInt16)
        grid.SetSpacing([LOCALIZER_SPACING_MM, LOCALIZER_SPACING_MM, 7.0])
        grid.SetDirection(frame.GetDirection())
        grid.SetOrigin(origin.tolist())
        slice_image = sitk.Resample(volume, grid)
        files += write_series(slice_image, folder, study, localizer_tags(), first_instance=len(files) + 1)
    return tuple(files)
