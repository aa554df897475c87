"""The records of a scored run, written; what makes them is loaded only where a site asks for them."""

from __future__ import annotations

from pathlib import Path

from models.result_records import RECORD_FILES, Record
from models.whole_files import write_whole
from pipeline.report.run import ScoredRun


def write_record(record: Record, run: ScoredRun, out: Path) -> None:
    """Write the result of a run as a record.

    Parameters
    ----------
    record
        As what.
    run
        With a score; equal ones give equal bytes.
    out
        Folder that exists.
    """
    write_whole(out / RECORD_FILES[record], _content(record, run))


def _content(record: Record, run: ScoredRun) -> bytes:
    if record is Record.HL7:
        from pipeline.report.hl7 import build_hl7  # noqa: PLC0415

        return build_hl7(run).encode()
    from pipeline.report.fhir import build_fhir  # noqa: PLC0415

    return build_fhir(run).model_dump_json(indent=1).encode()
