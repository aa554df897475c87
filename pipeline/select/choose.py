"""Several candidates -> the one for each role, by stated rules; a tie or a doubt is left to a human."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.geometry import ordered_frames
from pipeline.select.clues import Clue, ClueKind
from pipeline.select.injection import before_contrast_agent
from pipeline.select.judge import Candidate, Verdict, plane
from pipeline.select.naming import meant_by, name, with_names
from pipeline.select.physics import read_physics
from pipeline.select.rules import BUILT_IN, SiteRules

_SAME_VOXELS = 1.10
"""Ratio of voxel volumes below which two series count as equally fine; chosen here, above what rounding makes."""
_WHOLE_HEAD_MM = 150.0
"""More is no advantage; chosen here: the highest of the brain masks behind `pipeline.plausibility` has 148 mm."""
_COVERAGE_STEP_MM = 20.0
"""Less is no difference; chosen here, three slices of a clinical series."""

_NAMED_AT_MOST = 2
"""Series that a sentence about a missing role names."""


class RoleMissing(StudyHeld):
    """No series plays one role; the other two have theirs.

    Parameters
    ----------
    sentence
        Which role, and what to do.
    found
        The candidates for the other roles.

    Attributes
    ----------
    found
        As given.
    """

    def __init__(self, sentence: str, found: dict[Contrast, Candidate]) -> None:
        super().__init__(HoldReason.MISSING_ROLE, sentence)
        self.found = found


def select_roles(
    candidates: Iterable[Candidate], rules: SiteRules = BUILT_IN, choices: Mapping[Contrast, str] | None = None
) -> dict[Contrast, Candidate]:
    """Return the candidate for each role, its evidence saying why it and no other.

    Parameters
    ----------
    candidates
        Every volume of the study, judged.
    rules
        What the site knows of its own series.
    choices
        What a human chose for a role: a series number or Series Instance UID, or one of its volumes as
        :mod:`pipeline.select.naming` calls it. Choices outrank verdicts, never the geometry gate.

    Returns
    -------
    dict
        All three roles.

    Raises
    ------
    StudyHeld
        ``choice_unusable``, ``geometry_*``, ``ambiguous_role`` or ``missing_role``, whatever comes first in this order;
        the sentence names every role that has none. `RoleMissing` where a single role is missing and nothing else.
    """
    candidates = with_names(candidates)
    chosen: dict[Contrast, Candidate] = {}
    refusals: list[StudyHeld] = []
    for role in (Contrast.FLAIR, Contrast.T2W, Contrast.T1W):
        try:
            by_hand = (choices or {}).get(role)
            chosen[role] = _by_hand(role, by_hand, candidates) if by_hand else _best(role, candidates, rules)
        except StudyHeld as held:
            refusals.append(held)
    if refusals:
        refusals.sort(key=_urgency)
        sentence = " ".join(dict.fromkeys(held.sentence for held in refusals))
        if len(refusals) == 1 and refusals[0].code is HoldReason.MISSING_ROLE:
            _refuse_twice(chosen)
            raise RoleMissing(sentence, chosen)
        raise StudyHeld(refusals[0].code, sentence)
    _refuse_twice(chosen)
    return chosen


def _urgency(held: StudyHeld) -> int:
    """Return where a refusal stands: what a human can mend at once comes before what must be acquired."""
    gate = 1
    order = {HoldReason.CHOICE_UNUSABLE: 0, HoldReason.AMBIGUOUS_ROLE: 2, HoldReason.MISSING_ROLE: 3}
    return order.get(held.code, gate)


def _refuse_twice(chosen: dict[Contrast, Candidate]) -> None:
    for role, other in ((Contrast.T1W, Contrast.T2W), (Contrast.T2W, Contrast.FLAIR), (Contrast.T1W, Contrast.FLAIR)):
        if role in chosen and other in chosen and chosen[role].volume == chosen[other].volume:
            raise StudyHeld(
                HoldReason.CHOICE_UNUSABLE,
                f"{name(chosen[role])} was chosen for {role} and {other}; choose one series for each.",
            )


# --- by hand ----------------------------------------------------------------------------------------------------------


def _by_hand(role: Contrast, choice: str, candidates: list[Candidate]) -> Candidate:
    volumes = meant_by(choice, candidates)
    if not volumes:
        raise StudyHeld(HoldReason.CHOICE_UNUSABLE, _not_there(role, choice, candidates))
    if len({c.volume.series_uid for c in volumes}) > 1:
        raise StudyHeld(
            HoldReason.CHOICE_UNUSABLE,
            f"Several series have the number chosen for {role}; choose one of them: {_arguments(role, volumes)}.",
        )
    fitting = [c for c in volumes if c.scores[role] > 0]
    # The echoes of one series share a description; their times distinguish them.
    fitting = fitting or [c for c in volumes if read_physics(c.volume).role is role]
    if len(volumes) > 1 and len(fitting) != 1:
        raise StudyHeld(
            HoldReason.CHOICE_UNUSABLE,
            f"What was chosen for {role} holds {len(volumes)} volumes, and not just one of them fits; "
            f"choose one of them: {_arguments(role, volumes)}.",
        )
    candidate = fitting[0] if fitting else volumes[0]
    try:
        ordered_frames(candidate.volume.frames)
    except StudyHeld as refusal:
        sentence = f"{name(candidate)} chosen for {role}: {refusal.sentence}"
        raise StudyHeld(HoldReason.CHOICE_UNUSABLE, sentence) from None
    return replace(candidate, clues=(Clue(ClueKind.BY_HAND), *candidate.clues))


def _not_there(role: Contrast, choice: str, candidates: list[Candidate]) -> str:
    volumes = meant_by(choice.partition(":")[0], candidates)
    if volumes:
        return f"The series chosen for {role} holds no such volume; choose one of these: {_arguments(role, volumes)}."
    return f"The series chosen for {role} is not in the study; choose another."


def _arguments(role: Contrast, volumes: list[Candidate]) -> str:
    return ", ".join(f"{role}={candidate.argument}" for candidate in volumes)


# --- by rule ----------------------------------------------------------------------------------------------------------


def _best(role: Contrast, candidates: list[Candidate], rules: SiteRules) -> Candidate:
    fitting = [candidate for candidate in candidates if candidate.role is role]
    if not fitting:
        raise _nobody(role, candidates)
    if role is Contrast.T1W and rules.contrast == "refuse":
        fitting = before_contrast_agent(fitting, candidates)
    for candidate in fitting:
        rivals = [other for other in fitting if other is not candidate]
        advantages = [_advantage(role, candidate, rival, rules) for rival in rivals]
        if None not in advantages:
            facts = ({"rival": name(r), "advantage": a} for r, a in zip(rivals, advantages, strict=True))
            return _noted(candidate, *(Clue(ClueKind.RATHER_THAN, each) for each in facts))
    unbeaten = [c for c in fitting if not any(_advantage(role, other, c, rules) for other in fitting)]
    names = " and ".join(name(candidate) for candidate in unbeaten or fitting)
    raise StudyHeld(HoldReason.AMBIGUOUS_ROLE, f"{names} fit {role} equally well. Choose the series by hand.")


def _nobody(role: Contrast, candidates: list[Candidate]) -> StudyHeld:
    """Return why no volume has a role."""
    unfit = [c for c in candidates if c.unfit is role and c.refusal]
    if unfit and unfit[0].refusal:
        return StudyHeld(unfit[0].refusal.code, f"{name(unfit[0])} would be {role}: {unfit[0].refusal.sentence}")
    doubtful = [c for c in candidates if c.verdict is Verdict.AMBIGUOUS and c.scores[role] > 0]
    if doubtful:
        reason = f"{name(doubtful[0])} may be {role}: {doubtful[0].clues[0]}"
        return StudyHeld(HoldReason.AMBIGUOUS_ROLE, f"{reason}. Choose the series by hand.")
    return StudyHeld(
        HoldReason.MISSING_ROLE,
        f"No series of the study is {role}; acquire or send it.{_closest(role, candidates)}",
    )


def _closest(role: Contrast, candidates: list[Candidate]) -> str:
    """Return which series came closest to a role, and what ruled them out; empty where none came close."""
    after = [c for c in candidates if role is Contrast.T1W and c.noticed(ClueKind.AFTER_CONTRAST_AGENT)]
    if after:
        return f" {name(after[0])} is T1 weighted, but after contrast agent."
    barred = sorted((c for c in candidates if c.barred is role), key=lambda c: len(c.clues))[:_NAMED_AT_MOST]
    return "".join(f" {name(c)} came close, but: {', '.join(c.evidence)}." for c in barred)


def _advantage(role: Contrast, one: Candidate, other: Candidate, rules: SiteRules) -> Clue | None:
    """Return the first rule by which one candidate is better than another, or None if it is not."""
    for advantage, value in _preferences(role, rules):
        if value(one) != value(other):
            return advantage if value(one) > value(other) else None
    if not 1 / _SAME_VOXELS <= _voxel_mm3(one) / _voxel_mm3(other) <= _SAME_VOXELS:
        return Clue(ClueKind.FINER) if _voxel_mm3(one) < _voxel_mm3(other) else None
    same_acquisition = one.volume.acquired == other.volume.acquired
    if same_acquisition and _processing(one) > _processing(other):
        return Clue(ClueKind.CORRECTED)
    return None


def _preferences(role: Contrast, rules: SiteRules) -> list[tuple[Clue, Callable[[Candidate], float]]]:
    """Return the rules by which one candidate is preferred, the strongest first."""
    return [
        (Clue(ClueKind.AGREEMENT), lambda c: c.scores[role]),
        (Clue(ClueKind.NO_CONTRAST_AGENT), lambda c: not c.contrast_given),
        (Clue(ClueKind.THREE_DIMENSIONAL), _is_3d),
        (Clue(ClueKind.COVERAGE), lambda c: min(_coverage_mm(c), _WHOLE_HEAD_MM) // _COVERAGE_STEP_MM),
        (
            Clue(ClueKind.PLANE, {"plane": rules.plane}),
            lambda c: not _is_3d(c) and plane(c.volume) == rules.plane,
        ),
    ]


def _is_3d(candidate: Candidate) -> bool:
    return candidate.volume.acquisition_type == "3D"


def _processing(candidate: Candidate) -> int:
    """Return how far the scanner corrected the images: distortion in space, then in the plane, then brightness."""
    terms = candidate.volume.image_type
    return 4 * ("DIS3D" in terms) + 2 * ("DIS2D" in terms) + ("NORM" in terms)


def _coverage_mm(candidate: Candidate) -> float:
    return candidate.step_mm * len(candidate.volume.frames)


def _voxel_mm3(candidate: Candidate) -> float:
    row_spacing_mm, column_spacing_mm = candidate.volume.frames[0].pixel_spacing_mm or (1.0, 1.0)
    return candidate.step_mm * row_spacing_mm * column_spacing_mm


def _noted(candidate: Candidate, *clues: Clue) -> Candidate:
    return replace(candidate, clues=(*candidate.clues, *clues))
