"""One process per device: lock, load the models once, then read studies and deliver their reports.

`Worker` is what the steps of `workflow` do; it holds no state of a study, only files do.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pydicom
import torch

from dicom_node.config import Config
from dicom_node.engine import outbox, workflow
from dicom_node.engine.threads import bound_threads
from dicom_node.errors import NodeError, ObjectMissing, PeerError
from dicom_node.log import say
from dicom_node.net import scu
from dicom_node.studies import inputs
from dicom_node.studies.spool import Spool, Study
from models.brain_weights import EMBEDDED, BrainWeights, open_brain_weights
from models.bundle import ModelError, open_bundle
from models.contrast import Contrast
from pipeline.report import Predecessor
from pipeline.report.files import HELD_FILES, OBJECT_FILES, SALIENCY_FILES
from pipeline.result import RESULT_FILE, Outcome, Result, read_result
from pipeline.select import select_study
from pipeline.study import Models, Step, load_models, run_study, scorable

logger = logging.getLogger(__name__)

_DRAIN_S = 1200
_FILES = {**OBJECT_FILES, **SALIENCY_FILES, "held": HELD_FILES}
_OBJECTS = tuple(name for names in OBJECT_FILES.values() for name in names)
_SALIENCY = tuple(name for names in SALIENCY_FILES.values() for name in names)
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
    bound_threads()
    try:
        bundle = open_bundle(config.model.bundle)
        return load_models(bundle, brain_weights(config), device(config.model.device))
    except ModelError as error:
        raise WorkerError(str(error), error.code) from None


def brain_weights(config: Config) -> BrainWeights:
    """Return the configured brain weights, verified."""
    folder = EMBEDDED if config.brain.weights == "embedded" else config.node.data_dir / "hd-bet"
    return open_brain_weights(config.brain.weights, folder, config.brain.digest)


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
        """Return the digest of the study's selected series, and pin what they were selected from.

        A second call for the same selection keeps the first one's pin: the analysis has begun then.
        """
        study = self._spool.study(study_uid)
        files, rules, choices = study.instances(), self._config.selection, inputs.choices(study)
        selection = select_study(files, rules.rules(), choices)
        if selection.without is not None:
            # As the run will decide: its folder and its results go by the digest of what is scored.
            selection = scorable(selection, self._models.bundle.metadata)
        inputs.pin(study, selection, files, rules, choices)
        roles = {role.value: series.series_number for role, series in selection.roles.items()}
        study.note("selected", input_digest=selection.digest, series_numbers=roles)
        return {"input_digest": selection.digest}

    def read(self, study_uid: str, input_digest: str, step: Step) -> dict[str, Any]:
        """Score the study, unless these models have scored this selection: then its stored objects are sent again."""
        study = self._spool.study(study_uid)
        folder = study.run_folder(input_digest)
        if step("recall", lambda: {"scored": _recall(folder, self._models, saliency=self._saliency)})["scored"]:
            known = study.state() in _DONE and _last_read(study) == input_digest
            study.note("recalled", input_digest=input_digest, **({} if known else {"state": "scored"}))
            return {"state": "scored", "known": known}
        study.note("running", state="running", input_digest=input_digest)
        result = self._run(study, folder, step)
        held, state = result.held, result.outcome.value
        facts = {"code": held.code.value, "sentence": held.sentence} if held else {}
        study.note("read", state=state, input_digest=input_digest, **facts)
        say(logger, "study read", study=study_uid, state=state, reason=held.code.value if held else None)
        return {"state": state}

    def _run(self, study: Study, folder: Path, step: Step) -> Result:
        pinned = inputs.pinned(study, folder.name)
        return run_study(
            select_study(pinned.files, pinned.rules.rules(), pinned.choices),
            folder,
            self._models,
            title=self._config.report.title,
            started=pinned.started,
            predecessor=_predecessor(study),
            held_report=self._config.report.held == "sr",
            saliency=self._saliency,
            step=step,
        )

    @property
    def _saliency(self) -> bool:
        return "saliency" in self._config.report.send

    def destinations(self) -> list[str]:
        """Return the names of the peers that get results."""
        return [peer.name for peer in self._config.destinations]

    def deliveries(self, study_uid: str, state: str) -> list[tuple[str, str]]:
        """Return peer and kind of every object that a study in this state sends."""
        if state == "held" and self._config.report.held == "sr":
            told = _told(self._spool.study(study_uid))
            return [(peer, "held") for peer in self.destinations() if peer not in told]
        if state != "scored":
            return []
        study = self._spool.study(study_uid)
        digest = _last_read(study)
        maps = _saliency_kinds(study.run_folder(digest) if digest else None)
        # Page and maps are objects of their own: each is delivered, proved and set aside by itself.
        kinds = [k for kind in self._config.report.send for k in (maps if kind == "saliency" else (kind,))]
        return [(peer, kind) for peer in self.destinations() for kind in kinds]

    def send(self, study_uid: str, input_digest: str, kind: str, peer: str) -> dict[str, Any]:
        """Offer an object to a peer; a failure is a value, so that the pause before the next attempt is durable."""
        study = self._spool.study(study_uid)
        folder = study.run_folder(input_digest)
        try:
            alternatives = [folder / name for name in _FILES[kind] if (folder / name).exists()]
            if not alternatives:
                raise ObjectMissing(f"The run has no object of the kind {kind}: compare the data folder.")
            taken = scu.send_first_accepted(self._config, self._config.peer(peer), alternatives)
        except PeerError as error:
            study.note("send_failed", peer=peer, kind=kind, code=error.code, sentence=str(error))
            say(logger, "send failed", level=logging.WARNING, study=study_uid, peer=peer, kind=kind, code=error.code)
            return {"ok": False, "permanent": error.permanent}
        facts = _identity(taken.path) | ({"refused": list(taken.refused)} if taken.refused else {})
        file = taken.path.name
        # A study that is held stays held, whoever was told.
        facts |= {} if kind == "held" else {"state": "sending"}
        study.note("sent", peer=peer, kind=kind, file=file, input_digest=input_digest, **facts)
        return {"ok": True, "file": file}

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
        if kind != "held" and done >= set(self.deliveries(study_uid, "scored")):
            study.note("delivered", state="delivered")
            say(logger, "study delivered", study=study_uid)
        return {"ok": True}

    def give_up(self, study_uid: str, kind: str, peer: str) -> dict[str, Any]:
        """Set a delivery aside; ``dicom-node retry`` takes it up again."""
        facts = {} if kind == "held" else {"state": "delivery_failed"}
        self._spool.study(study_uid).note("gave_up", peer=peer, kind=kind, **facts)
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


def _identity(file: Path) -> dict[str, Any]:
    """Return what kind of object was sent, and the UIDs by which a revision names it."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    uids = Predecessor(str(header.SeriesInstanceUID), str(header.SOPClassUID), str(header.SOPInstanceUID))
    return {"sop_class": header.SOPClassUID.name, **asdict(uids)}


def _predecessor(study: Study) -> Predecessor | None:
    """Return the report of the study that was sent last, if any: what is read now revises it."""
    for entry in reversed(study.timeline()):
        if entry["event"] == "sent" and entry["kind"] in ("sr", "held"):
            return Predecessor(*(entry[field.name] for field in fields(Predecessor)))
    return None


def _last_read(study: Study) -> str | None:
    """Return the input digest of the run whose result the study has."""
    read = [entry for entry in study.timeline() if entry["event"] in ("read", "recalled")]
    return read[-1]["input_digest"] if read else None


def _told(study: Study) -> set[str]:
    """Return the peers that know the last reason to hold the study: the same one is no news to them."""
    peers: set[str] = set()
    reason = None
    for entry in study.timeline():
        if entry["event"] == "read":
            peers = peers if entry.get("sentence") == reason else set()
            reason = entry.get("sentence")
        elif entry["event"] == "sent" and entry["kind"] == "held":
            peers.add(entry["peer"])
    return peers


def _saliency_kinds(folder: Path | None) -> tuple[str, ...]:
    """Return the page and the map of each sequence that a run used; of every sequence where no result says it."""
    stored = read_result(folder) if folder else None
    used = stored.sequences if stored else tuple(Contrast)
    return ("saliency", *(f"saliency_{role}" for role in used))


def _recall(folder: Path, models: Models, *, saliency: bool = False) -> bool:
    """Tell whether these models have scored a run; what others left is kept in a folder of its own."""
    if _scored(folder, models, saliency=saliency):
        return True
    left = [folder / name for name in (*_OBJECTS, *_SALIENCY, RESULT_FILE) if (folder / name).exists()]
    if folder / _OBJECTS[0] in left:
        aside = folder / f"earlier-{time.time_ns()}"
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
    return False


def _scored(folder: Path, models: Models, *, saliency: bool = False) -> bool:
    """Tell whether a run has a score of these models and all its objects, saliency too where it is asked for."""
    maps = [name for kind in _saliency_kinds(folder) for name in SALIENCY_FILES[kind]] if saliency else []
    stored = read_result(folder)
    if stored is None or not all((folder / name).exists() for name in (*_OBJECTS, *maps)):
        return False
    made_by = (stored.model_digest, stored.brain_weights_digest)
    return stored.outcome is Outcome.SCORED and made_by == (models.bundle.digest, models.brain_weights.digest)
