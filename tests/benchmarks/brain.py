"""Brain masks against given ones: ``python -m tests.benchmarks.brain PAIRS.tsv [--json]``.

The table has the columns ``image``, ``mask`` and ``name``; paths start at the table's folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import SimpleITK as sitk
import torch

from models.brain_extractor import EMBEDDED, BrainExtractor, open_brain_weights
from pipeline.brain import extract_brain
from pipeline.errors import StudyHeld
from pipeline.grid import canonical


def measure(extractor: BrainExtractor, image_file: Path, mask_file: Path) -> dict[str, object]:
    """Return Dice, volume, flags and seconds of one pair."""
    image = canonical(sitk.ReadImage(str(image_file), sitk.sitkFloat32))
    truth = canonical(sitk.ReadImage(str(mask_file), sitk.sitkFloat32)) > 0
    started_s = time.perf_counter()
    try:
        mask, facts = extract_brain(image, extractor)
    except StudyHeld as held:
        seconds = time.perf_counter() - started_s
        return {"dice": 0.0, "volume_ml": None, "flags": [held.code], "seconds": seconds}
    seconds = time.perf_counter() - started_s
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(mask, sitk.Resample(truth, mask, sitk.Transform(), sitk.sitkNearestNeighbor))
    dice = overlap.GetDiceCoefficient()
    return {"dice": dice, "volume_ml": facts.volume_ml, "flags": list(facts.flags), "seconds": seconds}


def main() -> None:
    """Measure every row and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    extractor = BrainExtractor(open_brain_weights("embedded", EMBEDDED), torch.device("cpu"))
    with arguments.pairs.open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    folder = arguments.pairs.parent
    rows = [
        {"name": pair["name"], **measure(extractor, folder / pair["image"], folder / pair["mask"])} for pair in pairs
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        flags = ", ".join(row["flags"]) or "-"
        print(f"{row['name']:32} Dice {row['dice']:.4f}  {row['volume_ml']} ml  {row['seconds']:.2f} s  {flags}")
    print(f"median Dice {statistics.median(row['dice'] for row in rows):.4f}")


if __name__ == "__main__":
    main()
