"""Why a volume can play no role at all: diffusion, angiography, scouts, reformats, other body parts, ..."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.headers import Volume
from pipeline.select.body_parts import names_another_part
from pipeline.select.clues import Clue, ClueKind, Unsuited
from pipeline.select.rules import SiteRules
from pipeline.select.words import exclusions

_IMAGE_TYPES = {
    term: unsuited
    for unsuited, terms in {
        Unsuited.SCOUT: ("LOCALIZER",),
        Unsuited.REFORMAT: ("MPR", "REFORMATTED", "RESAMPLED", "CSA RESAMPLED"),
        Unsuited.PROJECTION: ("PROJECTION IMAGE", "MIP", "MAXIMUM", "MINIMUM", "MIN IP", "MNIP"),
        Unsuited.MOSAIC: ("MOSAIC",),
        Unsuited.TILED: ("VFRAME",),
        Unsuited.DIFFUSION: ("DIFFUSION", "TRACEW"),
        Unsuited.DIFFUSION_MAP: ("ADC", "FA"),
        Unsuited.PERFUSION: ("PERFUSION", "ASL"),
        Unsuited.FUNCTIONAL: ("FMRI",),
        Unsuited.PHASE: ("P", "PHASE", "PHASE MAP"),
        Unsuited.REAL: ("R", "REAL"),
        Unsuited.IMAGINARY: ("I", "IMAGINARY"),
        Unsuited.SUBTRACTION: ("SUB", "SUBTRACTION"),
        Unsuited.CALCULATED_MAP: ("T1 MAP", "T2 MAP", "T2_STAR MAP", "R2 MAP", "R2_STAR MAP", "T1_MAP", "T2_MAP"),
        Unsuited.FAT: (
            *("FAT", "F", "FAT_FRACTION", "FF", "WATER_FRACTION"),
            *("OUT_PHASE", "OPP_PHASE", "OPPOSED_PHASE", "OUT_OF_PHASE", "OPP", "OP"),
        ),
        Unsuited.T2_STAR: ("T2_STAR",),
        Unsuited.FIELD_MAP: ("B0 MAP", "B1 MAP", "FIELD_MAP"),
        Unsuited.SUSCEPTIBILITY: ("SWI", "SWM"),
        Unsuited.MP2RAGE: ("UNI",),
        Unsuited.FLOW: ("VELOCITY", "FLOW_ENCODED"),
        Unsuited.ANGIOGRAPHY: ("TOF", "ANGIO"),
        Unsuited.PICTURE: ("SCREEN SAVE",),
    }.items()
    for term in terms
}
"""Values of ImageType that rule a volume out (PS3.3 C.8.3.1.1.1 and C.8.13.3.1.1, and vendors' own)."""

_COMPONENTS = {"PHASE": Unsuited.PHASE, "REAL": Unsuited.REAL, "IMAGINARY": Unsuited.IMAGINARY}
"""Of the complex signal (PS3.3 C.8.13.3.1.1); MAGNITUDE is what is wanted."""


def reasons_against(volume: Volume, rules: SiteRules) -> list[Clue]:
    """Return why a volume can play no role at all.

    Parameters
    ----------
    volume
        Headers of one volume.
    rules
        A series that the site names by its own pattern is not excluded by the built-in words.

    Returns
    -------
    list of Clue
        Empty if nothing speaks against every role.
    """
    return [*_by_image_type(volume), *_by_description(volume, rules), *_by_acquisition(volume)]


def _by_image_type(volume: Volume) -> Iterator[Clue]:
    for term in volume.image_type:
        if term in _IMAGE_TYPES:
            yield Clue(ClueKind.IMAGE_TYPE, {"term": term}, _IMAGE_TYPES[term])
    if volume.complex_component in _COMPONENTS:
        yield Clue(ClueKind.COMPONENT, unsuited=_COMPONENTS[volume.complex_component])


def _by_description(volume: Volume, rules: SiteRules) -> Iterator[Clue]:
    if words := rules.excluded(volume.description):
        # The site's words count as what they name: a subtraction stays one.
        named = next((clue.unsuited for clue in exclusions(words)), None)
        yield Clue(ClueKind.SITE_NEVER, {"words": words}, named)
    if not rules.named_role(volume.description):
        yield from exclusions(volume.description or volume.protocol)


def _by_acquisition(volume: Volume) -> Iterator[Clue]:
    if names_another_part(volume.body_part):
        yield Clue(ClueKind.BODY_PART, {"body_part": volume.body_part}, Unsuited.BODY_PART)
    if volume.samples_per_pixel != 1:
        yield Clue(ClueKind.COLOUR)
    if volume.b_value:
        yield Clue(ClueKind.B_VALUE, {"b_value": volume.b_value}, Unsuited.DIFFUSION)
    if "EP" in volume.scanning_sequence:
        yield Clue(ClueKind.ECHO_PLANAR)
