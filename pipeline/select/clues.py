"""What was noticed of a volume, as facts; the sentences that people read are made from them last.

Decisions read `Clue.kind` and `Clue.unsuited`, never a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self


class Unsuited(StrEnum):
    """What is never chosen, by the names that ``words.toml`` and `pipeline.select.never` give it."""

    SCOUT = "scout"
    SCOUT_OR_CALIBRATION = "scout or calibration"
    REFORMAT = "reformat"
    REFORMAT_OR_PROJECTION = "reformat or projection"
    PROJECTION = "projection"
    MOSAIC = "mosaic"
    TILED = "tiled image"
    DIFFUSION = "diffusion"
    DIFFUSION_MAP = "diffusion map"
    PERFUSION = "perfusion"
    PERFUSION_OR_DYNAMIC = "perfusion or dynamic series"
    FUNCTIONAL = "functional"
    PHASE = "phase image"
    REAL = "real image"
    IMAGINARY = "imaginary image"
    SUBTRACTION = "subtraction"
    CALCULATED_MAP = "calculated map"
    T2_STAR = "T2*"
    SUSCEPTIBILITY_OR_T2_STAR = "susceptibility or T2*"
    SUSCEPTIBILITY = "susceptibility"
    FIELD_MAP = "field map"
    MP2RAGE = "MP2RAGE"
    FLOW = "flow"
    ELASTOGRAPHY_OR_FLOW = "elastography or flow"
    ANGIOGRAPHY = "angiography"
    PICTURE = "picture"
    PROTON_DENSITY = "proton density"
    MAGNETISATION_TRANSFER = "magnetisation transfer"
    SPECTROSCOPY = "spectroscopy"
    DOUBLE_OR_SHORT_INVERSION = "double or short inversion"
    BALANCED = "balanced gradient echo"
    BODY_PART = "another body part"
    FAT = "fat image"


class ClueKind(StrEnum):
    """Everything that can be noticed, with the sentence that says it.

    Attributes
    ----------
    template
        The sentence; names in braces stand for the clue's facts and for `Clue.unsuited`.
    """

    template: str

    def __new__(cls, name: str, template: str = "") -> Self:
        """Return the member of a name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.template = template
        return member

    # what can play no role
    IMAGE_TYPE = "image_type", "ImageType {term}: {unsuited}"
    COMPONENT = "component", "{unsuited}"
    SITE_NEVER = "site_never", "description is never chosen at this site ('{words}')"
    NAMES_UNSUITED = "names_unsuited", "description names {unsuited} ('{words}')"
    BODY_PART = "body_part", "BodyPartExamined {body_part}: {unsuited}"
    COLOUR = "colour", "colour image"
    B_VALUE = "b_value", "diffusion weighting b = {b_value:g} s/mm2"
    ECHO_PLANAR = "echo_planar", "echo-planar sequence"

    # what physics says
    TIMING_UNKNOWN = "timing_unknown", "timing unknown ({timing})"
    TIMING_OF_NONE = "timing_of_none", "{timing}: typical of none of the three"
    FLUID_NULLED = "fluid_nulled", "{timing}: fluid is nulled, FLAIR"
    FAT_NULLED = "fat_nulled", "{timing}: short inversion, fat is nulled"
    SMALL_FLIP = "small_flip", "{timing}, flip angle {flip_deg:g}: weighted by proton density"
    INVERSION_T1 = "inversion_t1", "{timing}: inversion and short echo, T1 weighted"
    LATE_INVERSION_T1 = "late_inversion_t1", "{timing}: late inversion and short echo, T1 weighted"
    INVERSION_OF_NONE = "inversion_of_none", "{timing}: an inversion typical of none of the three"
    INVERSION_UNKNOWN = "inversion_unknown", "{timing}: long echo after an inversion of unknown time"
    GRADIENT_T2_STAR = "gradient_t2_star", "{timing}: gradient echo with a long echo, weighted by T2*"
    SHORT_TIMES = "short_times", "{timing}: short repetition and short echo, T1 weighted"
    LONG_TIMES = "long_times", "{timing}: long repetition and long echo, T2 weighted"

    # what the words say
    NO_DESCRIPTION = "no_description", "no description"
    NAMES_ROLE = "names_role", "description names {role} ('{words}')"
    NAMES_NO_ROLE = "names_no_role", "description names none of the three"
    UNREADABLE = (
        "unreadable",
        "the description cannot be read for certain: it may say what rules {role} out, such as contrast agent",
    )
    LEAVES_ROLE_OPEN = "leaves_role_open", "description leaves the role open ('{words}')"
    SITE_NAMES_ROLE = "site_names_role", "description names {role} at this site ('{words}')"
    PROTOCOL_NAMES_ROLE = "protocol_names_role", "{description}; protocol names {role} ('{words}')"

    # what both readings together come to
    READINGS_DISAGREE = "readings_disagree", "physics speaks for {physics}, the description for {words}"
    PHYSICS_AGAINST = "physics_against", "the description names {role}, physics speaks against it"
    PHYSICS_ALONE = "physics_alone", "physics allows {role}, nothing else speaks for it"
    PROTOCOL_UNSUITED = "protocol_unsuited", "physics speaks for {role}, but the protocol names {named} ('{words}')"
    DERIVED_ALONE = "derived_alone", "derived images, and only one reading speaks for {role}"
    AFTER_CONTRAST_AGENT = "after_contrast_agent", "T1 weighted after contrast agent"
    UNREAD_EARLIER = (
        "unread_earlier",
        "{series} is T1 weighted, but {unread} came earlier and has a description that cannot be read for certain: "
        "it may name contrast agent",
    )
    INJECTED_EARLIER = "injected_earlier", "{series} is T1 weighted, but {injected} had contrast agent earlier"
    INJECTED_AT_UNKNOWN_TIME = (
        "injected_at_unknown_time",
        "{series} may show contrast agent: {injected} had it, and no time says which came first",
    )
    REPEATED = (
        "repeated",
        "{series} may show contrast agent: {first} and {second} are alike, as before and after an injection",
    )
    SUBTRACTED = "subtracted", "{subtraction} is a subtraction, so {series} may show contrast agent"
    MADE_FROM = "made_from", "{series} is of the acquisition of {other} under another name: it may be a subtraction"
    DIFFERENCE = "difference", "the pixels are those of a difference of two images"
    NO_VOLUME = "no_volume", "{verdict} by its headers, but no usable volume: {refusal}"

    # what is reported besides
    DERIVED = "derived", "ImageType DERIVED: not as acquired"
    ACQUISITION = "acquisition", "{acquisition} acquisition"
    SHAPE = "shape", "{plane}, {slices} slices {step_mm:.1f} mm apart"

    # why it and no other
    BY_HAND = "by_hand", "chosen by hand"
    IDENTITY_BY_HAND = "identity_by_hand", "a human stated that all series show the patient of {series}"
    COPY_BY_HAND = "copy_by_hand", "a human stated that the newest copies of its instances are right"
    BEFORE_CONTRAST_AGENT = "before_contrast_agent", "acquired before the contrast agent"
    FIRST_OF_TWO = "first_of_two", "acquired before a T1 weighted series was repeated"
    EARLIEST = "earliest", "earliest T1 weighted series of a study with a subtraction ({subtraction})"
    RATHER_THAN = "rather_than", "rather than {rival}: {advantage}"
    AGREEMENT = "agreement", "physics and description agree"
    NO_CONTRAST_AGENT = "no_contrast_agent", "no contrast agent"
    THREE_DIMENSIONAL = "three_dimensional", "three-dimensional"
    COVERAGE = "coverage", "covers more of the head"
    PLANE = "plane", "{plane} slices"
    FINER = "finer", "finer voxels"
    CORRECTED = "corrected", "the corrected images of the same acquisition"


@dataclass(frozen=True, slots=True)
class Clue:
    """One thing that was noticed of a volume.

    Attributes
    ----------
    kind
        What was noticed.
    facts
        What the sentence says of it; another clue among them stands for its sentence.
    unsuited
        What the clue says the volume is, if that is never chosen.
    """

    kind: ClueKind
    facts: Mapping[str, object] = field(default_factory=dict)
    unsuited: Unsuited | None = None

    def __str__(self) -> str:
        return self.kind.template.format(unsuited=self.unsuited, **self.facts)


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of a sequence in milliseconds; None where the header gives none."""

    tr_ms: float | None
    te_ms: float | None
    ti_ms: float | None

    def __str__(self) -> str:
        named = (("TR", self.tr_ms), ("TE", self.te_ms), ("TI", self.ti_ms))
        return ", ".join(f"{name} {value:g} ms" for name, value in named if value is not None) or "no TR, TE, TI"
