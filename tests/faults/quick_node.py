"""The node with a reading of seconds instead of minutes: ``python -m tests.faults.quick_node VERB --config FILE``.

Receiver, supervisor, queues, outbox and deliveries are those of the product; only the models are not there. A study is
read in steps that take a moment each, and its objects have UIDs that derive from the study and what it holds, but
different bytes each time: whoever wrote or sent them twice is found out.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from dicom_node.cli.settings import service
from dicom_node.config import Config
from dicom_node.engine import processes, supervisor
from dicom_node.engine.contract import Read, Selected, Step
from dicom_node.engine.run_folder import OBJECTS
from dicom_node.studies import inputs
from dicom_node.studies.routing import turned_away
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event, State
from models.whole_files import make_folder, write_whole
from pipeline.synthetic.study_tags import derive_uid

STEP_S = float(os.environ.get("QUICK_STEP_S", "0.2"))
HOLDS = "QUICK_HOLDS" in os.environ
"""Whether every study is held, for the same selection whatever comes late."""
SELECTS = "QUICK_SELECTS" in os.environ
"""Whether series are selected as the product does, and a study is held where it would be."""
_SUMMARY, _HELD = "summary", "ab" * 32


class QuickReading:
    """Reads without looking.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    """

    def __init__(self, config: Config, spool: Spool) -> None:
        self._spool = spool
        self._config = config

    def select(self, study_uid: str) -> Selected:
        """Return the digest of all that the study holds."""
        study = self._spool.study(study_uid)
        if turned_away(study, self._config):
            return {"input_digest": ""}
        digest = _HELD if HOLDS else study.digest()
        study.note(Event.SELECTED, input_digest=digest)
        return {"input_digest": digest}

    def read(self, study_uid: str, input_digest: str, step: Step) -> Read:
        """Leave the objects of a run, unless they are there."""
        study = self._spool.study(study_uid)
        if study.timeline().is_superseded(input_digest):
            return {"state": State(study.state())}
        folder = study.run_folder(input_digest)
        if step("recall", lambda: all((folder / name).exists() for name in OBJECTS)):
            study.note(Event.RECALLED, State.SCORED, input_digest=input_digest)
            return {"state": State.SCORED}
        study.note(Event.RUNNING, State.RUNNING, input_digest=input_digest)
        if HOLDS:
            study.note(Event.READ, State.HELD, input_digest=input_digest, code="missing_role", sentence="No FLAIR.")
            return {"state": State.HELD}
        for name in ("convert", "strip", "predict"):
            step(name, lambda: time.sleep(STEP_S))
        step("report", lambda: write_objects(folder, study_uid, input_digest))
        study.note(Event.READ, State.SCORED, input_digest=input_digest)
        return {"state": State.SCORED}

    def failed(self, study_uid: str, workflow_id: str, cause: str) -> None:
        """Note that a study was set aside."""
        self._spool.study(study_uid).note(Event.FAILED, State.FAILED, workflow_id=workflow_id, sentence=cause)


class SelectingReading(QuickReading):
    """Selects as the product does, and reads without looking.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    """

    def __init__(self, config: Config, spool: Spool) -> None:
        from dicom_node.engine.worker import Worker  # imports torch, which the other readings do without
        from models.bundle import open_bundle

        super().__init__(config, spool)
        models: Any = SimpleNamespace(bundle=open_bundle("untrained-demo"))
        self._worker = Worker(config, spool, models)

    def select(self, study_uid: str) -> Selected:
        """Return the digest of the selected series, which are pinned."""
        return self._worker.select(study_uid)

    def read(self, study_uid: str, input_digest: str, step: Step) -> Read:
        """Hold what the selection holds; leave the objects of anything else."""
        study = self._spool.study(study_uid)
        held = inputs.pinned(study, input_digest).select().held
        if held is None or study.timeline().is_superseded(input_digest):
            return super().read(study_uid, input_digest, step)
        study.note(Event.RUNNING, State.RUNNING, input_digest=input_digest)
        facts = {"code": held.code.value, "sentence": held.sentence}
        study.note(Event.READ, State.HELD, input_digest=input_digest, **facts)
        return {"state": State.HELD}


def write_objects(folder: Path, study_uid: str, input_digest: str) -> None:
    """Write the objects of a run, with UIDs that derive from it and bytes that do not."""
    make_folder(folder)
    for name in OBJECTS:
        sop_class = ComprehensiveSRStorage if "comprehensive" in name else Comprehensive3DSRStorage
        instance = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.SOPClassUID = SecondaryCaptureImageStorage if _SUMMARY in name else sop_class
        instance.SOPInstanceUID = derive_uid(study_uid, input_digest, name)
        instance.StudyInstanceUID = study_uid
        instance.SeriesInstanceUID = derive_uid(study_uid, input_digest)
        instance.Modality = "SR"
        instance.EncapsulatedDocument = os.urandom(20_000)
        temporary = folder / f"{name}.made"
        instance.save_as(temporary, enforce_file_format=True)
        write_whole(folder / name, temporary.read_bytes())
        temporary.unlink()


def main() -> None:
    """Run a verb of the node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("serve", "receive", "work"))
    parser.add_argument("--config", type=Path, required=True)
    asked = parser.parse_args()
    with service(asked.verb, asked.config) as (config, file):
        if asked.verb == "serve":
            # It starts what ends early after pauses of up to a minute, in which nothing could be killed.
            supervisor.LONGEST_PAUSE_S = 1.0
            supervisor.serve(file, "tests.faults.quick_node")
        elif asked.verb == "receive":
            processes.receive(config, file)
        else:
            processes.work(config, opened=SelectingReading if SELECTS else QuickReading, file=file)


if __name__ == "__main__":
    main()
