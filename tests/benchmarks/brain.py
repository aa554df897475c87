"""Brain masks of real heads: ``python -m tests.benchmarks.brain [PAIRS.tsv] [--weights NAME ...] [--json]``.

The heads are those of the shared data, or the rows of a table with the columns ``image``, ``mask`` (may be empty) and
``name``, whose paths start at the table's folder. ``embedded``, ``hd-bet-v1-fast`` and ``hd-bet-v1-accurate`` are names
of weights; whatever else is given is a folder in HD-BET's format. A row for each head and weights: Dice against the
given mask and against ``hd-bet-v1-fast`` where it is among the weights, volume, seconds of the clock and of the
processor, and flags, among which the code of a refusal stands. A table of means follows.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.brain_weights import EMBEDDED, BrainWeights, open_brain_weights
from models.hd_bet_v1 import Mode, open_hd_bet_v1
from pipeline.brain import extract_brain, main_piece, raw_mask
from pipeline.errors import StudyHeld
from pipeline.grid import canonical
from pipeline.headers import read_headers
from pipeline.volume import read_volume
from tests.support.services import DATA

REFERENCE = "hd-bet-v1-fast"
SHARED = (
    *((f"open-ms/{scan}-{role}.nii.gz", f"open-ms/{scan}-{role}-brainmask.nii.gz")
      for scan in ("patient03-study2", "patient04-study1") for role in ("t1w", "t2w", "flair")),
    ("philips-mprage", ""), ("siemens-decubitus", ""), ("xa30-enhanced/t1.dcm", ""),
)  # fmt: skip
"""Images and given masks; the last three are T1W of DICOM files."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head and its given mask, where there is one."""

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Row:
    """What one set of weights made of one head."""

    name: str
    weights: str
    dice: float | None
    dice_reference: float | None
    volume_ml: float
    seconds: float
    cpu_s: float
    flags: tuple[str, ...]


def measure(head: Head, extractors: list[BrainExtractor]) -> list[Row]:
    """Return a row for each extractor; the mask of a volume that would be held is measured too."""
    image = _read(head.image)
    given = None if head.mask is None else _read(head.mask) > 0
    made = [(extractor.weights.name, *_extract(image, extractor)) for extractor in extractors]
    reference = next((mask for name, mask, *_ in made if name == REFERENCE), None)
    return [
        Row(head.name, name, _dice(mask, given), _dice(mask, reference), volume_ml, seconds, cpu_s, flags)
        for name, mask, volume_ml, flags, seconds, cpu_s in made
    ]


def _extract(image: sitk.Image, extractor: BrainExtractor) -> tuple[sitk.Image, float, tuple[str, ...], float, float]:
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    try:
        mask, facts = extract_brain(image, extractor)
        volume_ml, flags = facts.volume_ml, tuple(flag.value for flag in facts.flags)
    except StudyHeld as held:
        mask, volume_ml = _refused(image, extractor)
        flags = (held.code,)
    return mask, volume_ml, flags, time.perf_counter() - started_s, time.process_time() - started_cpu_s


def _refused(image: sitk.Image, extractor: BrainExtractor) -> tuple[sitk.Image, float]:
    """Return the mask that was refused, and its volume."""
    raw = raw_mask(image, extractor)
    mask = main_piece(raw)[0] if sitk.GetArrayViewFromImage(raw).any() else raw
    return mask, round(float(sitk.GetArrayViewFromImage(mask).sum() * np.prod(mask.GetSpacing()) / 1000), 1)


def _read(path: Path) -> sitk.Image:
    """Return an image on canonical axes, from NIfTI or from the only volume of DICOM files."""
    if path.name.endswith((".nii", ".nii.gz")):
        return canonical(sitk.ReadImage(str(path), sitk.sitkFloat32))
    (volume,) = read_headers([path] if path.is_file() else sorted(path.iterdir())).volumes
    return canonical(read_volume(volume))


def _dice(mask: sitk.Image, other: sitk.Image | None) -> float | None:
    if other is None:
        return None
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(mask, sitk.Resample(other, mask, sitk.Transform(), sitk.sitkNearestNeighbor))
    return float(overlap.GetDiceCoefficient())


def open_weights(name: str) -> BrainWeights:
    """Return weights by the name that the outputs state, or those of a folder."""
    by_mode = {f"hd-bet-v1-{mode}": mode for mode in Mode}
    if name in by_mode:
        return open_hd_bet_v1(by_mode[name])
    return open_brain_weights(Path(name).name, EMBEDDED if name == "embedded" else Path(name))


def heads_of(table: Path | None) -> list[Head]:
    """Return the heads of a table, or the shared ones that are there."""
    if table is None:
        shared = [
            Head(image.removesuffix(".nii.gz"), DATA / image, DATA / mask if mask else None) for image, mask in SHARED
        ]
        return [head for head in shared if head.image.exists()]
    with table.open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    folder = table.parent
    return [
        Head(pair["name"], folder / pair["image"], folder / pair["mask"] if pair["mask"] else None) for pair in pairs
    ]


def main() -> None:
    """Measure every head with all weights and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path, nargs="?", help="table of heads; default: the shared ones")
    parser.add_argument("--weights", nargs="+", default=["embedded", REFERENCE])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    extractors = [BrainExtractor(open_weights(name), torch.device("cpu")) for name in arguments.weights]
    rows = []
    for head in heads_of(arguments.pairs):
        for row in measure(head, extractors):
            rows.append(row)
            print(_line(row), file=sys.stderr if arguments.json else sys.stdout, flush=True)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for extractor in extractors:
        _print_means(extractor.weights.name, rows)


def _line(row: Row) -> str:
    return (
        f"{row.name:36} {row.weights:20} Dice {_shown(row.dice)} {REFERENCE} {_shown(row.dice_reference)} "
        f"{row.volume_ml:7.1f} ml {row.seconds:6.1f} s {row.cpu_s:6.1f} cpu s  {', '.join(row.flags) or '-'}"
    )


def _shown(dice: float | None) -> str:
    return "    -" if dice is None else f"{dice:.3f}"


def _print_means(weights: str, rows: list[Row]) -> None:
    own = [row for row in rows if row.weights == weights]
    for what, values in (
        ("given masks", [row.dice for row in own if row.dice is not None]),
        (REFERENCE, [row.dice_reference for row in own if row.dice_reference is not None]),
    ):
        if values:
            print(
                f"{weights} against {what}: mean {statistics.mean(values):.3f}, lowest {min(values):.3f}, {len(values)}"
            )


if __name__ == "__main__":
    main()
