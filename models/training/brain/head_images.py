"""Random head images with an exact brain mask, drawn from label maps (domain randomisation).

A label map says which tissue each voxel is. Giving every tissue a random intensity, and the whole
image the random faults of a scanner, yields endless training pairs of any contrast without one
real scan (Billot et al., SynthSeg, 2023, give the idea). Some of the images show no head, and their mask is empty.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.brain.label_maps import TISSUE_NAMES, LabelMap
from models.training.brain.non_heads import NonHeads

_SOFT_TISSUE, _OUTER_FLUID, _VEIN, _BONE = map(
    TISSUE_NAMES.index, ("soft tissue", "outer fluid", "vein", "cortical bone")
)
_FATTY = [TISSUE_NAMES.index(name) for name in ("soft tissue", "skin", "cancellous bone")]
_BARE_SHARE, _FACELESS_SHARE = 0.07, 0.3
"""Of the images, those that lose all but a rim around the brain, and those and the ones that lose the face: public data
sets come defaced or stripped, hospital images do not."""
_CHILD_SHARE, _CHILD_SCALE = 0.35, 0.85
"""Of the heads, those that are a child's: small, and the face smaller still."""
_SKULL_BASE_MM, _FOREHEAD_MM = -55.0, 75.0
"""Below and before the middle of an adult's brain: where the face begins."""
_TIGHT_SHARE, _DURA_SHARE = 0.5, 0.3
"""Of the heads, those whose bone lies close to the brain, as it does in the young: the maps are of people with much
fluid; and those that show dura or vessels between the two."""
_TURNS_DEGREES = (25, 15, 25)
"""About the axes z, y and x: patients lie on their side, and children as they sleep."""
_BRIGHT_SHARE, _BRIGHTEST = 0.5, 5.0
"""Of the images, those whose fat outshines the brain: in scalp and face it lies at the coil, and T1W favours it."""
_MOSTLY_BRAIN = 0.5
"""Fraction from which on a voxel counts as brain where its signal is read and the field of view laid around it."""

# Relative intensities by contrast, in the order of TISSUE_NAMES; jittered for every image.
CONTRASTS = {
    "T1W": (0.02, 0.85, 0.80, 0.60, 0.65, 0.78, 0.18, 0.18, 0.45, 0.55, 0.6, 0.7, 0.5, 0.4, 0.25, 0.7, 0.5, 0.85, 0.75,
            0.08, 0.7),
    "T2W": (0.02, 0.40, 0.38, 0.58, 0.52, 0.35, 1.00, 0.98, 0.70, 0.70, 0.2, 0.4, 0.1, 0.2, 0.95, 0.35, 0.7, 0.5, 0.40,
            0.05, 0.4),
    # At a long echo little but fluid, eyes and fat is bright.
    "T2W, long echo": (0.02, 0.26, 0.28, 0.44, 0.36, 0.20, 1.00, 0.98, 0.65, 0.72, 0.15, 0.3, 0.1, 0.2, 0.95, 0.08, 0.5,
                       0.3, 0.28, 0.03, 0.2),
    "FLAIR": (0.02, 0.52, 0.52, 0.68, 0.64, 0.45, 0.10, 0.12, 0.60, 0.90, 0.2, 0.5, 0.2, 0.2, 0.20, 0.45, 0.7, 0.6,
              0.55, 0.05, 0.45),
}  # fmt: skip


class HeadImages:
    """Draws batches of random head images with their soft brain masks.

    Parameters
    ----------
    heads
        The anatomies to draw from.
    patch_zyx
        Size of the network's patch in voxels.
    spacing_mm
        Isotropic voxel size of the network.
    seed
        Start of the random sequence; the same seed gives the same images.
    non_head_share
        Of the draws, those that show no head, so that the right mask is empty.

    Notes
    -----
    All images of one batch show the same anatomy in the same pose, each in a contrast of its own:
    the deformation is the costly part.
    """

    def __init__(
        self,
        heads: list[LabelMap],
        patch_zyx: tuple[int, int, int],
        spacing_mm: float,
        seed: int,
        non_head_share: float = 0.06,
    ) -> None:
        self.heads = heads
        self.patch_zyx = patch_zyx
        self.spacing_mm = spacing_mm
        self.non_head_share = non_head_share
        self.random = torch.Generator().manual_seed(seed)
        self._non_heads = NonHeads(len(TISSUE_NAMES), self.random)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return images and brain fractions.

        Parameters
        ----------
        batch
            How many images, at least 1.

        Returns
        -------
        tuple of Tensor
            Both float32 (batch, 1, z, y, x): images with zero mean and unit variance inside a random field of
            view and 0 outside it, as nnU-Net pads; and the fraction of each voxel that is brain.
        """
        tissue_fine, brain_fine = self._anatomy()
        brain = F.avg_pool3d(brain_fine.float(), 2)
        images, brains = [], []
        for _ in range(batch):
            image = self._faults(self._scan(self._paint(tissue_fine, brain_fine)), brain)
            if brain.any():
                image = self._deface(image, brain)
            image, inside = self._field_of_view(image, brain)
            images.append(_standardise(image, inside))
            brains.append(brain * inside)
        return torch.cat(images), torch.cat(brains)

    # --- random numbers -------------------------------------------------------------------------------------------

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def _integer(self, stop: int) -> int:
        return int(torch.randint(stop, (), generator=self.random))

    def _chance(self, probability: float) -> bool:
        return self._uniform(0, 1) < probability

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def _smooth_field(self, cells: int, size: tuple[int, ...], channels: int = 1) -> Tensor:
        coarse = self._normal(1, channels, cells, cells, cells)
        return F.interpolate(coarse, size=size, mode="trilinear", align_corners=True)

    # --- one image, step by step ----------------------------------------------------------------------------------

    def _anatomy(self) -> tuple[Tensor, Tensor]:
        """Return tissue and brain, at half the network's spacing, of a head or of something else."""
        tissue, brain = self._pose(self.heads[self._integer(len(self.heads))])
        if self._chance(self.non_head_share):
            return self._non_heads.draw(tissue, brain), torch.zeros_like(brain)
        if self._chance(_TIGHT_SHARE):
            tissue = tissue.masked_fill((tissue == _OUTER_FLUID) & (brain == 0), _BONE)
        if self._chance(_DURA_SHARE):
            beside = F.max_pool3d(brain.float(), 3, stride=1, padding=1) > brain
            tissue = tissue.masked_fill(beside & ((tissue == _OUTER_FLUID) | (tissue == _BONE)), _VEIN)
        return tissue, brain

    def _pose(self, head: LabelMap) -> tuple[Tensor, Tensor]:
        """Return tissue and brain of a rotated, scaled, bent head at half the network's spacing."""
        size = tuple(2 * n for n in self.patch_zyx)
        step_mm = self.spacing_mm / 2
        child = self._chance(_CHILD_SHARE)
        scale = self._uniform(0.6, _CHILD_SCALE) if child else self._uniform(0.75, 1.15)
        stretch = torch.tensor([scale * self._uniform(0.93, 1.07) for _ in range(3)])
        angles = [self._uniform(-1, 1) * np.deg2rad(limit) for limit in _TURNS_DEGREES]
        matrix = _rotation(angles) / stretch[:, None]
        centre_voxel = torch.nonzero(head.brain_zyx[::4, ::4, ::4]).float().mul(4).mean(0)
        # Sagittal scans reach far down the neck: the brain then lies high in the patch.
        shift_mm = torch.tensor([self._uniform(-25, 55), self._uniform(-25, 25), self._uniform(-15, 15)])
        axes = [(torch.arange(n) - (n - 1) / 2) * step_mm for n in size]
        points_mm = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) - shift_mm
        points_mm += 4.0 * self._smooth_field(6, size, 3)[0].movedim(0, -1)
        points_mm = points_mm @ matrix.T
        if child:
            _shrink_face(points_mm, self._uniform(1, 1.6))
        voxels = points_mm / torch.tensor(head.spacing_zyx_mm) + centre_voxel
        if self._chance(0.5):
            voxels[..., 2] = 2 * centre_voxel[2] - voxels[..., 2]
        index = voxels.round_().long()
        limits = torch.tensor(head.tissue_zyx.shape)
        outside = ((index < 0) | (index >= limits)).any(-1)
        index.clamp_(min=torch.zeros(3, dtype=torch.long), max=limits - 1)
        flat = (index[..., 0] * limits[1] + index[..., 1]) * limits[2] + index[..., 2]
        tissue = head.tissue_zyx.flatten()[flat].masked_fill_(outside, 0)
        brain = head.brain_zyx.flatten()[flat].masked_fill_(outside, 0)
        return tissue[None, None], brain[None, None]

    def _paint(self, tissue: Tensor, brain: Tensor) -> Tensor:
        """Give each tissue its intensity and texture."""
        count = len(TISSUE_NAMES)
        if self._chance(0.7):
            name = tuple(CONTRASTS)[self._integer(len(CONTRASTS))]
            means = torch.tensor(CONTRASTS[name]) + 0.09 * self._normal(count)
        else:
            means = torch.rand(count, generator=self.random)
            if self._chance(0.7):
                means[TISSUE_NAMES.index("outer fluid")] = means[TISSUE_NAMES.index("ventricles")]
        brightest = 1.0
        if self._chance(_BRIGHT_SHARE):
            brightest = self._uniform(1, _BRIGHTEST)
            means[_FATTY] *= torch.tensor([self._uniform(1, brightest) for _ in _FATTY])
        means[0] = self._uniform(0.0, 0.08) if self._chance(0.9) else self._uniform(0, 1)
        deviations = 0.02 + 0.08 * torch.rand(count, generator=self.random)
        index = tissue.long()
        size = tuple(tissue.shape[2:])
        texture = torch.randn(tissue.shape, generator=self.random)
        if self._chance(0.7):
            texture = 0.5 * texture + self._smooth_field(24, size)
        image = means[index] + deviations[index] * texture
        if self._chance(0.6):
            # The maps know one soft tissue; images show muscle and fat.
            fat = (self._smooth_field(16, size) > self._uniform(0.0, 0.8)) & (tissue == _SOFT_TISSUE)
            image = torch.where(fat, self._uniform(0, brightest) + 0.05 * texture, image)
        if self._chance(0.4):
            spots = (self._smooth_field(14, size) > self._uniform(1.2, 2.0)) & (brain > 0)
            image = image + spots * self._uniform(-0.4, 0.4)
        return image.clamp_min_(0)

    def _scan(self, image: Tensor) -> Tensor:
        """Average into voxels of the network's spacing, with slices of 1 to 7 mm in a random plane."""
        kernel = [2, 2, 2]
        if self._chance(0.6):
            thickness = round(self._uniform(1, 7) / (self.spacing_mm / 2))
            kernel[self._integer(3) if self._chance(0.6) else 0] = max(1, thickness)
        averaged = F.avg_pool3d(image, kernel)
        return F.interpolate(averaged, size=self.patch_zyx, mode="trilinear")

    def _faults(self, image: Tensor, brain: Tensor) -> Tensor:
        """Bias field, blur, ghosts, gamma and noise; the noise is a share of the brain's signal, where there is one."""
        size = self.patch_zyx
        image = image * torch.exp(self._uniform(0, 0.5) * self._smooth_field(4, size))
        if self._chance(0.45):
            image = image * self._coil_sensitivity()
        if self._chance(0.25):
            image = F.avg_pool3d(image, 3, stride=1, padding=1)
        if self._chance(0.15):
            axis, shift = 2 + self._integer(3), 6 + self._integer(20)
            image = image + self._uniform(0.03, 0.15) * torch.roll(image, shift, axis)
        image = (image / image.amax().clamp_min(1e-6)) ** np.exp(self._uniform(-0.4, 0.4))
        shown = brain > _MOSTLY_BRAIN if brain.any() else image > image.mean()
        signal = image[shown].mean()
        noise = self._uniform(0, 0.12) * signal * torch.randn(image.shape, generator=self.random)
        if self._chance(0.5):
            return torch.sqrt((image + noise) ** 2 + noise**2)
        return image + noise

    def _coil_sensitivity(self) -> Tensor:
        """Return a brightness that falls or rises from the rim of the head to its middle, or to one side."""
        axes = [torch.linspace(-1, 1, size) - self._uniform(-0.6, 0.6) for size in self.patch_zyx]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        return torch.exp(self._uniform(-0.6, 2.2) * (z**2 + y**2 + x**2))

    def _deface(self, image: Tensor, brain: Tensor) -> Tensor:
        """Remove the face, or all but a rim around the brain, in some images; the brain stays whole."""
        choice = self._uniform(0, 1)
        if choice > _FACELESS_SHARE:
            return image
        if choice > _BARE_SHARE:
            z, y, _ = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in self.patch_zyx], indexing="ij")
            gone = (self._uniform(0.3, 1.0) * y - z) > self._uniform(0.2, 0.8)
            rim = 3
        else:
            gone = torch.ones(self.patch_zyx, dtype=torch.bool)
            rim = 3 + 2 * self._integer(3)
        near = F.max_pool3d(brain, rim, stride=1, padding=rim // 2) > 0
        return image.masked_fill(gone & ~near, 0.0)

    def _field_of_view(self, image: Tensor, brain: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image with what a smaller field of view leaves out set to 0, and that field as a mask."""
        inside = torch.zeros_like(image)
        window = [slice(None), slice(None)]
        for axis, size in enumerate(self.patch_zyx):
            others = [a for a in range(5) if a != axis + 2]
            there = torch.nonzero(brain.amax(others) > _MOSTLY_BRAIN)
            low, high = (int(there.min()), int(there.max()) + 1) if len(there) else (0, size)
            margin_mm = (-4, 60) if self._chance(0.6) else (0, 15)
            below_mm = (30, 130) if axis == 0 and self._chance(0.5) else margin_mm
            start = low - round(self._uniform(*below_mm) / self.spacing_mm)
            stop = high + round(self._uniform(*margin_mm) / self.spacing_mm)
            window.append(slice(max(0, start), min(size, stop)))
        inside[tuple(window)] = 1
        return image * inside, inside


def _shrink_face(points_mm: Tensor, factor: float) -> None:
    """Make what lies below and before the brain smaller, in place; points of the adult's head, z-y-x."""
    below, before = points_mm[..., 0] - _SKULL_BASE_MM, points_mm[..., 1] - _FOREHEAD_MM
    points_mm[..., 0] += (factor - 1) * below.clamp_max_(0)
    points_mm[..., 1] += (factor - 1) * before.clamp_min_(0)


def _rotation(angles_zyx: list[float]) -> Tensor:
    """Return the product of the rotations about the three axes."""
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles_zyx):
        a, b = [i for i in range(3) if i != axis]
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = float(np.cos(angle))
        turn[a, b], turn[b, a] = -float(np.sin(angle)), float(np.sin(angle))
        matrix = matrix @ turn
    return matrix


def _standardise(image: Tensor, inside: Tensor) -> Tensor:
    """Return the image with zero mean and unit deviation in the field of view, as nnU-Net's z-score does."""
    values = image[inside > 0]
    return (image - values.mean()) / values.std().clamp_min(1e-6) * inside
