"""When a study is complete: the decision as a table and as properties, and the collector over associations."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.studies.collect import Collector, End
from dicom_node.studies.completeness import (
    QUIET_AFTER_FAILURE,
    Arrivals,
    Complete,
    Expired,
    Reason,
    Wait,
    WaitingRules,
    decide,
)
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Ending, Event, State

RULES = WaitingRules(quiet_s=60, deadline_s=1000)


@pytest.mark.parametrize(
    ("now_s", "last_s", "open_associations", "decision"),
    [
        (10, 10, 1, Wait(1000)),
        (10, 10, 0, Wait(70)),
        (69.9, 10, 0, Wait(70)),
        (70, 10, 0, Complete(Reason.QUIET)),
        (70, 10, 1, Wait(1000)),
        (999, 10, 1, Wait(1000)),
        (1000, 10, 1, Complete(Reason.DEADLINE)),
        (1000, 10, 0, Complete(Reason.QUIET)),
        (999, 990, 0, Wait(1000)),
        (1000, 990, 0, Expired()),
        (1000, 990, 1, Expired()),
        (1049.9, 990, 1, Expired()),
        (1050, 990, 1, Complete(Reason.DEADLINE)),
        (1050, 990, 0, Complete(Reason.QUIET)),
        (5000, 4990, 0, Expired()),
    ],
)
def test_the_decision(now_s, last_s, open_associations, decision):
    assert decide(now_s, Arrivals(0, last_s, open_associations, 1), RULES) == decision


@pytest.mark.parametrize(
    ("now_s", "last_s", "open_associations", "failed_s", "decision"),
    [
        (70, 10, 0, 10, Wait(310)),
        (309.9, 10, 0, 10, Wait(310)),
        (310, 10, 0, 10, Complete(Reason.QUIET_AFTER_ABORT)),
        (310, 10, 1, 10, Wait(1000)),
        (400, 10, 0, 200, Wait(500)),  # it timed out: from its end on
        (500, 10, 0, 200, Complete(Reason.QUIET_AFTER_ABORT)),
        (400, 300, 0, 10, Wait(600)),  # another one brought the last instance
        (900, 800, 0, 800, Wait(1000)),  # up to the deadline
        (1000, 800, 0, 800, Complete(Reason.DEADLINE_AFTER_ABORT)),
        (1000, 990, 0, 990, Expired()),
        (1050, 990, 0, 990, Complete(Reason.DEADLINE_AFTER_ABORT)),
        (1000, 10, 1, 10, Complete(Reason.DEADLINE_AFTER_ABORT)),
    ],
)
def test_the_decision_after_an_association_failed(now_s, last_s, open_associations, failed_s, decision):
    assert QUIET_AFTER_FAILURE * RULES.quiet_s == 300
    assert decide(now_s, Arrivals(0, last_s, open_associations, 1, failed_s), RULES) == decision


seconds = st.floats(0, 2000)


@given(seconds, seconds, seconds, st.floats(0.1, 300), seconds, st.integers(0, 2))
def test_a_failure_only_lengthens_the_wait(last_s, since_s, failed_s, quiet_s, longer_s, opened):
    rules = WaitingRules(quiet_s, quiet_s + longer_s)
    now_s = last_s + since_s
    well = decide(now_s, Arrivals(0, last_s, opened, 1), rules)
    failed = decide(now_s, Arrivals(0, last_s, opened, 1, failed_s), rules)
    if isinstance(failed, Complete):
        assert isinstance(well, Complete)
        assert failed.reason.endswith("_after_abort")
    if isinstance(failed, Wait):
        assert now_s < failed.until_s <= rules.deadline_s
        assert not isinstance(decide(failed.until_s, Arrivals(0, last_s, opened, 1, failed_s), rules), Wait)
    # Nobody waits beyond the deadline.
    end_s = max(last_s + rules.quiet_s, rules.deadline_s) + 1
    assert isinstance(decide(end_s, Arrivals(0, last_s, opened, 1, failed_s), rules), Complete)


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
        assert decision == Complete(Reason.QUIET)
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


LOST, RELEASED, OTHER = (
    End(ending, calling, "127.0.0.1")
    for ending, calling in ((Ending.LOST, "PACS"), (Ending.RELEASED, "PACS"), (Ending.RELEASED, "MR"))
)


@pytest.mark.parametrize("ending", [Ending.ABORTED, Ending.LOST, Ending.ABORTED_HERE])
def test_an_association_that_failed_lengthens_the_wait_and_stands_in_the_timeline(bench: Bench, ending: Ending):
    bench.store(1, "1.1")
    bench.collector.closed(1, End(ending, "PACS", "127.0.0.1"))
    assert bench.after(299) == []
    assert bench.after(1) == [("1.1", "quiet_after_abort")]
    failed, collected = bench.spool.study("1.1").timeline()
    assert (failed.event, failed.state) == (Event.ASSOCIATION_FAILED, None)
    assert failed.facts == {"calling": "PACS", "address": "127.0.0.1", "ending": ending, "refused": 0}
    assert (collected.event, collected.facts["reason"]) == (Event.COLLECTED, "quiet_after_abort")


def test_a_sender_that_comes_again_and_ends_well_is_waited_for_no_longer(bench: Bench):
    bench.store(1, "1.1", "9.1")
    bench.collector.closed(1, LOST)
    assert bench.after(100) == []
    bench.store(2, "1.1", "9.1")
    bench.store(2, "1.1", "9.2")
    bench.collector.closed(2, RELEASED)
    assert bench.spool.study("1.1").timeline().events == ["association_failed", "sent_again"]
    assert bench.after(59) == []
    assert bench.after(1) == [("1.1", "quiet")]


def test_a_sender_that_brings_only_what_is_there_already_has_sent_it_again(bench: Bench):
    bench.store(1, "1.1", "9.1")
    bench.collector.closed(1, LOST)
    bench.after(100)
    bench.store(2, "1.1", "9.1")
    bench.collector.closed(2, RELEASED)
    assert bench.after(0) == [("1.1", "quiet")]


def test_another_sender_and_an_association_beside_it_mend_nothing(bench: Bench):
    bench.store(1, "1.1")
    bench.store(2, "1.1")
    bench.after(1)
    bench.collector.closed(1, LOST)
    bench.after(1)
    bench.collector.closed(2, RELEASED)
    bench.store(3, "1.1")
    bench.collector.closed(3, OTHER)
    assert bench.after(299) == []
    assert bench.after(1) == [("1.1", "quiet_after_abort")]


def test_a_sender_that_fails_again_is_waited_for_again(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1, LOST)
    bench.after(200)
    bench.store(2, "1.1", "9.1")
    bench.collector.closed(2, LOST)
    assert bench.after(299) == []
    assert bench.after(1) == [("1.1", "quiet_after_abort")]


@pytest.mark.parametrize("of", ["1.1", None])
def test_an_instance_that_was_refused_lengthens_the_wait(bench: Bench, of: str | None):
    bench.store(1, "1.1")
    bench.collector.refused(1, of)
    bench.collector.closed(1, RELEASED)
    assert bench.after(299) == []
    assert bench.after(1) == [("1.1", "quiet_after_abort")]
    (failed, _) = bench.spool.study("1.1").timeline()
    assert (failed.facts["ending"], failed.facts["refused"]) == ("released", 1)


def test_a_refused_instance_speaks_for_its_study_alone(bench: Bench):
    bench.store(1, "1.1")
    bench.store(1, "1.2")
    bench.collector.refused(1, "1.2")
    bench.collector.closed(1, RELEASED)
    assert bench.after(60) == [("1.1", "quiet")]


def test_an_association_of_which_all_was_refused_counts_for_a_study_that_others_brought(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1, RELEASED)
    bench.collector.refused(2, "1.1")
    assert bench.after(60) == []
    bench.collector.closed(2, RELEASED)
    assert bench.after(299) == []
    assert bench.after(1) == [("1.1", "quiet_after_abort")]


def test_a_study_of_which_nothing_was_stored_is_none(bench: Bench):
    bench.collector.refused(1, "1.1")
    bench.collector.closed(1, LOST)
    bench.collector.refused(2, None)
    bench.collector.closed(2, LOST)
    assert bench.after(1000) == []
    assert bench.spool.studies() == []


def test_a_restart_remembers_who_has_not_come_again(bench: Bench):
    for uid in ("1.1", "1.2"):
        bench.store(1, uid)
    bench.collector.closed(1, LOST)
    bench.after(1)
    bench.store(2, "1.2")
    bench.collector.closed(2, RELEASED)
    bench.collector = bench.fresh()
    bench.collector.resume()
    assert bench.after(60) == [("1.2", "quiet")]
    assert bench.after(239) == [("1.2", "quiet")]
    assert bench.after(1) == [("1.2", "quiet"), ("1.1", "quiet_after_abort")]


def test_a_study_that_was_complete_starts_anew(bench: Bench):
    bench.store(1, "1.1")
    bench.collector.closed(1, LOST)
    bench.after(300)
    bench.store(2, "1.1")
    bench.collector.closed(2, RELEASED)
    assert bench.after(60) == [("1.1", "quiet_after_abort"), ("1.1", "quiet")]
    assert bench.spool.study("1.1").timeline().failing == frozenset()


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
