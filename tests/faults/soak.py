"""Many associations and instances, one behind the other and some at once: memory and descriptors stay flat.

Run with ``python -m tests.faults.soak [--associations N] [--instances N]``. Associations end as they do in a hospital:
most are released, some aborted, some lost, some are rejected. Resident memory, descriptors and threads of the receiver
are printed ten times; the last is compared with the second, when whatever is kept once is kept.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.attacks import Scene, attacked_receiver
from tests.support.raw_association import ABORT, REJECTED, RawAssociation, data_set, message, request, store_command

LANES = 4
"""Senders at the same time."""
STEPS = 10
_INSTANCES_OF_STUDY = 400


@dataclass(frozen=True)
class Look:
    """What the receiver holds.

    Attributes
    ----------
    resident_mb, descriptors, threads
        Of its process.
    """

    resident_mb: float
    descriptors: int
    threads: int


def look(scene: Scene) -> Look:
    """Return what the receiver holds, once what was begun is over."""
    until_s = time.monotonic() + 35
    while scene.threads() > 12 and time.monotonic() < until_s:
        time.sleep(0.1)
    descriptors = len(list(Path(f"/proc/{scene.pid}/fd").iterdir()))
    return Look(scene.resident_mb(), descriptors, scene.threads())


def lane(port: int, number: int, associations: range, instances: int, failures: list[BaseException]) -> None:
    """Open associations with `instances` instances each."""
    try:
        for association in associations:
            _one(port, number, association, instances)
    except BaseException as failure:
        failures.append(failure)


def _one(port: int, number: int, association: int, instances: int) -> None:
    if association % 10 == 9:
        with RawAssociation(port) as rejected:
            rejected.send(request(called="OTHER"))
            answer = rejected.read()
            assert answer is not None
            assert answer.kind == REJECTED
    window = 16 if association % 2 else None
    with RawAssociation.accepted(port, window=window) as sender:
        first = association * instances
        study = f"1.2.826.0.1.50.{number}.{first // _INSTANCES_OF_STUDY}"
        for instance in range(first, first + instances):
            uid = f"1.2.826.0.1.51.{number}.{instance}"
            sender.send(message(1, store_command(instance % 65536, uid), data_set(study, uid)))
        for _ in range(instances):
            answer = sender.read()
            assert answer is not None
            assert answer.status == 0
        if association % 10 == 3:
            sender.send(ABORT)
        elif association % 10 != 6:
            sender.release()


def soak(scene: Scene, associations: int, instances: int, steps: int = STEPS) -> Iterator[Look]:
    """Yield what the receiver holds after each step.

    Raises
    ------
    AssertionError
        If an association or an instance is refused.
    """
    each, per_step = max(1, instances // associations), max(1, associations // steps // LANES)
    for step in range(steps):
        failures: list[BaseException] = []
        ours = range(step * per_step, (step + 1) * per_step)
        threads = [
            threading.Thread(target=lane, args=(scene.port, number, ours, each, failures)) for number in range(LANES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        yield look(scene)


def main() -> None:
    """Soak, and print what the receiver holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--associations", type=int, default=20_000)
    parser.add_argument("--instances", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, attacked_receiver(Path(folder)) as scene:
        print(f"{'':4} {'resident MB':>12} {'descriptors':>12} {'threads':>8} {'s':>7}")
        start_s, looks = time.monotonic(), [look(scene)]
        for held in soak(scene, arguments.associations, arguments.instances):
            looks.append(held)
            share = f"{100 * (len(looks) - 1) // STEPS} %"
            seconds = time.monotonic() - start_s
            print(
                f"{share:4} {held.resident_mb:12.1f} {held.descriptors:12} {held.threads:8} {seconds:7.0f}", flush=True
            )
        kept = sum(1 for _ in (Path(folder) / "data" / "spool").glob("*/instances/*.dcm"))
        print(f"instances kept: {kept - 1}, of {arguments.instances} sent")
        print(f"memory at the end: {looks[-1].resident_mb / looks[2].resident_mb:.2f} of that at 20 %")


if __name__ == "__main__":
    main()
