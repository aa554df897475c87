"""One fsync keeps an instance: whatever a power failure leaves of names and contents, a start makes it whole."""

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from dicom_node.errors import SpoolError, SpoolFull
from dicom_node.studies import copies, retention
from dicom_node.studies.seal import ROOM, read_seal
from dicom_node.studies.spool import Outcome, Spool, Stored

STUDY = "1.2.3.4"
META = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(ROOM).to_bytes(4, "little") + ROOM


def receive(spool: Spool, study: str, instance: str, data_set: bytes) -> Stored:
    with spool.receive() as incoming:
        incoming.write_meta(META)
        for start in range(0, len(data_set), 1000):
            incoming.write(data_set[start : start + 1000])
        return spool.keep(incoming, study, instance)


def data_set(file: Path) -> bytes:
    return file.read_bytes()[len(META) :]


def incoming(spool: Spool) -> list[Path]:
    return sorted((spool.data_dir / "spool" / "incoming").iterdir())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


class StrictDisk:
    """A disk that keeps no more than it was asked to: contents as last fsynced, names as their folder last was."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.contents: dict[int, bytes] = {}
        self.names: dict[Path, dict[str, int]] = {}
        self.syncs = 0
        monkeypatch.setattr("os.fsync", self.fsync)

    def fsync(self, file: int) -> None:
        self.syncs += 1
        path = Path(f"/proc/self/fd/{file}")
        if not path.is_dir():
            self.contents[path.stat().st_ino] = path.read_bytes()
            return
        path = path.readlink()
        self.names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        for entry in os.scandir(path):
            if entry.is_file() and not entry.stat().st_size:
                self.contents[entry.inode()] = b""

    def after_a_power_failure(self, target: Path) -> Path:
        """Write what is left; of a file whose content was not fsynced, the first half."""
        shutil.rmtree(target, ignore_errors=True)
        live = {path.stat().st_ino: path for path in self.root.rglob("*") if path.is_file()}
        written: dict[int, Path] = {}
        folders = [self.root]
        for folder in folders:
            there = target / folder.relative_to(self.root)
            there.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, inode in self.names.get(folder, {}).items():
                if (folder / name).is_dir():
                    folders.append(folder / name)
                elif inode in written:
                    os.link(written[inode], there / name)
                else:
                    torn = live[inode].read_bytes()[: live[inode].stat().st_size // 2] if inode in live else b""
                    (there / name).write_bytes(self.contents.get(inode, torn))
                    written[inode] = there / name
        return target


@pytest.mark.parametrize("seed", range(2))
def test_a_power_failure_at_any_moment_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    chance = random.Random(seed)
    disk = StrictDisk(tmp_path / "data", monkeypatch)
    spool = Spool(tmp_path / "data")
    acknowledged: dict[tuple[str, str], list[bytes]] = {}
    sent: set[bytes] = set()

    def cut() -> None:
        monkeypatch.setattr("os.fsync", lambda _: None)
        left = Spool(disk.after_a_power_failure(tmp_path / "left"))
        left.clean()
        check(left)
        monkeypatch.setattr("os.fsync", fsync)

    def check(left: Spool) -> None:
        assert incoming(left) == []
        for (study, instance), contents in acknowledged.items():
            kept = [path for path in left.study(study).instances() if path.stem.partition("~")[0] == instance]
            assert set(contents) <= {data_set(path) for path in kept}
            assert study in left.unfinished
            order = [path for path in copies.received(left.folder(study)) if path.stem.partition("~")[0] == instance]
            if len(set(contents)) > 1 and len(kept) == len(set(contents)):
                assert data_set(order[-1]) == contents[-1]
        for left_study in left.studies():
            assert {data_set(path) for path in left_study.instances()} <= sent

    def fsync(file: int) -> None:
        disk.fsync(file)
        cut()

    monkeypatch.setattr("os.fsync", fsync)
    for _ in range(14):
        study, instance = f"{STUDY}.{chance.randrange(2)}", f"1.5.{chance.randrange(9)}"
        content = bytes([chance.randrange(1, 3)]) * chance.choice((10, 5000))
        sent.add(content)
        outcome = receive(spool, study, instance, content).outcome
        if outcome is Outcome.SAME:
            assert content in acknowledged[study, instance]
        else:
            acknowledged.setdefault((study, instance), []).append(content)
        cut()
        if chance.random() < 0.2:
            spool.rest()
            cut()


def test_one_fsync_keeps_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk = StrictDisk(tmp_path / "data", monkeypatch)
    spool = Spool(tmp_path / "data")
    receive(spool, STUDY, "1.1", b"pixels")
    before = disk.syncs
    for number in range(2, 202):
        receive(spool, STUDY, f"1.{number}", b"pixels")
    assert disk.syncs - before <= 200 + 12  # slots are made for 64 at once, and folders fsynced for as many


def test_nothing_is_left_in_the_way_at_rest(spool: Spool):
    stored = receive(spool, STUDY, "1.1", b"pixels")
    assert incoming(spool)
    spool.rest()
    assert incoming(spool) == []
    assert data_set(stored.path) == b"pixels"
    assert stored.path.stat().st_nlink == 1
    assert receive(spool, STUDY, "1.1", b"pixels").outcome is Outcome.SAME


def named_by_its_slot_alone(spool: Spool, content: bytes = b"pixels") -> Path:
    """Leave what a power failure may leave: the instance is whole, and its name in the study is gone."""
    stored = receive(spool, STUDY, "1.1", content)
    slot = next(path for path in incoming(spool) if path.samefile(stored.path))
    stored.path.unlink()
    return slot


@pytest.fixture
def again(spool: Spool) -> Spool:
    named_by_its_slot_alone(spool)
    return Spool(spool.data_dir)


def test_a_start_gives_an_instance_its_name_again_and_has_it_collected(again: Spool):
    (again.data_dir / "collecting" / STUDY).unlink()
    assert again.clean() == 0
    assert [data_set(path) for path in again.study(STUDY).instances()] == [b"pixels"]
    assert STUDY in again.unfinished
    assert incoming(again) == []


@pytest.mark.parametrize("damage", ["cut off", "longer", "another byte", "no seal", "no meta"])
def test_what_is_not_whole_is_removed(spool: Spool, damage: str):
    slot = named_by_its_slot_alone(spool)
    content = slot.read_bytes()
    slot.write_bytes(
        {
            "cut off": content[:-1],
            "longer": content + b"\0",
            "another byte": content[:-3] + b"X" + content[-2:],
            "no seal": META + b"pixels",
            "no meta": content[:100],
        }[damage]
    )
    assert read_seal(slot) is None
    again = Spool(spool.data_dir)
    assert again.clean() == 1
    assert again.study(STUDY).instances() == []
    assert incoming(again) == []


def test_two_contents_under_one_uid_are_both_put_in_place(spool: Spool):
    first = named_by_its_slot_alone(spool)
    second = named_by_its_slot_alone(spool, b"others")
    assert first != second
    again = Spool(spool.data_dir)
    again.clean()
    assert {data_set(path) for path in again.study(STUDY).instances()} == {b"pixels", b"others"}
    assert len(copies.received(again.folder(STUDY))) == 2


def test_what_was_removed_does_not_come_again(spool: Spool):
    receive(spool, STUDY, "1.1", b"pixels")
    other_process = Spool(spool.data_dir)
    assert retention.remove_study(other_process, other_process.study(STUDY))
    again = Spool(spool.data_dir)
    again.clean()
    assert STUDY not in again
    spool.settle()
    assert receive(spool, STUDY, "1.1", b"pixels").outcome is Outcome.NEW


def test_slots_that_somebody_removed_are_made_anew(spool: Spool):
    receive(spool, STUDY, "1.1", b"pixels")
    spool.settle()
    shutil.rmtree(spool.data_dir / "spool" / "incoming")
    assert receive(spool, STUDY, "1.2", b"pixels").outcome is Outcome.NEW


@pytest.mark.parametrize(("number", "error"), [(errno.EROFS, SpoolError), (errno.ENOSPC, SpoolFull)])
def test_a_disk_that_refuses_at_the_start_is_named_and_nothing_is_lost(
    again: Spool, monkeypatch: pytest.MonkeyPatch, number: int, error: type[SpoolError]
):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr("os.link", refuse)
        with pytest.raises(error):
            again.clean()
    Spool(again.data_dir).clean()
    assert len(again.study(STUDY).instances()) == 1
