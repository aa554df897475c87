"""A short report for a study that has no score: what is missing or wrong, in words, and no number at all."""

from __future__ import annotations

from pydicom.dataset import Dataset

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.report import codes
from pipeline.report.content import observation_context, series_words
from pipeline.report.items import container, text
from pipeline.report.result_header import HELD
from pipeline.report.run import Run
from pipeline.report.structured_report import SOP_CLASSES, sr_document
from pipeline.report.wording import SCORE_NAME, UNVERIFIED, ended


def build_held_reports(run: Run, held: StudyHeld) -> dict[str, Dataset]:
    """Return the report of a study without score as the four SOP classes.

    Parameters
    ----------
    run
        What would have scored the study, and the series that were found nevertheless; its title is not used.
    held
        Why there is no score.

    Returns
    -------
    dict of str to pydicom.Dataset
        By SOP Class UID in the order of preference; only one of them is to be sent.
    """
    summary = (
        f"NO {SCORE_NAME.upper()} WAS MADE: {ended(held.sentence)} This says nothing about the patient.\n{UNVERIFIED}"
    )
    children = [
        *observation_context(run),
        text(codes.SUMMARY, summary),
        text(codes.INTENDED_USE, f"{run.model.intended_use} {UNVERIFIED}"),
        text(codes.HELD_REASON, f"{held.code}: {held.sentence}"),
        *(text(codes.INPUT_SERIES, series_words(role, run.inputs[role])) for role in Contrast if role in run.inputs),
    ]
    root = container(codes.HELD_TITLE, children, relation=None)
    return {uid: sr_document(HELD, uid, root, run) for uid in SOP_CLASSES}
