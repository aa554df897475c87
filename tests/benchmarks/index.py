"""What a past of 100,000 studies costs: a list, a start, and the memory of both.

Run with ``python -m tests.benchmarks.index [--studies N] [--json]``. The studies are written straight into a spool.
Measured are processes as a hospital starts them: `dicom-node reindex`, `dicom-node studies` with filters, and
`dicom-node receive` from its start until it says that it collects and its port is open; of three runs the longest.
Memory is the largest resident set. The same over 100 studies stands beside it, and seconds of the processor beside
those of the clock, which others on the machine make longer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from dicom_node.net.held_port import held_port
from tests.support.pasts import write_past
from tests.support.services import listens, started

LISTS = {
    "the last 50": [],
    "held, last 20": ["--state", "held", "--last", "20"],
    "of one sender": ["--peer", "MR_1", "--last", "20"],
    "a reason, this week": ["--reason", "missing_role", "--since", "7d"],
    "a text": ["--text", "1407.4711"],
    "a state without a study": ["--state", "failed"],
    "1,000 as JSON": ["--last", "1000", "--json"],
}


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    cpu_s: float
    kib: int


def node_of(folder: Path, port: int) -> list[str]:
    """Write a configuration and return the command that runs a verb with it."""
    config = folder / "node.toml"
    config.write_text(
        f'[node]\nbind = "127.0.0.1"\nport = {port}\ndata_dir = "data"\n'
        '[receive]\naccept = "any"\ndisk_reserve_gb = 0.1\n'
    )
    return [sys.executable, "-P", "-m", "dicom_node", "--config", str(config)]


def run(command: list[str], *arguments: str) -> Cost:
    """Return what a verb costs."""
    timed = [sys.executable, "-c", _MEASURED, *command[:4], *arguments, *command[4:]]
    began_s = time.monotonic()
    done = subprocess.run(timed, capture_output=True, text=True, check=True)
    cpu_s, kib = done.stderr.split()[-2:]
    return Cost(time.monotonic() - began_s, float(cpu_s), int(kib))


_MEASURED = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr); sys.exit(done.returncode)"
)


def start(command: list[str], folder: Path, port: int) -> Cost:
    """Return what the receiver costs from its start until it collects, and its memory a little later."""
    log = folder / "receive.log"
    log.unlink(missing_ok=True)
    began_s = time.monotonic()
    with started([*command[:4], "receive", *command[4:]], log) as process:
        while not (listens(port) and '"collecting"' in log.read_text()):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.01)
        seconds = time.monotonic() - began_s
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        time.sleep(3.0)  # The index has looked.
        status = Path(f"/proc/{process.pid}/status").read_text()
        cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return Cost(seconds, cpu_s, int(status.partition("VmHWM:")[2].split()[0]))


def measure(studies: int) -> list[dict[str, Any]]:
    """Return a row for each thing that was measured."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary, held_port() as port:
        folder = Path(temporary)
        write_past(folder / "data", studies)
        command = node_of(folder, port)
        rows.append(_row("reindex", studies, run(command, "reindex")))
        for name, arguments in LISTS.items():
            runs = [run(command, "studies", *arguments) for _ in range(3)]
            rows.append(_row(f"studies: {name}", studies, max(runs)))
        rows.append(_row("start to collecting", studies, max(start(command, folder, port) for _ in range(3))))
    return rows


def _row(what: str, studies: int, cost: Cost) -> dict[str, Any]:
    return {
        "what": what,
        "studies": studies,
        "seconds": round(cost.seconds, 2),
        "cpu_s": round(cost.cpu_s, 2),
        "mib": round(cost.kib / 1024),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [*measure(100), *measure(arguments.studies)]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        figures = f"{row['seconds']:7.2f} s {row['cpu_s']:7.2f} s of CPU {row['mib']:6} MiB"
        print(f"{row['studies']:8} studies   {row['what']:36} {figures}")


if __name__ == "__main__":
    main()
