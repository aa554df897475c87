"""The spool: nothing half-written, nothing overwritten, nothing outside its folder."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import SpoolError, SpoolFull, StudyUnknown
from dicom_node.studies.spool import Outcome, Spool
from dicom_node.studies.timeline import Event, State
from models.contrast import Contrast

STUDY, INSTANCE = "1.2.3.4", "1.2.3.4.5"


def part10(data_set: bytes, meta: bytes = b"meta") -> bytes:
    return bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta + data_set


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


def test_an_instance_is_kept_under_its_uids(spool: Spool):
    stored = spool.store(STUDY, INSTANCE, part10(b"pixels"))
    assert stored.outcome is Outcome.NEW
    assert stored.path == spool.data_dir / "spool" / STUDY / "instances" / f"{INSTANCE}.dcm"
    assert stored.path.read_bytes() == part10(b"pixels")
    assert spool.study(STUDY).instances() == [stored.path]


def test_the_data_folder_is_private(spool: Spool):
    stored = spool.store(STUDY, INSTANCE, part10(b"pixels"))
    assert stat.S_IMODE(spool.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600


def test_an_open_folder_of_somebody_else_is_refused(tmp_path: Path):
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home").chmod(0o755)
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(SpoolError, match="empty one") as caught:
        Spool(tmp_path / "home")
    assert caught.value.code == "spool_unusable"
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o755


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "data").touch()
    with pytest.raises(SpoolError, match="cannot be used"):
        Spool(tmp_path / "data")


def test_the_same_data_set_again_is_the_same_whatever_the_file_meta(spool: Spool):
    spool.store(STUDY, INSTANCE, part10(b"pixels"))
    again = spool.store(STUDY, INSTANCE, part10(b"pixels", meta=b"another sender"))
    assert again.outcome is Outcome.SAME
    assert len(spool.study(STUDY).instances()) == 1


def test_other_bytes_under_the_same_uid_are_kept_beside_it(spool: Spool):
    first = spool.store(STUDY, INSTANCE, part10(b"pixels"))
    other = spool.store(STUDY, INSTANCE, part10(b"other pixels"))
    assert other.outcome is Outcome.CONFLICT
    assert other.path.name.startswith(f"{INSTANCE}~")
    assert len(other.path.stem.partition("~")[2]) == 16
    assert first.path.read_bytes() == part10(b"pixels")
    assert spool.store(STUDY, INSTANCE, part10(b"other pixels")).outcome is Outcome.SAME
    assert len(spool.study(STUDY).instances()) == 2


@pytest.mark.parametrize(
    "uid", ["", ".", "..", "../1.2", "1..2", "1.2.", ".1", "1.2/3", "1.2\n", "a", "1" * 65, "１.２"]
)
def test_what_is_no_uid_never_becomes_a_name(spool: Spool, uid: str):
    for uids in ((uid, INSTANCE), (STUDY, uid)):
        with pytest.raises(SpoolError) as caught:
            spool.store(*uids, part10(b"pixels"))
        assert caught.value.code == "uid_invalid"
    assert spool.studies() == []
    with pytest.raises(SpoolError):
        spool.study(uid)


def test_sixteen_writers_of_one_uid_lose_nothing(spool: Spool):
    contents = [part10(bytes([number % 4]) * 50_000) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        outcomes = [stored.outcome for stored in pool.map(lambda c: spool.store(STUDY, INSTANCE, c), contents)]
    kept = spool.study(STUDY).instances()
    assert {path.read_bytes() for path in kept} == set(contents)
    assert (outcomes.count(Outcome.NEW), len(kept)) == (1, 4)
    assert outcomes.count(Outcome.CONFLICT) >= 3  # a copy that becomes the newest once more is news again
    assert not list((spool.data_dir / "spool" / STUDY / "instances").glob("*.part"))


def test_the_reserve_is_not_touched(tmp_path: Path):
    spool = Spool(tmp_path / "data", reserve_bytes=1 << 62)
    with pytest.raises(SpoolFull, match="free space") as caught:
        spool.store(STUDY, INSTANCE, part10(b"pixels"))
    assert caught.value.code == "disk_full"
    assert spool.studies() == []


def test_leftovers_of_a_crash_are_never_listed_and_are_cleaned(spool: Spool):
    stored = spool.store(STUDY, INSTANCE, part10(b"pixels"))
    of_an_older_version = stored.path.with_name(f"{INSTANCE}.dcm.7-0123456789abcdef.part")
    of_an_older_version.write_bytes(b"half")
    leftover = spool.receive()
    leftover.write(b"half")
    digest = spool.study(STUDY).digest()
    assert spool.study(STUDY).instances() == [stored.path]
    assert spool.clean() == 1
    leftover.discard()
    assert spool.study(STUDY).digest() == digest


def test_a_study_folder_that_was_removed_is_made_again(spool: Spool):
    stored = spool.store(STUDY, INSTANCE, part10(b"pixels"))
    stored.path.unlink()
    stored.path.parent.rmdir()
    stored.path.parent.parent.rmdir()
    assert spool.store(STUDY, INSTANCE, part10(b"pixels")).outcome is Outcome.NEW


def test_studies_are_listed_and_unknown_ones_refused(spool: Spool):
    for uid in ("1.2.10", "1.2.9"):
        spool.store(uid, INSTANCE, part10(b"pixels"))
    (spool.data_dir / "spool" / "lost+found").mkdir()
    assert [study.uid for study in spool.studies()] == ["1.2.10", "1.2.9"]
    with pytest.raises(StudyUnknown) as caught:
        spool.study("9.9")
    assert caught.value.code == "study_unknown"


def test_the_digest_depends_on_names_and_bytes_only(tmp_path: Path):
    digests = []
    for folder, instances in (("a", "12"), ("b", "21"), ("c", "13")):
        spool = Spool(tmp_path / folder)
        for number in instances:
            spool.store(STUDY, f"1.{number}", part10(number.encode()))
        digests.append(spool.study(STUDY).digest())
    assert digests[0] == digests[1] != digests[2]


def test_the_timeline_keeps_facts_and_the_last_state(spool: Spool):
    spool.store(STUDY, INSTANCE, part10(b"pixels"))
    study = spool.study(STUDY)
    assert (study.timeline().events, study.state()) == ([], "receiving")
    study.note(Event.QUEUED, State.QUEUED, path=Path("x"))
    study.note(Event.RELEASED)
    assert study.timeline().events == ["queued", "released"]
    assert str(study.timeline().entries[0].as_json()["time"]).endswith("+00:00")
    assert study.state() == "queued"


def test_a_line_cut_off_by_a_power_failure_harms_no_other(spool: Spool):
    spool.store(STUDY, INSTANCE, part10(b"pixels"))
    study = spool.study(STUDY)
    study.note(Event.ASSOCIATION)
    with (study.folder / "timeline.jsonl").open("a") as file:
        file.write('{"time": "2026')
    study.note(Event.READ, State.HELD)
    assert study.timeline().events == ["association", "read"]


def test_many_writers_of_a_timeline_keep_every_line(spool: Spool):
    spool.store(STUDY, INSTANCE, part10(b"pixels"))
    study = spool.study(STUDY)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: study.note(Event.ASSOCIATION, number=number), range(80)))
    numbers: list[Any] = [entry.facts["number"] for entry in study.timeline()]
    assert sorted(numbers) == list(range(80))


def test_a_run_folder_stays_inside_the_study(spool: Spool):
    spool.store(STUDY, INSTANCE, part10(b"pixels"))
    study = spool.study(STUDY)
    assert study.run_folder("0a1b") == study.folder / "runs" / "0a1b"
    with pytest.raises(SpoolError):
        study.run_folder("../escape")


def test_choices_of_a_human_are_kept_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    spool.store(STUDY, INSTANCE, part10(b"pixels"))
    study = spool.study(STUDY)
    assert study.choices() == {}
    study.choose({Contrast.T2W: "1.2.3"})
    study.choose({Contrast.FLAIR: "1.2.4"})
    assert spool.study(STUDY).choices() == {Contrast.FLAIR: "1.2.4"}

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError):
        study.choose({Contrast.T1W: "1.2.5"})
    assert study.choices() == {Contrast.FLAIR: "1.2.4"}
