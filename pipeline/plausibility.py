"""Whether a mask can be a brain: what cannot be one is refused, what is odd gets a flag.

The limits leave room for every head that could be tried (ten real ones, and images of 12 label maps and four procedural
heads in three contrasts) and refuse bottles, spheres, noise and a shoulder; the measured values stand at each.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

import numpy as np

from pipeline.errors import HoldReason, StudyHeld
from pipeline.mask_measures import MaskMeasures

SMALLEST_ML, LARGEST_ML = 350.0, 2_100.0
"""A newborn's brain has 350 ml and more; masks of large men with their sulcal fluid reach 1,900 ml."""

_SHORTEST_MM = 65.0
"""A brain of 350 ml is at least about 75 mm high; heads: 117 to 148, slabs of a bottle and a sphere: 32 and 60."""
_MIN_CONTRAST = 0.03
"""Heads: 0.06 (proton density) to 0.48; bottle 0.025, balls and cubes 0.001, noise 0."""
_MIN_SYMMETRY, _ODD_SYMMETRY = 0.70, 0.85
"""Heads: 0.90 to 0.98, distorted diffusion images 0.85 and more."""
_MIN_MAIN_SHARE, _ODD_MAIN_SHARE = 0.70, 0.98
"""Heads: 0.99 and more; phantoms cut into three planes: 0.71 to 0.76."""
_MAX_BORDER_SHARE, _ODD_BORDER_SHARE = 0.40, 0.02
"""Whole heads: 0 to 0.03. A brain that fills much of a face of the volume is cut through its middle."""
_MAX_END_SHARE, _ODD_END_SHARE = 0.80, 0.50
_MAX_BEYOND_SHARE, _ODD_BEYOND_SHARE = 0.90, 0.60
"""Nine whole heads: 0 to 0.16 and 0 to 0.23. Two heads cut where the brain has 0.39 to 0.50 of its largest section, 5
to 10 % in: 0.52 to 0.69 beyond; where it has 0.70 to 0.77, a fifth in: 0.78 to 0.90; through its middle: 0.93 to
0.99."""
_MIN_INSIDE_SHARE = 0.70
"""Heads: 1.0. A mask that lies in the air beside the head is no brain."""
_ODD_HEAD_SHARES = 0.15, 0.65
"""Heads with neck: 0.28 and more, cut above the neck: up to 0.53. More: the skull was removed, or it is no head."""
_ODD_SKULL_SHARE = 0.15
"""Nine real heads: 0.64 (voxels of 2 mm) to 0.98; made ones 0.49 to 1.0, children with a thin skull in thick T2W 0.18.
Real heads whose skull was removed: 0.01 to 0.1."""
_ODD_OTHER_LIKENESS = 0.85
"""Nine real heads, turned by 25 degrees and with noise of a quarter too: 0.29 to 0.60; with a lesion of 113 ml on one
side, drawn in: up to 0.64; half of the brain gone: 0.78 to 0.92. Made heads: up to 0.73. Coconuts: 0.83 and more; rods
in a bottle: 0.87 to 0.98."""
_ODD_SIDES_LIKENESS, _LITTLE_SKULL_SHARE = 0.5, 0.5
"""One of the two may be low: real heads have 0.64 and more of both, with that lesion 0.47 and more likeness, made FLAIR
of 60 tubers 0.24; made T2W of children 0.2 of the skull. Leaves, cubes, folded strands: 0.2 to 0.5, and 0.2 to 0.5."""
_ROUND, _ODD_DIFFERENCE = 0.926, 0.25
"""Real heads: 0.90 to 0.92, and 0.19 to 0.46; made ones: 0.87 to 0.924, and 0.04 to 0.5. Melons, coconuts and other
fruit: 0.93 to 0.98, and up to 0.22."""

_GROWTH_YEARS = (0.25, 2.0, 5.0, 15.0)
_GIRLS_ML = (600.0, 1000.0, 1200.0, 1300.0)
_BOYS_ML = (900.0, 1150.0, 1350.0, 1500.0)
"""Mean intracranial volumes of healthy children from the first months to 15 years: Sgouros et al., Intracranial volume
change in childhood, J Neurosurg 91:610-616 (1999), doi 10.3171/jns.1999.91.4.0610. From 15 years on it stays."""
_ODD_SHARES = 0.7, 1.3
"""Of those means: three standard deviations of about 10 % in adults. Masks lie below the intracranial volume."""
_MIN_SHARE_OF_AGE = 0.5
"""Less than half of the smaller mean is a mask that missed half of the brain."""
_AGE_COUNTS_YEARS = 1.0
"""In the first year the volume doubles, so that age in the header says too little to refuse a study."""


class MaskFlag(StrEnum):
    """What can be odd of a mask that may be right: a reason to look at the images.

    Attributes
    ----------
    meaning
        What was found.
    """

    meaning: str

    def __new__(cls, name: str, meaning: str = "") -> Self:
        """Return the member of a name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    FRAGMENTED = "fragmented", "more than 2 % of what was found lay apart, and was dropped"
    TOUCHES_BORDER = (
        "touches_border",
        "the brain reaches a border of the images; slices that end below the cerebellum do not count",
    )
    CUT_OFF = "cut_off", "the field of view ends where the brain has more than half of its largest section"
    ASYMMETRIC = "asymmetric", "left and right differ much"
    LITTLE_OF_THE_HEAD = "little_of_the_head", "the mask is less than 15 % of what the images show"
    MUCH_OF_THE_HEAD = "much_of_the_head", "it is more than 65 %: little or no skull around it"
    NO_SKULL = "no_skull", "skull and scalp lie around less than 15 % of it: removed, not imaged, or no head"
    ROUND = "round", "the mask is an ellipsoid, and inside it left and right are hardly more alike than other sides"
    HALVES_DIFFER = (
        "halves_differ",
        "left and right are not alike inside, and little skull is seen around it: much is missing, or it is no head",
    )
    ALIKE_ALL_WAYS = (
        "alike_all_ways",
        "upside down or front to back it looks as it did: no brain does, unless half of it is missing",
    )
    SMALL_FOR_AGE = "small_for_age", "the volume is unusual at the age in the header; without one, nothing is said"
    LARGE_FOR_AGE = "large_for_age", "the volume is unusual at the age in the header; without one, nothing is said"
    UNLIKE_OTHERS = "unlike_others", "shape or volume differs from those of the other two sequences"
    APART_FROM_OTHERS = (
        "apart_from_others",
        "it lies more than 15 mm from the other two: the patient or the table moved",
    )


def doubts(measures: MaskMeasures, age_years: float | None = None) -> tuple[MaskFlag, ...]:
    """Return the flags of a mask.

    Parameters
    ----------
    measures
        Of the mask and the image below it.
    age_years
        Of the patient; None where it is not known.

    Returns
    -------
    tuple of MaskFlag
        In the order of their definition; never those that other masks are needed for.

    Raises
    ------
    StudyHeld
        ``brain_mask_implausible``.
    """
    _refuse_size(measures, age_years)
    _refuse_shape(measures)
    low_ml, high_ml = _usual_ml(age_years)
    likeness = measures.likeness
    odd: Mapping[MaskFlag, bool] = {
        MaskFlag.FRAGMENTED: measures.main_share < _ODD_MAIN_SHARE,
        MaskFlag.TOUCHES_BORDER: measures.border_share > _ODD_BORDER_SHARE,
        MaskFlag.CUT_OFF: measures.end_share > _ODD_END_SHARE or measures.beyond_share > _ODD_BEYOND_SHARE,
        MaskFlag.ASYMMETRIC: measures.symmetry < _ODD_SYMMETRY,
        MaskFlag.LITTLE_OF_THE_HEAD: measures.head_share < _ODD_HEAD_SHARES[0],
        MaskFlag.MUCH_OF_THE_HEAD: measures.head_share > _ODD_HEAD_SHARES[1],
        MaskFlag.NO_SKULL: measures.skull_share < _ODD_SKULL_SHARE,
        MaskFlag.ROUND: measures.roundness > _ROUND and likeness.sides - likeness.other < _ODD_DIFFERENCE,
        MaskFlag.HALVES_DIFFER: likeness.sides < _ODD_SIDES_LIKENESS and measures.skull_share < _LITTLE_SKULL_SHARE,
        MaskFlag.ALIKE_ALL_WAYS: likeness.other > _ODD_OTHER_LIKENESS,
        MaskFlag.SMALL_FOR_AGE: measures.volume_ml < low_ml,
        MaskFlag.LARGE_FOR_AGE: measures.volume_ml > high_ml,
    }
    return tuple(flag for flag, is_odd in odd.items() if is_odd)


def _refuse_size(measures: MaskMeasures, age_years: float | None) -> None:
    volume_ml = measures.volume_ml
    if not SMALLEST_ML <= volume_ml <= LARGEST_ML:
        raise StudyHeld(
            HoldReason.BRAIN_MASK_IMPLAUSIBLE,
            f"The brain mask holds {volume_ml:.0f} ml; a brain has {SMALLEST_ML:.0f} to {LARGEST_ML:.0f} ml.",
        )
    if age_years is not None and age_years >= _AGE_COUNTS_YEARS:
        smallest_ml = _MIN_SHARE_OF_AGE * float(np.interp(age_years, _GROWTH_YEARS, _GIRLS_ML))
        if volume_ml < smallest_ml:
            # Without the limit: it would give the age away.
            raise StudyHeld(
                HoldReason.BRAIN_MASK_IMPLAUSIBLE,
                f"The brain mask holds {volume_ml:.0f} ml, less than half of a brain of the patient's age.",
            )


def _refuse_shape(measures: MaskMeasures) -> None:
    if measures.shortest_mm < _SHORTEST_MM:
        raise StudyHeld(
            HoldReason.BRAIN_MASK_IMPLAUSIBLE,
            f"The brain mask is {measures.shortest_mm:.0f} mm across; a brain has at least {_SHORTEST_MM:.0f} mm.",
        )
    if measures.contrast < _MIN_CONTRAST:
        raise StudyHeld(HoldReason.BRAIN_MASK_IMPLAUSIBLE, "The image shows no brain tissue inside the brain mask.")
    wrong = (
        measures.main_share < _MIN_MAIN_SHARE
        or measures.symmetry < _MIN_SYMMETRY
        or measures.border_share > _MAX_BORDER_SHARE
        or measures.end_share > _MAX_END_SHARE
        or measures.beyond_share > _MAX_BEYOND_SHARE
        or measures.inside_share < _MIN_INSIDE_SHARE
    )
    if wrong:
        raise StudyHeld(
            HoldReason.BRAIN_MASK_IMPLAUSIBLE,
            "The brain mask is in pieces, lopsided, cut off or beside the head: no whole brain.",
        )


def _usual_ml(age_years: float | None) -> tuple[float, float]:
    if age_years is None or age_years < _GROWTH_YEARS[0]:
        return SMALLEST_ML, LARGEST_ML
    low_ml, high_ml = (float(np.interp(age_years, _GROWTH_YEARS, means_ml)) for means_ml in (_GIRLS_ML, _BOYS_ML))
    return max(SMALLEST_ML, _ODD_SHARES[0] * low_ml), min(LARGEST_ML, _ODD_SHARES[1] * high_ml)
