"""What a worker does with models that are loaded once: it selects and reads studies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dicom_node.config import Config
from dicom_node.engine.addressing import predecessors
from dicom_node.engine.contract import Read, Recalled, Selected, Step
from dicom_node.engine.installed import gpu_memory, open_models
from dicom_node.engine.run_folder import recall
from dicom_node.log import say
from dicom_node.studies import inputs
from dicom_node.studies.routing import turned_away
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import HAS_SCORE, Event, State
from dicom_node.watch.pulse import Loaded, Memory
from pipeline.report import Title
from pipeline.result import Result
from pipeline.select import Selection
from pipeline.study import Models, run_study, scorable

logger = logging.getLogger(__name__)

_MOST_HANDED_OVER = 8


def open_worker(config: Config, spool: Spool, told: Callable[[bool], None]) -> Worker:
    """Return a worker with its models loaded.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    told
        Of each study that is read, whether it is unlike those of the model.

    Raises
    ------
    WorkerError
        If bundle, weights or device are unusable.
    """
    models = open_models(config)
    say(logger, "models loaded", bundle=models.bundle.metadata.name, brain_weights=models.brain_weights.name)
    return Worker(config, spool, models, told)


class Worker:
    """What the steps of selecting and reading do; the files know the studies, memory only spares work.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    models
        Loaded.
    told
        Of each study that is read, whether it is unlike those of the model.
    """

    def __init__(
        self, config: Config, spool: Spool, models: Models, told: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._config = config
        self._spool = spool
        self._models = models
        self._selections = _Selections()
        self._told = told

    def reconfigure(self, config: Config) -> None:
        """Select and report by another configuration from the next step on; the models stay."""
        self._config = config

    def select(self, study_uid: str) -> Selected:
        """Return the digest of the study's selected series, and pin what they were selected from; none if filtered.

        A second call for the same selection keeps the first one's pin: the analysis has begun then.
        """
        study = self._spool.study(study_uid)
        if turned_away(study, self._config):
            return {"input_digest": ""}
        made_from = inputs.present(study, self._config.selection)
        whole = made_from.select()
        # As the run will decide: its folder and its results go by the digest of what is scored.
        selection = scorable(whole, self._models.bundle.metadata) if whole.without is not None else whole
        if inputs.pin(study, selection, made_from):
            self._selections.put(study.run_folder(selection.digest), whole)
            if selection.corrected:
                study.note(Event.CORRECTED, input_digest=selection.digest, attributes=sorted(selection.corrected))
        roles = {role: series.series_number for role, series in selection.roles.items()}
        study.note(Event.SELECTED, input_digest=selection.digest, series_numbers=roles)
        return {"input_digest": selection.digest}

    def read(self, study_uid: str, input_digest: str, step: Step) -> Read:
        """Score the study, unless these models have scored this selection: then its stored objects are sent again.

        Parameters
        ----------
        study_uid
            A received study.
        input_digest
            Of a selection that `select` pinned.
        step
            Remembers what the steps return.
        """
        study = self._spool.study(study_uid)
        if study.timeline().is_superseded(input_digest):
            # Put back, or of a worker that died, it would come last and replace the report of the newer selection.
            say(logger, "older selection not read", study=study_uid)
            return {"state": State(study.state())}
        folder = study.run_folder(input_digest)
        selection = self._selections.take(folder)
        if step("recall", lambda: self._recall(folder))["scored"]:
            known = study.state() in HAS_SCORE and study.timeline().read_digest == input_digest
            study.note(Event.RECALLED, None if known else State.SCORED, input_digest=input_digest)
            return {"state": State.SCORED}
        study.note(Event.RUNNING, State.RUNNING, input_digest=input_digest)
        result = self._run(study, folder, selection, step)
        held, state = result.held, State(result.outcome)
        facts = {"code": held.code.value, "sentence": held.sentence} if held else {}
        study.note(Event.READ, state, input_digest=input_digest, **facts)
        self._told(result.out_of_range)
        say(logger, "study read", study=study_uid, state=state, reason=held.code.value if held else None)
        return {"state": state}

    def failed(self, study_uid: str, workflow_id: str, cause: str) -> None:
        """Note, once for each workflow, that a study was set aside because of a fault in the node."""
        study = self._spool.study(study_uid)
        if study.timeline().noted_failed(workflow_id):
            return
        sentence = f"A fault in the node ({cause}): see its log, then retry."
        study.note(Event.FAILED, State.FAILED, code="internal_error", sentence=sentence, workflow_id=workflow_id)
        say(logger, "study failed", level=logging.ERROR, study=study_uid, cause=cause)

    def memory(self) -> Memory | None:
        """Return how much memory of the device is in use; None of a CPU."""
        return gpu_memory(self._models.ensemble.device)

    @property
    def loaded(self) -> Loaded:
        """The models that it reads with from now on."""
        model, brain = self._models.identity, self._models.brain_weights
        device = str(self._models.ensemble.device)
        return Loaded(model.name, model.version, model.digest, brain.name, brain.digest, device, time.time())

    @property
    def _saliency(self) -> bool:
        return "saliency" in self._config.sent

    def _recall(self, folder: Path) -> Recalled:
        return {"scored": recall(folder, self._models, saliency=self._saliency, records=self._config.records)}

    def _run(self, study: Study, folder: Path, selection: Selection | None, step: Step) -> Result:
        pinned = inputs.pinned(study, folder.name)
        return run_study(
            selection or pinned.select(),
            folder,
            self._models,
            title=Title(self._config.report.title),
            started=pinned.started,
            predecessors=predecessors(study.timeline()),
            held_report=self._config.report.held == "sr",
            saliency=self._saliency,
            records=self._config.records,
            step=step,
        )


class _Selections:
    """Selections that the same process will read next; any other one is repeated from what was pinned for its run."""

    def __init__(self) -> None:
        self._by_run: dict[Path, Selection] = {}
        self._lock = threading.Lock()

    def put(self, run_folder: Path, selection: Selection) -> None:
        """Keep a selection, and let go of the oldest beyond a few."""
        with self._lock:
            self._by_run[run_folder] = selection
            while len(self._by_run) > _MOST_HANDED_OVER:
                del self._by_run[next(iter(self._by_run))]

    def take(self, run_folder: Path) -> Selection | None:
        """Return the selection of a run, once."""
        with self._lock:
            return self._by_run.pop(run_folder, None)
