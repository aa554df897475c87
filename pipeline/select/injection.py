"""Which T1 weighted candidates were acquired before contrast agent, whatever their own headers leave out.

What came after a series with contrast agent shows it too, and so does one of the two series that a subtraction was made
of. A T1 weighted series that was acquired a second time, and alike, was most likely acquired once before and once
after: what is not the first of the two, or earlier, is in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.headers import Volume
from pipeline.select.clues import Clue, ClueKind, Unsuited
from pipeline.select.judge import Candidate, plane
from pipeline.select.naming import name
from pipeline.select.words import denies_contrast, read_description

_PERFUSION = frozenset({Unsuited.PERFUSION, Unsuited.PERFUSION_OR_DYNAMIC})
_SPIN_LABELLED = re.compile(r"(?<![a-z])[a-z]{0,2}asl(?![a-z])|spin.?label", re.IGNORECASE)
"""Perfusion without contrast agent."""
_FIRST_PASS = re.compile(r"twist|tricks|trak|tr.?mra|time.?resolved|keyhole", re.IGNORECASE)
"""Angiography of contrast agent as it arrives, by the names of Siemens, GE and Philips."""
_CORRECTIONS = frozenset({"ND", "NORM", "DIS2D", "DIS3D", "FIL", "SH", "FM", "FM2D", "MFSPLIT"})
"""Terms of ImageType that say how the images of one acquisition were corrected."""
_SAME_TIME = 0.01
"""Share by which TR, TE and TI of one protocol differ at most, as decimal strings are rounded."""
_ADJUSTED = 0.2
"""Share by which they may differ where somebody adjusted a protocol between two series, as for more slices."""
_HALF_A_DAY_H = 12

Clock = Callable[[Candidate], str | None]
"""When a candidate was acquired; None where that cannot be compared with the others of the study."""


def before_contrast_agent(fitting: list[Candidate], candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the T1 weighted candidates that were acquired before contrast agent.

    Parameters
    ----------
    fitting
        Candidates for T1W.
    candidates
        Every volume of the study.

    Returns
    -------
    list of Candidate
        At least one, where `fitting` has one.

    Raises
    ------
    StudyHeld
        ``ambiguous_role`` where none is known to be from before.
    """
    clock = _clock(candidates)
    made = [(c, other) for c in fitting if (other := _made_from(c, candidates, clock))]
    fitting = [c for c in fitting if all(c is not each for each, _ in made)]
    if not fitting and made:
        raise _doubtful(Clue(ClueKind.MADE_FROM, {"series": name(made[0][0]), "other": name(made[0][1])}))
    doubts = [(c, _doubt(c, fitting, candidates, [each for each, _ in made], clock)) for c in fitting]
    sure = [c for c, doubt in doubts if doubt is None]
    if not sure:
        raise _doubtful(next(doubt for _, doubt in doubts if doubt))
    why = _why_before(fitting, sure, candidates, [each for each, _ in made], clock)
    return [replace(c, clues=(*c.clues, *why(c))) for c in sure]


def shows_contrast_agent(candidate: Candidate) -> bool:
    """Return whether a volume is of an examination with contrast agent by its own header.

    Parameters
    ----------
    candidate
        Named so, or first-pass perfusion or angiography.
    """
    if candidate.contrast_given:
        return True
    volume, kinds = candidate.volume, {clue.unsuited for clue in candidate.clues}
    words = f"{volume.description} {volume.protocol}"
    if volume.agent_denied or denies_contrast(volume.description):
        return False
    if kinds & _PERFUSION:
        return "ASL" not in volume.image_type and not _SPIN_LABELLED.search(words)
    return Unsuited.ANGIOGRAPHY in kinds and bool(_FIRST_PASS.search(volume.description))


def mentions_contrast_agent(candidates: Sequence[Candidate]) -> bool:
    """Return whether anything in a study says that contrast agent was given.

    Parameters
    ----------
    candidates
        Every volume of the study.
    """
    return any(map(shows_contrast_agent, candidates)) or bool(_subtractions(candidates))


def _doubtful(clue: Clue) -> StudyHeld:
    return StudyHeld(HoldReason.AMBIGUOUS_ROLE, f"{clue}. Choose the series by hand.")


# --- order ------------------------------------------------------------------------------------------------------------


def _clock(candidates: Sequence[Candidate]) -> Clock:
    """Return the clock of a study; one that always shows the same, or spans a day on one date, shows nothing."""
    times = {_to_the_point(c.volume) for c in candidates} - {None}
    hours = {int(time[8:10]) for time in times if time}
    days = {time[:8] for time in times if time}
    unread = (len(times) == 1 and len(candidates) > 1) or (
        len(days) == 1 and max(hours) - min(hours) > _HALF_A_DAY_H  # past midnight, and the date stayed behind
    )
    return lambda candidate: None if unread else _to_the_point(candidate.volume)


def _to_the_point(volume: Volume) -> str | None:
    """Return when a volume was acquired, in one spelling."""
    acquired = volume.acquired
    return acquired.rstrip("0").rstrip(".") if acquired and "." in acquired else acquired


def _earlier(one: Candidate, other: Candidate, clock: Clock) -> bool:
    first, second = clock(one), clock(other)
    return first is not None and second is not None and first < second


# --- doubts -----------------------------------------------------------------------------------------------------------


def _doubt(
    candidate: Candidate,
    fitting: Sequence[Candidate],
    candidates: Sequence[Candidate],
    made: Sequence[Candidate],
    clock: Clock,
) -> Clue | None:
    """Return why a candidate may show contrast agent, None if nothing says so."""
    given = [c for c in candidates if shows_contrast_agent(c)]
    named_early = denies_contrast(candidate.volume.description)
    found = [*_after(candidate, given, clock)]
    if not given and not named_early:
        found += _beside_subtraction(candidate, fitting, [*_subtractions(candidates), *made], clock)
    if not (named_early or candidate.volume.agent_denied):
        found += _after_unread(candidate, candidates, clock)
        found += _unordered(candidate, given, clock)
        found += _repeated(candidate, _t1_weighted(candidates), clock)
    return found[0] if found else None


def _after(candidate: Candidate, given: Sequence[Candidate], clock: Clock) -> Iterator[Clue]:
    own = clock(candidate)
    for injected in sorted(given, key=lambda c: clock(c) or "9"):
        time = clock(injected)
        if own is not None and time is not None and time <= own:
            yield Clue(ClueKind.INJECTED_EARLIER, {"series": name(candidate), "injected": name(injected)})


def _after_unread(candidate: Candidate, candidates: Sequence[Candidate], clock: Clock) -> Iterator[Clue]:
    """Yield a doubt about what came after a T1 weighted series whose description may name contrast agent."""
    own = clock(candidate)
    for unread in candidates:
        time = clock(unread)
        may_show = unread.noticed(ClueKind.UNREADABLE) and unread.scores[Contrast.T1W] > 0
        if may_show and own is not None and time is not None and time <= own:
            yield Clue(ClueKind.UNREAD_EARLIER, {"series": name(candidate), "unread": name(unread)})


def _unordered(candidate: Candidate, given: Sequence[Candidate], clock: Clock) -> Iterator[Clue]:
    """Yield a doubt where no time says which came first; of two alike one of which is marked the other did."""
    marked = any(_is_t1_weighted(injected) and _alike(candidate, injected) for injected in given)
    for injected in given:
        if not marked and None in (clock(candidate), clock(injected)):
            yield Clue(ClueKind.INJECTED_AT_UNKNOWN_TIME, {"series": name(candidate), "injected": name(injected)})


def _repeated(candidate: Candidate, t1_weighted: Sequence[Candidate], clock: Clock) -> Iterator[Clue]:
    """Yield a doubt about what was not acquired before two alike, or as the first of them."""
    unmarked = [c for c in t1_weighted if not c.contrast_given]
    for first, second in combinations(unmarked, 2):
        if _alike(first, second) and not _before_both(candidate, first, second, unmarked, clock):
            facts = {"series": name(candidate), "first": name(first), "second": name(second)}
            yield Clue(ClueKind.REPEATED, facts)


def _before_both(
    candidate: Candidate, first: Candidate, second: Candidate, t1_weighted: Sequence[Candidate], clock: Clock
) -> bool:
    one, other, own = clock(first), clock(second), clock(candidate)
    if one is None or other is None:
        return not _same_images(first, second)
    if one == other:
        return True  # images of one acquisition
    of_them = candidate is first or candidate is second
    return own is not None and own <= min(one, other) and (not of_them or _comparable(candidate, t1_weighted, clock))


def _comparable(candidate: Candidate, t1_weighted: Sequence[Candidate], clock: Clock) -> bool:
    """Return whether what was acquired first came corrected in every way that its repetition did."""
    alike = [c for c in t1_weighted if c is candidate or _alike(candidate, c)]
    early = {c.volume.image_type for c in alike if clock(c) == clock(candidate)}
    return {c.volume.image_type for c in alike} <= early


def _beside_subtraction(
    candidate: Candidate, fitting: Sequence[Candidate], subtractions: Sequence[Candidate], clock: Clock
) -> Iterator[Clue]:
    times = {clock(c) for c in fitting}
    for subtraction in subtractions:
        unordered = None in times or len(times) == 1 or any(_earlier(c, candidate, clock) for c in fitting)
        if unordered or _made_by(candidate, fitting, subtraction, clock):
            yield Clue(ClueKind.SUBTRACTED, {"series": name(candidate), "subtraction": name(subtraction)})


def _made_by(candidate: Candidate, fitting: Sequence[Candidate], subtraction: Candidate, clock: Clock) -> bool:
    """Return whether a subtraction existed when a candidate was acquired; it may have the time of either of its two."""
    own, made = clock(candidate), clock(subtraction)
    if own is None or made is None or own < made:
        return False
    second = any(_alike(candidate, c) and _earlier(candidate, c, clock) for c in fitting)
    return own > made or not second


# --- what is what -----------------------------------------------------------------------------------------------------


def _subtractions(candidates: Sequence[Candidate]) -> list[Candidate]:
    # A subtraction of perfusion or angiography is known by that name too, and says nothing of contrast agent.
    return [c for c in candidates if all(clue.unsuited is Unsuited.SUBTRACTION for clue in c.clues)]


def _t1_weighted(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in candidates if _is_t1_weighted(c)]


def _is_t1_weighted(candidate: Candidate) -> bool:
    roles = {candidate.role, candidate.unfit}
    doubtful = candidate.scores[Contrast.T1W] > 0 or candidate.noticed(ClueKind.AFTER_CONTRAST_AGENT)
    return Contrast.T1W in roles or doubtful


def _alike(one: Candidate, other: Candidate) -> bool:
    """Return whether two volumes were acquired by one protocol, as far as names, times and planes say."""
    a, b = one.volume, other.volume
    return a.series_uid != b.series_uid and _same_name(a, b) and _same_settings(a, b, _ADJUSTED)


def _same_name(a: Volume, b: Volume) -> bool:
    """Return whether two volumes are called alike, or one of them by the words of the other and more."""
    for one, other in ((a.description, b.description), (a.protocol, b.protocol)):
        words = _words(one), _words(other)
        if words[0] == words[1] or (all(words) and (words[0] < words[1] or words[1] < words[0])):
            return bool(words[0]) or a.description == b.description
    return False


def _words(text: str) -> frozenset[str]:
    """Return the words of a name without what counts repetitions."""
    return frozenset(re.findall(r"[^\W\d_]+\d?|\d[^\W_]", text.casefold())) - {"rep", "repeat"}


def _same_settings(a: Volume, b: Volume, room: float = 0.0) -> bool:
    """Return whether two volumes share times and plane, with some room for a protocol that was adjusted."""
    pairs = ((a.tr_ms, b.tr_ms), (a.te_ms, b.te_ms), (a.ti_ms, b.ti_ms))
    planes = _plane(a), _plane(b)
    return (
        all(_close(one, other, _SAME_TIME + room) for one, other in pairs)
        and a.acquisition_type == b.acquisition_type
        and planes[0] == planes[1] != ""
    )


def _plane(volume: Volume) -> str:
    """Return the plane of a volume, empty where its orientation is none."""
    try:
        return plane(volume) if volume.frames[0].orientation else ""
    except ZeroDivisionError:
        return ""


def _close(one: float | None, other: float | None, share: float) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) <= share * max(one, other))


def _same_images(one: Candidate, other: Candidate) -> bool:
    """Return whether two volumes have the same matrix, number of slices and corrections."""
    shapes = [(c.volume.frames[0].rows, c.volume.frames[0].columns, len(c.volume.frames)) for c in (one, other)]
    spacings = [c.volume.frames[0].pixel_spacing_mm for c in (one, other)]
    return shapes[0] == shapes[1] and spacings[0] == spacings[1] and one.volume.image_type == other.volume.image_type


def _made_from(candidate: Candidate, candidates: Sequence[Candidate], clock: Clock) -> Candidate | None:
    """Return the volume that a candidate was computed from: of one acquisition, under a name that is no weighting."""
    volume, time = candidate.volume, clock(candidate)
    if time is None or volume.tr_ms is None or read_description(volume.description)[0] is not None:
        return None
    for other in candidates:
        one_acquisition = clock(other) == time and _same_settings(volume, other.volume)
        another_name = _words(volume.description) != _words(other.volume.description)
        corrected = set(volume.image_type) ^ set(other.volume.image_type)
        if (
            other.volume.series_uid != volume.series_uid
            and one_acquisition
            and another_name
            and not (corrected and corrected <= _CORRECTIONS)
        ):
            return other
    return None


def _why_before(
    fitting: Sequence[Candidate],
    sure: Sequence[Candidate],
    candidates: Sequence[Candidate],
    made: Sequence[Candidate],
    clock: Clock,
) -> Callable[[Candidate], tuple[Clue, ...]]:
    """Return what says of a candidate that it came before; nothing where no question was."""
    given = [c for c in candidates if shows_contrast_agent(c)]
    subtractions = [*_subtractions(candidates), *made]

    def why(candidate: Candidate) -> tuple[Clue, ...]:
        if given:
            earlier = all(_earlier(candidate, injected, clock) for injected in given)
            return (Clue(ClueKind.BEFORE_CONTRAST_AGENT),) if earlier else ()
        if subtractions:
            return (Clue(ClueKind.EARLIEST, {"subtraction": name(subtractions[0])}),)
        return (Clue(ClueKind.FIRST_OF_TWO),) if len(sure) < len(fitting) else ()

    return why
