"""One process per device: lock, load the models once, then read studies and deliver their reports.

`Worker` is what the steps of `workflow` do; it holds no state of a study, only files do.
"""

from __future__ import annotations

import fcntl
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
import torch

from dicom_node import outbox, scu, workflow
from dicom_node.config import Config
from dicom_node.errors import NodeError, PeerError
from dicom_node.log import say
from dicom_node.spool import Spool, Study
from models.brain_extractor import EMBEDDED, BrainWeights, open_brain_weights
from models.bundle import ModelError, open_bundle
from pipeline.report import Predecessor
from pipeline.select import select_study
from pipeline.study import REPORT_FILES, RESULT_FILE, SUMMARY_FILE, Models, Step, load_models, run_study, write_json

logger = logging.getLogger(__name__)

INPUTS_FILE = "inputs.json"
_DRAIN_S = 1200
_FILES = {"sr": REPORT_FILES, "summary": (SUMMARY_FILE,)}
_DONE = ("scored", "sending", "delivered")


class WorkerError(NodeError):
    """The worker refuses to start: model, weights, device or lock."""

    code = "worker_unusable"


def open_models(config: Config) -> Models:
    """Return the configured models on the configured device.

    Raises
    ------
    WorkerError
        With the code of the model's refusal, or ``device_missing``.
    """
    try:
        bundle = open_bundle(config.model.bundle)
        return load_models(bundle, brain_weights(config), device(config.model.device))
    except ModelError as error:
        raise WorkerError(str(error), error.code) from None


def brain_weights(config: Config) -> BrainWeights:
    """Return the configured brain weights, verified."""
    if config.brain.weights == "embedded":
        return open_brain_weights("embedded", EMBEDDED)
    return open_brain_weights("hd-bet", config.node.data_dir / "hd-bet")


def device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the first GPU, or the CPU of a machine without one.

    Raises
    ------
    WorkerError
        ``device_missing``: a device that was named is never replaced by another.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    wanted = torch.device(name)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise WorkerError(f"Device {name} of [model] is not there: name another, or cpu.", "device_missing")
    return wanted


@contextmanager
def held_name(folder: Path, executor: str) -> Iterator[None]:
    """Hold an executor's name for as long as the process lives: two workers of one name would do the work twice.

    Raises
    ------
    WorkerError
        ``worker_running``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f"{executor}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkerError(f"A worker named {executor} is running: stop it first.", "worker_running") from None
        yield


def work(config: Config, executor: str, stop: threading.Event) -> None:
    """Read studies until `stop` is set."""
    spool = Spool(config.node.data_dir)
    with held_name(config.node.data_dir, executor):
        models = open_models(config)
        say(logger, "models loaded", bundle=models.bundle.metadata.name, brain_weights=models.brain_weights.name)
        workflow.run(Worker(config, spool, models), config, executor, stop, _DRAIN_S)


class Worker:
    """The hands of the workflows.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    models
        Loaded.
    """

    def __init__(self, config: Config, spool: Spool, models: Models) -> None:
        self._config = config
        self._spool = spool
        self._models = models

    def select(self, study_uid: str) -> dict[str, Any]:
        """Return the digest of the study's selected series and pin the files that it was made from.

        A second call for the same selection keeps the first one's pin: the analysis has begun then.
        """
        study = self._spool.study(study_uid)
        files = study.instances()
        selection = select_study(files)
        inputs = study.run_folder(selection.digest) / INPUTS_FILE
        if not inputs.exists():
            inputs.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            pinned = {"files": [path.name for path in files], "started": datetime.now().astimezone().isoformat()}
            write_json(inputs, pinned)
        roles = {role.value: series.series_number for role, series in selection.roles.items()}
        study.note("selected", input_digest=selection.digest, series_numbers=roles)
        return {"input_digest": selection.digest}

    def read(self, study_uid: str, input_digest: str, step: Step) -> dict[str, Any]:
        """Score the study, unless these models have scored this selection: then its stored objects are sent again."""
        study = self._spool.study(study_uid)
        folder = study.run_folder(input_digest)
        if step("recall", lambda: {"scored": _recall(folder, self._models)})["scored"]:
            facts = {} if study.state() in _DONE else {"state": "scored"}
            study.note("recalled", input_digest=input_digest, **facts)
            return {"state": "scored"}
        study.note("running", state="running", input_digest=input_digest)
        result = self._run(study, folder, step)
        facts = {"code": result["reason"], "sentence": result["sentence"]} if result["reason"] else {}
        study.note("read", state=result["state"], input_digest=input_digest, **facts)
        say(logger, "study read", study=study_uid, state=result["state"], reason=result["reason"])
        return {"state": result["state"]}

    def _run(self, study: Study, folder: Path, step: Step) -> dict[str, Any]:
        inputs = json.loads((folder / INPUTS_FILE).read_text("utf-8"))
        return run_study(
            [study.folder / "instances" / name for name in inputs["files"]],
            folder,
            self._models,
            title=self._config.report.title,
            started=datetime.fromisoformat(inputs["started"]),
            predecessor=_predecessor(study),
            step=step,
        )

    def deliveries(self) -> list[tuple[str, str]]:
        """Return peer and kind of every object that a scored study sends."""
        return [(peer.name, kind) for peer in self._config.destinations for kind in self._config.report.send]

    def send(self, study_uid: str, input_digest: str, kind: str, peer: str) -> dict[str, Any]:
        """Offer an object to a peer; a failure is a value, so that the pause before the next attempt is durable."""
        study = self._spool.study(study_uid)
        folder = study.run_folder(input_digest)
        try:
            alternatives = [folder / name for name in _FILES[kind]]
            sent = scu.send_first_accepted(self._config, self._config.peer(peer), alternatives)
        except PeerError as error:
            study.note("send_failed", peer=peer, kind=kind, code=error.code, sentence=str(error))
            say(logger, "send failed", level=logging.WARNING, study=study_uid, peer=peer, kind=kind, code=error.code)
            return {"ok": False, "permanent": outbox.is_permanent(error)}
        identity = _identity(sent)
        study.note(
            "sent", state="sending", peer=peer, kind=kind, file=sent.name, input_digest=input_digest, **asdict(identity)
        )
        return {"ok": True, "file": sent.name}

    def verify(self, study_uid: str, input_digest: str, kind: str, peer: str, file: str) -> dict[str, Any]:
        """Ask the peer whether it holds what was sent; the last delivery of a study makes the study delivered."""
        study = self._spool.study(study_uid)
        path = study.run_folder(input_digest) / file
        try:
            proof = outbox.verify(self._config, self._config.peer(peer), path, self._spool)
        except PeerError as error:
            study.note("verify_failed", peer=peer, kind=kind, code=error.code, sentence=str(error))
            say(logger, "verify failed", level=logging.WARNING, study=study_uid, peer=peer, kind=kind, code=error.code)
            return {"ok": False}
        study.note("verified", peer=peer, kind=kind, proof=proof, input_digest=input_digest)
        verified = (e for e in study.timeline() if e["event"] == "verified" and e["input_digest"] == input_digest)
        done = {(entry["peer"], entry["kind"]) for entry in verified}
        if done >= set(self.deliveries()):
            study.note("delivered", state="delivered")
            say(logger, "study delivered", study=study_uid)
        return {"ok": True}

    def give_up(self, study_uid: str, kind: str, peer: str) -> dict[str, Any]:
        """Set a delivery aside; ``dicom-node retry`` takes it up again."""
        self._spool.study(study_uid).note("gave_up", state="delivery_failed", peer=peer, kind=kind)
        say(logger, "delivery set aside", level=logging.ERROR, study=study_uid, peer=peer, kind=kind)
        return {}

    def failed(self, study_uid: str, workflow_id: str, cause: str) -> None:
        """Note, once for each workflow, that a study was set aside because of a fault in the node."""
        study = self._spool.study(study_uid)
        if any(entry.get("workflow_id") == workflow_id for entry in study.timeline()):
            return
        sentence = f"A fault in the node ({cause}): see its log, then retry."
        study.note("failed", state="failed", code="internal_error", sentence=sentence, workflow_id=workflow_id)
        say(logger, "study failed", level=logging.ERROR, study=study_uid, cause=cause)

    def delays_s(self) -> Iterator[float]:
        """Yield the pauses between attempts to deliver."""
        return outbox.delays_s(self._config.delivery.retry_s, self._config.delivery.give_up_hours)


def _identity(file: Path) -> Predecessor:
    """Return the UIDs of a result object, by which a revision names it."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    return Predecessor(str(header.SeriesInstanceUID), str(header.SOPClassUID), str(header.SOPInstanceUID))


def _predecessor(study: Study) -> Predecessor | None:
    """Return the report of the study that was sent last, if any: what is read now revises it."""
    for entry in reversed(study.timeline()):
        if entry["event"] == "sent" and entry["kind"] == "sr":
            return Predecessor(*(entry[field.name] for field in fields(Predecessor)))
    return None


def _recall(folder: Path, models: Models) -> bool:
    """Tell whether these models have scored a run; what others left is kept in a folder of its own."""
    if _scored(folder, models):
        return True
    left = [folder / name for name in (*REPORT_FILES, SUMMARY_FILE, RESULT_FILE) if (folder / name).exists()]
    if folder / REPORT_FILES[0] in left:
        aside = folder / f"earlier-{time.time_ns()}"
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
    return False


def _scored(folder: Path, models: Models) -> bool:
    """Tell whether a run has a score of these models and all its objects."""
    file = folder / RESULT_FILE
    if not all(path.exists() for path in (file, *(folder / name for name in (*REPORT_FILES, SUMMARY_FILE)))):
        return False
    result = json.loads(file.read_text("utf-8"))
    same_models = (result["model"]["digest"], result["brain_weights"]["digest"]) == (
        models.bundle.digest,
        models.brain_weights.digest,
    )
    return result["state"] == "scored" and same_models
