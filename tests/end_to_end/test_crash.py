"""``kill -9`` of the worker inside each step: exactly one report, and no finished step is repeated."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.engine.underway import MAX_CRASHES
from tests.support.services import Node, Orthanc, copy_study, node_and_pacs, wait_for

# One workflow is recovered three times and no more, so the kills are spread over two studies.
KILLED_IN = (("select", "convert", "strip", "send"), ("recall", "predict", "report", "verify"))
ONCE = ("select", "recall", "convert", "strip", "predict", "report")
"""Steps of one study; sending and verifying happen once for each object."""
LONG = {"select", "convert", "strip", "predict", "report"}


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Node, Orthanc]]:
    """Yield a node whose receiver runs, without a worker yet, and its PACS."""
    with node_and_pacs(tmp_path) as (node, pacs):
        node.start("receive")
        node.wait_listening()
        yield node, pacs


def kill_in(node: Node, step: str, nth: int) -> tuple[str, bool]:
    """Start a worker and kill it when it begins a step for the nth time.

    Returns the step that the signal met, which is the next one where this one was short, and whether it was unfinished.
    """
    worker = node.start("work")
    wait_for(lambda: node.steps().count(step) >= nth, 120, f"step {step}", poll_s=0.002)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    events = [(line["event"], line["step"]) for line in node.lines() if "step" in line]
    event, met = events[-1]
    return met, event == "step started"


@pytest.mark.parametrize("killed_in", KILLED_IN)
def test_a_killed_worker_repeats_no_finished_step(
    parts: tuple[Node, Orthanc], quick_study, sent: Path, killed_in: tuple[str, ...]
):
    node, pacs = parts
    node.send(copy_study(quick_study.files, sent / "study"))
    node.wait_state(quick_study.study_uid, "queued")
    met = [kill_in(node, step, 1) for step in killed_in]
    interrupted = Counter(step for step, unfinished in met if unfinished)
    # Killed after its last line in the log a step may have been remembered, or not yet.
    finished_last = Counter(step for step, unfinished in met if not unfinished)
    # A long step cannot end between its first line in the log and the signal.
    assert LONG & set(killed_in) <= set(interrupted)
    node.start("work")
    assert node.wait_state(quick_study.study_uid, "delivered", "failed", "held") == "delivered"

    started = Counter(node.steps())
    for step in ONCE:
        assert 1 + interrupted[step] <= started[step] <= 1 + interrupted[step] + finished_last[step], (met, started)
    assert len(pacs.instances(quick_study.study_uid, "SR")) == 1
    assert len(pacs.instances(quick_study.study_uid, "OT")) == 1
    assert node.events(quick_study.study_uid).count("read") == 1


def test_a_study_that_kills_the_worker_is_set_aside(parts: tuple[Node, Orthanc], quick_study, sent: Path):
    node, pacs = parts
    node.send(copy_study(quick_study.files, sent / "study"))
    for attempt in range(1, MAX_CRASHES + 2):
        assert kill_in(node, "convert", attempt) == ("convert", True)
    node.start("work")
    assert node.wait_state(quick_study.study_uid, "failed", "delivered", "held") == "failed"
    assert pacs.instances(quick_study.study_uid, "SR") == []
    node.command("retry", quick_study.study_uid)
    assert node.wait_state(quick_study.study_uid, "delivered") == "delivered"
    assert len(pacs.instances(quick_study.study_uid, "SR")) == 1
