"""One volume -> what it is, with every piece of evidence.

A volume is first tried against what can never be chosen (diffusion, angiography, scouts, reformats, ...), then read
twice, once by physics and once by its description. Where both readings speak they must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.geometry import MIN_SLICES, axes_of, ordered_frames
from pipeline.headers import Volume
from pipeline.select.physics import Reading, read_physics
from pipeline.select.rules import BUILT_IN, SiteRules
from pipeline.select.words import exclusions, names_contrast, read_description


class Verdict(StrEnum):
    """What a volume was found to be."""

    T1W = "T1W"
    T2W = "T2W"
    FLAIR = "FLAIR"
    NONE = "none"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One volume with its verdict.

    Attributes
    ----------
    volume
        What was judged.
    verdict
        Outcome; `scores` is above 0 only for the role of the verdict, or for the roles of a doubt.
    scores
        0 to 1 for each role: 1 where physics and description agree, 0.8 by physics alone, 0.6 by description alone,
        and 0.2 less for derived images.
    evidence
        Sentences, the decisive ones first.
    contrast_given
        Header or description say that contrast agent was given.
    unfit
        The role that a volume of verdict ``none`` would have, were it no `refusal` of the geometry gate.
    refusal
        Why the volume is no usable image.
    step_mm
        Distance of the slices of a volume that went through the gate, else 0.
    """

    volume: Volume
    verdict: Verdict
    scores: dict[Contrast, float]
    evidence: tuple[str, ...]
    contrast_given: bool = False
    unfit: Contrast | None = None
    refusal: StudyHeld | None = None
    step_mm: float = 0.0

    @property
    def role(self) -> Contrast | None:
        """The role of the verdict."""
        return Contrast(self.verdict.value) if self.verdict.value in set(Contrast) else None


_NEVER_IMAGE_TYPES = {
    term: kind
    for kind, terms in {
        "scout": ("LOCALIZER",),
        "reformat": ("MPR", "REFORMATTED"),
        "projection": ("PROJECTION IMAGE", "MIP", "MAXIMUM", "MINIMUM", "MIN IP", "MNIP"),
        "mosaic": ("MOSAIC",),
        "tiled image": ("VFRAME",),
        "diffusion": ("DIFFUSION", "TRACEW"),
        "diffusion map": ("ADC", "FA"),
        "perfusion": ("PERFUSION", "ASL"),
        "functional": ("FMRI",),
        "phase image": ("P", "PHASE", "PHASE MAP"),
        "real image": ("R", "REAL"),
        "imaginary image": ("I", "IMAGINARY"),
        "subtraction": ("SUB", "SUBTRACTION"),
        "calculated map": ("T1 MAP", "T2 MAP", "T2_STAR MAP", "R2 MAP"),
        "T2*": ("T2_STAR",),
        "field map": ("B0 MAP", "B1 MAP", "FIELD_MAP"),
        "susceptibility": ("SWI", "SWM"),
        "MP2RAGE": ("UNI",),
        "flow": ("VELOCITY", "FLOW_ENCODED"),
        "angiography": ("TOF", "ANGIO"),
        "picture": ("SCREEN SAVE",),
    }.items()
    for term in terms
}
"""Values of ImageType that rule a volume out (PS3.3 C.8.3.1.1.1 and C.8.13.3.1.1, and vendors' own)."""

_NEVER_COMPONENTS = {"PHASE": "phase image", "REAL": "real image", "IMAGINARY": "imaginary image"}

_BODY_PARTS = (
    "SPINE", "NECK", "SHOULDER", "KNEE", "HIP", "ANKLE", "FOOT", "HAND", "WRIST", "ELBOW", "ABDOMEN", "PELVIS", "LIVER",
    "BREAST", "PROSTATE", "HEART", "CHEST", "THORAX", "CARDIAC", "EXTREMITY", "ORBIT", "LEG", "ARM",
)  # fmt: skip


def judge(volume: Volume, rules: SiteRules = BUILT_IN) -> Candidate:
    """Return what one volume is, with the evidence.

    Parameters
    ----------
    volume
        Headers are read, pixels are not.
    rules
        What the site knows of its own series.
    """
    contrast_given = volume.contrast_agent or names_contrast(volume.description)
    never = _never(volume, rules)
    if never:
        return _candidate(volume, Verdict.NONE, {}, never, contrast_given)
    physics = read_physics(volume)
    words, words_say = _read_words(volume, rules)
    evidence = [physics.sentence, words_say, *_asides(volume)]
    verdict, scores, reasons = _weigh(volume, physics, words)
    if verdict is Verdict.T1W and contrast_given and rules.contrast == "refuse":
        verdict, scores, reasons = Verdict.NONE, {}, ["T1 weighted after contrast agent"]
    candidate = _candidate(volume, verdict, scores, [*reasons, *evidence], contrast_given)
    return _through_gate(candidate, rules)


def _weigh(
    volume: Volume, physics: Reading, words: Contrast | None
) -> tuple[Verdict, dict[Contrast, float], list[str]]:
    """Return verdict, scores and the reasons that the two readings do not give themselves."""
    if physics.role and words and physics.role is not words and (physics.certain or words in physics.against):
        reason = f"physics speaks for {physics.role}, the description for {words}"
        return Verdict.AMBIGUOUS, {physics.role: 0.5, words: 0.5}, [reason]
    if words and words in physics.against:
        return Verdict.AMBIGUOUS, {words: 0.3}, [f"the description names {words}, physics speaks against it"]
    role = words or physics.role
    if role is None:
        return Verdict.NONE, {}, []
    agree = physics.role is words
    if words is None and not physics.certain:
        return Verdict.AMBIGUOUS, {role: 0.3}, [f"physics allows {role}, nothing else speaks for it"]
    if "DERIVED" in volume.image_type and not agree:
        return Verdict.AMBIGUOUS, {role: 0.3}, [f"derived images, and only one reading speaks for {role}"]
    score = 1.0 if agree else 0.8 if words is None else 0.6
    return Verdict(role), {role: score - 0.2 * ("DERIVED" in volume.image_type)}, []


def _read_words(volume: Volume, rules: SiteRules) -> tuple[Contrast | None, str]:
    """Return the role that the site's patterns, the description or, if it names none, the protocol names."""
    if named := rules.named_role(volume.description):
        return named[0], f"description names {named[0]} at this site ('{named[1]}')"
    words, sentence = read_description(volume.description)
    if words is None and volume.protocol and volume.protocol != volume.description:
        from_protocol, protocol_says = read_description(volume.protocol)
        if from_protocol and not exclusions(volume.protocol):
            return from_protocol, f"{sentence}; {protocol_says.replace('description', 'protocol')}"
    return words, sentence


def _never(volume: Volume, rules: SiteRules) -> list[str]:
    """Return why a volume can play no role at all, or nothing."""
    reasons = [
        f"ImageType {term}: {_NEVER_IMAGE_TYPES[term]}" for term in volume.image_type if term in _NEVER_IMAGE_TYPES
    ]
    if volume.complex_component in _NEVER_COMPONENTS:
        reasons.append(_NEVER_COMPONENTS[volume.complex_component])
    if words := rules.excluded(volume.description):
        reasons.append(f"description is never chosen at this site ('{words}')")
    if not rules.named_role(volume.description):
        reasons += exclusions(volume.description or volume.protocol)
    if any(part in volume.body_part for part in _BODY_PARTS):
        reasons.append(f"BodyPartExamined {volume.body_part}: another body part")
    if volume.samples_per_pixel != 1:
        reasons.append("colour image")
    if volume.b_value:
        reasons.append(f"diffusion weighting b = {volume.b_value:g} s/mm2")
    if "EP" in volume.scanning_sequence:
        reasons.append("echo-planar sequence")
    return reasons


def _asides(volume: Volume) -> list[str]:
    """Return what is told beside the two readings."""
    asides = []
    if "DERIVED" in volume.image_type:
        asides.append("ImageType DERIVED: not as acquired")
    if volume.acquisition_type:
        asides.append(f"{volume.acquisition_type} acquisition")
    return asides


def _through_gate(candidate: Candidate, rules: SiteRules) -> Candidate:
    """Return a candidate that keeps its verdict only if its planes make a usable volume."""
    if candidate.verdict is Verdict.NONE:
        return candidate
    volume = candidate.volume
    try:
        if len(volume.frames) < rules.min_slices > MIN_SLICES:
            raise StudyHeld(
                HoldReason.GEOMETRY_TOO_FEW, f"{len(volume.frames)} slices; this site asks for {rules.min_slices}."
            )
        _, step_mm = ordered_frames(volume.frames)
    except StudyHeld as refusal:
        reason = f"{candidate.verdict} by its headers, but no usable volume: {refusal.sentence}"
        return replace(
            candidate,
            verdict=Verdict.NONE,
            scores=dict.fromkeys(Contrast, 0.0),
            evidence=(reason, *candidate.evidence),
            unfit=candidate.role,
            refusal=refusal,
        )
    shape = f"{plane(volume)}, {len(volume.frames)} slices {step_mm:.1f} mm apart"
    return replace(candidate, evidence=(*candidate.evidence, shape), step_mm=step_mm)


def plane(volume: Volume) -> str:
    """Return the anatomical plane that the slices lie closest to."""
    normal = [abs(cosine) for cosine in axes_of(volume.frames[0])[2]]
    return ("sagittal", "coronal", "axial")[normal.index(max(normal))]


def _candidate(
    volume: Volume, verdict: Verdict, scores: dict[Contrast, float], evidence: list[str], contrast_given: bool
) -> Candidate:
    every_role = {role: scores.get(role, 0.0) for role in Contrast}
    return Candidate(volume, verdict, every_role, tuple(evidence), contrast_given)
