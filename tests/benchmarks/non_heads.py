"""What becomes of things that are no heads: ``python -m tests.benchmarks.non_heads [--count 300] [--json]``.

Things of many kinds are drawn, imaged in one sequence each and given to the brain extractor. A row for each kind counts
those without a mask, those that are held for it, those that are flagged, and those that pass as a brain. No weights
were trained on any of these kinds. Those on which limits were chosen are left out, unless ``--fitted`` asks for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from enum import StrEnum

import numpy as np
import SimpleITK as sitk
import torch

from models.brain_extractor import BrainExtractor
from models.contrast import Contrast
from pipeline.brain import main_piece, raw_mask
from pipeline.errors import StudyHeld
from pipeline.mask_measures import measure_mask
from pipeline.plausibility import doubts
from pipeline.synthetic.noise import smooth_field
from pipeline.synthetic.rendering import TIMING
from tests.benchmarks.brain import open_weights
from tests.support.non_head_kinds import KINDS, SIZE, STEP_MM, Drawing, Kind


class Outcome(StrEnum):
    """What became of a thing: no mask, one that can be no brain's, one that is doubted, or one like a brain's."""

    EMPTY_MASK = "empty_mask"
    HELD = "held"
    FLAGGED = "flagged"
    PASSED = "passed"


_SPACINGS_XYZ_MM = (
    (2.0, 2.0, 2.0),
    (1.5, 1.5, 5.0),
    (2.0, 2.0, 4.0),
    (1.5, 4.0, 1.5),
    (5.0, 1.5, 1.5),
    (2.0, 1.5, 1.5),
)


def non_head(kind: Kind, role: Contrast, seed: int) -> sitk.Image:
    """Return an image of a thing, on canonical axes.

    Parameters
    ----------
    kind
        What it is.
    role
        Sequence that takes the image.
    seed
        The same seed gives the same image.

    Returns
    -------
    SimpleITK.Image
        float32, with partial volume, the coil's shading and noise.
    """
    random = np.random.default_rng([seed, list(KINDS).index(kind.name), list(Contrast).index(role)])
    drawing = Drawing(random)
    kind.draw(drawing)
    signal, spread = (
        np.array(values, np.float32)
        for values in zip(*((tissue.signal(TIMING[role]), tissue.spread) for tissue in drawing.tissues), strict=True)
    )
    shape = drawing.tissue_zyx.shape
    texture = smooth_field(random, shape, (1.5, 1.5, 1.5))
    image = signal[drawing.tissue_zyx] * (1 + spread[drawing.tissue_zyx] * texture)
    image *= np.exp(np.float32(random.uniform(0.05, 0.35)) * smooth_field(random, shape, (45.0, 45.0, 45.0)))
    image /= max(float(np.percentile(image, 99.5)), 1e-3)
    fine = sitk.GetImageFromArray(image * 1000)
    fine.SetSpacing((STEP_MM,) * 3)
    spacing_xyz_mm = _SPACINGS_XYZ_MM[int(random.integers(len(_SPACINGS_XYZ_MM)))]
    coarse = _slices(fine, spacing_xyz_mm)
    deviation, shape = random.uniform(5, 50), coarse.GetSize()[::-1]
    noisy = np.hypot(
        sitk.GetArrayFromImage(coarse) + deviation * random.standard_normal(shape),
        deviation * random.standard_normal(shape),
    )
    volume = sitk.GetImageFromArray(noisy.astype(np.float32))
    volume.CopyInformation(coarse)
    volume.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return volume


def _slices(fine: sitk.Image, spacing_xyz_mm: tuple[float, float, float]) -> sitk.Image:
    """Return the image on other voxels, blurred as much as they are thick."""
    smooth = sitk.SmoothingRecursiveGaussian(fine, [step / 2.35 for step in spacing_xyz_mm])
    size = [int(SIZE * STEP_MM / step) for step in spacing_xyz_mm]
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, fine.GetOrigin(), spacing_xyz_mm, fine.GetDirection()
    )


def judge(volume: sitk.Image, raw: sitk.Image) -> Outcome:
    """Return what becomes of a volume in which the network drew a mask."""
    if not sitk.GetArrayViewFromImage(raw).any():
        return Outcome.EMPTY_MASK
    mask, main_share = main_piece(raw)
    try:
        flags = doubts(measure_mask(volume, mask, main_share))
    except StudyHeld:
        return Outcome.HELD
    return Outcome.FLAGGED if flags else Outcome.PASSED


def main() -> int:
    """Draw, judge and count; 1 if a thing passed as a head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, metavar="N", help="how many things (default: 300)")
    parser.add_argument("--weights", default="embedded", help="as in tests.benchmarks.brain (default: embedded)")
    parser.add_argument("--fitted", action="store_true", help="the kinds on which limits were chosen, not the others")
    parser.add_argument("--json", action="store_true", help="counts as JSON")
    options = parser.parse_args()
    extractor = BrainExtractor(open_weights(options.weights), torch.device("cpu"))
    kinds = [kind for kind in KINDS.values() if kind.fitted == options.fitted]
    counts = {kind.name: Counter[Outcome]() for kind in kinds}
    for number in range(options.count):
        seed, index = divmod(number, len(kinds))
        volume = non_head(kinds[index], tuple(Contrast)[seed % len(Contrast)], seed)
        counts[kinds[index].name][judge(volume, raw_mask(volume, extractor))] += 1
    _print(counts, as_json=options.json)
    return int(any(count[Outcome.PASSED] for count in counts.values()))


def _print(counts: dict[str, Counter[Outcome]], *, as_json: bool) -> None:
    rows = {name: {outcome.value: count[outcome] for outcome in Outcome} for name, count in counts.items()}
    rows["all"] = {outcome.value: sum(row[outcome.value] for row in rows.values()) for outcome in Outcome}
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for name, row in rows.items():
        print(f"{name:10}", *(f"{outcome} {count:4}" for outcome, count in row.items()), sep="  ")


if __name__ == "__main__":
    sys.exit(main())
