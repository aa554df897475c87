"""Headers of the input series: one whole header to copy from, and the identity of every instance as evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from models.contrast import Contrast
from models.uid import is_uid
from pipeline.dicom_file import open_dataset
from pipeline.headers import Identity, contradictions, identity_bytes, identity_of
from pipeline.report.character_sets import text_of
from pipeline.report.provenance import Predecessor
from pipeline.select import SelectedSeries

_IDENTITY = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "Rows",
    "Columns",
]
_POSITION_VALUES, _ORIENTATION_VALUES = 3, 6
"""Values of Image Position and Image Orientation (Patient), PS3.3 C.7.6.2.1.1."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Identity of one input instance; the frame of reference may be empty.

    `height_mm` is the place of the image along the normal of its plane, `size` its columns and rows in pixels; 0 where
    the header does not say it.
    """

    path: Path
    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frame_of_reference_uid: str
    height_mm: float = 0.0
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Sources:
    """What the results inherit and refer to.

    Attributes
    ----------
    header
        Header of one instance, of the first series unless another states more of the patient, without pixels; patient
        and study are copied from it.
    instances
        Every input instance by role, in the order of their SOP Instance UIDs, without repetition.
    """

    header: Dataset
    instances: dict[Contrast, tuple[Instance, ...]]

    @property
    def study_uid(self) -> str:
        """Study Instance UID of the header."""
        return str(self.header.StudyInstanceUID)

    def middle_instance(self, role: Contrast) -> Instance:
        """Return the image in the middle of a role's series.

        Parameters
        ----------
        role
            One of `instances`.
        """
        ordered = sorted(self.instances[role], key=lambda each: (each.height_mm, each.sop_instance_uid))
        return ordered[len(ordered) // 2]

    def every_instance(self) -> Iterable[Instance]:
        """Return the instances of all roles."""
        return chain.from_iterable(self.instances.values())


def read_sources(
    inputs: Mapping[Contrast, SelectedSeries],
    roles: Iterable[Contrast] = tuple(Contrast),
    patient_file: Path | None = None,
) -> Sources:
    """Return header and evidence of the input series, independent of the order of their files.

    Every file is opened once, and the first one of a series once more for its whole header.

    Parameters
    ----------
    inputs
        One series for each role.
    roles
        Of the series that were scored.
    patient_file
        From whose header patient and study are copied; None: the first instance of the first series.

    Raises
    ------
    ValueError
        If a role has no series, a series no file, or a file no valid UIDs.
    """
    instances: dict[Contrast, tuple[Instance, ...]] = {}
    for role in roles:
        if role not in inputs or not inputs[role].files:
            msg = f"no input series with files for {role}"
            raise ValueError(msg)
        found = {instance.sop_instance_uid: instance for instance in map(_read_identity, sorted(inputs[role].files))}
        instances[role] = tuple(found[uid] for uid in sorted(found))
    first = next(iter(instances.values()))
    header = dcmread(patient_file or first[0].path, stop_before_pixels=True, force=True)
    return Sources(header, instances)


def header_of_study(paths: Iterable[Path], study_uid: str) -> Dataset | None:
    """Return the header of one file of a study of one patient.

    Parameters
    ----------
    paths
        Files of any kind that count.
    study_uid
        Study Instance UID.

    Returns
    -------
    pydicom.Dataset or None
        Without pixels, of the file that states most of patient and order, the first by name among equals; None if no
        file is of the study, or two of them contradict each other in whose they are.
    """
    found = [(path, identity) for path in sorted(paths) if (identity := _identity_in_study(path, study_uid))]
    if not found or contradictions(identity for _, identity in found):
        return None
    path, _ = max(found, key=lambda pair: len(pair[1].known))
    return open_dataset(path, pixels=False)[0]


def _identity_in_study(path: Path, study_uid: str) -> Identity | None:
    """Return whose a file is; None if it cannot be read or is not of the study."""
    try:
        header, _ = open_dataset(path, pixels=False)
        return identity_of(identity_bytes(header)) if header.get("StudyInstanceUID") == study_uid else None
    except Exception:  # whatever pydicom stumbled over: the file tells nothing
        return None


def evidence(instances: Iterable[Instance], study_uid: str) -> tuple[list[Dataset], list[Dataset]]:
    """Return `instances` as items of an SR's evidence sequences (PS3.3 Table C.17-3).

    Parameters
    ----------
    instances
        Repeated instances are listed once.
    study_uid
        Of the report.

    Returns
    -------
    tuple of list
        Items for Current Requested Procedure Evidence, which is the report's study, and for Pertinent Other Evidence.
    """
    studies: dict[str, dict[str, dict[str, Instance]]] = {}
    for instance in instances:
        series = studies.setdefault(instance.study_uid, {}).setdefault(instance.series_uid, {})
        series[instance.sop_instance_uid] = instance
    items = {uid: _study_reference(uid, series) for uid, series in studies.items()}
    return [items[uid] for uid in items if uid == study_uid], [items[uid] for uid in items if uid != study_uid]


def predecessor_references(study_uid: str, predecessors: Iterable[Predecessor]) -> Dataset:
    """Return the item of a study in Predecessor Documents Sequence (PS3.3 Table C.17-2).

    Parameters
    ----------
    study_uid
        Study Instance UID of all of them.
    predecessors
        The earlier reports, at least one.
    """
    series: dict[str, dict[str, Instance]] = {}
    for earlier in predecessors:
        instance = Instance(Path(), study_uid, earlier.series_uid, earlier.sop_class_uid, earlier.sop_instance_uid, "")
        series.setdefault(earlier.series_uid, {})[earlier.sop_instance_uid] = instance
    return _study_reference(study_uid, series)


def instance_reference(instance: Instance) -> Dataset:
    """Return an item of a referenced SOP sequence (PS3.3 Table 10-11).

    Parameters
    ----------
    instance
        Gives SOP class and instance.
    """
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


def _read_identity(path: Path) -> Instance:
    header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=_IDENTITY)
    frame_of_reference = text_of(header, "FrameOfReferenceUID")
    return Instance(
        path,
        _uid(header, "StudyInstanceUID"),
        _uid(header, "SeriesInstanceUID"),
        _uid(header, "SOPClassUID"),
        _uid(header, "SOPInstanceUID"),
        frame_of_reference if is_uid(frame_of_reference) else "",
        _height_mm(header),
        _size(header),
    )


def _height_mm(header: Dataset) -> float:
    position, orientation = _numbers(header, "ImagePositionPatient"), _numbers(header, "ImageOrientationPatient")
    if (len(position), len(orientation)) != (_POSITION_VALUES, _ORIENTATION_VALUES):
        return 0.0
    return float(np.dot(np.cross(orientation[:3], orientation[3:]), position))


def _size(header: Dataset) -> tuple[int, int]:
    try:
        return int(header.get("Columns") or 0), int(header.get("Rows") or 0)
    except Exception:  # whatever pydicom stumbled over: the header does not say it
        return 0, 0


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """Return the values of an attribute; none if one of them is not finite."""
    try:
        found = [float(part) for part in text_of(header, keyword).split("\\")]
    except ValueError:
        return []
    return found if all(map(math.isfinite, found)) else []


def _uid(header: Dataset, keyword: str) -> str:
    value = text_of(header, keyword)
    if not is_uid(value):
        raise ValueError(f"an input instance has no valid {keyword}")
    return value


def _study_reference(study_uid: str, series: Mapping[str, Mapping[str, Instance]]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = study_uid
    item.ReferencedSeriesSequence = [_series_reference(uid, found.values()) for uid, found in series.items()]
    return item


def _series_reference(series_uid: str, instances: Iterable[Instance]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_uid
    item.ReferencedSOPSequence = [instance_reference(instance) for instance in instances]
    return item
