"""Brain masks against given ones: ``python -m tests.benchmarks.brain PAIRS.tsv [--json]``.

The table has the columns ``image``, ``mask`` and ``name``; paths start at the table's folder. Each row gives Dice,
volume, flags and seconds; the code of a refusal stands among the flags.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.brain_weights import EMBEDDED, open_brain_weights
from pipeline.brain import extract_brain, main_piece, raw_mask
from pipeline.errors import StudyHeld
from pipeline.grid import canonical


def measure(extractor: BrainExtractor, image_file: Path, mask_file: Path) -> dict[str, object]:
    """Return Dice, volume, flags and seconds of one pair; the mask of a volume that would be held is measured too."""
    image = canonical(sitk.ReadImage(str(image_file), sitk.sitkFloat32))
    truth = canonical(sitk.ReadImage(str(mask_file), sitk.sitkFloat32)) > 0
    started_s = time.perf_counter()
    try:
        mask, facts = extract_brain(image, extractor)
        volume_ml, flags = facts.volume_ml, list(facts.flags)
    except StudyHeld as held:
        mask, volume_ml, flags = *_refused(image, extractor), [held.code]
    seconds = time.perf_counter() - started_s
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(mask, sitk.Resample(truth, mask, sitk.Transform(), sitk.sitkNearestNeighbor))
    return {"dice": overlap.GetDiceCoefficient(), "volume_ml": volume_ml, "flags": flags, "seconds": seconds}


def _refused(image: sitk.Image, extractor: BrainExtractor) -> tuple[sitk.Image, float]:
    """Return the mask that was refused, and its volume."""
    raw = raw_mask(image, extractor)
    mask = main_piece(raw)[0] if sitk.GetArrayViewFromImage(raw).any() else raw
    return mask, round(float(sitk.GetArrayViewFromImage(mask).sum() * np.prod(mask.GetSpacing()) / 1000), 1)


def main() -> None:
    """Measure every row and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", type=Path, default=EMBEDDED, help="another model folder in HD-BET's format")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    extractor = BrainExtractor(open_brain_weights(arguments.weights.name, arguments.weights), torch.device("cpu"))
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
