"""A short report for a study that has no score: what is missing or wrong, in words, and no number at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from models.contrast import Contrast
from models.visible_text import visible
from pipeline.errors import StudyHeld
from pipeline.report import codes
from pipeline.report.content import observation_context, series_words
from pipeline.report.items import container, text
from pipeline.report.result_header import HELD, replaced
from pipeline.report.run import Run
from pipeline.report.structured_report import SOP_CLASSES, sr_document
from pipeline.report.wording import SCORE_NAME, ended, replaced_words, research_notice
from pipeline.select import Candidate


def build_held_reports(run: Run, held: StudyHeld, arrived: Sequence[Candidate] = ()) -> dict[str, Dataset]:
    """Return the report of a study without score as the four SOP classes.

    Parameters
    ----------
    run
        What would have scored the study, and the series that were found nevertheless; its title is not used.
    held
        Why there is no score.
    arrived
        Every volume of the study.

    Returns
    -------
    dict of str to pydicom.Dataset
        By SOP Class UID in the order of preference; only one of them is to be sent.
    """
    summary = f"NO {SCORE_NAME.upper()} WAS MADE: {ended(held.sentence)} This says nothing about the patient."
    children = [
        text(codes.NOTICE, research_notice(run.model)),
        text(codes.SUMMARY, summary),
        *(text(codes.REPLACES, words) for words in replaced_words(replaced(HELD, run))),
        *(text(codes.INPUT_SERIES, series_words(role, run.inputs[role])) for role in Contrast if role in run.inputs),
        *(text(codes.ARRIVED, words) for words in arrived_words(arrived)),
        text(codes.HELD_REASON, f"{held.code}: {held.sentence}"),
        text(codes.INTENDED_USE, run.model.intended_use),
        *observation_context(run),
    ]
    root = container(codes.HELD_TITLE, children, relation=None)
    return {uid: sr_document(HELD, uid, root, run) for uid in SOP_CLASSES}


def arrived_words(candidates: Iterable[Candidate]) -> list[str]:
    """Return each series of a study in a line, by number: what a radiographer compares with the scanner's list.

    Parameters
    ----------
    candidates
        Every volume of the study; a series may have several.
    """
    images: dict[str, int] = {}
    first: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=_place):
        uid = candidate.volume.series_uid
        first.setdefault(uid, candidate)
        images[uid] = images.get(uid, 0) + len(candidate.volume.frames)
    return [_line(candidate, images[uid]) for uid, candidate in first.items()]


def _place(candidate: Candidate) -> tuple[bool, int, str]:
    number = candidate.volume.series_number
    return number is None, number or 0, candidate.volume.series_uid


def _line(candidate: Candidate, images: int) -> str:
    volume = candidate.volume
    number = "series without number" if volume.series_number is None else f"series {volume.series_number}"
    named = visible(volume.description.strip()) or "no description"
    return f"{number}: {named}, {images} image{'' if images == 1 else 's'}, taken as {candidate.verdict}"
