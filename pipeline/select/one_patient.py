"""The selected series show one patient, or the study is held.

Every instance of every selected volume counts. What its header leaves unknown speaks neither for nor against; the
report is copied from an instance that states most of what all agree on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.headers import CopyVerdict, Headers, Identity, Volume, contradictions
from pipeline.select.judge import Candidate
from pipeline.select.naming import name

_REMEDY = (
    "Correct the study in the PACS and send it again, or, if you are sure whose they are, name a series that is right: "
    "`dicom-node release UID --identity SERIES`."
)
_RESEND = "Send the series again as it is right."


@dataclass(frozen=True, slots=True)
class IdentityStatement:
    """What a human has stated: all selected series are of the patient and order of one of them.

    Attributes
    ----------
    series_uid
        The series that is right.
    about
        Digest of the contradiction that the human saw; of another one nothing is stated.
    """

    series_uid: str
    about: str


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose a selection is.

    Attributes
    ----------
    file
        From whose header a report copies patient and order: of the selected instances the one that states most, the
        first by role and SOP Instance UID among equals; None where the headers were read of no file.
    by_hand
        The series that a human named, where the selected ones contradict each other; else empty.
    """

    file: Path | None
    by_hand: str = ""


class TwoPatients(StudyHeld):
    """The selected series contradict each other in whose they are.

    Attributes
    ----------
    about
        Digest of the contradiction, for a statement about it.
    """

    def __init__(self, sentence: str, about: str) -> None:
        super().__init__(HoldReason.IDENTITY_CONFLICT, sentence)
        self.about = about


def whose(chosen: Mapping[Contrast, Candidate], headers: Headers, statement: IdentityStatement | None = None) -> Whose:
    """Return whose the selected series are.

    Parameters
    ----------
    chosen
        The candidate of each role.
    headers
        Of the study.
    statement
        Of a human, about one contradiction.

    Raises
    ------
    StudyHeld
        ``identity_conflict``: two instances contradict each other, or copies of one of them do and nothing says which
        is newer.
    """
    _refuse_unordered_copies(chosen.values(), headers)
    stated = {role: _identities(chosen[role].volume, headers) for role in Contrast if role in chosen}
    attributes = contradictions(identity for known in stated.values() for identity in known.values())
    if not attributes:
        return Whose(_fullest(stated, headers))
    about = _digest(chosen, stated)
    right = {role: known for role, known in stated.items() if _is_stated(chosen[role], statement)}
    own = contradictions(identity for known in right.values() for identity in known.values())
    if statement is None or statement.about != about or not right or own:
        raise TwoPatients(_sentence(chosen, stated, attributes), about)
    return Whose(_fullest(right, headers), name(chosen[next(iter(right))]))


def _is_stated(candidate: Candidate, statement: IdentityStatement | None) -> bool:
    return statement is not None and candidate.volume.series_uid == statement.series_uid


def _fullest(stated: Mapping[Contrast, Mapping[Path, Identity]], headers: Headers) -> Path | None:
    files = [path for known in stated.values() for path in known]
    return max(files, key=lambda path: len(headers.identities[path].known), default=None)


def _identities(volume: Volume, headers: Headers) -> dict[Path, Identity]:
    """Return the identity of each file of a volume, in the order of the SOP Instance UIDs."""
    files = dict(sorted((frame.sop_instance_uid, frame.path) for frame in volume.frames))
    return {path: headers.identities[path] for path in files.values() if path in headers.identities}


def _refuse_unordered_copies(candidates: Iterable[Candidate], headers: Headers) -> None:
    for candidate in candidates:
        copies = [headers.copies.get(frame.sop_instance_uid) for frame in candidate.volume.frames]
        unordered = [each for each in copies if each and each.verdict is CopyVerdict.UNORDERED]
        if unordered:
            keywords = ", ".join(sorted(frozenset().union(*(each.attributes for each in unordered))))
            sentence = f"{name(candidate)} came in versions that differ in {keywords}, and nothing says which is newer."
            raise StudyHeld(HoldReason.IDENTITY_CONFLICT, f"{sentence} {_RESEND}")


def _sentence(
    chosen: Mapping[Contrast, Candidate], stated: Mapping[Contrast, Mapping[Path, Identity]], attributes: frozenset[str]
) -> str:
    known = {role: frozenset(identities.values()) for role, identities in stated.items()}
    mixed = [role for role, identities in known.items() if contradictions(identities)]
    if mixed:
        subject = " and ".join(f"the images of {name(chosen[role])} differ among each other" for role in mixed)
    else:
        first, *others = _of_one_patient(known)
        verb = "differ" if len(first) > 1 else "differs"
        named = [" and ".join(name(chosen[role]) for role in group) for group in (first, *others)]
        subject = f"{named[0]} {verb} from {' and from '.join(named[1:])}"
    return f"{subject[0].upper()}{subject[1:]} in {', '.join(sorted(attributes))}. {_REMEDY}"


def _of_one_patient(known: Mapping[Contrast, frozenset[Identity]]) -> list[list[Contrast]]:
    """Return the roles in groups that do not contradict themselves."""
    groups: list[list[Contrast]] = []
    for role, identities in known.items():
        fits = (g for g in groups if not contradictions(identities.union(*(known[other] for other in g))))
        group = next(fits, None)
        if group is None:
            groups.append([role])
        else:
            group.append(role)
    return groups


def _digest(chosen: Mapping[Contrast, Candidate], stated: Mapping[Contrast, Mapping[Path, Identity]]) -> str:
    """Return a digest of who is stated by which series."""
    lines = {
        f"{chosen[role].volume.series_uid} {what} {sorted(texts)}"
        for role, identities in stated.items()
        for identity in identities.values()
        for what, texts in identity.known
    }
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
