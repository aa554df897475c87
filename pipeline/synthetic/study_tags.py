"""What the headers of a made study say: patient, study, series and sequence."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from models.contrast import Contrast
from pipeline.synthetic.rendering import TIMING, Plane


def derive_uid(*parts: object) -> str:
    """Return the UID that belongs to some parts.

    Parameters
    ----------
    parts
        What is named, from the largest to the smallest; their texts count.

    Returns
    -------
    str
        Under the root 2.25 (PS3.5 B.2); the same parts give the same UID.
    """
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, parts))).int}"


@dataclass(frozen=True, slots=True)
class StudyTags:
    """Patient and study attributes, the same in every instance of a study.

    Attributes
    ----------
    study_uid
        Study Instance UID; `derive_uid` makes one. Frame of reference and instance UIDs derive from it.
    patient_name, patient_id, birth_date, sex
        As stored: ``FAMILY^GIVEN``, ``YYYYMMDD``, one of ``M F O`` or empty.
    accession_number, study_date, study_time, study_id, study_description
        As stored: ``YYYYMMDD``, ``HHMMSS``.
    character_set
        Specific Character Set, one or several defined terms; empty for the default repertoire.
    institution
        Institution Name.
    age
        Patient's Age as stored, ``009Y``; empty: without the attribute.
    """

    study_uid: str
    patient_name: str = "SYNTHETIC^HEAD"
    patient_id: str = "SYNTHETIC-HEAD"
    birth_date: str = "20100101"
    sex: str = "O"
    accession_number: str = "SYNTHETIC"
    study_date: str = "20250101"
    study_time: str = "120000"
    study_id: str = "1"
    study_description: str = "MR brain, synthetic, no patient"
    character_set: str | tuple[str, ...] = "ISO_IR 192"
    institution: str = "Synthetic data"
    age: str = ""


@dataclass(frozen=True, slots=True)
class SeriesTags:
    """Series, sequence and equipment attributes, the same in every instance of a series.

    Attributes
    ----------
    series_uid
        Series Instance UID; empty: derived from the study UID and the number.
    number, description, protocol
        Series Number, Series Description, Protocol Name.
    tr_ms, te_ms, ti_ms
        Repetition, echo and inversion time; None leaves the value empty, of the inversion time the attribute.
    flip_deg, echo_train, averages
        Flip Angle, Echo Train Length, Number of Averages.
    scanning_sequence, sequence_variant, scan_options, mr_acquisition_type, sequence_name
        Codes of PS3.3 C.8.3.1.
    image_type
        Values of Image Type.
    contrast_agent
        Contrast/Bolus Agent; None where none was given.
    slice_thickness_mm
        Slice Thickness; None: the distance of the slices.
    manufacturer, model, field_strength_t
        Of the scanner.
    body_part, patient_position
        Body Part Examined, Patient Position.
    """

    series_uid: str = ""
    number: int = 1
    description: str = ""
    protocol: str = ""
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_deg: float = 90.0
    echo_train: int | None = 1
    averages: float = 1.0
    scanning_sequence: tuple[str, ...] = ("SE",)
    sequence_variant: tuple[str, ...] = ("NONE",)
    scan_options: tuple[str, ...] = ()
    mr_acquisition_type: str = "2D"
    sequence_name: str = ""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "NORM")
    contrast_agent: str | None = None
    slice_thickness_mm: float | None = None
    manufacturer: str = "SYNTHETIC"
    model: str = "Procedural head"
    field_strength_t: float = 3.0
    body_part: str = "BRAIN"
    patient_position: str = "HFS"


_PLANE_WORD = {Plane.AXIAL: "tra", Plane.SAGITTAL: "sag", Plane.CORONAL: "cor"}


def series_tags(role: Contrast, *, number: int | None = None, plane: Plane | str = Plane.AXIAL) -> SeriesTags:
    """Return the usual tags of a role's sequence: MPRAGE for T1W, turbo spin echo for T2W and FLAIR.

    Parameters
    ----------
    role
        T1W (3D), T2W or FLAIR (2D).
    number
        Series Number; None: 2, 3 and 4 in this order.
    plane
        Named in the description, which has no other part in it.

    Returns
    -------
    SeriesTags
        `dataclasses.replace` changes single ones.
    """
    timing = TIMING[role]
    word = _PLANE_WORD[Plane(plane)]
    number = number if number is not None else 2 + tuple(Contrast).index(role)
    if role is Contrast.T1W:
        return SeriesTags(
            number=number, description=f"t1_mprage_{word}", protocol=f"t1_mprage_{word}",
            tr_ms=timing.tr_ms, te_ms=timing.te_ms, ti_ms=timing.ti_ms, flip_deg=8.0,
            scanning_sequence=("GR", "IR"), sequence_variant=("SK", "SP", "MP"), scan_options=("IR",),
            mr_acquisition_type="3D", sequence_name="*tfl3d1",
        )  # fmt: skip
    if role is Contrast.T2W:
        return SeriesTags(
            number=number, description=f"t2_tse_{word}", protocol=f"t2_tse_{word}",
            tr_ms=timing.tr_ms, te_ms=timing.te_ms, flip_deg=150.0, echo_train=15,
            scanning_sequence=("SE",), sequence_variant=("SK", "SP", "OSP"), sequence_name="*tse2d1_15",
        )  # fmt: skip
    return SeriesTags(
        number=number, description=f"t2_flair_{word}", protocol=f"t2_flair_{word}",
        tr_ms=timing.tr_ms, te_ms=timing.te_ms, ti_ms=timing.ti_ms, flip_deg=150.0, echo_train=16,
        scanning_sequence=("SE", "IR"), sequence_variant=("SK", "SP", "MP", "OSP"), scan_options=("IR",),
        sequence_name="*tir2d1_16",
    )  # fmt: skip


def localizer_tags(number: int = 1) -> SeriesTags:
    """Return the tags of a three-plane localizer.

    Parameters
    ----------
    number
        Series Number.

    Returns
    -------
    SeriesTags
        A gradient echo of a few seconds.
    """
    return SeriesTags(
        number=number, description="localizer", protocol="localizer", tr_ms=8.6, te_ms=4.0, flip_deg=20.0,
        scanning_sequence=("GR",), sequence_variant=("SP", "OSP"), sequence_name="*fl2d1", slice_thickness_mm=7.0,
    )  # fmt: skip
