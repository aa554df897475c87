"""What becomes of damaged data sets: ``python -m tests.faults.data_set_fuzz [--count 20000] [--seed 0]``.

Real files of several vendors are mutated: bytes, lengths, VRs, tags, transfer syntaxes, sequences in sequences,
deflated data, ends. Each goes through all that the node reads of a received file: the Study Instance UID as the
receiver finds it, headers and selection, header and identity of a report, pixels. Every outcome must have a name: a
result, a reason to hold the study, a code of a file that is not used. A run ends with an error at the first crash of
the process, and counts what hangs (more than 5 s of a processor), takes more memory than its bound, or raises anything
else.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import resource
import signal
import struct
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random

from dicom_node.net.study_uid import find_study_uid
from pipeline.dicom_file import DEFLATED, data_set_start
from pipeline.errors import StudyHeld
from pipeline.headers import read_headers
from pipeline.pixels import read_pixels
from pipeline.report.sources import header_of_study
from pipeline.select import select_study
from pipeline.volume import read_volume
from tests.support.services import DATA

HANG_S = 5.0
_DEAD_S = 300.0
"""Of the clock, on however busy a machine: then the interpreter itself hangs, and the process is ended."""
MOST_BYTES = 3 * 2**30
"""That the process may grow by; a volume may have 2 GB as numbers that can be computed with."""
LARGEST_SEED_BYTES = 700_000
_VRS = [b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"OB", b"OF", b"OW", b"PN",
        b"SH", b"SL", b"SQ", b"SS", b"ST", b"TM", b"UI", b"UL", b"UN", b"US", b"UT", b"OV", b"ZZ", b"\0\0"]  # fmt: skip
_SYNTAXES = [b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99",
             b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.90", b"1.2.3\0"]  # fmt: skip
_LENGTHS = (0, 1, 2, 7, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = b"\xff\xff\xff\xff"

Mutation = Callable[[bytearray, Random], bytearray]


class HangError(Exception):
    """A data set takes too long."""


@dataclass(slots=True)
class Outcomes:
    """What became of the data sets.

    Attributes
    ----------
    named
        How many ended so, by the name of the outcome.
    faults
        What must not be: the number of the data set, and what it did.
    grown_bytes
        The most memory that the process took beyond what it had at first.
    """

    named: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    grown_bytes: int = 0


def fuzz(count: int, seed: int, folder: Path, seeds: list[bytes]) -> Outcomes:
    """Return what becomes of mutated data sets; the same seed makes the same ones."""
    outcomes, at_first = Outcomes(), _peak_bytes()
    with _watched():
        for number in range(count):
            random = Random(f"{seed} {number}")
            content = mutate(random.choice(seeds), random)
            faulthandler.dump_traceback_later(_DEAD_S, exit=True)
            (folder / "image.dcm").write_bytes(content)
            for name, part in PARTS.items():
                outcomes.named[_outcome(name, part, folder / "image.dcm", number, outcomes)] += 1
            if number % 100 == 0:
                gc.collect()
    faulthandler.cancel_dump_traceback_later()
    outcomes.grown_bytes = _peak_bytes() - at_first
    if outcomes.grown_bytes > MOST_BYTES:
        outcomes.faults.append(f"the process grew by {outcomes.grown_bytes / 2**30:.1f} GiB")
    return outcomes


def _outcome(name: str, part: Callable[[Path], str], file: Path, number: int, to: Outcomes) -> str:
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        found = part(file)
    except StudyHeld as held:
        found = held.code.value
    except Exception as error:
        found = f"FAULT {type(error).__name__}"
        to.faults.append(f"data set {number}, {name}: {type(error).__name__}: {str(error)[:100]!r}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return f"{name}: {found}"


# --- what the node reads ----------------------------------------------------------------------------------------------


def _receiver(file: Path) -> str:
    content = file.read_bytes()
    found = set()
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED):
        try:
            uid = find_study_uid(BytesIO(content[data_set_start(content) :]), syntax)
        except (zlib.error, EOFError, ValueError, OverflowError):
            found.add("cannot be understood")
        else:
            found.add("a study" if uid else "no study")
    return " or ".join(sorted(found))


def _selection(file: Path) -> str:
    selection = select_study([file])
    return selection.held.code.value if selection.held else "selected"


def _header(file: Path) -> str:
    volumes = read_headers([file]).volumes
    header = header_of_study([file], volumes[0].study_uid if volumes else "1.2.3")
    return "no header" if header is None else "a header"


def _pixels(file: Path) -> str:
    headers = read_headers([file])
    for volume in headers.volumes:
        read_pixels(volume.frames)
        read_volume(volume)
    return "an image" if headers.volumes else next((p.code.value for p in headers.problems), "nothing")


PARTS: dict[str, Callable[[Path], str]] = {
    "receiver": _receiver, "selection": _selection, "header": _header, "pixels": _pixels,
}  # fmt: skip


# --- mutations --------------------------------------------------------------------------------------------------------


def mutate(seed: bytes, random: Random) -> bytes:
    """Return a file with some of its data set damaged."""
    content = bytearray(seed)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8)) if len(content) > 200 else 0):
        content = random.choice(MUTATIONS)(content, random)
    return bytes(content)


def _place(content: bytearray, random: Random) -> int:
    """Return a place, more often among the headers."""
    end = len(content) if random.random() < 0.3 else min(len(content), 6000)
    return random.randrange(min(132, max(0, end - 1)), max(133, end))


def _element(content: bytearray, random: Random) -> int:
    """Return where an element with an explicit VR seems to begin."""
    start = _place(content, random)
    for at in range(start, min(len(content) - 8, start + 400)):
        if content[at + 4 : at + 6] in _VRS[:-1]:
            return at
    return start


def _bytes(content: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 2, 5, 50))):
        content[_place(content, random) % max(1, len(content))] = random.randrange(256)
    return content


def _lengths(content: bytearray, random: Random) -> bytearray:
    at = _element(content, random)
    if random.random() < 0.5:
        content[at + 6 : at + 8] = struct.pack("<H", random.choice(_LENGTHS) & 0xFFFF)
    else:
        content[at + 8 : at + 12] = struct.pack("<I", random.choice(_LENGTHS))
    return content


def _vrs(content: bytearray, random: Random) -> bytearray:
    at = _element(content, random)
    content[at + 4 : at + 6] = random.choice(_VRS)
    return content


def _tags(content: bytearray, random: Random) -> bytearray:
    at, other = _element(content, random), _element(content, random)
    content[at : at + 4] = content[other : other + 4]
    return content


def _values(content: bytearray, random: Random) -> bytearray:
    at, length = _element(content, random), random.choice((1, 4, 16))
    junk = random.choice((b"\xff", b"\0", b"9", b"\\", b"-", b"1e308", b"\x1b$B", b"NaN", b"\x80"))
    content[at + 8 : at + 8 + length] = (junk * length)[:length]
    return content


def _ends(content: bytearray, random: Random) -> bytearray:
    return content[: random.randrange(100, max(101, len(content)))]


def _moves(content: bytearray, random: Random) -> bytearray:
    at, to, length = _place(content, random), _place(content, random), random.randrange(1, 600)
    return content[:to] + content[at : at + length] + content[to if random.random() < 0.5 else to + length :]


def _nests(content: bytearray, random: Random) -> bytearray:
    """Put sequences in sequences, closed or not, in front of an element."""
    depth, tag = random.choice((3, 60, 900, 4000)), b"\x08\x00\x40\x11"
    inner = (tag + b"SQ\0\0" + _UNDEFINED + _ITEM + _UNDEFINED) * depth
    closed = (_ITEM_END + b"\0" * 4 + _SEQUENCE_END + b"\0" * 4) * (depth if random.random() < 0.7 else 0)
    at = _element(content, random)
    return content[:at] + inner + closed + content[at:]


def _syntaxes(content: bytearray, random: Random) -> bytearray:
    at = content.find(b"\x02\x00\x10\x00UI")
    if at < 0 or at + 160 > len(content):
        return content
    length = struct.unpack("<H", content[at + 6 : at + 8])[0]
    syntax = random.choice(_SYNTAXES)
    syntax += b"\0" * (len(syntax) % 2)
    return content[: at + 6] + struct.pack("<H", len(syntax)) + syntax + content[at + 8 + length :]


def _deflates(content: bytearray, random: Random) -> bytearray:
    """Deflate the data set, sometimes with zeros that a small file makes large, sometimes damaged."""
    content = _syntaxes(content, Random(0)) if random.random() < 0.1 else _named_deflated(content)
    start = data_set_start(bytes(content)) or 132
    body = bytes(content[start:])
    zeros = b"\0" * 2**20 * random.choice((0, 0, 0, 1, 40))
    at = random.choice((0, len(body)))
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    deflated = bytearray(deflater.compress(body[:at] + zeros + body[at:]) + deflater.flush())
    if random.random() < 0.4 and deflated:
        deflated[random.randrange(len(deflated))] ^= 1 << random.randrange(8)
    return content[:start] + deflated


def _named_deflated(content: bytearray) -> bytearray:
    at = content.find(b"\x02\x00\x10\x00UI")
    if at < 0 or at + 160 > len(content):
        return content
    length = struct.unpack("<H", content[at + 6 : at + 8])[0]
    grown = 22 - length
    if content[132:136] == b"\x02\x00\x00\x00":
        group = struct.unpack("<I", content[140:144])[0] + grown
        content[140:144] = struct.pack("<I", group & 0xFFFFFFFF)
    return content[: at + 6] + struct.pack("<H", 22) + DEFLATED.encode() + content[at + 8 + length :]


MUTATIONS: tuple[Mutation, ...] = (
    _bytes, _bytes, _lengths, _lengths, _vrs, _tags, _values, _values, _ends, _moves, _nests, _syntaxes, _deflates,
)  # fmt: skip


# --- the process ------------------------------------------------------------------------------------------------------


def seeds_of(folder: Path) -> list[bytes]:
    """Return the small DICOM files below a folder, of each of its folders at most 25."""
    found = []
    for source in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = (
            path for path in sorted(source.rglob("*")) if path.is_file() and path.stat().st_size < LARGEST_SEED_BYTES
        )
        images = [content for path in files if (content := path.read_bytes())[128:132] == b"DICM"]
        found += images[:: max(1, len(images) // 25)]
    return found


@contextmanager
def _watched() -> Iterator[None]:
    """Raise in what takes too much of a processor, and where memory has no bound."""

    def hang(_number: int, _frame: object) -> None:
        raise HangError(f"more than {HANG_S} s")

    before, limits = signal.signal(signal.SIGPROF, hang), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + 2 * MOST_BYTES, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, which quote what is wrong
            yield
    finally:
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seeds = seeds_of(DATA)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # in memory: every data set is a file once
        outcomes = fuzz(given.count, given.seed, Path(folder), seeds)
    for name, count in sorted(outcomes.named.items()):
        print(f"{count:7d}  {name}")
    print(f"{given.count} data sets from {len(seeds)} files, grown by {outcomes.grown_bytes / 2**20:.0f} MiB")
    print("\n".join(outcomes.faults[:50]) or "no crash, no hang, no outcome without a name")
    sys.exit(1 if outcomes.faults else 0)


if __name__ == "__main__":
    main()
