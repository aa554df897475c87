"""A study that looks as if it had been read, with its result as a record for systems that read no DICOM."""

from __future__ import annotations

from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Event, State
from models.contrast import Contrast
from models.result_records import Record
from pipeline.report import ScoredRun, Sources
from pipeline.report.written_records import write_record
from tests.support.delivering import RUN
from tests.support.reports import BRAIN, FINDING, NAMED, PROVENANCE, mr_header


def scored_record(spool: Spool, study_uid: str, record: Record) -> Study:
    """Return a study that was just read, with the result as a record."""
    spool.store(study_uid, f"{study_uid}.1", b"content")
    study = spool.study(study_uid)
    folder = study.run_folder(RUN)
    folder.mkdir(parents=True)
    run = ScoredRun(FINDING.model, PROVENANCE, NAMED, Sources(mr_header(Contrast.T1W, 1), {}), FINDING, BRAIN)
    write_record(record, run, folder)
    study.note(Event.READ, State.SCORED, input_digest=RUN)
    return study
