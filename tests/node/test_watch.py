"""What is known of a node from outside its processes: status, health, metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.config import Config, load, parse
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.engine.survey import survey
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from dicom_node.watch import health
from dicom_node.watch.facts import Certificate, Deliveries, Facts, Studies, Undelivered
from dicom_node.watch.metrics import METRICS, exposition
from dicom_node.watch.pulse import SILENT_S, Beating, Durations, Memory, Process, Pulse, beating, pulse_file, pulses
from tests.faults.crash import make_study
from tests.support.pasts import past_uid, write_past
from tests.support.quick import QuickNode
from tests.support.services import wait_for
from tests.support.sites import site

CONFIG = """
[node]
data_dir = "data"
[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
roles = ["source", "destination"]
"""


@pytest.fixture
def past(tmp_path: Path) -> Config:
    """Return the configuration of a node with twenty studies of the past, and an object that was set aside."""
    config = parse(CONFIG, folder=tmp_path)
    spool, index = write_past(config.node.data_dir, 20), Index.of(config)
    index.catch_up(spool)
    index.close()
    with Outbox(config.node.engine_url) as outbox:
        outbox.put(Item(past_uid(19), "d", "sr", "pacs"), 60, aside=True)
        outbox.put(Item(past_uid(18), "d", "sr", "pacs"), 60)
    return config


def samples(facts: Facts) -> dict[tuple[str, ...], float]:
    """Return every sample of the metrics by its name and labels."""
    families = list(text_string_to_metric_families(exposition(facts).decode()))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def facts(**changes: object) -> Facts:
    """Return the facts of a node that is well, but for some changes."""
    pulse = Pulse(Process.RECEIVER, "receiver", "elsewhere", 1, 0.0, 1000.0, ready=True)
    worker = replace(pulse, process=Process.WORKER, name="mr-cpu")
    well = Facts(1000.0, "1", (pulse, worker), Studies(), {}, {}, 50 * 10**9, 100 * 10**9, 10**9)
    return replace(well, **changes)  # type: ignore[arg-type]


def levels(known: Facts) -> dict[str, health.Level]:
    return {line.what: line.level for line in health.status(known)}


def test_counts_are_those_of_index_and_outbox(past: Config):
    told = samples(survey(past))
    assert told["dicom_node_studies", "delivered"] == 16
    assert told["dicom_node_studies", "held"] == 3
    assert told["dicom_node_stopped_studies", "missing_role"] == 3
    assert told["dicom_node_undelivered_studies", "pacs"] == 1
    assert told["dicom_node_undelivered_age_seconds", "pacs"] >= 0
    assert told["dicom_node_deliveries", "pacs", "waiting"] == 1
    assert told["dicom_node_deliveries", "pacs", "set_aside"] == 1
    assert told["dicom_node_received_studies", "1d"] == 20
    assert 0 < told["dicom_node_source_heard_seconds", "pacs"] < 86400
    assert told["dicom_node_index_readable",] == 1


def test_every_metric_is_exposed_under_its_name_with_its_labels():
    known = facts(
        studies=Studies(
            {"held": 1},
            {"missing_role": 1},
            {"1h": 1},
            900.0,
            {"pacs": 1.0},
            (),
            (Undelivered("pacs", 1, "x", 1.0),),
            {"filtered_age": 1},
        ),
        deliveries={"pacs": Deliveries(1, 2)},
        refused={"unknown": 3},
        certificates=(Certificate("own certificate", 20, holds=True),),
    )
    worker = replace(known.pulses[1], memory=Memory(1, 2), steps={"read": Durations().with_one(2.0)})
    families = text_string_to_metric_families(exposition(replace(known, pulses=(known.pulses[0], worker))).decode())
    labels = {f.name: {tuple(sorted({*s.labels} - {"le"})) for s in f.samples} for f in families}
    assert labels == {f"dicom_node_{name}": {tuple(sorted(names))} for name, (_, names) in METRICS.items()}


def test_nothing_of_a_study_is_a_label(past: Config):
    labels = [label for sample in samples(survey(past)) for label in sample[1:]]
    assert len(labels) > 10
    assert not [label for label in labels if re.search(r"1\.2\.826|[0-9a-f]{12}", label)]


def test_looking_at_a_node_that_never_ran_makes_nothing(tmp_path: Path):
    config = parse(CONFIG, folder=tmp_path)
    known = survey(config)
    assert levels(known)["receiver"] is health.Level.BAD
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_said_and_raises_nothing(past: Config):
    (past.node.data_dir / "index.sqlite").write_bytes(b"no database" * 1000)
    past.node.engine_file.write_bytes(b"no database" * 1000)
    known = survey(past)
    assert (known.studies, known.deliveries) == (None, None)
    assert levels(known)["studies"] is health.Level.WARNING
    assert levels(known)["deliveries"] is health.Level.BAD
    assert samples(known)["dicom_node_index_readable",] == 0


def test_status_has_ten_lines_of_which_none_is_bad_where_all_is_well():
    assert len(health.status(facts())) == 10
    assert set(levels(facts()).values()) == {health.Level.GOOD}


@pytest.mark.parametrize(
    ("change", "what", "level"),
    [
        ({"pulses": ()}, "receiver", health.Level.BAD),
        ({"now_s": 1000.0 + SILENT_S + 1}, "workers", health.Level.BAD),
        ({"free_bytes": 10**8}, "disk", health.Level.BAD),
        ({"certificates": (Certificate("own certificate", 5, holds=True),)}, "outside", health.Level.WARNING),
        ({"certificates": (Certificate("own certificate", -5, holds=False),)}, "outside", health.Level.BAD),
        ({"refused": {"calling_title": 7}}, "outside", health.Level.WARNING),
        ({"deliveries": {"pacs": Deliveries(0, 1)}}, "deliveries", health.Level.WARNING),
        ({"studies": Studies(queued_since_s=-3600.0)}, "queue", health.Level.WARNING),
        ({"studies": Studies(reasons={"missing_role": 1})}, "held", health.Level.WARNING),
    ],
)
def test_what_is_not_well_stands_in_its_line(change: dict[str, object], what: str, level: health.Level):
    assert levels(facts(**change))[what] is level


def test_a_full_disk_and_a_receiver_that_is_down_are_not_ready():
    assert health.is_ready(facts())
    assert not health.is_ready(facts(free_bytes=0))
    assert not health.is_ready(facts(pulses=facts().pulses[1:]))


def test_counts_of_a_process_go_on_over_a_restart(tmp_path: Path):
    for _ in range(2):
        with beating(tmp_path, Process.WORKER, "mr-cpu") as heart:
            heart.step("read", 3.0)
            heart.read(True)
    (pulse,) = pulses(tmp_path, time.time())
    assert pulse.ended
    assert pulse.steps["read"] == Durations((0, 2, 2, 2, 2, 2, 2, 2, 2), 2, 6.0)
    assert [(day.read, day.out_of_range) for day in pulse.days.values()] == [(2, 2)]


def test_a_process_that_is_gone_counts_as_down_at_once_and_is_forgotten_after_a_week(tmp_path: Path):
    heart, now_s = Beating(tmp_path, Process.WORKER, "mr-cpu"), time.time()
    heart.start()
    wait_for(pulse_file(tmp_path, "mr-cpu").exists, 10, "the pulse")
    (pulse,) = pulses(tmp_path, now_s)
    assert pulse.lives(now_s)
    assert not replace(pulse, pid=2**22 + 1).lives(now_s)
    assert not pulse.lives(now_s + 2 * SILENT_S)
    assert pulses(tmp_path, now_s + 8 * 86400) == []
    heart.end()


def test_a_disk_that_takes_no_pulse_does_not_make_a_process_seem_dead(tmp_path: Path, monkeypatch):
    heart = Beating(tmp_path, Process.RECEIVER, "receiver")
    heart.start()
    file = pulse_file(tmp_path, "receiver")
    wait_for(file.exists, 10, "the pulse")
    os.utime(file, (1, 1))
    file.write_text(json.dumps({**json.loads(file.read_text()), "beaten_s": 1.0}))
    monkeypatch.setattr("dicom_node.watch.pulse.write_json", _full)
    heart.end()
    assert file.stat().st_mtime > 1
    assert [pulse.name for pulse in pulses(tmp_path, time.time())] == ["receiver"]


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_running_node_says_what_it_does_and_that_its_worker_was_killed(tmp_path: Path):
    with QuickNode.made(tmp_path) as quick:
        quick.start()
        quick.node.wait_listening()
        config = load(quick.node.config)
        wait_for(lambda: {p.name for p in survey(config).pulses if p.ready} > {"receiver"}, 60, "both are ready")
        assert health.is_ready(survey(config))
        uid = "2.25.1700000000000000000000000000004711"
        make_study(tmp_path / "sent", uid)
        quick.node.send(tmp_path / "sent")
        quick.node.wait_event(uid, "read", 1)
        wait_for(lambda: samples(survey(config)).get(("dicom_node_step_seconds_count", "predict")), 30, "its steps")
        worker = next(pulse for pulse in survey(config).pulses if pulse.process is Process.WORKER)
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: levels(survey(config))["workers"] is health.Level.BAD, 10, "the worker is down", poll_s=0.01)
        wait_for(lambda: levels(survey(config))["workers"] is health.Level.GOOD, 60, "the worker is back")
    assert [pulse.ended for pulse in survey(config).pulses] == [True, True]


def test_the_verb_says_the_same(past: Config, tmp_path: Path):
    from tests.support.services import command

    file = tmp_path / "node.toml"
    file.write_text(CONFIG)
    said = json.loads(command("status", "--json", "--config", str(file), code=1))
    assert [line["what"] for line in said["lines"]] == [line.what for line in health.status(survey(past))]
    assert len(command("status", "--config", str(file), code=1).splitlines()) == 11
    assert Spool(past.node.data_dir, make=False)


def test_machines_ask_the_pages(past: Config, tmp_path: Path):
    with site(tmp_path) as pages:
        assert (pages.get("/healthz").status, pages.get("/healthz").body) == (200, "ok\n")
        assert pages.get("/readyz").status == 503
        told = pages.get("/metrics")
        assert told.headers["content-type"].startswith("text/plain")
        assert 'dicom_node_studies{state="delivered"} 16.0' in told.body
        with beating(past.node.data_dir, Process.RECEIVER, "receiver") as heart:
            heart.ready()
            wait_for(lambda: pages.get("/readyz").status == 200, 30, "readiness", poll_s=0.5)
        wait_for(lambda: pages.get("/readyz").status == 503, 30, "its end", poll_s=0.5)
