"""Files -> the selected series of a study, or why there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.headers import (
    Foreign,
    Headers,
    Problem,
    ProblemCode,
    Volume,
    content_digest,
    describe_foreign,
    read_headers,
)
from pipeline.select.choose import RoleMissing, select_roles
from pipeline.select.clues import Clue, ClueKind, Unsuited
from pipeline.select.injection import mentions_contrast_agent
from pipeline.select.judge import Candidate, Verdict, judge
from pipeline.select.naming import meant_by, with_names
from pipeline.select.rules import BUILT_IN, SiteRules


@dataclass(frozen=True, slots=True)
class SelectedSeries:
    """The series chosen for one role.

    Attributes
    ----------
    series_uid, series_number, description
        As in the headers; the number may be absent, the description empty.
    clues
        Why; `evidence` are their sentences.
    files
        Every instance of the volume, one file each, in no particular order.
    """

    series_uid: str
    series_number: int | None
    description: str
    clues: tuple[Clue, ...]
    files: tuple[Path, ...]

    @property
    def evidence(self) -> tuple[str, ...]:
        """Sentences that say why."""
        return tuple(str(clue) for clue in self.clues)


@dataclass(frozen=True, slots=True)
class Selection:
    """The three series of a study, or why there are none.

    Attributes
    ----------
    study_uid
        Empty if the files name none, or several.
    roles
        Complete if `held` is None.
    candidates
        Every volume of the study with its verdict.
    problems
        Files that were not used.
    held
        Why the study gets no score.
    digest
        SHA-256 over the content of the selected instances; over the reason and all file names if the study is held.
    without
        Of a study that is held because a single role has no series: the selection of the other two, under a digest of
        their content; for models that were tested on these.
    files
        All files that it was made from, in the order of their names.
    """

    study_uid: str
    roles: dict[Contrast, SelectedSeries]
    volumes: dict[Contrast, Volume]
    candidates: tuple[Candidate, ...]
    problems: tuple[Problem, ...]
    held: StudyHeld | None
    digest: str
    without: Selection | None = None
    files: tuple[Path, ...] = ()


def select_study(
    paths: Iterable[Path], rules: SiteRules = BUILT_IN, choices: Mapping[Contrast, str] | None = None
) -> Selection:
    """Return the selected series of the study that some files hold.

    Parameters
    ----------
    paths
        All files of the study, in any order.
    rules
        What the site knows of its own series.
    choices
        What a human chose for a role, as `select_roles` takes it.

    Returns
    -------
    Selection
        With `held` set where the study cannot be scored; nothing is raised for bad input.
    """
    paths = tuple(sorted(paths))
    headers = read_headers(paths)
    candidates = _looked_at(with_names(judge(volume, rules) for volume in headers.volumes))
    study_uids = sorted({volume.study_uid for volume in headers.volumes})
    study_uid = study_uids[0] if len(study_uids) == 1 else ""
    try:
        _refuse_foreign(headers)
        if len(study_uids) > 1:
            raise StudyHeld(
                HoldReason.SEVERAL_STUDIES, f"The files belong to {len(study_uids)} studies; give one at a time."
            )
        _refuse_damaged(candidates, headers, choices or {})
        chosen = select_roles(candidates, rules, choices)
    except StudyHeld as reason:
        held = _with_foreign(reason, headers.problems)
        # The reason counts too: with other rules or choices the same files may be held for another one.
        named = "\n".join((held.code, held.sentence, *(path.name for path in paths)))
        digest = hashlib.sha256(named.encode()).hexdigest()
        nothing = Selection(study_uid, {}, {}, candidates, headers.problems, held, digest, files=paths)
        if not isinstance(held, RoleMissing):
            return nothing
        roles, volumes = _by_role(held.found)
        found = replace(nothing, roles=roles, volumes=volumes, held=None, digest=input_digest(roles))
        return replace(nothing, without=found)
    roles, volumes = _by_role(chosen)
    return Selection(study_uid, roles, volumes, candidates, headers.problems, None, input_digest(roles), files=paths)


def input_digest(roles: dict[Contrast, SelectedSeries]) -> str:
    """Return the SHA-256 over roles and content of the selected instances; file names and order do not count.

    Parameters
    ----------
    roles
        A role that no series plays counts as missing, so that two sequences never share a digest with three.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    total = hashlib.sha256()
    for role in Contrast:
        if role not in roles:
            total.update(f"without {role}".encode())
            continue
        total.update(role.encode())
        for digest in sorted(content_digest(path) for path in roles[role].files):
            total.update(bytes.fromhex(digest))
    return total.hexdigest()


def _looked_at(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates of which no subtraction is T1W: where the headers leave room for one, pixels are looked at."""
    asked = mentions_contrast_agent(candidates)
    return tuple(_unless_difference(c) if c.role is Contrast.T1W and (asked or _unsure(c)) else c for c in candidates)


def _unsure(candidate: Candidate) -> bool:
    named = candidate.noticed(ClueKind.NAMES_ROLE) or candidate.noticed(ClueKind.SITE_NAMES_ROLE)
    return candidate.noticed(ClueKind.DERIVED) or not named


def _unless_difference(candidate: Candidate) -> Candidate:
    from pipeline.select.difference import is_difference  # noqa: PLC0415 - the decoders take longer to load than headers

    if not is_difference(candidate.volume):
        return candidate
    clue = Clue(ClueKind.DIFFERENCE, unsuited=Unsuited.SUBTRACTION)
    return replace(
        candidate, verdict=Verdict.NONE, scores=dict.fromkeys(Contrast, 0.0), clues=(clue,), barred=Contrast.T1W
    )


def _by_role(chosen: Mapping[Contrast, Candidate]) -> tuple[dict[Contrast, SelectedSeries], dict[Contrast, Volume]]:
    found = [role for role in Contrast if role in chosen]
    return {role: _selected(chosen[role]) for role in found}, {role: chosen[role].volume for role in found}


def _selected(candidate: Candidate) -> SelectedSeries:
    volume = candidate.volume
    return SelectedSeries(volume.series_uid, volume.series_number, volume.description, candidate.clues, volume.files)


def _refuse_foreign(headers: Headers) -> None:
    """Refuse a folder without a single DICOM file, saying what it holds."""
    filled = [problem for problem in headers.problems if problem.code is not ProblemCode.FILE_EMPTY]
    found = [problem.foreign for problem in filled if problem.foreign is not None]
    if not headers.volumes and found and len(found) == len(filled):
        raise StudyHeld(HoldReason.NO_DICOM_FILES, f"There are no DICOM files here, but {describe_foreign(found)}")


def _with_foreign(held: StudyHeld, problems: Iterable[Problem]) -> StudyHeld:
    """Return why a study lacks a series, with what else lies beside it that may hold it."""
    foreign = (problem.foreign for problem in problems if problem.foreign is not None)
    found = [kind for kind in foreign if kind is not Foreign.OTHER]
    if held.code is not HoldReason.MISSING_ROLE or not found:
        return held
    sentence = f"{held.sentence} Beside the study lie {describe_foreign(found)}"
    return RoleMissing(sentence, held.found) if isinstance(held, RoleMissing) else StudyHeld(held.code, sentence)


def _refuse_damaged(candidates: Iterable[Candidate], headers: Headers, choices: Mapping[Contrast, str]) -> None:
    """Refuse a study if a series that fits a role came damaged or in two versions.

    Another series that fits does not take its place: what was damaged on the way is to be sent again.
    """
    damaged = {(problem.series_uid, problem.sop_instance_uid) for problem in headers.problems if problem.slice_lost}
    for candidate in candidates:
        role, series_uid = candidate.role or candidate.unfit, candidate.volume.series_uid
        if role is None or (role in choices and not meant_by(choices[role], [candidate])):
            continue
        uids = {frame.sop_instance_uid for frame in candidate.volume.frames}
        # An instance that came damaged first and whole later is whole.
        if any(series == series_uid and instance not in uids for series, instance in damaged):
            raise StudyHeld(HoldReason.PIXEL_DATA_DAMAGED, f"The {role} series has damaged files; send it again.")
        if uids & headers.conflicts:
            raise StudyHeld(
                HoldReason.CONFLICTING_INSTANCES,
                f"Instances of the {role} series arrived twice with different content.",
            )
