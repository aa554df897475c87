"""What sequence timing and the scanner's own terms say about the contrast of a volume."""

from __future__ import annotations

from dataclasses import dataclass

from models.contrast import Contrast
from pipeline.headers import Volume


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
    sentence
        Why.
    """

    role: Contrast | None
    certain: bool
    against: frozenset[Contrast]
    sentence: str


_ALL = frozenset(Contrast)
_NONE: frozenset[Contrast] = frozenset()


def read_physics(volume: Volume) -> Reading:
    """Return what repetition, echo and inversion times and the sequence speak for.

    Notes
    -----
    A long inversion time nulls fluid (FLAIR); 1,200 to 3,200 ms covers 0.06 to 3 T. A short echo with a short
    repetition, or with an inversion of 300 to 1,300 ms, weights by T1; a long echo with a long repetition by T2.
    Field-map magnitudes, time-of-flight angiograms and echo-planar series share such times with anatomical ones: where
    the header does not tell the sequence, the times alone decide nothing.
    """
    tr_ms, te_ms, ti_ms = volume.tr_ms, volume.te_ms, volume.ti_ms or None
    named = (("TR", tr_ms), ("TE", te_ms), ("TI", ti_ms))
    timing = ", ".join(f"{name} {value:g} ms" for name, value in named if value is not None)
    if te_ms is None or tr_ms is None:
        return Reading(None, False, _NONE, f"timing unknown ({timing or 'no TR, TE, TI'})")
    if ti_ms is not None:
        return _inverted(tr_ms, te_ms, ti_ms, timing)
    if te_ms <= 30 and tr_ms <= 1000:
        return _short(volume, tr_ms, te_ms, timing)
    if te_ms >= 60 and tr_ms >= 1800:
        return _long(volume, tr_ms, timing)
    against = {Contrast.T2W, Contrast.FLAIR} if te_ms < 40 else {Contrast.T1W} if te_ms > 45 else set()
    return Reading(None, False, frozenset(against), f"{timing}: typical of none of the three")


def _inverted(tr_ms: float, te_ms: float, ti_ms: float, timing: str) -> Reading:
    if 1200 <= ti_ms <= 3200 and te_ms >= 60 and tr_ms >= 4000:
        return Reading(Contrast.FLAIR, True, _ALL - {Contrast.FLAIR}, f"{timing}: fluid is nulled, FLAIR")
    if 300 <= ti_ms <= 1300 and te_ms <= 35:
        return Reading(Contrast.T1W, True, _ALL - {Contrast.T1W}, f"{timing}: inversion and short echo, T1 weighted")
    if 1300 < ti_ms <= 1800 and te_ms <= 20:
        return Reading(
            Contrast.T1W, False, _ALL - {Contrast.T1W}, f"{timing}: late inversion and short echo, T1 weighted"
        )
    if ti_ms < 300:
        return Reading(None, False, _ALL, f"{timing}: short inversion, fat is nulled")
    against = {Contrast.T1W, Contrast.T2W} if te_ms >= 60 else {Contrast.T2W, Contrast.FLAIR}
    return Reading(None, False, frozenset(against), f"{timing}: an inversion typical of none of the three")


def _short(volume: Volume, tr_ms: float, te_ms: float, timing: str) -> Reading:
    gradient, spin = "GR" in volume.scanning_sequence, "SE" in volume.scanning_sequence
    if gradient and not spin and te_ms > 12:
        return Reading(None, False, _ALL, f"{timing}: gradient echo with a long echo, weighted by T2*")
    certain = tr_ms <= 16 and te_ms <= 8 if not spin else tr_ms >= 250
    return Reading(
        Contrast.T1W, certain, _ALL - {Contrast.T1W}, f"{timing}: short repetition and short echo, T1 weighted"
    )


def _long(volume: Volume, tr_ms: float, timing: str) -> Reading:
    if "IR" in volume.scanning_sequence:
        return Reading(
            None, False, frozenset({Contrast.T1W}), f"{timing}: long echo after an inversion of unknown time"
        )
    # Without ScanningSequence nobody knows whether fluid was nulled; with it, no inversion means no FLAIR.
    spin = "SE" in volume.scanning_sequence
    against = {Contrast.T1W, Contrast.FLAIR} if volume.scanning_sequence or tr_ms < 4000 else {Contrast.T1W}
    return Reading(Contrast.T2W, spin, frozenset(against), f"{timing}: long repetition and long echo, T2 weighted")
