"""A back-up of a node that runs, and what is there again after it was lost."""

from __future__ import annotations

import json
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import load
from dicom_node.engine import archive, workflow
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.errors import NodeError
from dicom_node.log import read_key
from dicom_node.studies.collect import Collector
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event
from tests.support.deaths import RULES
from tests.support.pasts import past_uid, write_past
from tests.support.services import command

WAITING = past_uid(19)
"""Its deliveries failed."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n')
    spool, settings = write_past(tmp_path / "data", 40), load(file)
    (spool.study(WAITING).folder / "runs/d").mkdir(parents=True)
    (spool.study(WAITING).folder / "runs/d/report.dcm").write_bytes(b"report")
    read_key(spool.data_dir)
    workflow.migrate(settings)
    with Outbox(settings.node.engine_url) as outbox:
        outbox.put(Item(WAITING, "d", "sr", "pacs"), 600)
    return file


def told(config: Path, *verb: str) -> Any:
    answer = json.loads(command(*verb, "--config", str(config), "--json"))
    for row in answer if isinstance(answer, list) else [answer]:
        row.pop("stored")
    return answer


def test_what_was_there_is_there_again(config: Path, tmp_path: Path):
    verbs = (["studies", "--last", "99"], ["show", WAITING])
    before = [told(config, *verb) for verb in verbs]
    file = tmp_path / "node.tar"
    assert "Wrote 40 studies" in command("backup", str(file), "--config", str(config))
    assert file.stat().st_mode & 0o777 == 0o600
    command("restore", str(file), "--config", str(config), code=2)
    shutil.rmtree(tmp_path / "data")
    config.unlink()
    assert command("restore", str(file), "--config", str(config)) == "Restored 40 studies.\n"
    assert [told(config, *verb) for verb in verbs] == before
    settings = load(config)
    spool = Spool(settings.node.data_dir)
    assert (spool.study(WAITING).folder / "runs/d/report.dcm").read_bytes() == b"report"
    with Outbox(settings.node.engine_url) as outbox:
        due = outbox.take("pacs", "a worker")
        assert due is not None
        assert due.item == Item(WAITING, "d", "sr", "pacs")
    # What is not there to be read is not handed on.
    submitted: list[str] = []
    collector = Collector(spool, RULES, lambda study, _reason, _digest: submitted.append(study.uid))
    assert collector.resume() == 0
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "data").rglob("*")} == {0}


def test_with_images_all_of_it_is_there_again(config: Path, tmp_path: Path):
    settings, file = load(config), tmp_path / "node.tar"
    spool = Spool(settings.node.data_dir)
    spool.store("1.2.3", "9.1", b"not collected yet")
    digests = {study.uid: study.digest() for study in spool.studies()}
    archive.backup(settings, config, file, images=True)
    shutil.rmtree(tmp_path / "data")
    assert archive.restore(file, config) == 41
    again = Spool(settings.node.data_dir)
    assert {study.uid: study.digest() for study in again.studies()} == digests
    assert again.unfinished.uids() == ["1.2.3"]


def test_it_is_whole_while_the_node_goes_on(config: Path, tmp_path: Path):
    settings, done = load(config), threading.Event()
    spool = Spool(settings.node.data_dir)

    def go_on() -> None:
        number = 0
        with Outbox(settings.node.engine_url) as outbox:
            while not done.is_set():
                number += 1
                spool.study(past_uid(number % 40)).note(Event.RETRIED, attempt=number)
                outbox.put(Item(past_uid(number % 40), f"d{number}", "sr", "pacs"), 600)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        files = [tmp_path / f"{number}.tar" for number in range(3)]
        for file in files:
            archive.backup(settings, config, file)
    finally:
        done.set()
        thread.join()
    shutil.rmtree(tmp_path / "data")
    assert archive.restore(files[-1], config) == 40
    for study in Spool(settings.node.data_dir).studies():
        assert len(study.timeline().entries) >= 6
    with Outbox(settings.node.engine_url) as outbox:
        assert len(outbox.undelivered()) >= 1


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "data/../../outside", "data/link"])
def test_a_file_that_is_no_back_up_writes_nothing_outside(tmp_path: Path, name: str):
    file, config = tmp_path / "bad.tar", tmp_path / "in/node.toml"
    config.parent.mkdir()
    text = b'[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n'
    (tmp_path / "text").write_bytes(text)
    with tarfile.open(file, "w") as tar:
        tar.add(tmp_path / "text", "node.toml")
        member = tarfile.TarInfo(name)
        if name.endswith("link"):
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
        tar.addfile(tarfile.TarInfo(archive.END))
    with pytest.raises(NodeError) as caught:
        archive.restore(file, config)
    assert caught.value.code == "restore_failed"
    assert not list(tmp_path.rglob("outside*"))
    assert not list(tmp_path.rglob("restoring"))


def test_a_part_of_a_back_up_is_refused_and_leaves_nothing(config: Path, tmp_path: Path):
    whole, part = tmp_path / "node.tar", tmp_path / "part.tar"
    archive.backup(load(config), config, whole)
    with tarfile.open(whole) as tar:
        starts = [member.offset for member in tar][1:]
    other = tmp_path / "other"
    other.mkdir()
    for size in (*starts[:: len(starts) // 8], starts[-1], starts[-1] - 100, 3000):
        part.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(NodeError) as caught:
            archive.restore(part, other / "node.toml")
        assert caught.value.code == "restore_failed"
        assert not list(other.iterdir())
    assert archive.restore(whole, other / "node.toml") == 40


def test_a_name_that_is_taken_is_refused(config: Path, tmp_path: Path):
    with pytest.raises(NodeError) as caught:
        archive.backup(load(config), config, config)
    assert (caught.value.code, caught.value.exit_code) == ("output_exists", 2)
    with pytest.raises(NodeError) as caught:
        archive.backup(load(config), config, tmp_path / "none/node.tar")
    assert caught.value.code == "backup_failed"
