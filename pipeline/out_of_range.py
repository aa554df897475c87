"""Is a study like those that a model was made with? Age, contrast agent, field strength, masks, looks of its images.

A bundle says where its cohort lay and, check by check, whether a study outside is withheld or flagged
(:class:`models.bundle.Range`). What a header does not give is flagged and never withheld. The patient's age is
compared where it is read and stands in no sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from models.bundle import Check, Range
from models.contrast import Contrast
from pipeline.errors import HoldReason, StudyHeld
from pipeline.headers import Volume
from pipeline.patient_age import read_age_years
from pipeline.select import Candidate

_FIELD_TOLERANCE = 0.1
"""A scanner of 3 T may say 2.89 T; the next field strength in use is farther away."""
_GAUSS = 100.0
"""A field strength above this was written in gauss; whole-body scanners end at 11.7 T."""
_GAUSS_PER_TESLA = 10_000


class NotStated(StrEnum):
    """What no header gives, so that it cannot be compared."""

    AGE = "out_of_range_age_unknown"
    FIELD_STRENGTH = "out_of_range_field_strength_unknown"


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """In what a study lies outside of a model's range, or may lie.

    Attributes
    ----------
    code
        By which the study would be held where the bundle withholds; `NotStated` is never withheld.
    sentence
        The same in words, without patient data.
    """

    code: HoldReason | NotStated
    sentence: str


def check_headers(
    volumes: Mapping[Contrast, Volume], candidates: Iterable[Candidate], limits: Range
) -> tuple[OutOfRange, ...]:
    """Return in what a study's headers lie outside of a model's range.

    Parameters
    ----------
    volumes
        What was selected.
    candidates
        Every judged volume of the study, for what they say of contrast agent.
    limits
        Of the bundle.

    Returns
    -------
    tuple of OutOfRange
        What is to be flagged: age, contrast agent, field strength, in this order.

    Raises
    ------
    StudyHeld
        ``out_of_range_age``, ``out_of_range_contrast`` or ``out_of_range_field_strength``, where the bundle withholds.
    """
    return (
        *_flagged("age", _age(volumes, limits), limits),
        *_flagged("contrast", _contrast(volumes, candidates, limits), limits),
        *_flagged("field_strength", _field_strength(volumes, limits), limits),
    )


def check_brain_weights(digest: str, limits: Range) -> tuple[OutOfRange, ...]:
    """Return whether other weights draw the brain masks than drew those of the cohort.

    Parameters
    ----------
    digest
        SHA-256 of the weights in use.
    limits
        Of the bundle.

    Returns
    -------
    tuple of OutOfRange
        Empty, or the one doubt.

    Raises
    ------
    StudyHeld
        ``out_of_range_brain_weights``, where the bundle withholds.
    """
    if not limits.other_brain_weights(digest):
        return ()
    doubt = OutOfRange(
        HoldReason.OUT_OF_RANGE_BRAIN_WEIGHTS,
        "The brain masks are drawn with other weights than those that the model was made with. Its score may not hold.",
    )
    return _flagged("brain_weights", (doubt,), limits)


def check_features(distances: Mapping[Contrast, float], limits: Range) -> tuple[OutOfRange, ...]:
    """Return the sequences whose images look unlike those of the cohort.

    Parameters
    ----------
    distances
        Mahalanobis distance of each sequence's pooled features (:func:`models.feature_space.distance`).
    limits
        Of the bundle.

    Returns
    -------
    tuple of OutOfRange
        Empty, or one doubt that names them; a distance that is not finite lies outside.

    Raises
    ------
    StudyHeld
        ``out_of_range_features``, where the bundle withholds.
    """
    if limits.features is None:
        return ()
    largest = {role: limits.features.limits[role] for role in distances}
    outside = [role for role in Contrast if role in distances and not distances[role] <= largest[role]]
    if not outside:
        return ()
    said = ", ".join(f"{role} {distances[role]:.1f} of at most {largest[role]:.1f}" for role in outside)
    doubt = OutOfRange(
        HoldReason.OUT_OF_RANGE_FEATURES,
        f"The images look unlike those that the model was made with (distance: {said}). Its score may not hold.",
    )
    return _flagged("features", (doubt,), limits)


def stated_age_years(volumes: Mapping[Contrast, Volume]) -> float | None:
    """Return the patient's age at a study, as the first series that gives it has it.

    Parameters
    ----------
    volumes
        What was selected; the header of one file of each is read.

    Returns
    -------
    float or None
        Years; None where no header gives them.
    """
    ages = (read_age_years(volume.files[0]) for volume in volumes.values())
    return next((age for age in ages if age is not None), None)


def after_contrast_agent(volumes: Mapping[Contrast, Volume], candidates: Iterable[Candidate]) -> bool:
    """Return whether the T1W series of a study was acquired after contrast agent.

    Parameters
    ----------
    volumes
        What was selected.
    candidates
        Every judged volume of the study.
    """
    # No header says "no agent": its module is there if one was given (PS3.3 C.7.6.4), so its absence says enough.
    chosen = volumes.get(Contrast.T1W)
    return chosen is not None and (
        chosen.contrast_agent or any(c.contrast_given for c in candidates if c.volume == chosen)
    )


def tesla(stated: float | None) -> float | None:
    """Return the field strength of a header in tesla.

    Parameters
    ----------
    stated
        MagneticFieldStrength, in tesla or gauss; None where absent.

    Returns
    -------
    float or None
        None where the header gives nothing above zero.
    """
    if stated is None or stated <= 0:
        return None
    return stated / _GAUSS_PER_TESLA if stated > _GAUSS else stated


def _flagged(check: Check, doubts: Iterable[OutOfRange], limits: Range) -> tuple[OutOfRange, ...]:
    """Return doubts as flags, unless the bundle withholds the score for one."""
    flagged = tuple(doubts)
    for doubt in flagged:
        if isinstance(doubt.code, HoldReason) and limits.action(check) == "withhold":
            raise StudyHeld(doubt.code, doubt.sentence)
    return flagged


def _age(volumes: Mapping[Contrast, Volume], limits: Range) -> Iterator[OutOfRange]:
    if limits.age_years is None:
        return
    youngest, oldest = limits.age_years
    age_years = stated_age_years(volumes)
    if age_years is None:
        yield OutOfRange(
            NotStated.AGE,
            f"The headers do not tell the patient's age; the model was made for {youngest:g} to {oldest:g} years.",
        )
    elif not youngest <= age_years <= oldest:
        yield OutOfRange(
            HoldReason.OUT_OF_RANGE_AGE,
            f"The patient's age is outside of {youngest:g} to {oldest:g} years, for which the model was made. "
            "Its score may not hold.",
        )


def _contrast(
    volumes: Mapping[Contrast, Volume], candidates: Iterable[Candidate], limits: Range
) -> Iterator[OutOfRange]:
    if limits.contrast_agent != "unchecked" and after_contrast_agent(volumes, candidates):
        yield OutOfRange(
            HoldReason.OUT_OF_RANGE_CONTRAST,
            "The T1W series was acquired after contrast agent, and the model was made without. Its score may not hold.",
        )


def _field_strength(volumes: Mapping[Contrast, Volume], limits: Range) -> Iterator[OutOfRange]:
    if limits.field_strength_t is None:
        return
    wanted = " or ".join(f"{one:g}" for one in limits.field_strength_t)
    fields = {role: tesla(volumes[role].field_strength_t) for role in Contrast if role in volumes}
    unknown = " and ".join(role for role in fields if fields[role] is None)
    outside = " and ".join(
        role
        for role, field in fields.items()
        if field is not None and not any(abs(field - one) <= _FIELD_TOLERANCE * one for one in limits.field_strength_t)
    )
    if outside:
        yield OutOfRange(
            HoldReason.OUT_OF_RANGE_FIELD_STRENGTH,
            f"The field strength of {outside} is not {wanted} T, for which the model was made. Its score may not hold.",
        )
    if unknown:
        yield OutOfRange(
            NotStated.FIELD_STRENGTH,
            f"The headers of {unknown} do not tell the field strength; the model was made for {wanted} T.",
        )
