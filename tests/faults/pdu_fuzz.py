"""Mutated PDUs against the DICOM port: no crash, no hang, bounded memory.

Run with ``python -m tests.faults.pdu_fuzz [--count N] [--seed N]``. The seeds are conversations that Debian's storescu
had with a receiver, recorded here, and a few made ones with a window and with a storage commitment context. Each round
takes a conversation, changes bytes, lengths, order or ends of its PDUs, and sends all of it over one connection, which
has to be over within five seconds. A sound association in between has to be served.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.receive import make_instances
from tests.faults.attacks import Scene, attacked_receiver
from tests.support.raw_association import (
    ABORT,
    RELEASE_RQ,
    RawAssociation,
    context,
    data_set,
    echo_command,
    item,
    message,
    request,
    store_command,
)
from tests.support.services import STORESCU

HANG_S = 5.0
_EVERY = 100
"""Rounds after which a sound association is tried."""
_LENGTHS = (0, 1, 2, 5, 6, 127, 0x7FFF, 0xFFFF, 0x10000, 0x20000, 0x20001, 0x7FFFFFFF, 0xFFFFFFFF)


def record(port: int, folder: Path) -> list[bytes]:
    """Return the PDUs that storescu sends for three small instances."""
    make_instances(folder, 3)
    recorded = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as relay:

        def pass_on() -> None:
            inner, _ = relay.accept()
            with inner, socket.create_connection(("127.0.0.1", port)) as outer:
                back = threading.Thread(target=_copy, args=(outer, inner))
                back.start()
                _copy(inner, outer, recorded)
                back.join()

        thread = threading.Thread(target=pass_on)
        thread.start()
        address = ["127.0.0.1", str(relay.getsockname()[1])]
        subprocess.run([STORESCU, "-aet", "PACS", "-aec", "TSCNODE", *address, "+sd", folder], check=True, timeout=60)
        thread.join()
    return split(bytes(recorded))


def _copy(source: socket.socket, target: socket.socket, kept: bytearray | None = None) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            if kept is not None:
                kept += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def split(stream: bytes) -> list[bytes]:
    """Return the PDUs of a stream."""
    pdus = []
    while stream:
        end = 6 + int.from_bytes(stream[2:6], "big")
        pdus.append(stream[:end])
        stream = stream[end:]
    return pdus


def made() -> list[list[bytes]]:
    """Return conversations that storescu does not have."""
    uid = "1.2.826.0.1.9.1"
    commitment = context(1, "1.2.840.10008.1.20.1", "1.2.840.10008.1.2")
    role = item(0x54, struct.pack(">H", 20) + b"1.2.840.10008.1.20.1" + b"\0\1")
    return [
        [request(window=16), message(1, store_command(1, uid), data_set(uid, uid)) * 3, RELEASE_RQ],
        [request(), message(3, echo_command()), RELEASE_RQ],
        [request(contexts=[commitment], more=role), message(1, store_command(1, uid), bytes(100)), ABORT],
    ]


def mutate(rng: random.Random, conversation: list[bytes]) -> list[tuple[bytes, bool]]:
    """Return the PDUs of a conversation with a few things wrong, and of each whether it is one of those."""
    pdus = [(pdu, False) for pdu in conversation]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(pdus))
        pdu = bytearray(pdus[at][0] or b"\1")
        match rng.randrange(9):
            case 0:  # The length of the PDU.
                pdu[2:6] = rng.choice((*_LENGTHS, len(pdu) - 6 + rng.randint(-9, 9))).to_bytes(8, "big", signed=True)[
                    4:
                ]
            case 1:  # Any length within it, in two or four bytes.
                place, size = rng.randrange(6, max(7, min(len(pdu), 400))), rng.choice((2, 4))
                pdu[place : place + size] = (rng.choice(_LENGTHS) % 256**size).to_bytes(size, "big")
            case 2 | 3:  # Bytes, most of them in the header.
                for _ in range(rng.choice((1, 2, 5, 20))):
                    pdu[rng.randrange(min(len(pdu), rng.choice((10, 100, 400, len(pdu)))))] = rng.randrange(256)
            case 4:  # Something cut out.
                start = rng.randrange(len(pdu))
                del pdu[start : start + rng.choice((1, 2, 7, 100, 10_000))]
            case 5:  # Something put in.
                start = rng.randrange(len(pdu))
                pdu[start:start] = rng.randbytes(rng.choice((1, 2, 7, 300)))
            case 6:  # Another type.
                pdu[:1] = bytes((rng.choice((*range(9), 22, 255)),))
            case 7:  # Order.
                other = rng.randrange(len(pdus))
                pdus[at], pdus[other] = (pdus[other][0], at != other), (pdus[at][0], at != other)
                continue
            case 8:  # Once more, or not at all.
                pdus[at : at + 1] = rng.choice(([], [pdus[at], (pdus[at][0], True)]))
                if not pdus:
                    return []
                continue
        pdus[at] = bytes(pdu), pdus[at][1] or bytes(pdu) != pdus[at][0]
    return pdus


def attempt(port: int, stream: bytes) -> str:
    """Send a stream and nothing more; return how the connection ended."""
    start_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), HANG_S) as connection:
        answered = 0
        try:
            connection.sendall(stream)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answered = piece[0]
        except TimeoutError:
            return "hang"
        except OSError:
            return "reset"
    return "slow" if time.monotonic() - start_s > HANG_S else f"last answer {answered}"


@dataclass
class Sent:
    """What was sent, and what came of it.

    Attributes
    ----------
    ends
        How often each end of a connection was seen.
    conversations
        Those that hold a mutated PDU; the first one in each is surely read, what follows it may not be.
    pdus
        Mutated PDUs in all of them.
    """

    ends: Counter[str] = field(default_factory=Counter)
    conversations: int = 0
    pdus: int = 0


def fuzz(scene: Scene, conversations: list[list[bytes]], count: int, seed: int) -> Sent:
    """Send mutated conversations until so many of them hold a mutated PDU.

    Raises
    ------
    AssertionError
        If a sound association is not served any more.
    """
    rng, sent = random.Random(seed), Sent()
    while sent.conversations < count:
        pdus = mutate(rng, rng.choice(conversations))
        sent.ends[attempt(scene.port, b"".join(pdu for pdu, _ in pdus))] += 1
        mutated = sum(changed for _, changed in pdus)
        sent.pdus += mutated
        sent.conversations += mutated > 0
        if (number := sent.ends.total()) % _EVERY == 0:
            with RawAssociation.accepted(scene.port, calling="OTHER") as sound:
                assert sound.store(1, "1.2.826.0.1.4", f"1.2.826.0.1.4.{seed}.{number}") == 0
                sound.release()
    return sent


def conversations_of(scene: Scene, folder: Path) -> list[list[bytes]]:
    """Return recorded and made ones; recorded ones are shortened, so that most of what changes is structure."""
    recorded = record(scene.port, folder)
    short = [pdu for pdu in recorded if len(pdu) < 20_000]
    return [recorded, short, short, *made()]


def main() -> None:
    """Fuzz, and print what came of it; exit 1 if anything hung or failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, attacked_receiver(Path(temporary)) as scene:
        instances = Path(temporary) / "instances"
        instances.mkdir()
        conversations = conversations_of(scene, instances)
        before_mb, start_s = scene.resident_mb(), time.monotonic()
        scene.forget_peak()
        sent = fuzz(scene, conversations, arguments.count, arguments.seed)
        log = (Path(temporary) / "receiver.log").read_text("utf-8")
        print(f"mutated PDUs {sent.pdus}, those that were surely read {sent.conversations}")
        print(f"{sent.ends.total()} conversations in {time.monotonic() - start_s:.0f} s: {dict(sent.ends)}")
        print(f"resident before {before_mb:.0f} MB, at most {scene.resident_mb('VmHWM'):.0f} MB")
        faults = log.count("ended by a fault") + log.count("thread failed")
        print(f"faults of the node in its log: {faults}")
        print(f"threads {scene.threads()}, half-written files {scene.leftovers()}")
    sys.exit(1 if faults or sent.ends["hang"] or sent.ends["slow"] else 0)


if __name__ == "__main__":
    main()
