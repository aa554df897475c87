"""When a study is complete: the decision as a table and as properties, and the collector over associations."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.studies.collect import Arrivals, Collector, Complete, Expired, Wait, WaitingRules, decide
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Event, State

RULES = WaitingRules(quiet_s=60, deadline_s=1000)


@pytest.mark.parametrize(
    ("now_s", "last_s", "open_associations", "decision"),
    [
        (10, 10, 1, Wait(1000)),
        (10, 10, 0, Wait(70)),
        (69.9, 10, 0, Wait(70)),
        (70, 10, 0, Complete("quiet")),
        (70, 10, 1, Wait(1000)),
        (999, 10, 1, Wait(1000)),
        (1000, 10, 1, Complete("deadline")),
        (1000, 10, 0, Complete("quiet")),
        (999, 990, 0, Wait(1000)),
        (1000, 990, 0, Expired()),
        (1000, 990, 1, Expired()),
        (1049.9, 990, 1, Expired()),
        (1050, 990, 1, Complete("deadline")),
        (1050, 990, 0, Complete("quiet")),
        (5000, 4990, 0, Expired()),
    ],
)
def test_the_decision(now_s, last_s, open_associations, decision):
    assert decide(now_s, Arrivals(0, last_s, open_associations, 1), RULES) == decision


seconds = st.floats(0, 2000)


@given(seconds, seconds, seconds, st.floats(0.1, 300), seconds, st.integers(0, 2))
def test_properties_of_the_decision(first_s, lasting_s, since_s, quiet_s, longer_s, opened):
    last_s = first_s + lasting_s
    now_s = last_s + since_s
    rules = WaitingRules(quiet_s, quiet_s + longer_s)
    decision = decide(now_s, Arrivals(first_s, last_s, opened, 1), rules)
    quiet = now_s >= last_s + rules.quiet_s
    late = now_s >= first_s + rules.deadline_s
    if isinstance(decision, Complete):
        assert quiet
        assert decision.reason == ("deadline" if opened else "quiet")
    if isinstance(decision, Wait):
        assert not late
        assert decision.until_s > now_s
        at_end = decide(decision.until_s, Arrivals(first_s, last_s, opened, 1), rules)
        assert not isinstance(at_end, Wait)
    if isinstance(decision, Expired):
        assert late
        assert not quiet
    if not opened and quiet:
        assert decision == Complete("quiet")
    # Whatever is open or late, a study that stays quiet long enough is complete.
    end_s = max(last_s + rules.quiet_s, first_s + rules.deadline_s) + 1
    assert isinstance(decide(end_s, Arrivals(first_s, last_s, opened, 1), rules), Complete)


class Bench:
    """A collector with a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.spool = Spool(folder)
        self.submitted: list[tuple[str, str]] = []
        self.failures = 0
        self.collector = self.fresh()
        self.count = 0

    def fresh(self) -> Collector:
        return Collector(self.spool, RULES, self.submit, retry_s=30, clock=lambda: self.now_s)

    def submit(self, study: Study, reason: str, digest: str) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("engine away")
        assert digest == study.digest()
        self.submitted.append((study.uid, reason))

    def store(self, association: int, uid: str, instance: str | None = None) -> Outcome:
        self.count += 1
        outcome = self.spool.store(uid, instance or f"9.{self.count}", b"x").outcome
        self.collector.stored(association, uid, outcome)
        return outcome

    def after(self, seconds: float) -> list[tuple[str, str]]:
        self.now_s += seconds
        self.collector.turn()
        return self.submitted


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "data")


def test_quiet_completes_and_is_noted_once(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1)
    assert bench.after(59) == []
    assert bench.after(1) == [("1.1", "quiet")]
    assert bench.after(1000) == [("1.1", "quiet")]
    study = bench.spool.study("1.1")
    (entry,) = [entry for entry in study.timeline() if entry.event == "collected"]
    assert (entry.facts["reason"], entry.facts["digest"], entry.facts["instances"]) == ("quiet", study.digest(), 1)


def test_several_associations_make_one_study(bench: Bench):
    bench.store(1, "1.1")
    bench.store(2, "1.1")
    bench.collector.closed(1)
    assert bench.after(100) == []
    bench.store(3, "1.1")
    bench.collector.closed(2)
    bench.collector.closed(3)
    assert bench.after(59) == []
    assert bench.after(2) == [("1.1", "quiet")]


def test_one_association_may_carry_several_studies(bench: Bench):
    bench.store(1, "1.1")
    bench.store(1, "1.2")
    assert bench.after(100) == []
    bench.collector.closed(1)
    assert bench.after(1) == [("1.1", "quiet"), ("1.2", "quiet")]


def test_an_association_that_never_ends_does_not_hold_a_study_for_ever(bench: Bench):
    bench.store(1, "1.1")
    assert bench.after(999) == []
    assert bench.after(1) == [("1.1", "deadline")]


def test_a_study_that_goes_on_past_the_deadline_is_shown_and_collected_later(bench: Bench):
    for _ in range(25):
        bench.store(1, "1.1")
        assert bench.after(50) == []
    study = bench.spool.study("1.1")
    assert study.state() == "arriving_late"
    assert study.timeline().events.count("deadline") == 1
    assert bench.after(60) == [("1.1", "deadline")]


def test_duplicates_restart_nothing(bench: Bench):
    bench.store(1, "1.1", "9.1")
    bench.collector.closed(1)
    bench.now_s += 50
    assert bench.store(2, "1.1", "9.1") is Outcome.SAME
    bench.collector.closed(2)
    assert bench.after(10) == [("1.1", "quiet")]
    bench.store(3, "1.1", "9.1")
    bench.collector.closed(3)
    assert bench.after(1000) == [("1.1", "quiet")]


def test_late_instances_complete_the_study_again(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1)
    bench.after(60)
    bench.store(2, "1.1")
    bench.collector.closed(2)
    assert len(bench.after(60)) == 2


def test_late_instances_do_not_change_the_state_of_a_study_that_is_read(bench: Bench):
    bench.store(1, "1.1")
    bench.spool.study("1.1").note(Event.DELIVERED, State.DELIVERED)
    bench.after(990)
    bench.store(1, "1.1")
    bench.after(20)
    assert bench.spool.study("1.1").state() == "delivered"


def test_a_failed_submission_is_tried_again(bench: Bench):
    bench.failures = 2
    bench.store(1, "1.1")
    bench.collector.closed(1)
    assert bench.after(60) == []
    assert bench.after(29) == []
    assert bench.after(1) == []
    assert bench.after(30) == [("1.1", "quiet")]


def test_an_instance_that_comes_during_submission_is_not_lost(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1)
    during = bench.collector._submit

    def submit(study: Study, reason: str, digest: str) -> None:
        during(study, reason, digest)
        bench.collector._submit = during
        bench.store(2, "1.1")
        bench.collector.closed(2)

    bench.collector._submit = submit
    assert len(bench.after(60)) == 1
    assert len(bench.after(59)) == 1
    assert len(bench.after(1)) == 2


def test_a_restart_takes_up_what_was_not_collected(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1)
    bench.after(60)
    bench.store(2, "1.2")
    bench.collector = bench.fresh()
    bench.collector.resume()
    assert bench.after(60) == [("1.1", "quiet"), ("1.2", "quiet")]


def test_the_loop_runs_in_its_own_thread(tmp_path: Path):
    spool = Spool(tmp_path / "data")
    spool.store("1.1", "9.1", b"x")
    submitted = []

    def submit(study: Study, reason: str, _digest: str) -> None:
        submitted.append((study.uid, reason))

    collector = Collector(spool, WaitingRules(0.1, 10), submit)
    collector.start()
    for _ in range(100):
        if submitted:
            break
        collector._stopping.wait(0.05)
    collector.stop()
    assert submitted == [("1.1", "quiet")]
