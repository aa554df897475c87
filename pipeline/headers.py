"""DICOM files -> volumes with the facts that tell what they are.

Classic and Enhanced objects alike are taken apart into frames, and the frames of one series are put together into
volumes: a series that mixes orientations, echoes, image types, diffusion weightings or time points holds several.
Pixels are not read here.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, MRImageStorage

MR_IMAGE_CLASSES = frozenset({MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage})
_MAX_SIDE = 4096
_MAX_FRAMES = 20_000
_MAX_VOXELS = 2**31
"""Of one file; more than this is 8 GB as numbers that can be computed with."""
_TURNED = 0.1
"""Difference of direction cosines above which planes belong to different volumes."""
_META_START = 144
"""Preamble, DICM and the group length element of the file meta information (PS3.10 7.1)."""

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image plane.

    Attributes
    ----------
    path, index
        File, and number of the frame in it, from 0.
    sop_instance_uid
        Of the file.
    position_mm, orientation
        ImagePositionPatient and ImageOrientationPatient (PS3.3 C.7.6.2.1.1), None where absent or no numbers.
    pixel_spacing_mm
        Distance of rows, distance of columns.
    rows, columns
        Matrix.
    """

    path: Path
    index: int
    sop_instance_uid: str
    position_mm: Vector | None
    orientation: Vector | None
    pixel_spacing_mm: Vector | None
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Volume:
    """The frames of one series that belong together, and what their headers say of the contrast.

    Attributes
    ----------
    tr_ms, te_ms, ti_ms, flip_deg, b_value
        None where unknown.
    scanning_sequence, sequence_variant, scan_options, image_type
        Upper-case terms; empty where unknown.
    acquisition_type
        ``2D``, ``3D`` or empty.
    contrast_agent
        True if the header names one.
    frames
        At least one.
    """

    study_uid: str
    series_uid: str
    series_number: int | None
    description: str
    protocol: str
    modality: str
    sop_class_uid: str
    manufacturer: str
    image_type: tuple[str, ...]
    scanning_sequence: tuple[str, ...]
    sequence_variant: tuple[str, ...]
    scan_options: tuple[str, ...]
    acquisition_type: str
    tr_ms: float | None
    te_ms: float | None
    ti_ms: float | None
    flip_deg: float | None
    b_value: float | None
    contrast_agent: bool
    samples_per_pixel: int
    frames: tuple[Frame, ...] = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the volume, each once."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not used, with a code and a sentence, and the UIDs that it still told."""

    path: Path
    code: str
    sentence: str
    series_uid: str | None = None
    sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Headers:
    """What the headers of a study say."""

    volumes: tuple[Volume, ...]
    problems: tuple[Problem, ...]
    conflicts: frozenset[str] = frozenset()
    """SOP Instance UIDs that several files claim with different content."""


def read_headers(paths: Iterable[Path]) -> Headers:
    """Return the volumes of the DICOM images among some files.

    Parameters
    ----------
    paths
        Files in any order; their names mean nothing.

    Returns
    -------
    Headers
        Volumes ordered by series number; every file that is no usable MR image stands under `problems`.
    """
    problems: list[Problem] = []
    groups: dict[tuple[Any, ...], list[_Plane]] = defaultdict(list)
    seen: dict[str, Path] = {}
    conflicts: set[str] = set()
    for path in sorted(paths):
        planes = _read_file(path)
        if isinstance(planes, Problem):
            problems.append(planes)
            continue
        uid = planes[0][1].sop_instance_uid
        if uid not in seen:
            seen[uid] = path
        elif content_digest(path) == content_digest(seen[uid]):
            continue
        else:
            conflicts.add(uid)
        for facts, frame in planes:
            groups[facts.key(frame)].append((facts, frame))
    parts = [part for planes in groups.values() for part in _split_by_orientation(planes)]
    volumes = [_volume(part[0][0], [frame for _, frame in part]) for part in parts]
    volumes.sort(key=lambda v: (v.series_number is None, v.series_number or 0, v.series_uid, v.te_ms or 0.0))
    return Headers(tuple(volumes), tuple(problems), frozenset(conflicts))


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's data set, leaving out the file meta information that each receiver rewrites."""
    with path.open("rb") as file:
        start = file.read(_META_START)
        group_length = start[132:136] == b"\x02\x00\x00\x00" and start[128:132] == b"DICM"
        file.seek(_META_START + int.from_bytes(start[140:144], "little") if group_length else 0)
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- one file ---------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> list[_Plane] | Problem:
    """Return the planes of an MR image, or why the file is none."""
    if path.stat().st_size == 0:
        return Problem(path, "file_empty", "The file is empty.")
    uids: tuple[str | None, ...] = ()
    try:
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            pixels_start = file.tell()
        uids = _uids(dataset)
        return _unusable(path, dataset, pixels_start) or list(_planes(path, dataset))
    except InvalidDicomError:
        return Problem(path, "file_not_dicom", "The file is not a DICOM Part 10 file.")
    except Exception as error:  # any malformed header: pydicom raises what its parser stumbled over
        return Problem(path, "file_damaged", f"The header cannot be read ({type(error).__name__}).", *uids)


def _uids(dataset: Dataset) -> tuple[str | None, str | None]:
    """Return the UIDs of series and instance, None where absent."""
    return _text(dataset, "SeriesInstanceUID") or None, _text(dataset, "SOPInstanceUID") or None


def _unusable(path: Path, dataset: Dataset, pixels_start: int) -> Problem | None:
    uids = _uids(dataset)
    sop_class = UID(_text(dataset, "SOPClassUID"))
    if not (all(uids) and _text(dataset, "StudyInstanceUID")):
        return Problem(path, "file_without_identity", "The file lacks a study, series or instance UID.")
    if _text(dataset, "Modality") != "MR" or sop_class not in MR_IMAGE_CLASSES:
        return Problem(path, "not_mr_image", f"The object is {sop_class.name}, not an MR image.", *uids)
    rows, columns = _number(dataset.get("Rows")), _number(dataset.get("Columns"))
    frames = _number(dataset.get("NumberOfFrames")) or 1
    if not (rows and columns and 0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE and 0 < frames <= _MAX_FRAMES) or (
        rows * columns * frames > _MAX_VOXELS
    ):
        return Problem(path, "pixel_size_implausible", "The header declares no image of a plausible size.", *uids)
    bits = _number(dataset.get("BitsAllocated")) or 16
    samples = _number(dataset.get("SamplesPerPixel")) or 1
    present = path.stat().st_size - pixels_start
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_deflated:
        return None  # inflated as a whole: the size of the file says nothing
    plain = syntax is not None and not syntax.is_compressed
    if present <= 0 or (plain and present < rows * columns * frames * samples * bits / 8):
        return Problem(path, "pixel_data_truncated", "The file ends before its pixels do; send it again.", *uids)
    return None


# --- frames -----------------------------------------------------------------------------------------------------------


class _Facts:
    """Attributes of one frame: its own functional groups, then the shared ones, then the data set (PS3.3 C.7.6.16)."""

    def __init__(self, dataset: Dataset, groups: tuple[dict[str, Any], ...] = ()) -> None:
        self.dataset = dataset
        self.groups = groups

    def get(self, *keywords: str) -> Any:
        for keyword in keywords:
            for group in self.groups:
                if group.get(keyword) is not None:
                    return group[keyword]
            try:
                value = self.dataset.get(keyword)
            except Exception:  # a value that its VR does not allow counts as absent
                value = None
            if value is not None and value != "":
                return value
        return None

    def key(self, frame: Frame) -> tuple[Any, ...]:
        """Frames with equal keys belong to one volume, as far as they are parallel."""
        return (
            _text(self.dataset, "StudyInstanceUID"),
            _text(self.dataset, "SeriesInstanceUID"),
            frame.rows,
            frame.columns,
            self.image_type(),
            round(_number(self.get("EffectiveEchoTime", "EchoTime")) or 0.0, 1),
            _number(self.get("DiffusionBValue")),
            _number(self.get("TemporalPositionIndex", "TemporalPositionIdentifier")),
        )

    def image_type(self) -> tuple[str, ...]:
        return _terms(self.get("FrameType", "ImageType"))


_Plane = tuple[_Facts, Frame]


def _planes(path: Path, dataset: Dataset) -> Iterator[_Plane]:
    shared = _flatten(dataset.get("SharedFunctionalGroupsSequence"), 0)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
    for index in range(int(_number(dataset.get("NumberOfFrames")) or 1)):
        own = _flatten(per_frame, index) if index < len(per_frame) else {}
        facts = _Facts(dataset, (own, shared))
        yield (
            facts,
            Frame(
                path,
                index,
                _text(dataset, "SOPInstanceUID"),
                _vector(facts.get("ImagePositionPatient"), 3),
                _vector(facts.get("ImageOrientationPatient"), 6),
                _vector(facts.get("PixelSpacing"), 2),
                int(dataset.Rows),
                int(dataset.Columns),
            ),
        )


def _split_by_orientation(planes: list[_Plane]) -> list[list[_Plane]]:
    """Return the planes in parts that are parallel but for rounding; the names of the files do not count."""
    parts: list[list[_Plane]] = []
    for plane in sorted(planes, key=lambda plane: (plane[1].sop_instance_uid, plane[1].index)):
        fitting = (part for part in parts if _parallel(part[0][1].orientation, plane[1].orientation))
        part = next(fitting, None)
        if part is None:
            parts.append([plane])
        else:
            part.append(plane)
    return parts


def _parallel(one: Vector | None, other: Vector | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) < _TURNED for a, b in zip(one, other, strict=True))


def _flatten(groups: Any, index: int) -> dict[str, Any]:
    """Return the attributes of one functional-group item, whose macros each nest one item in a sequence."""
    if not groups or groups[index] is None:
        return {}
    flat: dict[str, Any] = {}
    for macro in groups[index]:
        if macro.VR == "SQ" and macro.value:
            flat |= {element.keyword: element.value for element in macro.value[0] if element.VR != "SQ"}
    return flat


def _volume(facts: _Facts, frames: list[Frame]) -> Volume:
    dataset = facts.dataset
    number = _number(dataset.get("SeriesNumber"))
    return Volume(
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        series_number=None if number is None else int(number),
        description=_text(dataset, "SeriesDescription"),
        protocol=_text(dataset, "ProtocolName"),
        modality=_text(dataset, "Modality"),
        sop_class_uid=_text(dataset, "SOPClassUID"),
        manufacturer=_text(dataset, "Manufacturer"),
        image_type=facts.image_type(),
        scanning_sequence=_terms(facts.get("ScanningSequence")) or _sequence_of_enhanced(facts),
        sequence_variant=_terms(facts.get("SequenceVariant")),
        scan_options=_terms(facts.get("ScanOptions")),
        acquisition_type=_text(dataset, "MRAcquisitionType").upper(),
        tr_ms=_number(facts.get("RepetitionTime")),
        te_ms=_number(facts.get("EffectiveEchoTime", "EchoTime")),
        ti_ms=_number(facts.get("InversionTime", "InversionTimes")),
        flip_deg=_number(facts.get("FlipAngle")),
        b_value=_number(facts.get("DiffusionBValue")),
        contrast_agent=bool(_text(dataset, "ContrastBolusAgent")),
        samples_per_pixel=int(_number(dataset.get("SamplesPerPixel")) or 1),
        frames=tuple(frames),
    )


def _sequence_of_enhanced(facts: _Facts) -> tuple[str, ...]:
    """Return ScanningSequence terms for the attributes that Enhanced MR has in its place (PS3.3 C.8.13.4)."""
    terms = [{"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE"}.get(str(facts.get("EchoPulseSequence")), "")]
    terms.append("IR" if facts.get("InversionRecovery") == "YES" else "")
    terms.append("EP" if facts.get("EchoPlanarPulseSequence") == "YES" else "")
    return tuple(term for term in terms if term)


# --- values -----------------------------------------------------------------------------------------------------------


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that its VR does not allow counts as absent
        return ""
    return "" if value is None else str(value).strip()


def _number(value: Any) -> float | None:
    """Return the first number of a value, or None."""
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None  # noqa: PLR0124 - NaN test


def _vector(value: Any, length: int) -> Vector | None:
    if not isinstance(value, (MultiValue, list, tuple)) or len(value) != length:
        return None
    numbers = tuple(_number(part) for part in value)
    return None if None in numbers else numbers  # type: ignore[return-value]


def _terms(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    parts = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return tuple(str(part).strip().upper() for part in parts if str(part).strip())
