"""Series x role scores with reasons: which series is T1W, which T2W, which FLAIR, or why not.

Each volume is first tried against what can never be chosen (derived images, diffusion, angiography, scouts, ...), then
read twice, once by physics and once by its description. Where both readings speak they must agree; where they
contradict each other, or two volumes fit one role equally well, nobody guesses: the study is held for a human choice.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.errors import StudyHeld
from pipeline.headers import Headers, Problem, Volume, content_digest, read_headers
from pipeline.volume import MIN_SLICES


class Role(StrEnum):
    """The part that a series plays in the ensemble."""

    T1W = "T1W"
    T2W = "T2W"
    FLAIR = "FLAIR"


class Verdict(StrEnum):
    """What a volume was found to be."""

    T1W = "T1W"
    T2W = "T2W"
    FLAIR = "FLAIR"
    NONE = "none"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class SelectedSeries:
    """The series chosen for one role.

    Attributes
    ----------
    series_uid, series_number, description
        As in the headers; the number may be absent, the description empty.
    evidence
        Sentences that say why.
    files
        Every instance of the volume, one file each, in no particular order.
    """

    series_uid: str
    series_number: int | None
    description: str
    evidence: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One volume with its verdict.

    Attributes
    ----------
    volume
        What was judged.
    verdict
        Outcome; `scores` is above 0 only for the role of the verdict, or for both roles of a contradiction.
    scores
        0 to 1 for each role: 1 where physics and description agree, 0.8 by physics alone, 0.6 by description alone.
    evidence
        Sentences, the decisive ones first.
    """

    volume: Volume
    verdict: Verdict
    scores: dict[Role, float]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The three series of a study, or why there are none.

    Attributes
    ----------
    study_uid
        Empty if no file told one.
    roles
        Complete if `held` is None.
    candidates
        Every volume of the study with its verdict.
    problems
        Files that were not used.
    held
        Why the study gets no score.
    digest
        SHA-256 over the content of the selected instances; over all file names if the study is held.
    """

    study_uid: str
    roles: dict[Role, SelectedSeries]
    volumes: dict[Role, Volume]
    candidates: tuple[Candidate, ...]
    problems: tuple[Problem, ...]
    held: StudyHeld | None
    digest: str


# What a description says; the first pattern that matches counts. "T1 FLAIR" and "t1 dark-fluid" are T1 weighted by
# their short echo, so they stand before FLAIR, and FLAIR before T2.
_WORD_ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = tuple(
    (role, re.compile(pattern, re.IGNORECASE))
    for role, pattern in (
        (Role.T1W, r"t1.{0,12}(flair|tirm|dark.?fluid|da.?fl)|(flair|tirm).{0,4}t1(?!\d)"),
        (Role.FLAIR, r"flair|dark.?fluid|(?<![a-z])da.?fl(?![a-z])|(?<![a-z])tirm|液体衰减|水抑制"),
        (Role.T1W, r"(?<![a-z0-9])(fs|v|s|3d)?t1|mp.?rage|(?<![a-z])(ir.?)?f?spgr|bravo|(?<![a-z])mpr(?![a-z])(?!.?(tra|cor|sag|coll))"
                   r"|(?<![a-z])3d.?tfe|(?<![a-z])tfl(?![a-z])|ir.?fse"),
        (Role.T2W, r"(?<![a-z0-9])(fs)?t2(?!\d|.?\*|.?star)|haste(?![a-z])"),
    )
)  # fmt: skip

_NEVER_WORDS = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("diffusion", r"dwi|dti|dmri|diff|sbref|(?<![a-z])adc|trace(?!on)|(?<![a-z])b\d{3,4}(?!\d)|ep2d|tensor|(?<![a-z])hardi|dir\d+"),
        ("susceptibility or T2*", r"swi|swan|susc|qsm|venobold|t2.?\*|t2.?star|fl2d.?t2|hemo|gre.?t2|medic|(?<![a-z])mip"),
        ("angiography", r"(?<![a-z])mra|angio|tof|(?<![a-z])pc[_ ]?3d|venogra|mrv"),
        ("perfusion", r"asl|perf|dsc|(?<![a-z])cbf|(?<![a-z])cbv"),
        ("functional", r"fmri|bold|rest(ing)?(?![a-z])|(?<![a-z])task-|mosaic|epi(?![a-z])"),
        ("scout", r"locali[sz]er|scout|pilot|(?<![a-z])loc(?![a-z])|survey|3.?plane|定位|localisateur|lokali"),
        ("reformat", r"mpr.?(tra|cor|ax|coll)|(?<!w_)mpr.?sag|(?<![a-z])reformat|(?<![a-z])mip|projection|curved|range"),
        ("field map", r"field.?map|b0.?map|b1.?map|fmap|gre_field"),
        ("calculated map", r"t[12].?map|(?<![a-z])wm(?![a-z])|mp2rage|uni.?den|(?<![a-z])inv[12]|synthetic|subtract|(?<![a-z])sub(?![a-z])|syma"),
        ("proton density", r"(?<![a-z])pd(?![a-z])|proton|(dual|double).?echo|(?<![a-z])de(?![a-z])|grase|(?<![a-z])dp(?![a-z])|pd.?t2|t2.?pd"),
        ("magnetisation transfer", r"(?<![a-z])mt(?![a-z])|mt.?on|nm.?gre|neuromel"),
        ("spectroscopy", r"spectro|(?<![a-z])mrs|csi(?![a-z])|svs"),
        ("another body part", r"spine|lumbar|cervical|thorac|shoulder|knee|abdomen|liver|pelvi|breast|orbit"),
    )
)  # fmt: skip

_CONTRAST_WORDS = re.compile(
    r"(?<![a-z])(gd|gad|gado\w*|dotarem|magnevist|post|apr[eè]s|[ck]ontrast\w*|km|\+ ?c|ce|inj\w*)(?![a-z])"
    r"|(?<![a-z])post.?(gd|gad|c)"
    r"|\+ ?c(?![a-z])|(?<![a-z])c ?\+|增强|造影",
    re.IGNORECASE,
)

_NO_CONTRAST_WORDS = re.compile(
    r"(?<![a-z])(pre|w/?o|without|sans|ohne|sin|no|non)[ _.-]*(gd|gad\w*|[ck]ontrast\w*|km|inj\w*|c|ce)(?![a-z])"
    r"|(非|未)(增强|造影)|(增强|造影)前|造影なし",
    re.IGNORECASE,
)
"""Words that deny contrast agent; they are taken out before `_CONTRAST_WORDS` are looked for."""

_NEVER_IMAGE_TYPES = {
    "LOCALIZER": "scout", "MPR": "reformat", "PROJECTION IMAGE": "projection", "MIP": "projection", "MOSAIC": "mosaic",
    "VFRAME": "tiled image", "ADC": "diffusion map", "TRACEW": "diffusion", "FA": "diffusion map", "DIFFUSION": "diffusion",
    "PERFUSION": "perfusion", "ASL": "perfusion", "FMRI": "functional", "P": "phase image", "PHASE MAP": "phase image",
    "PHASE": "phase image", "R": "real image", "I": "imaginary image", "SUBTRACTION": "subtraction", "SUB": "subtraction",
    "T1 MAP": "calculated map", "T2 MAP": "calculated map", "T2_STAR": "T2*", "SWI": "susceptibility", "UNI": "MP2RAGE",
}  # fmt: skip


def judge(volume: Volume) -> Candidate:
    """Return what one volume is, with the evidence, looking at nothing but its headers."""
    never = _never(volume)
    if never:
        return _candidate(volume, Verdict.NONE, {}, never)
    physics, physics_says = read_physics(volume)
    words, words_say = read_description(volume.description or volume.protocol)
    evidence = [physics_says, words_say]
    if physics and words and physics is not words:
        reason = f"physics speaks for {physics}, the description for {words}"
        return _candidate(volume, Verdict.AMBIGUOUS, {physics: 0.5, words: 0.5}, [reason, *evidence])
    role = physics or words
    if role is None:
        return _candidate(volume, Verdict.NONE, {}, evidence)
    if role is Role.T1W and _after_contrast(volume):
        return _candidate(volume, Verdict.NONE, {}, ["T1 weighted after contrast agent", *evidence])
    score = 1.0 if physics and words else 0.8 if physics else 0.6
    return _candidate(volume, Verdict(role), {role: score}, evidence)


def read_physics(volume: Volume) -> tuple[Role | None, str]:
    """Return the role that sequence timing speaks for, and the sentence that says why.

    Notes
    -----
    A long inversion time nulls fluid (FLAIR); 1,200 to 3,200 ms covers 1.5 and 3 T. A short echo with a short
    repetition, or with an inversion of 400 to 1,300 ms, weights by T1; a long echo with a long repetition by T2.
    """
    tr, te, ti = volume.tr_ms, volume.te_ms, volume.ti_ms or None
    timing = ", ".join(f"{n} {v:g} ms" for n, v in (("TR", tr), ("TE", te), ("TI", ti)) if v is not None)
    if te is None or tr is None:
        return None, f"timing unknown ({timing or 'no TR, TE, TI'})"
    inverted = "IR" in volume.scanning_sequence or (ti is not None and ti > 0)
    if ti is not None and 1200 <= ti <= 3200 and te >= 60 and tr >= 4000:
        return Role.FLAIR, f"{timing}: fluid is nulled, FLAIR"
    if ti is not None and 400 <= ti <= 1300 and te <= 35:
        return Role.T1W, f"{timing}: inversion and short echo, T1 weighted"
    if te <= (12 if tr < 250 else 30) and tr <= 1000 and "EP" not in volume.scanning_sequence:
        return Role.T1W, f"{timing}: short repetition and short echo, T1 weighted"
    if te >= 60 and tr >= 1800:
        if inverted:
            return None, f"{timing}: long echo after an inversion of unknown or odd time"
        return Role.T2W, f"{timing}: long repetition and long echo, T2 weighted"
    return None, f"{timing}: typical of none of the three"


def read_description(description: str) -> tuple[Role | None, str]:
    """Return the role that a series description names, and the sentence that says why."""
    if not description:
        return None, "no description"
    for role, pattern in _WORD_ROLES:
        found = pattern.search(description)
        if found:
            return role, f"description names {role} ('{found.group(0)}')"
    return None, "description names none of the three"


def select_roles(candidates: Iterable[Candidate]) -> dict[Role, Candidate]:
    """Return the candidate for each role.

    Raises
    ------
    StudyHeld
        ``missing_role`` or ``ambiguous_role``.
    """
    candidates = list(candidates)
    return {role: _best(role, candidates) for role in (Role.FLAIR, Role.T2W, Role.T1W)}


def select_study(paths: Iterable[Path]) -> Selection:
    """Return the selected series of the study that some files hold.

    Parameters
    ----------
    paths
        All files of the study, in any order.

    Returns
    -------
    Selection
        With `held` set where the study cannot be scored; nothing is raised for bad input.
    """
    paths = sorted(paths)
    headers = read_headers(paths)
    candidates = tuple(judge(volume) for volume in headers.volumes)
    study_uids = sorted({volume.study_uid for volume in headers.volumes})
    study_uid = study_uids[0] if len(study_uids) == 1 else ""
    try:
        if len(study_uids) > 1:
            raise StudyHeld("several_studies", f"The files belong to {len(study_uids)} studies; give one at a time.")
        chosen = select_roles(candidates)
        _refuse_damaged(chosen, headers)
    except StudyHeld as held:
        names = "\n".join(path.name for path in paths)
        digest = hashlib.sha256(names.encode()).hexdigest()
        return Selection(study_uid, {}, {}, candidates, headers.problems, held, digest)
    roles = {role: _selected(chosen[role]) for role in Role}
    volumes = {role: chosen[role].volume for role in Role}
    return Selection(study_uid, roles, volumes, candidates, headers.problems, None, input_digest(roles))


def input_digest(roles: dict[Role, SelectedSeries]) -> str:
    """Return the SHA-256 over roles and content of the selected instances; file names and order do not count."""
    total = hashlib.sha256()
    for role in Role:
        total.update(role.encode())
        for digest in sorted(content_digest(path) for path in roles[role].files):
            total.update(bytes.fromhex(digest))
    return total.hexdigest()


# --- one volume -------------------------------------------------------------------------------------------------------


def _candidate(volume: Volume, verdict: Verdict, scores: dict[Role, float], evidence: list[str]) -> Candidate:
    return Candidate(volume, verdict, {role: scores.get(role, 0.0) for role in Role}, tuple(evidence))


def _never(volume: Volume) -> list[str]:
    """Return why a volume can play no role at all, or nothing."""
    reasons = [
        f"ImageType {term}: {_NEVER_IMAGE_TYPES[term]}" for term in volume.image_type if term in _NEVER_IMAGE_TYPES
    ]
    text = f"{volume.description} {volume.protocol if not volume.description else ''}"
    reasons += [f"description names {name} ('{m.group(0)}')" for name, p in _NEVER_WORDS if (m := p.search(text))]
    if volume.samples_per_pixel != 1:
        reasons.append("colour image")
    if volume.b_value:
        reasons.append(f"diffusion weighting b = {volume.b_value:g} s/mm2")
    if "EP" in volume.scanning_sequence:
        reasons.append("echo-planar sequence")
    if len(volume.frames) < MIN_SLICES:
        reasons.append(f"{len(volume.frames)} slices; a head needs at least {MIN_SLICES}")
    if any(frame.position_mm is None or frame.orientation is None for frame in volume.frames):
        reasons.append("planes without a position in space")
    return reasons


def _after_contrast(volume: Volume) -> bool:
    return volume.contrast_agent or bool(_CONTRAST_WORDS.search(_NO_CONTRAST_WORDS.sub(" ", volume.description)))


# --- several volumes --------------------------------------------------------------------------------------------------


def _best(role: Role, candidates: list[Candidate]) -> Candidate:
    fitting = [c for c in candidates if c.verdict.value == role.value]
    doubtful = [c for c in candidates if c.verdict is Verdict.AMBIGUOUS and c.scores[role] > 0]
    if not fitting and doubtful:
        raise StudyHeld(
            "ambiguous_role",
            f"{_name(doubtful[0])} may be {role}: {doubtful[0].evidence[0]}. Choose the series by hand.",
        )
    if not fitting:
        raise StudyHeld("missing_role", f"No series of the study is {role}; acquire or send it, then retry.")
    ranked = sorted(fitting, key=_preference, reverse=True)
    if len(ranked) > 1 and math.isclose(_rank(ranked[0]), _rank(ranked[1]), rel_tol=0.05):
        pair = f"{_name(ranked[0])} and {_name(ranked[1])}"
        raise StudyHeld("ambiguous_role", f"{pair} fit {role} equally well. Choose the series by hand.")
    return ranked[0]


def _rank(candidate: Candidate) -> float:
    """Return the agreement of the readings first, then three-dimensional over two-dimensional, then finer voxels."""
    volume = candidate.volume
    voxel_mm3 = _voxel_mm3(volume)
    return (
        100 * candidate.scores[Role(candidate.verdict.value)] + 10 * (volume.acquisition_type == "3D") + 1 / voxel_mm3
    )


def _preference(candidate: Candidate) -> tuple[float, str]:
    return _rank(candidate), candidate.volume.series_uid


def _voxel_mm3(volume: Volume) -> float:
    """Return the volume that one voxel stands for, from the extent of the planes along their normal."""
    frame = volume.frames[0]
    assert frame.orientation is not None
    row, column = frame.orientation[:3], frame.orientation[3:]
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    heights = [sum(n * p for n, p in zip(normal, f.position_mm or (), strict=True)) for f in volume.frames]
    step = (max(heights) - min(heights)) / max(1, len(heights) - 1)
    spacing = frame.pixel_spacing_mm or (1.0, 1.0)
    return max(step * spacing[0] * spacing[1], 1e-3)


def _name(candidate: Candidate) -> str:
    number = candidate.volume.series_number
    return f"Series {number}" if number is not None else "A series without a number"


def _selected(candidate: Candidate) -> SelectedSeries:
    volume = candidate.volume
    return SelectedSeries(volume.series_uid, volume.series_number, volume.description, candidate.evidence, volume.files)


def _refuse_damaged(chosen: dict[Role, Candidate], headers: Headers) -> None:
    damaged = {(problem.series_uid, problem.sop_instance_uid) for problem in headers.problems}
    for role, candidate in chosen.items():
        uids = {frame.sop_instance_uid for frame in candidate.volume.frames}
        # An instance that came damaged first and whole later is whole.
        if any(series == candidate.volume.series_uid and instance not in uids for series, instance in damaged):
            raise StudyHeld("pixel_data_damaged", f"The {role} series has damaged files; send it again.")
        if uids & headers.conflicts:
            raise StudyHeld(
                "conflicting_instances", f"Instances of the {role} series arrived twice with different content."
            )
