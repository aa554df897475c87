"""Do maps of what a score depends on tell the truth? ``python -m tests.benchmarks.saliency --out DIR [--bundle NAME]``.

Made heads that no bundle has seen get a few large tubers, so that it is known what raises the score. Each method draws
a map of each head, limited to the brain mask; two controls that know nothing of the network stand beside them. Printed
is a table, methods by measures, and the decision by the bars below. Heads and masks stay in DIR; `--methods` measures
some of them, and the table is of all that were measured there for that bundle.

pointing    share of heads whose largest value lies on a tuber, or a voxel beside one
chance      share of the brain that this is
deletion    mean score while the voxels of the largest values are put to the mean of the brain, most salient first
insertion   the same while they are put into a brain of nothing but that mean
sanity      correlation of the map with that of the same network with random weights
seconds     for a map, one thread
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy.ndimage import binary_dilation, gaussian_filter, zoom
from torch import nn

from models.brain_extractor import BrainExtractor
from models.bundle import Grid, open_bundle
from models.contrast import Contrast
from models.efficientnet3d import demonstration_network
from models.saliency import grad_cam
from models.wae_net import WaeNet
from pipeline.brain import main_piece, raw_mask
from pipeline.grid import brain_centred, canonical, resample
from pipeline.predict import model_tensor
from pipeline.synthetic.made_cohort import ACQUISITIONS, make_head
from pipeline.synthetic.rendering import render
from pipeline.synthetic.tubers import Load, place_tubers
from pipeline.synthetic.warp import base_anatomies
from tests.benchmarks.repeatability import embedded_extractor

SEED = 919
ROLE = Contrast.FLAIR
TUBERS = Load("saliency", (3, 6), (18.0, 26.0), (0.9, 1.0))
POINTING_BAR, SANITY_BAR = 0.7, 0.5
"""A map whose peak misses in three of ten heads misleads; one like that of random weights shows the image alone."""
MARGIN = 0.05
"""By how much insertion less deletion must exceed that of a control on the same heads: a map that says no more than the
brightness of the image tells a reader nothing that is not seen."""
SHARES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Of the brain, put in or taken out."""
CUBE_VOXELS = (8, 12, 12)
"""24 mm on the small grid, as large as a tuber."""
STEPS, NOISES, NOISE_SD = 12, 3, 0.15
SMOOTH_VOXELS = 2.0
Map = Callable[[nn.Module, torch.Tensor, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Case:
    """One head as the network sees it: the tensor, its brain, and where the tubers are."""

    tensor_zyx: np.ndarray
    brain_zyx: np.ndarray
    tuber_zyx: np.ndarray


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of a method."""

    method: str
    heads: int
    pointing: float
    chance: float
    deletion: float
    insertion: float
    sanity: float | None
    seconds: float


# --- methods ----------------------------------------------------------------------------------------------------------


def by_grad_cam(network: nn.Module, batch: torch.Tensor, brain_zyx: np.ndarray) -> np.ndarray:
    """Grad-CAM on the features that the product draws, between them linear."""
    found = grad_cam(network, batch)
    return _upsampled(found.values_zyx, brain_zyx.shape)


def by_occlusion(network: nn.Module, batch: torch.Tensor, brain_zyx: np.ndarray) -> np.ndarray:
    """Fall of the logit when a cube of a lattice is put to the mean of the brain."""
    values = np.zeros([-(-side // cube) for side, cube in zip(brain_zyx.shape, CUBE_VOXELS, strict=True)], np.float32)
    with torch.inference_mode():
        whole = float(network(batch))
        for place in np.ndindex(*values.shape):
            z, y, x = (slice(i * cube, (i + 1) * cube) for i, cube in zip(place, CUBE_VOXELS, strict=True))
            if brain_zyx[z, y, x].any():
                without = batch.clone()
                without[0, 0, z, y, x] = 0
                values[place] = whole - float(network(without))
    return _repeated(values, brain_zyx.shape)


def by_integrated_gradients(network: nn.Module, batch: torch.Tensor, brain_zyx: np.ndarray) -> np.ndarray:
    """Integrated gradients from the mean of the brain, averaged over noise, then smoothed."""
    noise = torch.Generator().manual_seed(1)
    inside = torch.from_numpy(brain_zyx)[None, None]
    total = torch.zeros_like(batch)
    for _ in range(NOISES):
        noisy = batch + inside * NOISE_SD * torch.randn(batch.shape, generator=noise)
        for step in range(STEPS):
            total += noisy * _gradient(network, noisy * (step + 0.5) / STEPS)
    return gaussian_filter(total[0, 0].numpy(), SMOOTH_VOXELS)


def by_gradient(network: nn.Module, batch: torch.Tensor, brain_zyx: np.ndarray) -> np.ndarray:
    """Gradient times input, smoothed."""
    return gaussian_filter((batch * _gradient(network, batch))[0, 0].numpy(), SMOOTH_VOXELS)


def by_brightness(network: nn.Module, batch: torch.Tensor, brain_zyx: np.ndarray) -> np.ndarray:
    """Control: the image itself, smoothed."""
    return gaussian_filter(batch[0, 0].numpy(), SMOOTH_VOXELS)


def by_chance(network: nn.Module, batch: torch.Tensor, brain_zyx: np.ndarray) -> np.ndarray:
    """Control: smoothed noise."""
    seed = int(brain_zyx.sum())
    return gaussian_filter(np.random.default_rng(seed).standard_normal(brain_zyx.shape), 2 * SMOOTH_VOXELS)


METHODS: dict[str, Map] = {
    "grad_cam": by_grad_cam,
    "occlusion": by_occlusion,
    "integrated_gradients": by_integrated_gradients,
    "gradient_x_input": by_gradient,
    "control: brightness": by_brightness,
    "control: noise": by_chance,
}
CONTROLS = tuple(name for name in METHODS if name.startswith("control"))


def _gradient(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    leaf = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf)
    return gradient


def _upsampled(values_zyx: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    factors = [side / count for side, count in zip(shape, values_zyx.shape, strict=True)]
    return zoom(values_zyx, factors, order=1, mode="nearest", grid_mode=True)


def _repeated(values_zyx: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, cube in enumerate(CUBE_VOXELS):
        values_zyx = values_zyx.repeat(cube, axis)
    return values_zyx[tuple(map(slice, shape))]


# --- heads ------------------------------------------------------------------------------------------------------------


def cases(count: int, grid: Grid, clip_percentiles: tuple[float, float], out: Path) -> Iterator[Case]:
    """Yield made heads with a few large tubers; what was made before is read."""
    bases = base_anatomies(None, SEED)
    extractors: list[BrainExtractor] = []
    for index in range(count):
        files = [out / f"{name}-{index}.nrrd" for name in ("volume", "mask", "share")]
        if not files[-1].exists():
            if not extractors:
                extractors.append(embedded_extractor())
            for file, image in zip(files, _made(bases[index % len(bases)], index, extractors[0]), strict=True):
                sitk.WriteImage(image, str(file))
        volume, mask, share = (sitk.ReadImage(str(file)) for file in files)
        target = brain_centred(mask, grid)
        brain = sitk.GetArrayFromImage(resample(mask, target, nearest=True)) > 0
        tuber = sitk.GetArrayFromImage(resample(sitk.Cast(share, sitk.sitkFloat32), target)) > 0.3
        yield Case(model_tensor(volume, mask, grid, clip_percentiles), brain, tuber & brain)


def _made(base, index: int, extractor) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    head, _, _ = make_head(base, index, SEED)
    share = place_tubers(head, TUBERS, np.random.default_rng([SEED, index, 1])).shares[ROLE]
    acquired = ACQUISITIONS[ROLE]
    volume = canonical(
        render(head, ROLE, spacing_xyz_mm=acquired.spacing_xyz_mm, seed=index, plane=acquired.plane, brain_slices=True,
               tubers=share)
    )  # fmt: skip
    return volume, main_piece(raw_mask(volume, extractor))[0], share


# --- measures ---------------------------------------------------------------------------------------------------------


def measure(name: str, heads: list[Case], network: nn.Module, random: nn.Module) -> Row:
    """Return the row of a method."""
    found: list[tuple[float, float, float, float, float]] = []
    spent_s = []
    for number, case in enumerate(heads):
        batch = torch.from_numpy(case.tensor_zyx)[None, None]
        began_s = time.process_time()
        values = METHODS[name](network, batch, case.brain_zyx)
        spent_s.append(time.process_time() - began_s)
        near = binary_dilation(case.tuber_zyx)
        peak = np.unravel_index(np.where(case.brain_zyx, values, -np.inf).argmax(), values.shape)
        order = np.argsort(-values[case.brain_zyx], kind="stable")
        deleted, inserted = (_curve(network, case, order, put_in=put_in) for put_in in (False, True))
        alike = np.nan
        if name not in CONTROLS and number < 2:
            other = METHODS[name](random, batch, case.brain_zyx)
            alike = abs(float(np.corrcoef(values[case.brain_zyx], other[case.brain_zyx])[0, 1]))
        found.append((float(near[peak]), float(near[case.brain_zyx].mean()), deleted, inserted, alike))
        print(f"{name}: head {number + 1} of {len(heads)}", file=sys.stderr)
    pointing, chance, deletion, insertion, _ = np.mean(found, axis=0)
    known = [each[-1] for each in found if not np.isnan(each[-1])]
    sanity = max(known) if known else None
    return Row(name, len(heads), pointing, chance, deletion, insertion, sanity, float(np.median(spent_s)))


def _curve(network: nn.Module, case: Case, order: np.ndarray, *, put_in: bool) -> float:
    """Return the mean score over `SHARES` of the brain's voxels."""
    inside, scores = case.tensor_zyx[case.brain_zyx], []
    for share in SHARES:
        first = order[: round(share * len(order))]
        shown = np.zeros_like(inside) if put_in else inside.copy()
        shown[first] = inside[first] if put_in else 0
        tensor = np.zeros_like(case.tensor_zyx)
        tensor[case.brain_zyx] = shown
        with torch.inference_mode():
            scores.append(float(torch.sigmoid(network(torch.from_numpy(tensor)[None, None]))))
    return float(np.trapezoid(scores, SHARES))


def passes(row: Row, rows: dict[str, Row]) -> bool:
    """Return whether a map may be shown: it points at tubers, explains more than the controls, needs the network."""
    gains = {name: each.insertion - each.deletion for name, each in rows.items() if each.heads == row.heads}
    best = max((gains[name] for name in CONTROLS if name in gains), default=np.inf)
    return (
        row.method not in CONTROLS
        and row.pointing >= POINTING_BAR
        and gains[row.method] > best + MARGIN
        and (row.sanity or 0.0) < SANITY_BAR
    )


def lines(rows: dict[str, Row]) -> Iterator[str]:
    """Yield the table and the decision."""
    yield "| method | heads | pointing (chance) | deletion | insertion | sanity | seconds | passes |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows.values():
        sanity = "-" if row.sanity is None else f"{row.sanity:.2f}"
        measured = f"{row.pointing:.2f} ({row.chance:.2f}) | {row.deletion:.2f} | {row.insertion:.2f} | {sanity}"
        passed = "yes" if passes(row, rows) else "no"
        yield f"| {row.method} | {row.heads} | {measured} | {row.seconds:.1f} | {passed} |"
    shown = [name for name, row in rows.items() if passes(row, rows)]
    yield f"DECISION: {'show ' + ', '.join(shown) if shown else 'no method passes; saliency is left out'}"


def main() -> None:
    """Measure and print; exit code 1 if no method passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", default="synthetic-demo")
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    ensemble = WaeNet(open_bundle(arguments.bundle), torch.device("cpu"))
    metadata = ensemble.bundle.metadata
    heads = list(cases(arguments.heads, metadata.grid, metadata.intensity.clip_percentiles, arguments.out))
    network = ensemble.explained[ROLE][0]
    random = demonstration_network(metadata.architecture.first_block_stride, seed=3).requires_grad_(requires_grad=False)
    file = arguments.out / f"rows-{ensemble.bundle.digest[:16]}.json"
    rows = {each["method"]: Row(**each) for each in json.loads(file.read_text())} if file.exists() else {}
    for name in arguments.methods:
        rows[name] = measure(name, heads, network, random)
        file.write_text(json.dumps([asdict(row) for row in rows.values()], indent=1))
    rows = {name: rows[name] for name in METHODS if name in rows}
    print("\n".join(lines(rows)))
    sys.exit(0 if any(passes(row, rows) for row in rows.values()) else 1)


if __name__ == "__main__":
    main()
