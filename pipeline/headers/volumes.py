"""Planes -> volumes: what one series holds, taken apart before anything is judged."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime, timedelta
from itertools import combinations

from pipeline.dicom_file import Vector
from pipeline.headers.attributes import Facts
from pipeline.headers.contrast_agent import agent_given
from pipeline.headers.instance import Plane
from pipeline.headers.records import Volume
from pipeline.headers.unknown import known_clock, known_date

_DATE_DIGITS = 8
"""``YYYYMMDD`` (PS3.5 6.2)."""
_HALF_A_DAY_H = 12.0
"""No study lasts longer: a clock that runs back farther has passed midnight. Chosen here."""
_TURNED = 0.1
"""Difference of direction cosines above which planes belong to different volumes."""


def form_volumes(planes: Iterable[Plane]) -> list[Volume]:
    """Return the volumes that some planes make, ordered by series number; names of files do not count.

    Planes of one volume have series, matrix, image type, echo time, b-value, component of the complex signal, stack and
    orientation in common. Where positions repeat, the volume is split further by what distinguishes the repetitions, if
    that gives each position once to each part; else it is left as it is, for the geometry gate to refuse.

    Parameters
    ----------
    planes
        Of any number of studies and series, in any order.

    Returns
    -------
    list of Volume
        Each plane is in one of them.
    """
    groups: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[_key(plane)].append(plane)
    parallel = [part for group in groups.values() for part in _split_by_orientation(group)]
    parts = [part for group in parallel for part in _split_repeats(group)]
    return sorted(map(_volume, parts), key=_order)


def _key(plane: Plane) -> Hashable:
    facts, frame = plane.facts, plane.frame
    return (
        facts.text("StudyInstanceUID"),
        facts.text("SeriesInstanceUID"),
        frame.rows,
        frame.columns,
        _image_type(facts),
        round(_echo_time(facts) or 0.0, 1),
        facts.number("DiffusionBValue"),
        facts.text("ComplexImageComponent"),
        facts.text("StackID"),
    )


def _split_by_orientation(planes: list[Plane]) -> list[list[Plane]]:
    """Return the planes in parts that are parallel but for rounding; the names of the files do not count."""
    parts: list[list[Plane]] = []
    for plane in sorted(planes, key=lambda plane: (plane.frame.sop_instance_uid, plane.frame.index)):
        fitting = (part for part in parts if _parallel(part[0].frame.orientation, plane.frame.orientation))
        part = next(fitting, None)
        if part is None:
            parts.append([plane])
        else:
            part.append(plane)
    return parts


def _parallel(one: Vector | None, other: Vector | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) < _TURNED for a, b in zip(one, other, strict=True))


def _acquired(facts: Facts) -> str | None:
    """Return when the acquisition began; the date and time of the series stand in for those of the acquisition."""
    for moment in ("FrameAcquisitionDateTime", "AcquisitionDateTime"):
        digits = _digits(facts.text(moment))
        if known_date(digits[:_DATE_DIGITS]) and known_clock(digits[_DATE_DIGITS:]):
            return digits
    for date, time in (("AcquisitionDate", "AcquisitionTime"), ("SeriesDate", "SeriesTime")):
        clock = known_clock(_digits(facts.text(time)))
        if clock and (day := known_date(_digits(facts.text(date))) or _day_of(clock, facts)):
            return day + clock
    return None


def _day_of(clock: str, facts: Facts) -> str:
    """Return the day of a time without a date: that of the series or study, or the next one after midnight."""
    for date, time in (("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime")):
        if day := known_date(_digits(facts.text(date))):
            began = known_clock(_digits(facts.text(time)))
            passed_midnight = began and _hours(began) - _hours(clock) > _HALF_A_DAY_H
            # A series may be dated when its images were made, its acquisition before midnight.
            dated_late = date == "SeriesDate" and began and _hours(clock) - _hours(began) > _HALF_A_DAY_H
            return _shifted(day, int(bool(passed_midnight)) - int(bool(dated_late)))
    return ""


def _hours(clock: str) -> float:
    return int(clock[:2]) + int(clock[2:4]) / 60


def _shifted(day: str, days: int) -> str:
    try:
        return (datetime.strptime(day, "%Y%m%d") + timedelta(days)).strftime("%Y%m%d") if days else day
    except (ValueError, OverflowError):
        return ""


def _digits(text: str) -> str:
    """Return a date or time without time zone and the colons of old DICOM; empty if it holds anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:[+-]\d{4})?", text.replace(":", ""))
    return found.group(1) if found else ""


_REPEATS: tuple[Callable[[Facts], Hashable], ...] = (
    lambda facts: facts.number("TemporalPositionIndex", "TemporalPositionIdentifier"),
    lambda facts: facts.positive("InversionTimes", "InversionTime"),
    lambda facts: facts.number("NominalCardiacTriggerDelayTime", "TriggerTime"),
    lambda facts: facts.number("FrameAcquisitionNumber", "AcquisitionNumber"),
    lambda facts: facts.number("EchoNumbers"),
    _acquired,
)
"""What may distinguish repeated planes. Each may differ from slice to slice of one volume too (interleaved packages
have their own AcquisitionNumber, gated slices their own TriggerTime), so none splits a series by itself."""


def _split_repeats(planes: list[Plane]) -> list[list[Plane]]:
    """Return repeated acquisitions one by one, or all planes together if nothing distinguishes them."""
    positions = {_place(plane) for plane in planes}
    if None in positions or len(positions) == len(planes):
        return [planes]
    for count in (1, 2):
        for rules in combinations(_REPEATS, count):
            parts: dict[Hashable, list[Plane]] = defaultdict(list)
            for plane in planes:
                parts[tuple(rule(plane.facts) for rule in rules)].append(plane)
            if all(len(part) == len(positions) == len(set(map(_place, part))) for part in parts.values()):
                return list(parts.values())
    return [planes]


def _place(plane: Plane) -> Vector | None:
    position_mm = plane.frame.position_mm
    return None if position_mm is None else tuple(round(value, 2) for value in position_mm)


# --- one volume -------------------------------------------------------------------------------------------------------


def _volume(planes: list[Plane]) -> Volume:
    facts = planes[0].facts
    number, agent, echo = facts.number("SeriesNumber"), agent_given(facts), facts.positive("EchoNumbers")
    return Volume(
        study_uid=facts.text("StudyInstanceUID"),
        series_uid=facts.text("SeriesInstanceUID"),
        series_number=None if number is None else int(number),
        description=facts.text("SeriesDescription"),
        protocol=facts.text("ProtocolName"),
        modality=facts.text("Modality"),
        sop_class_uid=facts.text("SOPClassUID"),
        manufacturer=facts.text("Manufacturer"),
        image_type=_image_type(facts),
        scanning_sequence=facts.terms("ScanningSequence") or _sequence_of_enhanced(facts),
        sequence_variant=facts.terms("SequenceVariant"),
        scan_options=facts.terms("ScanOptions"),
        acquisition_type=facts.text("MRAcquisitionType").upper(),
        tr_ms=facts.positive("RepetitionTime"),
        te_ms=_echo_time(facts),
        ti_ms=facts.positive("InversionTime", "InversionTimes"),
        flip_deg=facts.positive("FlipAngle"),
        b_value=facts.number("DiffusionBValue"),
        contrast_agent=agent is True,
        samples_per_pixel=int(facts.number("SamplesPerPixel") or 1),
        frames=tuple(plane.frame for plane in planes),
        sequence_name=facts.text("SequenceName") or facts.text("PulseSequenceName"),
        body_part=facts.text("BodyPartExamined").upper(),
        complex_component=facts.text("ComplexImageComponent").upper(),
        field_strength_t=facts.positive("MagneticFieldStrength"),
        description_readings=_doubtful(facts, "SeriesDescription"),
        protocol_readings=_doubtful(facts, "ProtocolName"),
        acquired=min(filter(None, (_acquired(plane.facts) for plane in planes)), default=None),
        agent_denied=agent is False,
        echo_number=None if echo is None else int(echo),
    )


def _doubtful(facts: Facts, keyword: str) -> tuple[str, ...] | None:
    readings = facts.readings(keyword)
    return None if readings == (facts.text(keyword),) else readings


def _order(volume: Volume) -> tuple[bool, int, str, float, str, str]:
    return (
        volume.series_number is None,
        volume.series_number or 0,
        volume.series_uid,
        volume.te_ms or 0.0,
        volume.acquired or "",
        min(f"{frame.sop_instance_uid} {frame.index:06d}" for frame in volume.frames),
    )


def _image_type(facts: Facts) -> tuple[str, ...]:
    return facts.terms("FrameType", "ImageType")


def _echo_time(facts: Facts) -> float | None:
    return facts.positive("EffectiveEchoTime", "EchoTime")


def _sequence_of_enhanced(facts: Facts) -> tuple[str, ...]:
    """Return ScanningSequence terms for the attributes that Enhanced MR has in its place (PS3.3 C.8.13.4)."""
    terms = [{"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE"}.get(facts.text("EchoPulseSequence"), "")]
    terms.append("IR" if facts.text("InversionRecovery") == "YES" else "")
    terms.append("EP" if facts.text("EchoPlanarPulseSequence") == "YES" else "")
    return tuple(term for term in terms if term)
