"""What the worker decides without any model: devices, names, states."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dicom_node import worker
from dicom_node.config import Config
from dicom_node.spool import Spool, Study
from dicom_node.workflow import Engine, migrate
from pipeline.brain import WeightsIdentity
from pipeline.study import REPORT_FILES, RESULT_FILE, SUMMARY_FILE


@pytest.fixture
def study(tmp_path: Path) -> Study:
    spool = Spool(tmp_path / "data")
    spool.store("2.25.41", "2.25.42", b"content")
    return spool.study("2.25.41")


@pytest.fixture
def hands(tmp_path: Path, study: Study) -> worker.Worker:
    return worker.Worker(Config.offline(), Spool(tmp_path / "data"), models=None)  # type: ignore[arg-type]


def test_a_named_device_that_is_missing_is_an_error():
    assert worker.device("cpu") == torch.device("cpu")
    with pytest.raises(worker.WorkerError) as caught:
        worker.device(f"cuda:{torch.cuda.device_count()}")
    assert caught.value.code == "device_missing"


def test_an_executor_name_is_held_by_one_process(tmp_path: Path):
    with worker.held_name(tmp_path, "host-cpu"):
        with pytest.raises(worker.WorkerError) as caught, worker.held_name(tmp_path, "host-cpu"):
            pass
        with worker.held_name(tmp_path, "host-cuda0"):
            pass
    assert caught.value.code == "worker_running"
    with worker.held_name(tmp_path, "host-cpu"):
        pass


def test_a_run_counts_as_scored_when_these_models_left_all_objects(tmp_path: Path):
    bundle = SimpleNamespace(digest="aa")
    models = SimpleNamespace(bundle=bundle, brain_weights=WeightsIdentity("embedded", "bb"))
    result = {"state": "scored", "model": {"digest": "aa"}, "brain_weights": {"digest": "bb"}}
    (tmp_path / RESULT_FILE).write_text(json.dumps(result))
    for name in (*REPORT_FILES, SUMMARY_FILE):
        assert not worker._scored(tmp_path, models)
        (tmp_path / name).write_bytes(b"object")
    assert worker._scored(tmp_path, models)
    (tmp_path / RESULT_FILE).write_text(json.dumps(result | {"state": "held"}))
    assert not worker._scored(tmp_path, models)
    (tmp_path / RESULT_FILE).write_text(json.dumps(result))
    assert worker._recall(tmp_path, models)
    bundle.digest = "cc"
    assert not worker._recall(tmp_path, models)
    (aside,) = tmp_path.glob("earlier-*")
    assert sorted(path.name for path in aside.iterdir()) == sorted((*REPORT_FILES, SUMMARY_FILE, RESULT_FILE))
    assert not worker._recall(tmp_path, models)


def test_a_fault_is_noted_once_for_each_workflow(hands: worker.Worker, study: Study):
    hands.failed(study.uid, "workflow-1", "KeyError")
    hands.failed(study.uid, "workflow-1", "KeyError")
    assert [entry["event"] for entry in study.timeline()] == ["failed"]
    assert study.state() == "failed"
    study.note("queued", state="queued")
    hands.failed(study.uid, "workflow-1", "KeyError")
    assert study.state() == "queued"
    hands.failed(study.uid, "workflow-2", "KeyError")
    assert study.state() == "failed"


def test_giving_up_shows_in_the_state(hands: worker.Worker, study: Study):
    hands.give_up(study.uid, "sr", "pacs")
    assert study.state() == "delivery_failed"


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
        study.note("earlier", state=before)
    engine.submit(study, "quiet")
    engine.submit(study, "quiet")
    assert study.state() == after
    assert engine.retry(study) == 1
    assert engine.retry(study) == 2
    assert study.state() == "queued"
    engine.close()
