"""What heals by itself: a database that is away, a disk that is full, a study whose folder is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Postgres
from tests.support.quick import QuickNode
from tests.support.services import wait_for

ONE, TWO = "2.25.71", "2.25.72"
READ = ("scored", "sending", "delivery_failed")


def verb(node: QuickNode, *arguments: str) -> tuple[int, str, float]:
    """Run a verb; return its exit code, what it said on stderr, and the seconds that it took."""
    began_s = time.monotonic()
    command = [sys.executable, "-P", "-m", "dicom_node", *arguments, "--config", str(node.node.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr, time.monotonic() - began_s


def test_work_goes_on_when_the_database_is_back(tmp_path: Path, sent: Path):
    with Postgres.running(tmp_path) as database, QuickNode.made(tmp_path, database.url) as node:
        served = node.start()
        wait_for(lambda: node.said("worker ready"), 120, "the worker")
        database.stop()
        node.send(sent / "one", ONE)
        wait_for(lambda: node.said("database away, work waits"), 60, "the outage")
        code, told, seconds = verb(node, "retry", ONE)
        assert (code, told.split(":")[0], told.count("\n")) == (1, "database_unusable", 1)
        assert seconds < 60
        wait_for(lambda: node.said("study not submitted, tried again"), 60, "a study that waits")
        noisy = [line for line in node.node.lines() if line["logger"] == "dbos"]
        assert noisy == []
        database.start()
        node.node.wait_state(ONE, *READ)
        wait_for(lambda: node.said("database answers again"), 60, "the end of the outage")
        database.stop()
        served.terminate()
        assert served.wait(60) == 0


def test_a_study_whose_result_finds_the_database_away_goes_on_by_itself(tmp_path: Path, sent: Path):
    with Postgres.running(tmp_path) as database, QuickNode.made(tmp_path, database.url) as node:
        node.start()
        wait_for(lambda: node.said("worker ready"), 120, "the worker")
        with database.locked("deliveries") as waiting:
            node.send(sent / "one", ONE)
            node.node.wait_event(ONE, "read", 1)
            # Who delivers, and who has read the study.
            wait_for(lambda: waiting() >= 2, 60, "those who wait for the database")
            database.cut()
            wait_for(lambda: node.said("database away, study waits"), 60, "the wait")
        node.node.wait_event(ONE, "send_failed", 1)
        assert "failed" not in node.node.events(ONE)
        assert node.node.state(ONE) == "sending"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of its own, of a size that is filled in a moment."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Fill a disk to the last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler


def test_a_study_that_is_read_while_the_disk_is_full_is_read_later(tmp_path: Path, small_disk: Path, sent: Path):
    with QuickNode.made(tmp_path, data_dir=small_disk / "data", QUICK_STEP_S="1.5") as node:
        node.start()
        wait_for(lambda: node.said("worker ready"), 120, "the worker")
        node.send(sent / "one", ONE)
        wait_for(lambda: node.said("step started", step="convert"), 60, "a step")
        filler = fill(small_disk)
        wait_for(lambda: node.said("disk full, study waits") or node.said("database away, work waits"), 60, "the wait")
        assert os.statvfs(small_disk).f_bavail < 8
        assert node.node.state(ONE) == "running"
        code, told, seconds = verb(node, "retry", ONE)
        print(code, told, seconds)
        assert seconds < 60
        assert "Traceback" not in told
        filler.unlink()
        node.node.wait_state(ONE, *READ)
        assert "failed" not in node.node.events(ONE)


def test_a_removed_study_ends_no_worker_and_is_read_when_it_comes_again(tmp_path: Path, sent: Path):
    with QuickNode.made(tmp_path) as node:
        receiver = node.start("receive")
        node.node.wait_listening()
        node.send(sent / "one", ONE)
        node.node.wait_state(ONE, "queued")
        shutil.rmtree(node.node.data_dir / "spool" / ONE)
        worker = node.start("work")
        wait_for(lambda: node.said("study is gone, its work is dropped"), 120, "the removed study")
        node.node.send(sent / "one")
        node.node.wait_state(ONE, *READ)
        assert (worker.poll(), receiver.poll()) == (None, None)
        # And once more, after everything of it was read.
        shutil.rmtree(node.node.data_dir / "spool" / ONE)
        node.send(sent / "two", TWO)
        node.node.send(sent / "one")
        node.node.wait_state(ONE, *READ)
        node.node.wait_state(TWO, *READ)
        assert worker.poll() is None


def test_an_instance_that_comes_late_hides_no_reason(tmp_path: Path, sent: Path):
    with QuickNode.made(tmp_path, QUICK_HOLDS="1") as node:
        node.start()
        node.node.wait_listening()
        node.send(sent / "one", ONE)
        node.node.wait_state(ONE, "held")
        node.send(sent / "late", ONE, first=100)
        node.node.wait_event(ONE, "queued", 2)
        node.node.wait_event(ONE, "read", 2)
        assert node.node.state(ONE) == "held"


def test_a_taken_data_folder_ends_serve_at_once(tmp_path: Path):
    with QuickNode.made(tmp_path) as node:
        node.start("receive")
        node.node.wait_listening()
        second = node.start()
        assert second.wait(60) == 2
        assert node.said("stopped", code="receiver_running") == 1
        assert node.said("stopped", code="process_refused") == 1


def test_a_taken_port_ends_serve_at_once(tmp_path: Path):
    (tmp_path / "other").mkdir()
    with QuickNode.made(tmp_path) as node, QuickNode.made(tmp_path / "other") as other:
        node.start("receive")
        node.node.wait_listening()
        text = other.node.config.read_text()
        other.node.config.write_text(text.replace(f"port = {other.node.port}\n", f"port = {node.node.port}\n", 1))
        assert other.start().wait(60) == 2
        assert other.said("stopped", code="port_unavailable") == 1
