"""What callers can do to the DICOM port who mean no good, or whose software is broken, and what it costs.

Run with ``python -m tests.faults.attacks [--patient]``. A receiver runs as in a hospital; while it is attacked, another
peer stores instances. Printed for each attack: what became of it, memory, CPU and threads of the receiver, and how long
the other peer waited at most. With ``--patient`` attacks that end by a time-out of the node are waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.net.held_port import held_port
from tests.support.raw_association import (
    ABORTED,
    DEFLATED,
    MR,
    REJECTED,
    RawAssociation,
    context,
    data_set,
    message,
    pdu,
    pdv,
    request,
    store_command,
)
from tests.support.services import started

STRANGER = "127.0.0.9"
"""An address from which no peer calls."""
MAX_OBJECT_GB = 0.03
_MB = 1_000_000
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Scene:
    """The receiver that is attacked.

    Attributes
    ----------
    port, pid
        Where it listens, and its process.
    data_dir
        Where it keeps what it receives.
    patient
        Whether time-outs of the node are waited for.
    quiet_threads
        How many threads it has before anybody attacks.
    """

    port: int
    pid: int
    data_dir: Path
    patient: bool
    quiet_threads: int = 0

    def threads(self) -> int:
        """Return how many threads the receiver has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def resident_mb(self, key: str = "VmRSS") -> float:
        """Return the resident memory now, or ``VmHWM``, the most since `forget_peak`."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))

    def forget_peak(self) -> None:
        """Count the most memory anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """Return the processor time of the receiver."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS

    def leftovers(self) -> int:
        """Return how many files are half-written; empty slots are none, nor is what has its name in a study."""
        count = 0
        for slot in (self.data_dir / "spool" / "incoming").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += slot.stat().st_size > 0 and slot.stat().st_nlink == 1
        return count


@dataclass(frozen=True)
class Finding:
    """What an attack came to.

    Attributes
    ----------
    outcome
        What the attacker saw.
    grown_mb
        Most resident memory during the attack above that before it.
    cpu_s, seconds
        Processor time of the receiver, and how long the attack took.
    threads
        Most threads above those before.
    answers, slowest_s
        How often the other peer was answered with Success, and how long it waited for that at most.
    """

    outcome: str
    grown_mb: float
    cpu_s: float
    seconds: float
    threads: int
    answers: int
    slowest_s: float


def length_of_four_gigabytes(scene: Scene) -> str:
    """A stranger whose request claims to be FFFFFFFFH bytes long, and who sends 64 MB of them."""
    with RawAssociation(scene.port, source=STRANGER) as attacker:
        attacker.send(pdu(1, b"", 0xFFFFFFFF))
        sent = _pour(attacker, bytes(_MB), 64)
    return f"aborted after {sent} MB"


def many_idle_connections(scene: Scene) -> str:
    """200 connections of a stranger that never say anything."""
    opened = [RawAssociation(scene.port, source=STRANGER) for _ in range(200)]
    time.sleep(2)
    closed = sum(1 for attacker in opened if _is_closed(attacker))
    for attacker in opened:
        attacker.close()
    return f"{closed} of 200 gave way"


def twenty_thousand_contexts(scene: Scene) -> str:
    """A known peer that proposes 20,000 presentation contexts."""
    contexts = [context(2 * (number % 128) + 1, "1.2", "1.2.3.4.5.6") for number in range(20_000)]
    with RawAssociation(scene.port) as attacker:
        attacker.send(request(contexts=contexts))
        return _how_it_ended(attacker)


def dripping_request(scene: Scene) -> str:
    """A stranger that sends its request byte by byte."""
    with RawAssociation(scene.port, source=STRANGER) as attacker:
        start_s, until_s = time.monotonic(), time.monotonic() + (40 if scene.patient else 3)
        for byte in request():
            with contextlib.suppress(OSError):
                attacker.send(bytes((byte,)))
            time.sleep(0.2)
            if _is_closed(attacker):
                return f"closed after {time.monotonic() - start_s:.0f} s"
            if time.monotonic() > until_s:
                break
    return "waited for"


def stalled_associations(scene: Scene) -> str:
    """A peer with as many open associations as it gets, all silent; then one more."""
    opened = [RawAssociation.accepted(scene.port) for _ in range(64)]
    with RawAssociation(scene.port) as one_more:
        one_more.send(request())
        outcome = f"64 open, the next {_how_it_ended(one_more)}"
    for attacker in opened:
        attacker.close()
    return outcome


def stalled_within_a_pdu(scene: Scene) -> str:
    """A peer that stops within a PDU, 32 times."""
    opened = [RawAssociation.accepted(scene.port) for _ in range(32)]
    start_s = time.monotonic()
    for attacker in opened:
        attacker.send(message(1, store_command(1, "1.2.3"), bytes(1000))[:-10])
    if not scene.patient:
        time.sleep(1)
        outcome = "waited for"
    else:
        ends = [_how_it_ended(attacker) for attacker in opened]
        outcome = f"{ends.count('aborted (0)')} of 32 aborted after {time.monotonic() - start_s:.0f} s"
    for attacker in opened:
        attacker.close()
    return outcome


def deflate_bomb(scene: Scene) -> str:
    """A deflated data set of 1.2 GB zeros in one element before the study, 1.2 MB on the wire."""
    head = b"\x08\x00\x16\x00UI\x1a\x00" + MR.encode() + b"\0"
    head += b"\x09\x00\x01\x10OB\0\0" + (1_200 * _MB).to_bytes(4, "little")
    return _deflated(scene, head)


def deflate_bomb_in_pixels(scene: Scene) -> str:
    """The same, behind the study: it is kept as it came."""
    return _deflated(scene, data_set("1.2.826.0.1.77", "1.2.826.0.1.78", b"")[:-12])


def object_too_large(scene: Scene) -> str:
    """An object that is larger than the largest that is taken."""
    with RawAssociation.accepted(scene.port) as attacker:
        status = attacker.store(1, "1.2.826.0.1.79", "1.2.826.0.1.80", bytes(int(1.5 * MAX_OBJECT_GB * 1e9)))
    return f"status {status:04X}H, {_left_by_the_attack(scene, '1.2.826.0.1.79')}"


def endless_data_set(scene: Scene) -> str:
    """A data set that never ends."""
    with RawAssociation.accepted(scene.port) as attacker:
        attacker.send(pdu(4, pdv(1, 3, store_command(1, "1.2.826.0.1.82"))))
        attacker.send(pdu(4, pdv(1, 0, data_set("1.2.826.0.1.81", "1.2.826.0.1.82", b""))))
        sent = _pour(attacker, pdu(4, pdv(1, 0, bytes(100_000))) * 10, 1000)
        return f"{_how_it_ended(attacker)} after {sent} MB, {_left_by_the_attack(scene, '1.2.826.0.1.81')}"


ATTACKS: dict[str, Callable[[Scene], str]] = {
    attack.__name__: attack
    for attack in (
        length_of_four_gigabytes,
        many_idle_connections,
        twenty_thousand_contexts,
        dripping_request,
        stalled_associations,
        stalled_within_a_pdu,
        deflate_bomb,
        deflate_bomb_in_pixels,
        object_too_large,
        endless_data_set,
    )
}


def _deflated(scene: Scene, head: bytes) -> str:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = deflater.compress(head) + deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(bytes(10 * _MB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    content = start + 120 * zeros + deflater.flush()
    with RawAssociation.accepted(scene.port, contexts=[context(1, MR, DEFLATED)]) as attacker:
        attacker.send(message(1, store_command(1, "1.2.826.0.1.78"), content))
        answer = attacker.read()
        return f"{len(content) / _MB:.1f} MB sent, status {answer.status:04X}H" if answer else "closed"


def _pour(attacker: RawAssociation, piece: bytes, times: int) -> int:
    """Send a piece again and again; return how often it was taken."""
    for number in range(times):
        try:
            attacker.send(piece)
        except OSError:
            return number
    return times


def _is_closed(attacker: RawAssociation) -> bool:
    attacker.socket.settimeout(0.01)
    try:
        return not attacker.socket.recv(4096)
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        attacker.socket.settimeout(60)


def _how_it_ended(attacker: RawAssociation) -> str:
    attacker.socket.settimeout(180)
    answer = attacker.read()
    if answer is None:
        return "closed"
    return {ABORTED: "aborted", REJECTED: "rejected"}.get(answer.kind, f"PDU {answer.kind}") + f" ({answer.reason})"


def _left_by_the_attack(scene: Scene, study_uid: str) -> str:
    until_s = time.monotonic() + 10
    while scene.leftovers() > 1 and time.monotonic() < until_s:
        time.sleep(0.05)
    return "something is left" if (scene.data_dir / "spool" / study_uid).exists() else "nothing is left"


class _OtherPeer:
    """A peer that stores instances all the while, over an association for every ten."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = 0
        self.slowest_s = 0.0
        self.failure: BaseException | None = None

    def __enter__(self) -> _OtherPeer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._store_ten()
        except BaseException as failure:
            self.failure = failure

    def _store_ten(self) -> None:
        start_s = time.monotonic()
        with RawAssociation.accepted(self._port, calling="OTHER") as association:
            for number in range(1, 11):
                uid = f"1.2.826.0.1.4.{os.getpid()}.{time.monotonic_ns()}"
                if association.store(number, "1.2.826.0.1.4", uid, bytes(20_000)):
                    raise AssertionError("the other peer was refused")
                self.answers += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)
                if self._over.wait(0.05):
                    break
                start_s = time.monotonic()
            association.release()


@contextlib.contextmanager
def attacked_receiver(
    folder: Path,
    *,
    patient: bool = False,
    titles: Sequence[str] = ("PACS", "OTHER"),
    max_object_gb: float = MAX_OBJECT_GB,
) -> Iterator[Scene]:
    """Yield a receiver with peers of these titles that runs as long as the block."""
    peers = "".join(
        f'[[peers]]\nname = "{name.lower()}"\nae_title = "{name}"\nhost = "127.0.0.1"\nroles = ["source"]\n'
        for name in titles
    )
    with held_port() as port:
        config = folder / "node.toml"
        config.write_text(
            f'[node]\nbind = "127.0.0.1"\nport = {port}\ndata_dir = "data"\n'
            f"[receive]\ndisk_reserve_gb = 0.1\nmax_object_gb = {max_object_gb}\n{peers}"
        )
        command = [sys.executable, "-P", "-m", "dicom_node", "receive", "--config", str(config)]
        with started(command, folder / "receiver.log", port) as process:
            scene = Scene(port, process.pid, folder / "data", patient)
            with RawAssociation.accepted(port) as first:  # What is loaded once is no cost of an attack.
                first.store(1, "1.2.826.0.1.1", "1.2.826.0.1.2")
                first.release()
            scene.quiet_threads = scene.threads()
            yield scene


def endure(scene: Scene, attack: Callable[[Scene], str]) -> Finding:
    """Have the receiver attacked while another peer is served."""
    before_mb, before_s, threads = scene.resident_mb(), scene.cpu_s(), scene.threads()
    scene.forget_peak()
    most, over = [threads], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], scene.threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start_s = time.monotonic()
    try:
        with _OtherPeer(scene.port) as other:
            time.sleep(0.2)
            outcome = attack(scene)
    finally:
        over.set()
        watcher.join()
    if other.failure:
        raise other.failure
    return Finding(
        outcome,
        scene.resident_mb("VmHWM") - before_mb,
        scene.cpu_s() - before_s,
        time.monotonic() - start_s,
        most[0] - threads,
        other.answers,
        other.slowest_s,
    )


def main() -> None:
    """Attack, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patient", action="store_true", help="wait for time-outs of the node")
    arguments = parser.parse_args()
    titles = ("attack", "outcome", "MB more", "CPU s", "of s", "threads", "other peer: n, slowest")
    print("{:26} {:62} {:>8} {:>6} {:>6} {:>8} {:>22}".format(*titles))
    with (
        tempfile.TemporaryDirectory() as folder,
        attacked_receiver(Path(folder), patient=arguments.patient) as scene,
    ):
        idle_mb = scene.resident_mb()
        for name, attack in ATTACKS.items():
            found = endure(scene, attack)
            print(
                f"{name:26} {found.outcome:62} {found.grown_mb:8.1f} {found.cpu_s:6.2f} {found.seconds:6.1f} "
                f"{found.threads:8} {found.answers:11} {found.slowest_s * 1000:7.0f} ms",
                flush=True,
            )
        print(f"resident before {idle_mb:.0f} MB, after {scene.resident_mb():.0f} MB, threads {scene.threads()}")


if __name__ == "__main__":
    main()
