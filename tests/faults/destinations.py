"""What a destination may do to a delivery, and what becomes of it: ``python -m tests.faults.destinations``.

Every case is a node with a receiver and an outbox, a destination that misbehaves until it is mended, and another one
that is well. The table tells what failed, how long after the mending the object was proved, how often the object came
and was taken, and after how long the other destination had its own.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from pydicom import dcmread
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicom_node.engine.waking import wake
from dicom_node.net import association
from dicom_node.net.held_port import held_port
from dicom_node.studies.standings import SET_ASIDE, Standing
from tests.support.delivering import Sender, scored_study, sender
from tests.support.destinations import STORED, SUCCESS, Destination, cut, first, silent
from tests.support.services import Orthanc, end, wait_for

UID = "2.25.777"
SHORT_S = 1.5
"""In place of the minutes that a peer has to answer."""
_COMMITMENT_S = 1.5
_TIMES = f"retry_s = 0.3\ncommitment_timeout_s = {_COMMITMENT_S}\n"
_DONE = ("verified", "accepted")


@dataclass
class Case:
    """One destination that misbehaves."""

    node: Sender
    folder: Path
    running: ExitStack
    mended_s: float = 0.0
    hanging: ExitStack = field(default_factory=ExitStack)

    @property
    def pacs(self) -> Destination:
        return self.node.destinations["pacs"]

    def work(self) -> None:
        """Deliver from here on."""
        scored_study(self.node.spool, UID)
        self.node.address(UID)
        self.running.enter_context(self.node.working())

    def fails(self, code: str, times: int = 1) -> None:
        """Wait until a delivery failed so."""
        wait_for(lambda: self.codes().count(code) >= times, 60, f"{times} x {code}, not {self.codes()}", poll_s=0.02)

    def codes(self) -> list[str]:
        return [
            entry.code
            for entry in self.node.spool.study(UID).timeline()
            if entry.event in ("send_failed", "verify_failed") and entry.delivery.peer == "pacs"
        ]

    def mended(self) -> None:
        self.mended_s = time.monotonic()


def mend(code: str, times: int = 1, **changes: object) -> Callable[[Case], None]:
    """Return a case that fails with a code until the destination changes."""

    def run(case: Case) -> None:
        case.work()
        case.fails(code, times)
        case.mended()
        case.pacs.again(**changes)

    return run


def itself(case: Case) -> None:
    """Let it be mended by itself."""
    case.mended()
    case.work()


@dataclass(frozen=True)
class Behaviour:
    """What a destination does, and what must come of it.

    Attributes
    ----------
    name
        In the table.
    begin
        What it does from the start.
    run
        Delivers, and mends the destination.
    code
        Of the failure that is noted; empty for none.
    came
        How often the object may come at most; it is taken once.
    peer
        Lines of its configuration.
    """

    name: str
    begin: Callable[[Case], None]
    run: Callable[[Case], None] = itself
    code: str = ""
    came: int = 1
    peer: str = ""
    outcome: Sequence[str] = ("verified",)
    taken: int = 1


def does(**changes: object) -> Callable[[Case], None]:
    return lambda case: case.pacs.again(**changes)


def stores(then: Callable[..., int], times: int = 1) -> Callable[[Case], None]:
    return lambda case: case.pacs.again(store=first(times, then))


def _down(case: Case) -> None:
    case.pacs.down()


def _hangs(case: Case) -> None:
    """Accept connections and say nothing."""
    case.pacs.down()
    case.running.enter_context(case.hanging).enter_context(silent(case.pacs.port))


def _answers_again(case: Case) -> None:
    case.work()
    case.fails("association_unanswered")
    case.hanging.close()
    case.mended()
    case.pacs.up()


def _cuts(case: Case) -> None:
    """Cut the connection inside a PDU."""
    case.pacs.down()
    port, case.pacs.port = case.pacs.port, case.running.enter_context(held_port())
    case.pacs.up()
    wire = case.running.enter_context(ExitStack())
    wire.enter_context(cut(port, case.pacs.port, 50_000))
    case.work()
    case.fails("peer_broke_off", 2)
    wire.close()
    case.pacs.down()
    case.pacs.port = port
    case.mended()
    case.pacs.up()


def _hang(event: object) -> int:
    time.sleep(2 * SHORT_S)
    return SUCCESS


def _abort(event: object) -> int:
    event.assoc.abort()  # type: ignore[attr-defined]
    return SUCCESS


def _retried(case: Case) -> None:
    """Set aside, mended, and woken by somebody."""
    case.work()
    case.node.wait(UID, "pacs", *SET_ASIDE)
    case.pacs.again(store=lambda _: SUCCESS)
    case.mended()
    wake(case.node.config, case.node.spool, waiting=False)


def _late(case: Case) -> None:
    """Report the first request after its time, and no other."""
    case.work()
    case.fails("commitment_timeout")
    transaction = case.pacs.asked[0]
    case.pacs.outcome = lambda uids: (uids, {})
    case.mended()
    case.pacs.report(*transaction)


def _after_giving_up(case: Case) -> None:
    case.work()
    case.node.wait(UID, "pacs", *SET_ASIDE, timeout_s=90)
    case.pacs.outcome = lambda uids: (uids, {})
    case.mended()
    case.pacs.report(*case.pacs.asked[0])


def _after_a_kill(case: Case) -> None:
    """Kill the worker while a commitment is outstanding; the result comes when nobody is there."""
    scored_study(case.node.spool, UID)
    case.node.address(UID)
    with case.node.working_apart() as worker:
        case.node.wait(UID, "pacs", "sent")
        wait_for(lambda: case.pacs.asked, 60, "the request")
        worker.kill()
        worker.wait()
    case.pacs.outcome = lambda uids: (uids, {})
    case.pacs.report(*case.pacs.asked[0])
    case.mended()
    case.running.enter_context(case.node.working())


def _killed_in_the_middle(case: Case) -> None:
    """Kill the worker inside of a C-STORE."""
    scored_study(case.node.spool, UID)
    case.node.address(UID)
    with case.node.working_apart() as worker:
        wait_for(lambda: case.pacs.came, 60, "the object")
        worker.kill()
        worker.wait()
    case.mended()
    case.running.enter_context(case.node.working())


def _stopped_often(case: Case) -> None:
    """Stop the worker six times while the destination is away."""
    scored_study(case.node.spool, UID)
    case.node.address(UID)
    for stop in range(1, 7):
        with case.node.working_apart() as worker:
            case.fails("peer_unreachable", stop)
            end(worker)
    case.mended()
    case.pacs.up()
    case.running.enter_context(case.node.working())


def _one_of_many(case: Case) -> None:
    """Refuse one object for ever: five later ones must pass."""
    study = scored_study(case.node.spool, "2.25.778")
    refused = {str(uid) for uid in _uids(study.folder)}
    case.pacs.store = lambda event: 0x0110 if str(event.dataset.SOPInstanceUID) in refused else SUCCESS
    case.node.address(study.uid)
    case.running.enter_context(case.node.working())
    wait_for(lambda: case.node.standing(study.uid, "pacs").code, 60, "the refusal")
    case.mended()
    others = [f"2.25.78{number}" for number in range(4)]
    for uid in others:
        scored_study(case.node.spool, uid)
        case.node.address(uid)
    scored_study(case.node.spool, UID)
    case.node.address(UID)
    for uid in others:
        case.node.wait(uid, "pacs", "verified")


def _uids(folder: Path) -> Iterator[str]:
    for path in folder.glob("runs/*/*.dcm"):
        yield dcmread(path, stop_before_pixels=True).SOPInstanceUID


def _orthanc(case: Case) -> None:
    case.pacs.down()
    case.running.enter_context(Orthanc.on_port(case.folder, case.pacs.node_port, case.pacs.port))


def _denies(times: int, reason: int) -> Callable[[list[str]], tuple[list[str], dict[str, int]]]:
    left = itertools.count(1)
    return lambda uids: ([], dict.fromkeys(uids, reason)) if next(left) <= times else (uids, {})


def _silent_about(times: int) -> Callable[[list[str]], tuple[list[str], dict[str, int]]]:
    left = itertools.count(1)
    return lambda uids: ([], {}) if next(left) <= times else (uids, {})


def _nothing(_: list[str]) -> None:
    return None


def _listed_late(times: int) -> Callable[..., list[dict[str, str]]]:
    left = itertools.count(1)
    return lambda stored: [] if next(left) <= times else [{"SOPInstanceUID": uid} for uid in stored]


ALL = Destination(0, 0).services
_FIND = 'verify = "find"'
BEHAVIOURS = (
    Behaviour("well", does()),
    Behaviour("well: a real Orthanc", _orthanc, taken=0, came=0),
    Behaviour("refuses the connection, comes back", _down, mend("peer_unreachable", 2), "peer_unreachable"),
    Behaviour("does not know our title, then does", does(calling="OTHER"),
              mend("association_rejected", 2, calling="TSCNODE"), "association_rejected"),
    Behaviour("is called by another title, then its own", does(called="OTHER"),
              mend("association_rejected", 2, called="PACS"), "association_rejected"),
    Behaviour("accepts the connection and hangs", _hangs, _answers_again, "association_unanswered"),
    Behaviour("hangs in the answer to C-STORE, once", stores(_hang), code="peer_broke_off", came=2, taken=2),
    Behaviour("connection cut inside a PDU, twice", does(), _cuts, "peer_broke_off"),
    Behaviour("aborts in C-STORE, twice", stores(_abort, 2), code="peer_broke_off", came=3, taken=3),
    Behaviour("0110H processing failure, twice", stores(lambda _: 0x0110, 2), code="store_refused", came=3),
    Behaviour("0122H for every class, once", stores(lambda _: 0x0122, 2), code="store_refused", came=2),
    Behaviour("A700H out of resources, twice", stores(lambda _: 0xA700, 2), code="store_refused", came=3),
    Behaviour("A900H refuses the object; mended and retried", does(store=lambda _: 0xA900), _retried,
              "store_refused", came=2),
    Behaviour("B007H warning", does(store=lambda _: 0xB007)),
    Behaviour("0111H duplicate", does(store=lambda _: 0x0111)),
    Behaviour("takes only a lower class", does(services=[kind for kind in ALL if kind != STORED[0]])),
    Behaviour("takes no report at all, then does", does(services=ALL[2:]),
              mend("sop_class_refused", services=ALL), "sop_class_refused"),
    Behaviour("refuses one object for ever, five others pass", does(), _one_of_many),
    Behaviour("does not offer commitment, then does",
              does(services=[kind for kind in ALL if kind != StorageCommitmentPushModel]),
              mend("commitment_unsupported", 2, services=ALL), "commitment_unsupported"),
    Behaviour("commitment never comes, then does", does(outcome=_nothing),
              mend("commitment_timeout", outcome=lambda uids: (uids, {})), "commitment_timeout"),
    Behaviour("commitment comes late, for an earlier request", does(outcome=_nothing), _late, "commitment_timeout"),
    Behaviour("commitment comes after giving up", does(outcome=_nothing), _after_giving_up, "commitment_timeout",
              peer="# short"),
    Behaviour("commitment fails with 0112H, twice", does(outcome=_denies(2, 0x0112)), code="not_committed", came=2,
              taken=2),
    Behaviour("commitment fails with 0110H, twice", does(outcome=_denies(2, 0x0110)), code="not_committed"),
    Behaviour("commitment for a part only, twice", does(outcome=_silent_about(2)), code="not_committed"),
    Behaviour("commitment from another title", does(reports_as="PACSCMT"), peer='commitment_from = ["PACSCMT"]'),
    Behaviour("commitment after the worker was killed", does(outcome=_nothing), _after_a_kill),
    Behaviour("worker killed inside of C-STORE", stores(_hang), _killed_in_the_middle, came=2, taken=2),
    Behaviour("worker stopped six times while it is away", _down, _stopped_often, "peer_unreachable"),
    Behaviour("C-FIND without the asked attribute, then with", does(lists=lambda _: [{"PatientID": "1"}]),
              mend("find_incomplete", 2, lists=_listed_late(0)), "find_incomplete", peer=_FIND),
    Behaviour("C-FIND lists it at the second question", does(lists=_listed_late(1)), code="not_found", peer=_FIND),
    Behaviour("C-FIND refused, then answered",
              does(services=[kind for kind in ALL if kind != ALL[4]]),
              mend("sop_class_refused", services=ALL), "sop_class_refused", peer=_FIND),
    Behaviour("no proof is asked for", does(), peer='verify = "none"', outcome=("accepted",)),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    behaviour: Behaviour
    standing: Standing
    state: str
    codes: tuple[str, ...]
    recovered_s: float
    came: int
    taken: int
    other_s: float

    @property
    def faults(self) -> list[str]:
        """What is not as it must be."""
        wanted = {
            f"stands as {self.standing.progress}": self.standing.progress in self.behaviour.outcome,
            f"the study is {self.state}": self.state == "delivered",
            f"failures {self.codes}": (*self.codes, "")[0] == self.behaviour.code,
            f"came {self.came} times": self.came <= self.behaviour.came,
            f"taken {self.taken} times": self.taken <= self.behaviour.taken,
        }
        return [fault for fault, good in wanted.items() if not good]


def tried(behaviour: Behaviour, folder: Path) -> Row:
    """Return what comes of a behaviour."""
    lines = {"pacs": behaviour.peer, "other": 'verify = "none"'}
    times = f"{_TIMES}give_up_hours = 0.0005\n" if behaviour.peer == "# short" else _TIMES
    with ExitStack() as running, short_answers(), sender(folder, "pacs", "other", peers=lines, delivery=times) as node:
        case = Case(node, folder, running)
        behaviour.begin(case)
        behaviour.run(case)
        standing = node.wait(UID, "pacs", *_DONE)
        recovered_s = time.monotonic() - case.mended_s
        state = wait_for(lambda: (s := node.state(UID)) == "delivered" and s, 60, "state delivered")
        addressed, verified = (noted(case, event) for event in ("addressed", "verified"))
        pacs, codes = node.destinations["pacs"], case.codes()
        came, taken = (max(found.values(), default=0) for found in (pacs.came, pacs.stored))
        if behaviour.run is _one_of_many:
            came = taken
    return Row(behaviour, standing, str(state), tuple(codes), recovered_s, came, taken, verified - addressed)


def noted(case: Case, event: str) -> float:
    """Return when something was noted of the other destination, or of all."""
    timeline = case.node.spool.study(UID).timeline()
    return next(e.time.timestamp() for e in timeline if e.event == event and e.delivery.peer in ("other", ""))


@contextmanager
def short_answers() -> Iterator[None]:
    """Give peers a second to answer in place of minutes."""
    with mock.patch.multiple(association, ANSWER_TIMEOUT_S=SHORT_S, MESSAGE_TIMEOUT_S=SHORT_S):
        yield


def main() -> int:
    """Print the table; return 1 if a line of it is not as it must be."""
    wanted = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    print(f"{'behaviour':<50} {'outcome':<9} {'failures':<30} {'proved':>7} {'came':>4} {'taken':>5} {'other':>6}")
    bad = 0
    for behaviour in BEHAVIOURS:
        if wanted and not any(word in behaviour.name for word in wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="destinations-") as folder:
            row = tried(behaviour, Path(folder))
        failures = ", ".join(f"{row.codes.count(code)} x {code}" for code in dict.fromkeys(row.codes)) or "none"
        counts = f"{row.came:>4} {row.taken:>5} {row.other_s:>5.1f}s"
        print(f"{behaviour.name:<50} {row.standing.progress:<9} {failures:<30} {row.recovered_s:>6.1f}s {counts}")
        for fault in row.faults:
            bad += 1
            print(f"    NOT AS IT MUST BE: {fault}")
    return 1 if bad else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Threads of peers that never answer are left.
