"""Work under way: what a stop waits for, what counts as a crash, and what a full disk puts back."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import pytest

from dicom_node.engine import underway
from dicom_node.engine.underway import MAX_CRASHES, CrashedTooOften, PutBack, Underway, is_full
from dicom_node.errors import DatabaseUnusable, SpoolError, SpoolFull, StudyUnknown
from dicom_node.studies.spool import Spool
from tests.support.services import wait_for

STUDY, WORK = "2.25.41", "2.25.41.work"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "data")
    spool.store(STUDY, "2.25.42", b"content")
    return spool


def crash(spool: Spool, *steps: str) -> None:
    """Begin work as a process that is killed in the middle: nothing of it is told that it ends."""
    work = Underway(spool)
    begun = work.work(STUDY, WORK)
    begun.__enter__()
    for step in steps:
        with work.step(WORK, step):
            pass
    work.step(WORK, "killed").__enter__()
    # Never closed: a generator that is collected would clean up.
    _KILLED.append((begun, work))


_KILLED: list[object] = []


def begins(work: Underway) -> bool:
    try:
        with work.work(STUDY, "2.25.41.other"):
            return True
    except PutBack:
        return False


def begin(spool: Spool) -> None:
    with Underway(spool).work(STUDY, WORK):
        pass


def test_work_that_crashes_again_and_again_is_set_aside_and_may_be_retried(spool: Spool):
    for _ in range(MAX_CRASHES + 1):
        crash(spool)
    with pytest.raises(CrashedTooOften):
        begin(spool)
    begin(spool)


def test_a_step_that_is_finished_is_progress(spool: Spool):
    for _ in range(3 * MAX_CRASHES):
        crash(spool, "convert")
    begin(spool)


def test_a_cut_file_counts_as_one_crash(spool: Spool):
    crash(spool)
    (file,) = (spool.study(STUDY).folder / "begun").iterdir()
    file.write_bytes(b"\xff")
    begin(spool)


def test_what_ends_in_order_is_no_crash(spool: Spool):
    for _ in range(3 * MAX_CRASHES):
        with pytest.raises(ZeroDivisionError), Underway(spool).work(STUDY, WORK):
            raise ZeroDivisionError
        stopped = Underway(spool)
        begun = stopped.work(STUDY, WORK)
        begun.__enter__()
        stopped.forgive()
        _KILLED.append(begun)
    begin(spool)
    assert list((spool.study(STUDY).folder / "begun").iterdir()) == []


def test_the_end_waits_for_the_step_that_runs_and_begins_no_other(spool: Spool):
    work, in_step, go_on, met = Underway(spool), threading.Event(), threading.Event(), []

    def read() -> None:
        with work.work(STUDY, WORK):
            with work.step(WORK, "predict"):
                in_step.set()
                go_on.wait(20)
            met.append("finished")
            try:
                with work.step(WORK, "report"):
                    met.append("begun")
            except PutBack:
                met.append("put back")

    reader = threading.Thread(target=read)
    reader.start()
    in_step.wait(20)
    ender = threading.Thread(target=work.end, args=(20,))
    ender.start()
    wait_for(lambda: not begins(work), 20, "the end of beginning")
    assert ender.is_alive()
    go_on.set()
    ender.join(20)
    reader.join(20)
    assert met == ["finished", "put back"]
    assert WORK not in work


def test_the_end_does_not_wait_beyond_its_limit(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(underway, "_UNWINDING_S", 0.0)
    work = Underway(spool)
    begun = work.work(STUDY, WORK)
    begun.__enter__()
    hangs = work.step(WORK, "hangs")
    hangs.__enter__()
    work.end(0.1)
    assert list((spool.study(STUDY).folder / "begun").iterdir()) == [], "an end that was asked for is no crash"
    _KILLED.extend((begun, hangs))


def test_work_runs_once_in_a_process(spool: Spool):
    work = Underway(spool)
    with work.work(STUDY, WORK):
        with pytest.raises(PutBack), work.work(STUDY, WORK):
            pass
        assert WORK in work


def test_a_removed_study_is_unknown(spool: Spool):
    shutil.rmtree(spool.study(STUDY).folder)
    with pytest.raises(StudyUnknown):
        begin(spool)


def test_one_worker_at_a_time_is_at_a_study(spool: Spool):
    one, other, done = Underway(spool), Underway(spool), []

    def read() -> None:
        with other.alone(STUDY):
            done.append("other")

    with one.alone(STUDY):
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.3)
        assert done == []
    reader.join(20)
    assert done == ["other"]


def full(cause: OSError) -> SpoolError:
    try:
        raise SpoolError("It refuses.") from cause
    except SpoolError as error:
        return error


def test_a_database_that_is_away_is_no_fault_of_a_study(spool: Spool):
    work = Underway(spool)
    with pytest.raises(PutBack), work.work(STUDY, WORK):
        work.put_back_if_it_passes(STUDY, DatabaseUnusable("It is away."))
    work.put_back_if_it_passes(STUDY, ValueError("shape"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (SpoolFull("The disk is full."), True),
        (full(OSError(errno.ENOSPC, "No space left on device")), True),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("shape"), False),
    ],
)
def test_a_full_disk_is_told_from_other_faults(spool: Spool, error: Exception, expected: bool):
    assert is_full(error) is expected
    work = Underway(spool)
    with pytest.raises(PutBack if expected else type(error)), work.work(STUDY, WORK), work.step(WORK, "report"):
        raise error
