"""What a study's headers say: volumes, and the files that are not used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipeline.dicom_file import Frame
from pipeline.headers.foreign import Foreign
from pipeline.headers.identity import Identity


@dataclass(frozen=True, slots=True)
class Volume:
    """The frames of one series that belong together, and what their headers say of the contrast.

    Attributes
    ----------
    description_readings, protocol_readings
        All that their bytes may say, the likeliest first; empty where they cannot be read, None where they leave no
        doubt.
    tr_ms, te_ms, ti_ms, flip_deg, b_value
        None where unknown.
    scanning_sequence, sequence_variant, scan_options, image_type
        Upper-case terms; empty where unknown.
    acquisition_type
        ``2D``, ``3D`` or empty.
    contrast_agent
        True if the header says that one was given.
    agent_denied
        True if the header says that none was given; it may say neither.
    echo_number
        EchoNumbers, None where unknown.
    sequence_name
        SequenceName or PulseSequenceName, as stored; empty where unknown.
    body_part
        BodyPartExamined in upper case; empty where unknown.
    complex_component
        What of the complex signal the pixels are (PS3.3 C.8.13.3.1.1), in upper case; empty where unknown.
    field_strength_t
        None where unknown.
    acquired
        When the acquisition began, as digits ``YYYYMMDDhhmmss`` with a fraction where given: texts sort by time. None
        where the header has no time.
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
    sequence_name: str = ""
    body_part: str = ""
    complex_component: str = ""
    field_strength_t: float | None = None
    acquired: str | None = None
    agent_denied: bool = False
    echo_number: int | None = None
    description_readings: tuple[str, ...] | None = None
    protocol_readings: tuple[str, ...] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the volume, each once."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))


class ProblemCode(StrEnum):
    """Why a file is not used; its value is the code in lists of files and on the command line."""

    FILE_EMPTY = "file_empty"
    FILE_UNREADABLE = "file_unreadable"
    FILE_NOT_DICOM = "file_not_dicom"
    FILE_DAMAGED = "file_damaged"
    FILE_WITHOUT_IDENTITY = "file_without_identity"
    NOT_MR_IMAGE = "not_mr_image"
    DEFLATED_SIZE_IMPLAUSIBLE = "deflated_size_implausible"
    PIXEL_SIZE_IMPLAUSIBLE = "pixel_size_implausible"
    PIXEL_DATA_TRUNCATED = "pixel_data_truncated"
    FRAMES_INCOMPLETE = "frames_incomplete"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not used, with a code and a sentence, and the UIDs that can still be read in it.

    Attributes
    ----------
    foreign
        What it is, where it is no DICOM file.
    slice_lost
        Whether its series may lack a slice without it: False of an object that is not MR and has no pixels, such as the
        spectra and protocols of private classes that scanners put among the images of a series.
    """

    path: Path
    code: ProblemCode
    sentence: str
    series_uid: str | None = None
    sop_instance_uid: str | None = None
    foreign: Foreign | None = None
    slice_lost: bool = True


class CopyVerdict(StrEnum):
    """What follows from the copies of an instance that differ."""

    CONFLICT = "conflict"
    """They show or state different things: nobody knows which is right."""
    UNORDERED = "unordered"
    """They show the same image of different patients or orders, and nothing says which is newer."""
    CORRECTED = "corrected"
    """They show the same image, and the newest says whose."""
    STATED = "stated"
    """A human has stated that the newest is right."""


@dataclass(frozen=True, slots=True)
class Copies:
    """An instance of which copies differ.

    Attributes
    ----------
    verdict
        What follows.
    attributes
        Keywords in which they differ.
    newest
        The copy that came last; any of them where that is not known.
    turns
        How often copies like the newest took the place of others.
    set_aside
        Files that do not count.
    """

    verdict: CopyVerdict
    attributes: frozenset[str]
    newest: Path
    turns: int = 0
    set_aside: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class Headers:
    """What the headers of a study say.

    Attributes
    ----------
    conflicts
        SOP Instance UIDs that several files claim with different content.
    copies
        Instances of which copies differ, by SOP Instance UID.
    identities
        Patient and order of each file that is used.
    """

    volumes: tuple[Volume, ...]
    problems: tuple[Problem, ...]
    conflicts: frozenset[str] = frozenset()
    copies: Mapping[str, Copies] = field(default_factory=dict)
    identities: Mapping[Path, Identity] = field(default_factory=dict)
