"""What sequence timing and the scanner's own terms say about the contrast of a volume.

The limits were chosen here: from what the weightings are made of (PS3.3 C.8.3.1 defines the times, and no limits), and
on the times of 377 series with known labels, most of them of Siemens, GE and Philips scanners. What was found there
stands at each limit, smallest to largest of the label; ``tests.benchmarks.selection`` counts what they get wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.contrast import Contrast
from pipeline.headers import Volume
from pipeline.select.clues import Clue, ClueKind, Timing

# --- without inversion ------------------------------------------------------------------------------------------------

_SHORT_TR_MS, _SHORT_TE_MS = 1000.0, 30.0
"""At most: T1 weighting. Found: TR 5 to 520, TE 1.8 to 23. Grey and white matter have a T1 of about 0.6 to 1.8 s at
1.5 and 3 T: with a longer repetition both recover."""
_LONG_TR_MS, _LONG_TE_MS = 1800.0, 60.0
"""At least: T2 weighting. Found: TR 2,500 to 8,460, TE 67 to 567. Grey and white matter have a T2 of about 70 to
110 ms; with a shorter echo they differ by proton density."""
_SHORTEST_T2_TE_MS, _LONGEST_T1_TE_MS = 40.0, 45.0
"""A shorter echo rules out T2 weighting, a longer one T1 weighting; in between neither is ruled out. Chosen here, with
room around proton density (found: 22)."""
_T2_STAR_TE_MS = 12.0
"""Above it a gradient echo is weighted by T2*. Found: 20 for T2* and susceptibility, 1.8 to 5.2 for T1W."""
_READOUT_TR_MS, _READOUT_TE_MS = 16.0, 8.0
"""At most: fast three-dimensional gradient echo, which may decide alone. Found: TR 5 to 11, TE 1.8 to 5.2. Angiograms
by time of flight usually have a TR of 20 and more, field maps one of hundreds; the one field map with a TR of 10.8 and
a TE of 3.0 is taken for T1W."""
_PROTON_DENSITY_FLIP_DEG = 4.0
"""At most: with such a repetition grey and white matter give most signal at 5 to 7 degrees (Ernst), and well below that
they differ by proton density, as the first images of a T1 map do. Chosen here."""
_SPIN_ECHO_TR_MS = 250.0
"""At least: a spin echo with short times may decide alone. Chosen here: what is faster is a scout or a calibration."""
_FLUID_TR_MS = 4000.0
"""At least: a repetition that leaves time to null fluid, whose T1 is about 4 s. Found for FLAIR: 4,800 to 11,000; with
T2 preparation three-dimensional FLAIR goes down to 4,000."""

_LEAST_TR_MS, _LEAST_TE_MS, _LEAST_TI_MS = 1.5, 0.7, 20.0
"""Shorter times are none of an image of the three kinds, or are in seconds: found are TR 5, TE 1.4 and TI 160. Chosen
here; a TE of 0.1 s is that of a T2W, one of 0.003 s that of a T1W."""

# --- with inversion ---------------------------------------------------------------------------------------------------

_FLUID_TI_MS = 1200.0, 3200.0
"""Fluid is nulled at T1 (ln 2 - ln(1 + exp(-TR / T1))): with a T1 of 4 s, 1.5 s at a TR of 4 s and 2.8 s at a long one.
Found: 1,650 to 2,800. The room on both sides, for 0.06 to 3 T and T2 preparation, is chosen here."""
_FLUID_T1_MS, _LATEST_FLUID_TI = 4000.0, 1.25
"""T1 of fluid, and how much later than the one that nulls fluid an inversion time may be to decide alone. Found: 0.97
to 1.12 times; the first of a double inversion is at 1.35 and more."""
_T1_TI_MS, _T1_INVERTED_TE_MS = (300.0, 1300.0), 35.0
"""T1 weighting by inversion. Found: TI 425 to 1,100, TE 1.4 to 4.5, all gradient echo; the room above is for T1 FLAIR,
a fast spin echo, and chosen here."""
_LATE_TI_MS, _LATE_TE_MS = 1800.0, 20.0
"""T1 FLAIR with a long repetition. Found: TI 1,600, TE 8.5, TR 4,100. With a long echo this TI is that of a FLAIR, so
that such a series must be named; the limits are chosen here."""
_FAT_TI_MS = 300.0
"""Below it fat is nulled, at 0.69 of a T1 of about 200 to 400 ms, between low field and 3 T."""


_SEQUENCES = frozenset({"SE", "GR", "EP"})
"""What the defined terms of ScanningSequence call a sequence (PS3.3 C.8.3.1.1.2); ``RM``, research mode, calls it
nothing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What physics says of a volume.

    Attributes
    ----------
    role
        The role it speaks for, or None.
    certain
        Whether it may decide alone; if not, a description must name the same role.
    against
        Roles that the timing rules out, whatever the description says.
    clue
        Why.
    """

    role: Contrast | None
    certain: bool
    against: frozenset[Contrast]
    clue: Clue


_ALL = frozenset(Contrast)


def read_physics(volume: Volume) -> Reading:
    """Return what repetition, echo and inversion times and the sequence speak for.

    Parameters
    ----------
    volume
        Its times in milliseconds, and ScanningSequence.

    Returns
    -------
    Reading
        With neither role nor `against` where repetition or echo time is unknown, or too short to be in milliseconds.

    Notes
    -----
    A long inversion time nulls fluid (FLAIR). A short echo with a short repetition, or with a shorter inversion,
    weights by T1; a long echo with a long repetition by T2. Field-map magnitudes, time-of-flight angiograms and
    echo-planar series share such times with anatomical ones: where the header does not name the sequence, the times
    alone decide nothing.
    """
    timing = Timing(volume.tr_ms or None, volume.te_ms or None, volume.ti_ms or None)
    tr_ms, te_ms, ti_ms = timing.tr_ms, timing.te_ms, _at_least(_LEAST_TI_MS, timing.ti_ms)
    if not (_at_least(_LEAST_TR_MS, tr_ms) and _at_least(_LEAST_TE_MS, te_ms)):
        tr_ms = te_ms = None
    if te_ms is None or tr_ms is None or te_ms > tr_ms:
        return _for_none(ClueKind.TIMING_UNKNOWN, timing)
    if ti_ms is not None:
        return _inverted(tr_ms, te_ms, ti_ms, timing)
    if te_ms <= _SHORT_TE_MS and tr_ms <= _SHORT_TR_MS:
        return _short(volume, tr_ms, te_ms, timing)
    if te_ms >= _LONG_TE_MS and tr_ms >= _LONG_TR_MS:
        return _long(volume, tr_ms, timing)
    if te_ms < _SHORTEST_T2_TE_MS:
        return _for_none(ClueKind.TIMING_OF_NONE, timing, Contrast.T2W, Contrast.FLAIR)
    if te_ms > _LONGEST_T1_TE_MS:
        return _for_none(ClueKind.TIMING_OF_NONE, timing, Contrast.T1W)
    return _for_none(ClueKind.TIMING_OF_NONE, timing)


def _at_least(least_ms: float, time_ms: float | None) -> float | None:
    """Return a time, None where it is unknown or below what it can be."""
    return time_ms if time_ms is not None and time_ms >= least_ms else None


def _inverted(tr_ms: float, te_ms: float, ti_ms: float, timing: Timing) -> Reading:
    shortest_t1_ms, longest_t1_ms = _T1_TI_MS
    if _FLUID_TI_MS[0] <= ti_ms <= _FLUID_TI_MS[1] and te_ms >= _LONG_TE_MS and tr_ms >= _FLUID_TR_MS:
        nulled = ti_ms <= _LATEST_FLUID_TI * _nulls_fluid_ms(tr_ms)
        return _for(Contrast.FLAIR, ClueKind.FLUID_NULLED, timing, certain=nulled)
    if shortest_t1_ms <= ti_ms <= longest_t1_ms and te_ms <= _T1_INVERTED_TE_MS:
        return _for(Contrast.T1W, ClueKind.INVERSION_T1, timing)
    if longest_t1_ms < ti_ms <= _LATE_TI_MS and te_ms <= _LATE_TE_MS:
        return _for(Contrast.T1W, ClueKind.LATE_INVERSION_T1, timing, certain=False)
    if ti_ms < _FAT_TI_MS:
        return _for_none(ClueKind.FAT_NULLED, timing, *Contrast)
    against = (Contrast.T1W, Contrast.T2W) if te_ms >= _LONG_TE_MS else (Contrast.T2W, Contrast.FLAIR)
    return _for_none(ClueKind.INVERSION_OF_NONE, timing, *against)


def _nulls_fluid_ms(tr_ms: float) -> float:
    return _FLUID_T1_MS * (math.log(2) - math.log1p(math.exp(-tr_ms / _FLUID_T1_MS)))


def _short(volume: Volume, tr_ms: float, te_ms: float, timing: Timing) -> Reading:
    gradient, spin = "GR" in volume.scanning_sequence, "SE" in volume.scanning_sequence
    if gradient and not spin and te_ms > _T2_STAR_TE_MS:
        return _for_none(ClueKind.GRADIENT_T2_STAR, timing, *Contrast)
    fast = tr_ms <= _READOUT_TR_MS and te_ms <= _READOUT_TE_MS
    if gradient and fast and volume.flip_deg and volume.flip_deg <= _PROTON_DENSITY_FLIP_DEG:
        clue = Clue(ClueKind.SMALL_FLIP, {"timing": timing, "flip_deg": volume.flip_deg})
        return Reading(None, False, _ALL, clue)
    return _for(Contrast.T1W, ClueKind.SHORT_TIMES, timing, certain=tr_ms >= _SPIN_ECHO_TR_MS if spin else fast)


def _long(volume: Volume, tr_ms: float, timing: Timing) -> Reading:
    if "IR" in volume.scanning_sequence:
        return _for_none(ClueKind.INVERSION_UNKNOWN, timing, Contrast.T1W)
    # Without ScanningSequence nobody knows whether fluid was nulled; with it, no inversion means no FLAIR.
    named = _SEQUENCES.intersection(volume.scanning_sequence)
    maybe_flair = not named and tr_ms >= _FLUID_TR_MS
    against = frozenset({Contrast.T1W}) if maybe_flair else _ALL - {Contrast.T2W}
    clue = Clue(ClueKind.LONG_TIMES, {"timing": timing})
    return Reading(Contrast.T2W, "SE" in volume.scanning_sequence, against, clue)


def _for(role: Contrast, kind: ClueKind, timing: Timing, *, certain: bool = True) -> Reading:
    """Return a reading that speaks for one role and against the others."""
    return Reading(role, certain, _ALL - {role}, Clue(kind, {"timing": timing}))


def _for_none(kind: ClueKind, timing: Timing, *against: Contrast) -> Reading:
    return Reading(None, False, frozenset(against), Clue(kind, {"timing": timing}))
