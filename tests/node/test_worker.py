"""What the worker decides without any model: devices, names, states."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dicom_node.config import Config, parse
from dicom_node.engine import installed, run_folder, worker
from dicom_node.engine.addressing import owed
from dicom_node.engine.contract import Value
from dicom_node.engine.workflow import Engine, migrate
from dicom_node.errors import WorkerError
from dicom_node.studies import inputs
from dicom_node.studies.replay import replay
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Event, Kind, State
from models.bundle import TwoSequences
from models.contrast import Contrast
from pipeline.brain import WeightsIdentity
from pipeline.result import RESULT_FILE
from pipeline.select import select_study
from pipeline.synthetic import localizer_tags
from tests.support.studies import TRIPLET, receive_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    spool = Spool(tmp_path / "data")
    spool.store("2.25.41", "2.25.42", b"content")
    return spool.study("2.25.41")


@pytest.fixture
def hands(tmp_path: Path, study: Study) -> worker.Worker:
    return worker.Worker(Config.offline(), Spool(tmp_path / "data"), models=None)


def test_a_named_device_that_is_missing_is_an_error():
    assert installed.device("cpu") == torch.device("cpu")
    with pytest.raises(WorkerError) as caught:
        installed.device(f"cuda:{torch.cuda.device_count()}")
    assert caught.value.code == "device_missing"


def test_a_run_counts_as_scored_when_these_models_left_all_objects(tmp_path: Path):
    bundle = SimpleNamespace(digest="aa")
    models: Any = SimpleNamespace(bundle=bundle, brain_weights=WeightsIdentity("embedded", "bb"))
    result = {"state": "scored", "model": {"digest": "aa"}, "brain_weights": {"digest": "bb"}}
    (tmp_path / RESULT_FILE).write_text(json.dumps(result))
    for name in run_folder.OBJECTS:
        assert not run_folder.is_scored(tmp_path, models)
        (tmp_path / name).write_bytes(b"object")
    assert run_folder.is_scored(tmp_path, models)
    (tmp_path / RESULT_FILE).write_text(json.dumps(result | {"state": "held"}))
    assert not run_folder.is_scored(tmp_path, models)
    (tmp_path / RESULT_FILE).write_text(json.dumps(result))
    assert run_folder.recall(tmp_path, models)
    bundle.digest = "cc"
    assert not run_folder.recall(tmp_path, models)
    (aside,) = tmp_path.glob("earlier-*")
    assert sorted(path.name for path in aside.iterdir()) == sorted((*run_folder.OBJECTS, RESULT_FILE))
    assert not run_folder.recall(tmp_path, models)


def test_a_result_is_known_while_it_is_that_of_the_study(tmp_path: Path, study: Study):
    models = SimpleNamespace(bundle=SimpleNamespace(digest="aa"), brain_weights=WeightsIdentity("embedded", "bb"))
    hands = worker.Worker(Config.offline(), Spool(tmp_path / "data"), models)  # type: ignore[arg-type]
    result = {"state": "scored", "model": {"digest": "aa"}, "brain_weights": {"digest": "bb"}}
    for run in ("first", "second"):
        study.run_folder(run).mkdir(parents=True)
        (study.run_folder(run) / RESULT_FILE).write_text(json.dumps(result))
        for name in run_folder.OBJECTS:
            (study.run_folder(run) / name).write_bytes(b"object")
        study.note(Event.READ, State.SCORED, input_digest=run)
        study.note(Event.DELIVERED, State.DELIVERED)

    def known(run: str) -> bool:
        assert hands.read(study.uid, run, lambda _, function: function()) == {"state": State.SCORED}
        # What is known changes no state.
        return study.timeline().entries[-1].state is None

    assert known("second")
    assert study.state() == "delivered"
    assert not known("first")
    assert study.state() == "scored"
    assert known("first")


def test_an_older_selection_does_not_come_back(hands: worker.Worker, study: Study):
    def never(name: str, function: Callable[[], Value]) -> Value:
        raise AssertionError(f"{name} of an older selection")

    study.note(Event.SELECTED, input_digest="first")
    study.note(Event.SELECTED, input_digest="second")
    study.note(Event.READ, State.SCORED, input_digest="second")
    before = study.timeline().events
    assert hands.read(study.uid, "first", never) == {"state": State.SCORED}
    assert study.timeline().events == before
    study.note(Event.SELECTED, input_digest="first")
    with pytest.raises(AssertionError, match="recall"):
        hands.read(study.uid, "first", never)


def test_a_fault_is_noted_once_for_each_workflow(hands: worker.Worker, study: Study):
    hands.failed(study.uid, "workflow-1", "KeyError")
    hands.failed(study.uid, "workflow-1", "KeyError")
    assert study.timeline().events == ["failed"]
    assert study.state() == "failed"
    study.note(Event.QUEUED, State.QUEUED)
    hands.failed(study.uid, "workflow-1", "KeyError")
    assert study.state() == "queued"
    hands.failed(study.uid, "workflow-2", "KeyError")
    assert study.state() == "failed"


def settings(folder: Path, held: str) -> Config:
    peers = "".join(
        f'[[peers]]\nname = "{name}"\nae_title = "X"\nhost = "h"\nport = 1\nroles = ["source", "destination"]\n'
        for name in ("pacs", "archive")
    )
    return parse(f'[node]\ndata_dir = "data"\n[report]\nsend = ["sr", "pdf"]\nheld = "{held}"\n{peers}', folder=folder)


def owes(config: Config, study: Study, state: str) -> list:
    return owed(config, study, study.timeline(), state)


def test_a_scored_study_sends_what_is_configured_and_a_held_one_nothing(tmp_path: Path, study: Study):
    every = [(peer, kind) for peer in ("pacs", "archive") for kind in ("sr", "pdf")]
    assert owes(settings(tmp_path, "none"), study, "scored") == every
    assert owes(settings(tmp_path, "none"), study, "held") == []


def test_a_destination_may_get_objects_of_its_own(tmp_path: Path, study: Study):
    config = settings(tmp_path, "sr")
    page = config.peers[1].model_copy(update={"send": ("summary", "saliency")})
    config = config.model_copy(update={"peers": (config.peers[0], page)})
    maps = [("archive", "saliency")]  # and the maps that a run leaves
    assert owes(config, study, "scored") == [("pacs", "sr"), ("pacs", "pdf"), ("archive", "summary"), *maps]
    assert config.sent == {"sr", "pdf", "summary", "saliency"}
    # Who gets no reports is not told why there is none.
    assert owes(config, study, "held") == [("pacs", "held")]


def test_saliency_is_a_page_that_an_earlier_run_may_lack(tmp_path: Path, study: Study):
    config = settings(tmp_path, "none")
    asked = config.model_copy(update={"report": config.report.model_copy(update={"send": ("sr", "saliency")})})
    kinds = ["sr", "saliency"]
    assert owes(asked, study, "scored") == [(peer, kind) for peer in ("pacs", "archive") for kind in kinds]
    assert set(kinds) <= set(run_folder.FILES)
    models = SimpleNamespace(bundle=SimpleNamespace(digest="aa"), brain_weights=WeightsIdentity("embedded", "bb"))
    result = {"state": "scored", "model": {"digest": "aa"}, "brain_weights": {"digest": "bb"}}
    (tmp_path / RESULT_FILE).write_text(json.dumps(result))
    for name in run_folder.OBJECTS:
        (tmp_path / name).write_bytes(b"object")
    assert run_folder.is_scored(tmp_path, models)  # type: ignore[arg-type]
    assert not run_folder.is_scored(tmp_path, models, saliency=True)  # type: ignore[arg-type]
    (tmp_path / "saliency.dcm").write_bytes(b"object")
    assert run_folder.is_scored(tmp_path, models, saliency=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("validated", [True, False])
def test_a_late_bystander_selects_the_same_run_of_two_sequences(tmp_path: Path, sent: Path, validated: bool):
    mode = TwoSequences(weights={Contrast.T1W: 0.5, Contrast.T2W: 0.5}, threshold=0.5, patients=19, auc=0.7)
    metadata = SimpleNamespace(two_sequences=(mode,) if validated else ())
    spool, models = Spool(tmp_path / "data"), SimpleNamespace(bundle=SimpleNamespace(metadata=metadata))
    hands = worker.Worker(Config.offline(), spool, models)  # type: ignore[arg-type]
    study = receive_study(spool, sent, "2.25.43", *(tags for tags in TRIPLET if tags is not TRIPLET[2]))
    first = hands.select(study.uid)["input_digest"]
    pinned = inputs.pinned(study, first)
    receive_study(spool, sent, study.uid, localizer_tags(22))
    assert (hands.select(study.uid)["input_digest"] == first) is validated
    assert inputs.pinned(study, first) == pinned
    selection = select_study(study.instances())
    assert selection.without is not None
    assert (first == selection.without.digest) is validated
    table = inputs.last_table(study)
    assert table is not None
    assert (table.state, set(table.roles)) == (("ready", {"T1W", "T2W"}) if validated else ("held", set()))
    (row,) = replay(spool, Config.offline(), 1)
    assert row.outcome == "unchanged"


def test_a_study_owes_the_maps_that_its_run_left(tmp_path: Path, study: Study):
    config = settings(tmp_path, "none")
    asked = config.model_copy(update={"report": config.report.model_copy(update={"send": ("saliency",)})})
    folder = study.run_folder("ab" * 32)
    folder.mkdir(parents=True)
    for name in ("saliency_T2W.dcm", "saliency_FLAIR.dcm"):
        (folder / name).write_bytes(b"object")
    study.note(Event.READ, State.SCORED, input_digest="ab" * 32)
    kinds = ["saliency", "saliency_T2W", "saliency_FLAIR"]
    assert owes(asked, study, "scored") == [(peer, kind) for peer in ("pacs", "archive") for kind in kinds]


def test_a_reason_to_hold_is_told_once_to_each_peer(tmp_path: Path, study: Study):
    config = settings(tmp_path, "sr")
    study.note(Event.READ, State.HELD, code="missing_role", sentence="No FLAIR.")
    assert owes(config, study, "held") == [("pacs", "held"), ("archive", "held")]
    study.note(Event.SENT, peer="pacs", kind=Kind.HELD)
    study.note(Event.READ, State.HELD, code="missing_role", sentence="No FLAIR.")
    assert owes(config, study, "held") == [("archive", "held")]
    study.note(Event.READ, State.HELD, code="missing_role", sentence="No T2W.")
    assert owes(config, study, "held") == [("pacs", "held"), ("archive", "held")]


@pytest.mark.parametrize(
    ("before", "after"),
    [("receiving", "queued"), ("held", "queued"), ("arriving_late", "queued"), ("delivered", "delivered")],
)
def test_a_late_bystander_does_not_make_a_study_look_unread(tmp_path: Path, study: Study, before: str, after: str):
    config = Config.offline()
    config = config.model_copy(update={"node": config.node.model_copy(update={"data_dir": tmp_path / "data"})})
    migrate(config)
    engine = Engine(config)
    if before != "receiving":
        study.note(Event.READ, State(before))
    engine.submit(study, "quiet", study.digest())
    engine.submit(study, "quiet", study.digest())
    assert study.state() == after
    assert engine.retry(study) == 1
    assert engine.retry(study) == 2
    assert study.state() == "queued"
    engine.close()
