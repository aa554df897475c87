"""One volume -> what it is, with every piece of evidence.

A volume is first tried against what can never be chosen (diffusion, angiography, scouts, reformats, ...), then read
twice, once by physics and once by its description. Where both readings speak they must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.geometry import MIN_SLICES, axes_of, ordered_frames
from pipeline.headers import Volume
from pipeline.select.clues import Clue, ClueKind
from pipeline.select.never import reasons_against
from pipeline.select.physics import Reading, read_physics
from pipeline.select.rules import BUILT_IN, SiteRules
from pipeline.select.words import denies_contrast, exclusions, is_certain, names_contrast, read_description


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
    clues
        What was noticed, the decisive ones first.
    contrast_given
        Header or description say that contrast agent was given.
    unfit
        The role that a volume of verdict ``none`` would have, were it no `refusal` of the geometry gate.
    refusal
        Why the volume is no usable image.
    step_mm
        Distance of the slices of a volume that went through the gate, else 0.
    barred
        The role that a volume would have, did nothing rule it out.
    argument
        What a choice by hand calls it (:mod:`pipeline.select.naming`); empty before the whole study is known.
    """

    volume: Volume
    verdict: Verdict
    scores: dict[Contrast, float]
    clues: tuple[Clue, ...]
    contrast_given: bool = False
    unfit: Contrast | None = None
    refusal: StudyHeld | None = None
    step_mm: float = 0.0
    barred: Contrast | None = None
    argument: str = ""

    @property
    def evidence(self) -> tuple[str, ...]:
        """The sentences of the clues."""
        return tuple(str(clue) for clue in self.clues)

    def noticed(self, kind: ClueKind) -> bool:
        """Return whether a clue is of a kind.

        Parameters
        ----------
        kind
            What is asked for.
        """
        return any(clue.kind is kind for clue in self.clues)

    @property
    def role(self) -> Contrast | None:
        """The role of the verdict."""
        return Contrast(self.verdict.value) if self.verdict.value in set(Contrast) else None


# --- scores: only their order matters, so they are chosen here --------------------------------------------------------

_AGREED, _PHYSICS_ALONE, _WORDS_ALONE = 1.0, 0.8, 0.6
_DERIVED_LESS = 0.2
_EITHER, _DOUBT = 0.5, 0.3
"""Of the two roles that contradict each other; of one role that may be."""


def judge(volume: Volume, rules: SiteRules = BUILT_IN) -> Candidate:
    """Return what one volume is, with the evidence.

    Parameters
    ----------
    volume
        Headers are read, pixels are not.
    rules
        What the site knows of its own series.

    Returns
    -------
    Candidate
        Nothing is raised: what cannot be chosen has the verdict ``none`` and its reasons.
    """
    contrast_given = volume.contrast_agent or _names_contrast(volume)
    if never := reasons_against(volume, rules):
        ruled_out = _candidate(volume, Verdict.NONE, {}, never, contrast_given)
        return replace(ruled_out, barred=_otherwise(volume, rules, never))
    physics = read_physics(volume)
    words, words_say = _read_words(volume, rules)
    verdict, scores, reasons = _weigh(volume, physics, words)
    if verdict is Verdict.T1W and contrast_given and rules.contrast == "refuse":
        verdict, scores, reasons = Verdict.NONE, {}, [Clue(ClueKind.AFTER_CONTRAST_AGENT)]
    if not rules.named_role(volume.description) and _may_rule_out(volume, verdict, physics):
        verdict, scores, reasons = _doubt(Contrast(verdict.value), ClueKind.UNREADABLE)
    clues = [*reasons, physics.clue, words_say, *_asides(volume)]
    return _through_gate(_candidate(volume, verdict, scores, clues, contrast_given), rules)


def _otherwise(volume: Volume, rules: SiteRules, never: list[Clue]) -> Contrast | None:
    """Return the role that a volume would have, did nothing rule it out; physics is asked if a body part alone does."""
    physics = read_physics(volume)
    by_part = all(clue.kind is ClueKind.BODY_PART for clue in never)
    return _read_words(volume, rules)[0] or (physics.role if by_part else None)


def _weigh(
    volume: Volume, physics: Reading, words: Contrast | None
) -> tuple[Verdict, dict[Contrast, float], list[Clue]]:
    """Return verdict, scores and the reasons that the two readings do not give themselves."""
    if physics.role and words and physics.role is not words and (physics.certain or words in physics.against):
        clue = Clue(ClueKind.READINGS_DISAGREE, {"physics": physics.role, "words": words})
        return Verdict.AMBIGUOUS, {physics.role: _EITHER, words: _EITHER}, [clue]
    if words and words in physics.against:
        return _doubt(words, ClueKind.PHYSICS_AGAINST)
    role = words or physics.role
    if role is None:
        return Verdict.NONE, {}, []
    agree = physics.role is words
    if words is None and not physics.certain:
        return _doubt(role, ClueKind.PHYSICS_ALONE)
    if words is None and (unsuited := exclusions(volume.protocol)):
        return _doubt(role, ClueKind.PROTOCOL_UNSUITED, named=unsuited[0].unsuited, **unsuited[0].facts)
    if "DERIVED" in volume.image_type and not agree:
        return _doubt(role, ClueKind.DERIVED_ALONE)
    score = _AGREED if agree else _PHYSICS_ALONE if words is None else _WORDS_ALONE
    return Verdict(role), {role: score - _DERIVED_LESS * ("DERIVED" in volume.image_type)}, []


def _doubt(role: Contrast, kind: ClueKind, **facts: object) -> tuple[Verdict, dict[Contrast, float], list[Clue]]:
    return Verdict.AMBIGUOUS, {role: _DOUBT}, [Clue(kind, {"role": role, **facts})]


def _may_rule_out(volume: Volume, verdict: Verdict, physics: Reading) -> bool:
    """Return whether a description that cannot be read for certain may say that a volume is not what it seems to be.

    Physics may decide alone, but knows nothing of contrast agent.
    """
    in_protocol = read_description(volume.description)[0] is None
    doubtful = [volume.description_readings, volume.protocol_readings if in_protocol else None]
    unknown = [readings for readings in doubtful if readings is not None and not is_certain(readings)]
    if not unknown or verdict in {Verdict.NONE, Verdict.AMBIGUOUS}:
        return False
    by_physics = physics.certain and physics.role == verdict.value != Contrast.T1W
    return not by_physics or any(exclusions(text) for readings in unknown for text in readings)


def _names_contrast(volume: Volume) -> bool:
    """Return whether the names of a volume say that contrast agent was given.

    The protocol may be that of the whole examination; it speaks for a series whose weighting it names.
    """
    if names_contrast(_naming_text(volume)):
        return True
    of_series = read_description(volume.protocol)[0] is Contrast.T1W
    return of_series and names_contrast(volume.protocol) and not denies_contrast(volume.description)


def _naming_text(volume: Volume) -> str:
    """Return the text that names the role: the protocol's name stands in for a description that does not."""
    named = read_description(volume.description)[0] is not None
    return volume.description if named else f"{volume.description} {volume.protocol}"


def _read_words(volume: Volume, rules: SiteRules) -> tuple[Contrast | None, Clue]:
    """Return the role that the site's patterns, the description or, if it names none, the protocol names."""
    if named := rules.named_role(volume.description):
        return named[0], Clue(ClueKind.SITE_NAMES_ROLE, {"role": named[0], "words": named[1]})
    role, clue = read_description(volume.description)
    if role is None and volume.protocol and volume.protocol != volume.description:
        from_protocol, protocol_says = read_description(volume.protocol)
        if from_protocol and not exclusions(volume.protocol):
            facts = {"description": clue, **protocol_says.facts}
            return from_protocol, Clue(ClueKind.PROTOCOL_NAMES_ROLE, facts)
    return role, clue


def _asides(volume: Volume) -> Iterator[Clue]:
    """Yield what is reported beside the two readings."""
    if "DERIVED" in volume.image_type:
        yield Clue(ClueKind.DERIVED)
    if volume.acquisition_type:
        yield Clue(ClueKind.ACQUISITION, {"acquisition": volume.acquisition_type})


def _through_gate(candidate: Candidate, rules: SiteRules) -> Candidate:
    """Return a candidate that keeps its verdict only if its planes make a usable volume."""
    if candidate.verdict is Verdict.NONE:
        return candidate
    volume = candidate.volume
    try:
        step_mm = _step_mm(volume, rules)
    except StudyHeld as refusal:
        reason = Clue(ClueKind.NO_VOLUME, {"verdict": candidate.verdict, "refusal": refusal.sentence})
        return replace(
            candidate,
            verdict=Verdict.NONE,
            scores=dict.fromkeys(Contrast, 0.0),
            clues=(reason, *candidate.clues),
            unfit=candidate.role,
            refusal=refusal,
        )
    shape = Clue(ClueKind.SHAPE, {"plane": plane(volume), "slices": len(volume.frames), "step_mm": step_mm})
    return replace(candidate, clues=(*candidate.clues, shape), step_mm=step_mm)


def _step_mm(volume: Volume, rules: SiteRules) -> float:
    """Return the distance of the slices of a usable volume, or raise `StudyHeld`."""
    slices = len(volume.frames)
    if slices < rules.min_slices > MIN_SLICES:
        raise StudyHeld(HoldReason.GEOMETRY_TOO_FEW, f"{slices} slices; this site asks for {rules.min_slices}.")
    return ordered_frames(volume.frames)[1]


def plane(volume: Volume) -> str:
    """Return the anatomical plane that the slices lie closest to: ``sagittal``, ``coronal`` or ``axial``.

    Parameters
    ----------
    volume
        Its first frame has an orientation.
    """
    normal = [abs(cosine) for cosine in axes_of(volume.frames[0])[2]]
    return ("sagittal", "coronal", "axial")[normal.index(max(normal))]


def _candidate(
    volume: Volume, verdict: Verdict, scores: dict[Contrast, float], clues: list[Clue], contrast_given: bool
) -> Candidate:
    every_role = {role: scores.get(role, 0.0) for role in Contrast}
    return Candidate(volume, verdict, every_role, tuple(clues), contrast_given)
