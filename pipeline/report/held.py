"""A short report for a study that has no score: what is missing or wrong, in words, and no number at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from models.contrast import Contrast
from pipeline.errors import StudyHeld
from pipeline.predict import ModelIdentity
from pipeline.report import codes
from pipeline.report.content import observation_context, series_words
from pipeline.report.headers import HELD
from pipeline.report.items import container, text
from pipeline.report.provenance import Provenance
from pipeline.report.sources import Sources
from pipeline.report.structured_report import SOP_CLASSES, sr_document
from pipeline.report.wording import SCORE_NAME, UNVERIFIED, ended
from pipeline.select import SelectedSeries


def build_held_reports(
    held: StudyHeld,
    header: Dataset,
    roles: Mapping[Contrast, SelectedSeries],
    model: ModelIdentity,
    provenance: Provenance,
) -> dict[str, Dataset]:
    """Return the report of a study without score as the four SOP classes.

    Parameters
    ----------
    held
        Why there is no score.
    header
        Of any instance of the study, without pixels; patient and study are copied from it.
    roles
        The series that were found nevertheless; may be empty.
    model, provenance
        What would have scored it; its title is not used.

    Returns
    -------
    dict of str to pydicom.Dataset
        By SOP Class UID in the order of preference; only one of them is to be sent.
    """
    summary = (
        f"NO {SCORE_NAME.upper()} WAS MADE: {ended(held.sentence)} This says nothing about the patient.\n{UNVERIFIED}"
    )
    children = [
        *observation_context(model, provenance, header),
        text(codes.SUMMARY, summary),
        text(codes.INTENDED_USE, f"{model.intended_use} {UNVERIFIED}"),
        text(codes.HELD_REASON, f"{held.code}: {held.sentence}"),
        *(text(codes.INPUT_SERIES, series_words(role, roles[role])) for role in Contrast if role in roles),
    ]
    root = container(codes.HELD_TITLE, children, relation=None)
    sources = Sources(header, {})
    return {uid: sr_document(HELD, uid, root, sources, model, provenance) for uid in SOP_CLASSES}


def header_of_study(paths: Iterable[Path], study_uid: str) -> Dataset | None:
    """Return the header of the first readable file of a study, by name; None if there is none."""
    for path in sorted(paths):
        try:
            header = dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, OSError, EOFError, ValueError):
            continue
        if header.get("StudyInstanceUID") == study_uid:
            return header
    return None
