"""Why a study gets no score.

`StudyHeld` is the only error of this package that a user sees: a reason whose code stays the same over releases, and a
sentence that a radiographer understands. It is never retried by itself: the same input gives the same answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

_LOOK = "Look at the series: is it a brain"


class HoldReason(StrEnum):
    """Every reason to hold a study; its value is the code in files, reports and on the command line.

    Attributes
    ----------
    advice
        What to do, beside what the sentence of `StudyHeld` says.
    """

    advice: str

    def __new__(cls, code: str, advice: str = "As the sentence says.") -> Self:
        """Return the member of a code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.advice = advice
        return member

    MISSING_ROLE = (
        "missing_role",
        "Send the series. If it was sent, see with `dicom-node explain` why it does not count.",
    )
    AMBIGUOUS_ROLE = (
        "ambiguous_role",
        "See `dicom-node show UID`, then `dicom-node release UID --role T2W=SERIES`. If it happens again and again, "
        "give `[selection]` a rule.",
    )
    CHOICE_UNUSABLE = (
        "choice_unusable",
        "Choose another with `dicom-node release UID`, or take the choice back with `--forget`.",
    )
    CONFLICTING_INSTANCES = (
        "conflicting_instances",
        "Find out which are right. Where the headers alone differ, `dicom-node release UID --copy newest`; where the "
        "images do, remove the other files from the spool, retry.",
    )
    IDENTITY_CONFLICT = (
        "identity_conflict",
        "Correct the study in the PACS and send it again: it is read anew by itself. If you are sure whose they are: "
        "`dicom-node release UID --identity SERIES`.",
    )
    SEVERAL_STUDIES = (
        "several_studies",
        "Only `run` and `explain`: give them one study's folder.",
    )
    NO_DICOM_FILES = "no_dicom_files", "Only `run`, `explain` and `cohort build`: as the sentence says."
    PIXEL_DATA_DAMAGED = (
        "pixel_data_damaged",
        "Send the series again; whole files take the place of damaged ones.",
    )
    PIXEL_SIZE_IMPLAUSIBLE = "pixel_size_implausible"
    PIXEL_VALUES_UNCLEAR = (
        "pixel_values_unclear",
        "Send what the scanner made, not an export; if it is that, another series of this weighting.",
    )
    PIXEL_ENCODING_UNCLEAR = (
        "pixel_encoding_unclear",
        "Let the archive send the series in another transfer syntax, best Explicit VR Little Endian.",
    )
    GEOMETRY_MOSAIC = "geometry_mosaic"
    GEOMETRY_POSITION = "geometry_position"
    GEOMETRY_SPACING = "geometry_spacing"
    GEOMETRY_MATRIX = "geometry_matrix"
    GEOMETRY_ORIENTATION = "geometry_orientation"
    GEOMETRY_DUPLICATE = "geometry_duplicate", "Look for a repeated acquisition in one series."
    GEOMETRY_GAP = "geometry_gap", "Slices are missing: send the series again."
    GEOMETRY_TILT = "geometry_tilt", "Not usable as it is."
    GEOMETRY_TOO_FEW = "geometry_too_few", "Send the whole series."
    GEOMETRY_THICK = "geometry_thick", "Not usable as it is."
    GEOMETRY_COVERAGE = "geometry_coverage"
    GEOMETRY_BRAIN_OUTSIDE_GRID = (
        "geometry_brain_outside_grid",
        f"{_LOOK}, and is the spacing right?",
    )
    BRAIN_MASK_EMPTY = "brain_mask_empty", f"{_LOOK}?"
    BRAIN_MASK_IMPLAUSIBLE = (
        "brain_mask_implausible",
        "Look at the series: is it a whole brain, and is the spacing right?",
    )
    BRAIN_MASKS_DISAGREE = (
        "brain_masks_disagree",
        "Look at both series: are they of one head, whole and undamaged?",
    )
    INTENSITY_CONSTANT = (
        "intensity_constant",
        "The pixels are empty or damaged: send the series again.",
    )
    OUT_OF_RANGE_AGE = "out_of_range_age", "No score of this model for this patient."
    OUT_OF_RANGE_CONTRAST = (
        "out_of_range_contrast",
        "Choose a series from before the contrast agent, if there is one.",
    )
    OUT_OF_RANGE_FIELD_STRENGTH = (
        "out_of_range_field_strength",
        "No score of this model for this scanner.",
    )
    OUT_OF_RANGE_BRAIN_WEIGHTS = (
        "out_of_range_brain_weights",
        "Set `[brain] weights` to those that the bundle's model card names, or train a bundle with yours.",
    )
    OUT_OF_RANGE_FEATURES = (
        "out_of_range_features",
        "Look at the series for artefacts, surgery or another sequence.",
    )


class StudyHeld(Exception):
    """A study that cannot be scored as it is.

    Parameters
    ----------
    code
        The reason.
    sentence
        What is wrong and what to do, without patient data.

    Attributes
    ----------
    code, sentence
        As given.
    """

    def __init__(self, code: HoldReason, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"
