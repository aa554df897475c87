"""Files -> the selected series of a study, or why there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.headers import (
    NOTHING_KNOWN,
    CopyVerdict,
    Foreign,
    Headers,
    Problem,
    ProblemCode,
    Received,
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
from pipeline.select.one_patient import IdentityStatement, Whose, whose
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
    whose
        File from whose header a report copies patient and order; None where nothing is selected.
    set_aside
        Copies of instances that do not count, since a newer one does.
    corrected
        Keywords of patient and order in which newer copies of selected instances took the place of older ones.
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
    whose: Path | None = None
    set_aside: frozenset[Path] = frozenset()
    corrected: frozenset[str] = frozenset()

    def chosen(self, role: Contrast) -> Candidate:
        """Return the candidate that plays a role.

        Parameters
        ----------
        role
            One of `roles`.
        """
        return next(c for c in self.candidates if c.volume is self.volumes[role])


def select_study(
    paths: Iterable[Path],
    rules: SiteRules = BUILT_IN,
    choices: Mapping[Contrast, str] | None = None,
    received: Received = NOTHING_KNOWN,
    statement: IdentityStatement | None = None,
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
    received
        In which order copies of instances came, and which are right.
    statement
        Of a human, whose the selected series are.

    Returns
    -------
    Selection
        With `held` set where the study cannot be scored; nothing is raised for bad input.
    """
    paths = tuple(sorted(paths))
    headers = read_headers(paths, received)
    candidates = _looked_at(with_names(judge(volume, rules) for volume in headers.volumes))
    study_uids = {volume.study_uid for volume in headers.volumes}
    study_uid = study_uids.pop() if len(study_uids) == 1 else ""
    aside = frozenset(path for copies in headers.copies.values() for path in copies.set_aside)
    empty = Selection(study_uid, {}, {}, candidates, headers.problems, None, "", files=paths, set_aside=aside)
    missing: RoleMissing | None = None
    try:
        refuse_unusable(headers, candidates, choices or {})
        try:
            chosen = select_roles(candidates, rules, choices)
        except RoleMissing as held:
            chosen, missing = held.found, held
        patient = whose(chosen, headers, statement)
    except StudyHeld as held:
        return _held(empty, _with_foreign(held, headers.problems))
    found = _selected(empty, chosen, headers, patient)
    return replace(_held(empty, _with_foreign(missing, headers.problems)), without=found) if missing else found


def _held(empty: Selection, held: StudyHeld) -> Selection:
    # The reason counts too: with other rules or choices the same files may be held for another one.
    named = "\n".join((held.code, held.sentence, *(path.name for path in empty.files)))
    return replace(empty, held=held, digest=hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest())


def _selected(empty: Selection, chosen: Mapping[Contrast, Candidate], headers: Headers, patient: Whose) -> Selection:
    found = {role: _with_statements(chosen[role], headers, patient) for role in Contrast if role in chosen}
    roles = {role: _selected_series(candidate) for role, candidate in found.items()}
    copies = {uid: said for uid, said in headers.copies.items() if any(uid in _uids(each) for each in found.values())}
    return replace(
        empty,
        roles=roles,
        volumes={role: candidate.volume for role, candidate in found.items()},
        digest=input_digest(roles, {uid: said.turns for uid, said in copies.items()}),
        whose=patient.file,
        corrected=frozenset(keyword for said in copies.values() for keyword in said.attributes),
    )


def _with_statements(candidate: Candidate, headers: Headers, patient: Whose) -> Candidate:
    """Return a candidate whose evidence says too what a human stated."""
    stated = [Clue(ClueKind.IDENTITY_BY_HAND, {"series": patient.by_hand})] if patient.by_hand else []
    verdicts = {headers.copies[uid].verdict for uid in _uids(candidate) & headers.copies.keys()}
    stated += [Clue(ClueKind.COPY_BY_HAND)] if CopyVerdict.STATED in verdicts else []
    return replace(candidate, clues=(*candidate.clues, *stated))


def _uids(candidate: Candidate) -> frozenset[str]:
    return frozenset(frame.sop_instance_uid for frame in candidate.volume.frames)


def input_digest(roles: Mapping[Contrast, SelectedSeries], turns: Mapping[str, int] | None = None) -> str:
    """Return the SHA-256 over roles and content of the selected instances; file names and order do not count.

    Parameters
    ----------
    roles
        A role that no series plays counts as missing, so that two sequences never share a digest with three.
    turns
        How often newer copies of an instance took the place of others, by SOP Instance UID: where the first one is
        right again, that is another input than the first one alone.

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
    for uid, count in sorted((turns or {}).items()):
        if count:
            total.update(f"{uid} {count}".encode())
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


def _selected_series(candidate: Candidate) -> SelectedSeries:
    volume = candidate.volume
    return SelectedSeries(volume.series_uid, volume.series_number, volume.description, candidate.clues, volume.files)


def refuse_unusable(headers: Headers, candidates: Iterable[Candidate], choices: Mapping[Contrast, str]) -> None:
    """Refuse files of which no series can be chosen, whatever the candidates are worth.

    Parameters
    ----------
    headers
        Of all files.
    candidates
        Their volumes, judged.
    choices
        What a human chose for a role.

    Raises
    ------
    StudyHeld
        ``no_dicom_files``, ``several_studies``, ``pixel_data_damaged`` or ``conflicting_instances``.
    """
    _refuse_foreign(headers)
    studies = len({volume.study_uid for volume in headers.volumes})
    if studies > 1:
        raise StudyHeld(HoldReason.SEVERAL_STUDIES, f"The files belong to {studies} studies; give one at a time.")
    _refuse_damaged(candidates, headers, choices)


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
        uids = _uids(candidate)
        # An instance that came damaged first and whole later is whole.
        if any(series == series_uid and instance not in uids for series, instance in damaged):
            raise StudyHeld(HoldReason.PIXEL_DATA_DAMAGED, f"The {role} series has damaged files; send it again.")
        if uids & headers.conflicts:
            raise StudyHeld(HoldReason.CONFLICTING_INSTANCES, _conflict(role, uids & headers.conflicts, headers))


def _conflict(role: Contrast, uids: Iterable[str], headers: Headers) -> str:
    attributes = {keyword for uid in uids if uid in headers.copies for keyword in headers.copies[uid].attributes}
    named = f" ({', '.join(sorted(attributes))})" if attributes else ""
    return f"Instances of the {role} series arrived twice with different content{named}."
