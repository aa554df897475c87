"""What much at once costs: one very large object, and hundreds of open associations.

``python -m tests.faults.load [--object-mb N] [--associations N]`` prints the memory of a receiver above what it holds
while idle, and the share of a core that it takes while all associations are open and silent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.faults.attacks import Scene, attacked_receiver
from tests.support.raw_association import RawAssociation, data_set, pdu, pdv, store_command

TITLES = ("PACS", *(f"CT{number}" for number in range(1, 9)))
"""Nine peers: one alone gets no more than 64 associations."""
OBJECT_BAR_MB, ASSOCIATIONS_BAR_MB, BUSY = 64.0, 200.0, 0.1
WATCH_S = 5.0
_PIECE = bytes(100_000)


@dataclass(frozen=True, slots=True)
class Cost:
    """What something cost.

    Attributes
    ----------
    grown_mb
        Most resident memory above that while idle.
    cpu_share
        Of one core, while it lasted.
    seconds
        How long it lasted.
    """

    grown_mb: float
    cpu_share: float
    seconds: float


def large_object(scene: Scene, size_bytes: int) -> Cost:
    """Return what it costs to receive one object, which is not held in memory here either.

    Raises
    ------
    AssertionError
        If it is not stored whole.
    """
    study, instance = "1.2.826.0.1.90", "1.2.826.0.1.91"
    before_mb, cpu_s, start_s = _begin(scene)
    head = data_set(study, instance, b"")[:-12] + b"\xe0\x7f\x10\0OW\0\0" + size_bytes.to_bytes(4, "little")
    with RawAssociation.accepted(scene.port, calling="PACS", timeout_s=600) as sender:
        sender.send(pdu(4, pdv(1, 3, store_command(1, instance))) + pdu(4, pdv(1, 0, head)))
        for _ in range(size_bytes // len(_PIECE)):
            sender.send(pdu(4, pdv(1, 0, _PIECE)))
        sender.send(pdu(4, pdv(1, 2, bytes(size_bytes % len(_PIECE)))))
        answer = sender.read()
        assert answer is not None
        assert answer.status == 0, f"{answer.status:04X}H"
        sender.release()
    (kept,) = (scene.data_dir / "spool" / study / "instances").iterdir()
    assert kept.stat().st_size > size_bytes
    return _end(scene, before_mb, cpu_s, start_s)


def open_associations(scene: Scene, count: int, watch_s: float = WATCH_S) -> Cost:
    """Return what it costs to hold associations open that have stored an instance each and are silent since.

    Raises
    ------
    AssertionError
        If one is refused, or one more is not served beside them.
    """
    with ExitStack() as opened:
        before_mb, _, _ = _begin(scene)
        associations = [
            opened.enter_context(RawAssociation.accepted(scene.port, calling=TITLES[1 + number % (len(TITLES) - 1)]))
            for number in range(count)
        ]
        for number, association in enumerate(associations):
            assert association.store(1, "1.2.826.0.1.92", f"1.2.826.0.1.92.{number}") == 0
        time.sleep(2)
        cpu_s, start_s = scene.cpu_s(), time.monotonic()
        time.sleep(watch_s)
        cost = _end(scene, before_mb, cpu_s, start_s)
        with RawAssociation.accepted(scene.port, calling="PACS") as other:
            assert other.store(1, "1.2.826.0.1.93", "1.2.826.0.1.93.1") == 0
            other.release()
    return cost


def _begin(scene: Scene) -> tuple[float, float, float]:
    before_mb = scene.resident_mb()
    scene.forget_peak()
    return before_mb, scene.cpu_s(), time.monotonic()


def _end(scene: Scene, before_mb: float, cpu_s: float, start_s: float) -> Cost:
    seconds = time.monotonic() - start_s
    return Cost(scene.resident_mb("VmHWM") - before_mb, (scene.cpu_s() - cpu_s) / seconds, seconds)


def main() -> None:
    """Print what both cost; exit 1 if it is more than the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--object-mb", type=int, default=2048, help="in MiB")
    parser.add_argument("--associations", type=int, default=500)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        attacked_receiver(Path(folder), titles=TITLES, max_object_gb=4) as scene,
    ):
        print(f"idle {scene.resident_mb():.0f} MB")
        one = large_object(scene, asked.object_mb * 2**20)
        print(f"one object of {asked.object_mb} MiB: {one.grown_mb:.1f} MB more, {one.seconds:.1f} s")
        many = open_associations(scene, asked.associations)
        print(f"{asked.associations} open associations: {many.grown_mb:.1f} MB more, {many.cpu_share:.3f} of a core")
    held = one.grown_mb < OBJECT_BAR_MB and many.grown_mb < ASSOCIATIONS_BAR_MB and many.cpu_share < BUSY
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
