"""The right report whatever the order of arrival: ``python -m tests.faults.arrivals [--orders 200] [--seed N]``.

A study of three sequences and a localizer comes to one node again and again, under UIDs of its own each time and in
another way: series late or interleaved, over associations that are aborted and begun again, sent twice one after the
other or at once. Receiver, collector and selection are those of the product; the networks are not there (`quick_node`).
In the end each study must have, as its last report, the one of the selection from all that was sent, made once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from dicom_node.engine.run_folder import OBJECTS
from dicom_node.net.held_port import held_port
from dicom_node.studies.spool import Study
from dicom_node.studies.timeline import Event
from models.contrast import Contrast
from pipeline.select import select_study
from pipeline.synthetic import StudyTags, write_study
from pipeline.synthetic.rendering import Plane
from pipeline.synthetic.study_files import Acquisition
from tests.support.raw_association import ABORT, RawAssociation, message, store_command
from tests.support.services import SEEDED, Node, first_true, started

ROOT: Final = Path(__file__).parents[2]
LONGEST_PAUSE_S: Final = 8.0
"""Before something late; the quiet time is 2 s, so that most studies have begun by then."""
SETTLED_WITHIN_S: Final = 240.0
AT_ONCE: Final = 12
_SENT_AGAIN: Final = 3
"""Instances before an abort that the sender sends once more, as it does not know what was kept."""
STUDY_UID: Final = "2.25.17"
_PREFIX: Final = b"2.25.100000"
"""Of the UIDs of the template, all of one length; the digits count the studies."""
_COARSE: Final = {role: Acquisition(Plane.AXIAL, (4.0, 4.0, 5.0)) for role in Contrast}


class Way(StrEnum):
    """What may be unusual about an arrival; several may be at once."""

    LATE = "late series"
    INTERLEAVED = "interleaved series"
    ABORTED = "aborted association"
    RESENT = "resent series"
    DOUBLED = "the same association twice at once"


@dataclass(frozen=True, slots=True)
class Instance:
    """A SOP Instance UID, and its data set in explicit VR little endian."""

    uid: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Sending:
    """What one association brings, and whether it is aborted in the middle of one more instance."""

    instances: tuple[Instance, ...]
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class Wave:
    """Associations that are open at once, after a pause."""

    sendings: tuple[Sending, ...]
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one study.

    Attributes
    ----------
    study_uid, ways
        Which it is, and how it came.
    fault
        What is wrong with it; empty if nothing is.
    reports
        How many were made of it: the last one, and those that it replaced.
    """

    study_uid: str
    ways: frozenset[Way]
    fault: str
    reports: int


class Template:
    """A small study that can be sent under any number of UIDs.

    Parameters
    ----------
    folder
        For its files.
    """

    def __init__(self, folder: Path) -> None:
        tags = StudyTags(study_uid=STUDY_UID, **SEEDED)
        written = write_study(folder, study=tags, quick=True, acquisitions=_COARSE)
        folders = sorted({path.parent for paths in written.files.values() for path in paths} | {folder / "localizer"})
        self._series = [[_renamed(path) for path in sorted(place.iterdir())] for place in folders if place.is_dir()]

    def study(self, number: int) -> tuple[str, list[list[Instance]]]:
        """Return a Study Instance UID and the instances of each series."""
        prefix = f"2.25.1{number:05d}".encode()
        series = [[Instance(*(part.replace(_PREFIX, prefix) for part in one)) for one in each] for each in self._series]
        return _fixed(STUDY_UID).replace(_PREFIX.decode(), prefix.decode()), series


def _renamed(path: Path) -> tuple[bytes, bytes]:
    """Return the SOP Instance UID and the data set of a file, under UIDs with the prefix."""
    dataset = pydicom.dcmread(path)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        dataset[keyword].value = _fixed(dataset[keyword].value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return dataset.SOPInstanceUID.encode(), buffer.getvalue()


def _fixed(uid: str) -> str:
    return f"{_PREFIX.decode()}{int.from_bytes(uid.encode(), 'big') % 10**24:024d}"


def plan(random: Random, series: list[list[Instance]]) -> tuple[frozenset[Way], list[Wave]]:
    """Return a way for a study to arrive, in which every instance is stored at least once."""
    ways = frozenset(way for way in Way if random.random() < 0.4)
    left = random.sample(series, len(series))
    late = [left.pop()] if Way.LATE in ways else []
    parts = _interleaved(random, left) if Way.INTERLEAVED in ways else left
    waves = [Wave(tuple(Sending(tuple(part)) for part in parts))] if Way.INTERLEAVED in ways else []
    waves = waves or [Wave((Sending(tuple(part)),), random.uniform(0, 0.5)) for part in parts]
    if Way.ABORTED in ways:
        waves = _aborted(random, waves)
    if Way.DOUBLED in ways:
        at = random.randrange(len(waves))
        waves[at] = replace(waves[at], sendings=(*waves[at].sendings, *waves[at].sendings))
    if Way.RESENT in ways:
        waves.append(Wave((Sending(tuple(random.choice(left))),), random.uniform(0, LONGEST_PAUSE_S)))
    waves += [Wave((Sending(tuple(one)),), random.uniform(0, LONGEST_PAUSE_S)) for one in late]
    return ways, waves


def _interleaved(random: Random, series: list[list[Instance]]) -> list[list[Instance]]:
    """Return the instances of all series mixed, for two associations."""
    mixed = [instance for one in series for instance in one]
    random.shuffle(mixed)
    half = random.randrange(1, len(mixed))
    return [mixed[:half], mixed[half:]]


def _aborted(random: Random, waves: list[Wave]) -> list[Wave]:
    """Return waves of which one sender aborts, and comes again."""
    at = random.randrange(len(waves))
    first, *others = waves[at].sendings
    cut = random.randrange(len(first.instances))
    again = Sending(first.instances[max(0, cut - _SENT_AGAIN) :])
    broken = Wave((Sending(first.instances[: cut + 1], aborted=True), *others), waves[at].pause_s)
    return [*waves[:at], broken, Wave((again,), random.uniform(0, LONGEST_PAUSE_S)), *waves[at + 1 :]]


def send(port: int, sending: Sending) -> None:
    """Send instances over one association, each of which must be taken.

    Raises
    ------
    AssertionError
        If one is refused.
    """
    whole = sending.instances[:-1] if sending.aborted else sending.instances
    with RawAssociation.accepted(port) as association:
        for number, instance in enumerate(whole, 1):
            association.send(message(1, store_command(number, instance.uid.decode()), instance.content))
            answer = association.read()
            assert answer is not None, "the receiver ended the association"
            assert answer.status == 0, f"{answer.status:04X}H"
        if sending.aborted:
            last = sending.instances[-1]
            begun = message(1, store_command(len(whole) + 1, last.uid.decode()), last.content)
            association.send(begun[: len(begun) // 2])
            association.socket.sendall(ABORT if last.uid[-1] % 2 else b"")
        else:
            association.release()


def arrive(port: int, waves: list[Wave]) -> None:
    """Let a study arrive as it was planned."""
    for wave in waves:
        time.sleep(wave.pause_s)
        with ThreadPoolExecutor(len(wave.sendings)) as pool:
            for done in [pool.submit(send, port, sending) for sending in wave.sendings]:
                done.result()


def fault(study: Study, instances: int, expected: str) -> str:
    """Return what is wrong with a study of which all has been sent; empty if its report is the expected one."""
    kept = len(list(study.instances()))
    if kept != instances:
        return f"{kept} of {instances} instances"
    timeline = study.timeline()
    if timeline.read_digest != expected:
        return f"the last report is of {timeline.read_digest and timeline.read_digest[:8]}, not {expected[:8]}"
    if timeline.is_superseded(expected) or timeline.collected_digest != study.digest():
        return "a newer selection waits"
    if not all((study.run_folder(expected) / name).exists() for name in OBJECTS):
        return "the report is not whole"
    made = sum(entry.event is Event.READ and entry.input_digest == expected for entry in timeline)
    return "" if made == 1 else f"the last report was made {made} times"


def _digest(sent: list[Instance], folder: Path) -> str:
    """Return the digest of the selection from all that was sent."""
    folder.mkdir(parents=True)
    for number, instance in enumerate(sent):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, UID(instance.uid.decode())
        buffer = DicomBytesIO()
        write_file_meta_info(buffer, meta)
        (folder / f"{number}.dcm").write_bytes(bytes(128) + b"DICM" + buffer.getvalue() + instance.content)
    selection = select_study(sorted(folder.iterdir()))
    assert selection.held is None, selection.held
    return selection.digest


@contextmanager
def quick_node(folder: Path) -> Iterator[Node]:
    """Yield a node that listens, selects as the product does, and reads in moments."""
    with held_port() as port:
        node = Node(folder, port, None)
        command = [sys.executable, "-m", "tests.faults.quick_node", "serve", "--config", str(node.config)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "QUICK_SELECTS": "1", "QUICK_STEP_S": "0.02"}
        with started(command, node.log, environment=environment):
            node.wait_listening()
            yield node


def arrivals(folder: Path, orders: int, seed: int) -> list[Outcome]:
    """Return what became of studies that came in random ways.

    Parameters
    ----------
    folder
        Empty, for node and studies.
    orders
        How many studies.
    seed
        Of the ways.
    """
    template = Template(folder / "template")
    with quick_node(folder) as node, ThreadPoolExecutor(AT_ONCE) as pool:

        def one(number: int) -> Outcome:
            study_uid, sent = template.study(number)
            ways, waves = plan(Random(f"{seed} {number}"), sent)
            arrive(node.port, waves)
            study = Study(study_uid, node.data_dir / "spool" / study_uid)
            instances = [instance for one in sent for instance in one]
            expected = _digest(instances, folder / "sent" / study_uid)
            first_true(lambda: not fault(study, len(instances), expected), SETTLED_WITHIN_S, 0.5)
            reports = sum(entry.event is Event.READ for entry in study.timeline())
            return Outcome(study_uid, ways, fault(study, len(instances), expected), reports)

        return list(pool.map(one, range(orders)))


def main() -> int:
    """Print how the studies came, and which have another report than the right one; exit 1 if one has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dicom-node-arrivals-") as folder:
        outcomes = arrivals(Path(folder), asked.orders, asked.seed)
    wrong = [outcome for outcome in outcomes if outcome.fault]
    ways = Counter(way for outcome in outcomes for way in outcome.ways)
    print(", ".join(f"{count} with {way}" for way, count in sorted(ways.items())))
    reports = Counter(outcome.reports for outcome in outcomes)
    print("readings of a study: " + ", ".join(f"{count} x {number}" for number, count in sorted(reports.items())))
    for outcome in wrong:
        print(f"{outcome.study_uid} ({', '.join(sorted(outcome.ways))}): {outcome.fault}")
    right = len(outcomes) - len(wrong)
    seconds = time.monotonic() - began_s
    print(f"{right} of {len(outcomes)} have the right report, after {seconds:.0f} s, seed {asked.seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
