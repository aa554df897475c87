"""The short forms of `tests.faults`: deaths at random, stops, and orders of arrival."""

from __future__ import annotations

from pathlib import Path

from tests.faults.arrivals import Way, arrivals
from tests.faults.crash import crash_run
from tests.faults.stops import CTRL_C, KILL, TERM, Stops
from tests.support.quick import QuickNode

STUDY = "2.25.81"


def test_random_deaths_cost_nothing(tmp_path: Path):
    toll = crash_run(tmp_path, kills=6, seed=3)
    assert toll.kills.total() == 6
    assert toll.acknowledged >= 5
    assert toll.clean, toll


def test_the_right_report_stands_whatever_the_order_of_arrival(tmp_path: Path):
    outcomes = arrivals(tmp_path, orders=10, seed=3)
    assert {way for outcome in outcomes for way in outcome.ways} == set(Way)
    assert [(outcome.study_uid, outcome.fault) for outcome in outcomes if outcome.fault] == []


def test_a_stop_waits_for_the_step_at_hand_a_second_one_for_nothing_and_both_leave_nothing(tmp_path: Path, sent: Path):
    with QuickNode.made(tmp_path, QUICK_STEP_S="3") as quick:
        node, cases, unsent = quick.node, Stops(quick.node, quick.start), [sent / "one"]

        def reads() -> bool:
            if unsent and cases.ready():
                quick.send(unsent.pop(), STUDY)
            return cases.infers()

        begun = cases.stop("at a step", reads, TERM)
        assert (begun.code, begun.left) == (0, ())
        assert cases.said("stop waits for a step", step=node.steps()[-1])
        assert node.steps() == node.steps("step finished"), "the step at hand was finished, and no other begun"

        hurried = cases.stop("second signal", reads, CTRL_C, TERM)
        assert (hurried.code, hurried.left) == (128 + TERM, ())
        assert hurried.seconds < 10

        assert cases.stop("killed supervisor", cases.infers, KILL).left == ()
        assert "failed" not in node.events(STUDY)
        repeated = [step for step in node.steps() if node.steps().count(step) > 1]
        assert set(repeated) <= {"convert", "strip", "predict"}
