"""What can be measured of a brain mask and of the image below it, so that a brain is known from anything else.

The numbers are of the method and were chosen here; `pipeline.plausibility` names what heads and other things measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from pipeline.mirrored import Likeness, mirror_likeness
from pipeline.skull import skull_share

_BLOCK_MM = 3.0
"""Voxels are averaged up to about this size: noise then is independent from voxel to voxel, tissue is not."""
_AIR_SHARE = 0.2
"""Share of the median intensity in the mask below which a voxel shows air, bone or fluid."""
_CLOSING_MM = 9.0
"""Radius that closes skull and sinuses, so that the head becomes one solid piece."""
_BIAS_SIGMA_MM = 10.0
"""Scale above which intensity changes are the coil's, not the tissue's."""
_MIN_WEIGHT = 1e-3
"""Least share of mask around a voxel: no division by nothing far outside."""
_HALF = 0.5
"""Share of mask from which a block is inside."""

_SKULL_PERCENTILE = 25
"""Of the depths at the rim of a mask, the one that skull and scalp have: below the brain the head is deeper, and where
it is cut it has no end."""

_FEWEST_BLOCKS = 100
"""Of a mask that has a shape."""
_REGION_MM = 30.0
"""Edge of the cubes in which contrast is looked for: a brain shows several tissues in each."""
_REGION_BLOCKS = 50
"""Fewest pairs of blocks from which the contrast of a cube is measured."""


@dataclass(frozen=True, slots=True)
class MaskMeasures:
    """Measures of one mask.

    Attributes
    ----------
    volume_ml
        Of the largest component, holes filled.
    main_share
        Share of the network's voxels that the largest component has, 0 to 1.
    shortest_mm
        Extent along the axis on which the mask is shortest.
    border_share
        Largest share that the mask takes of a border of the volume, the lower one left out: slices often end below the
        cerebellum.
    end_share
        Section of the mask at the worst of its six ends, of the largest section along that axis; small where a brain
        ends of itself.
    beyond_share
        The same of what lies as deep in the head as brain does, at the ends of the field of view, the lower one left
        out, where the neck goes on: networks round a mask off before the images end. It is the larger one: the head's
        surface beyond the images is not known.
    head_share
        Share of the head that is mask; the head is what is not air around the mask.
    inside_share
        Share of the mask that lies in the head.
    symmetry
        Dice of the mask and its mirror image, left and right exchanged, in the same middle.
    contrast
        Variation of the image inside the mask that neighbouring blocks of 3 mm share, relative to the mean intensity,
        in the typical cube of 30 mm; the coil's shading is taken out. A brain shows grey matter, white matter and fluid
        everywhere. Noise has no neighbours, and bottles of one fluid are even, but for inserts here and there.
    skull_share
        Share of the directions upwards and to all sides in which skull and scalp lie around the mask.
    roundness
        Dice of the mask and the ellipsoid of the same volume moments: a brain is flat below, and ends in a stem.
    likeness
        Of the image inside the mask and its mirror images: a brain is alike left and right alone.
    """

    volume_ml: float
    main_share: float
    shortest_mm: float
    border_share: float
    end_share: float
    beyond_share: float
    head_share: float
    inside_share: float
    symmetry: float
    contrast: float
    skull_share: float
    roundness: float
    likeness: Likeness


def measure_mask(volume: sitk.Image, mask: sitk.Image, main_share: float) -> MaskMeasures:
    """Return the measures of a mask.

    Parameters
    ----------
    volume
        Float, on canonical axes: left to right, posterior to anterior, inferior to superior.
    mask
        On the voxels of `volume`, not empty, in one piece without holes.
    main_share
        Share of the network's voxels that this piece has, 0 to 1.

    Returns
    -------
    MaskMeasures
        All finite.
    """
    mask_zyx = sitk.GetArrayViewFromImage(mask) > 0
    extent_voxels = np.ptp(np.argwhere(mask_zyx), axis=0) + 1
    blocks, inside = _blocks(volume), _blocks(sitk.Cast(mask, sitk.sitkFloat32))
    image_zyx, inside_zyx = sitk.GetArrayFromImage(blocks), sitk.GetArrayFromImage(inside) > _HALF
    head_zyx = _head(blocks, _AIR_SHARE * float(np.median(image_zyx[inside_zyx] if inside_zyx.any() else image_zyx)))
    in_mask, in_head, shared = (int(part.sum()) for part in (inside_zyx, head_zyx, inside_zyx & head_zyx))
    return MaskMeasures(
        volume_ml=float(mask_zyx.sum() * np.prod(mask.GetSpacing()) / 1000),
        main_share=main_share,
        shortest_mm=float((extent_voxels[::-1] * mask.GetSpacing()).min()),
        border_share=max(float(face.mean()) for face in _borders(mask_zyx)),
        end_share=max(_end_shares(inside_zyx), default=0.0),
        beyond_share=_beyond_share(blocks, inside_zyx, head_zyx),
        head_share=shared / max(in_head, 1),
        inside_share=shared / max(in_mask, 1),
        symmetry=_symmetry(mask_zyx),
        contrast=_contrast(blocks, inside_zyx & head_zyx),
        skull_share=skull_share(volume, mask),
        roundness=_roundness(inside_zyx, blocks.GetSpacing()[::-1]),
        likeness=mirror_likeness(blocks, inside),
    )


def _blocks(image: sitk.Image) -> sitk.Image:
    """Return the image with voxels averaged to about `_BLOCK_MM`; thicker slices stay as they are."""
    factors = [
        min(max(1, round(_BLOCK_MM / step)), n) for step, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    averaged: sitk.Image = sitk.BinShrink(image, factors)
    return averaged


def _head(blocks: sitk.Image, air: float) -> NDArray[np.bool_]:
    """Return the largest piece that is brighter than air, without holes."""
    radius = [max(1, round(_CLOSING_MM / step)) for step in blocks.GetSpacing()]
    bright = sitk.ConstantPad(blocks > air, radius, radius)
    closed = sitk.Crop(sitk.BinaryMorphologicalClosing(bright, radius), radius, radius)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(closed), sortByObjectSize=True) == 1
    return np.asarray(sitk.GetArrayFromImage(sitk.BinaryFillhole(largest)) > 0)


def _borders(mask_zyx: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], ...]:
    return mask_zyx[-1], mask_zyx[:, 0], mask_zyx[:, -1], mask_zyx[:, :, 0], mask_zyx[:, :, -1]


def _end_shares(inside_zyx: NDArray[np.bool_]) -> Iterator[float]:
    for axis in range(inside_zyx.ndim):
        areas = _sections(inside_zyx, axis)
        marked = areas[areas > 0]
        if marked.size:
            yield float(max(marked[0], marked[-1]) / marked.max())


def _beyond_share(blocks: sitk.Image, inside_zyx: NDArray[np.bool_], head_zyx: NDArray[np.bool_]) -> float:
    field = _field(sitk.GetArrayViewFromImage(blocks))
    inside, head = inside_zyx[field], head_zyx[field]
    if not inside.any():
        return 0.0
    # Where the field ends inside the head, the head goes on: the distance is that to air within the field.
    depth_mm = distance_transform_edt(head, blocks.GetSpacing()[::-1])
    skull_mm = float(np.percentile(depth_mm[inside & ~binary_erosion(inside)], _SKULL_PERCENTILE))
    deep = depth_mm > skull_mm
    shares = []
    for axis in range(inside.ndim):
        areas = _sections(deep & inside.any(axis, keepdims=True), axis)
        shares.append(float(max(areas[-1], areas[0] if axis else 0) / _sections(inside, axis).max()))
    return max(shares)


def _sections(mask_zyx: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    """Return how many voxels each plane across an axis has in a mask."""
    return np.asarray(mask_zyx.sum(tuple(a for a in range(mask_zyx.ndim) if a != axis)))


def _field(image_zyx: NDArray[np.float32]) -> tuple[slice, ...]:
    """Return the field of view without the zeros that it may be padded with."""
    there = np.argwhere(image_zyx != 0)
    return tuple(slice(low, high + 1) for low, high in zip(there.min(0), there.max(0), strict=True))


def _symmetry(mask_zyx: NDArray[np.bool_]) -> float:
    columns = mask_zyx.sum((0, 1))
    middle = float(np.average(np.arange(columns.size), weights=columns))
    mirrored = round(2 * middle) - np.arange(columns.size)
    there = (mirrored >= 0) & (mirrored < columns.size)
    shared = np.count_nonzero(mask_zyx[:, :, there] & mask_zyx[:, :, mirrored[there]])
    return shared / float(columns.sum())


def _roundness(inside_zyx: NDArray[np.bool_], spacing_zyx_mm: tuple[float, ...]) -> float:
    points = np.argwhere(inside_zyx) * spacing_zyx_mm
    if len(points) < _FEWEST_BLOCKS:
        return 0.0
    everywhere = np.indices(inside_zyx.shape).reshape(inside_zyx.ndim, -1).T * spacing_zyx_mm - points.mean(axis=0)
    distance = np.einsum("ij,jk,ik->i", everywhere, np.linalg.pinv(np.cov(points.T)), everywhere)
    # A solid ellipsoid varies along each axis by a fifth of its radius squared.
    ellipsoid = (distance <= inside_zyx.ndim + 2).reshape(inside_zyx.shape)
    return 2 * np.count_nonzero(ellipsoid & inside_zyx) / float(ellipsoid.sum() + inside_zyx.sum())


def _contrast(blocks: sitk.Image, inside_zyx: NDArray[np.bool_]) -> float:
    """Return the median over regions of the covariance of neighbours, as a share of the mean intensity."""
    eroded = sitk.BinaryErode(sitk.GetImageFromArray(inside_zyx.astype(np.uint8)), (1, 1, 1))
    inner_zyx = sitk.GetArrayFromImage(eroded) > 0
    if not inner_zyx.any():
        return 0.0
    image_zyx = sitk.GetArrayFromImage(blocks)
    detail_zyx = np.where(inner_zyx, image_zyx - _coil_shading(blocks, inside_zyx), 0)
    regions_zyx = _regions(blocks)
    covariances = []
    for axis in (1, 2):
        both = np.roll(inner_zyx, -1, axis) & inner_zyx
        product = (np.roll(detail_zyx, -1, axis) * detail_zyx)[both]
        counts = np.bincount(regions_zyx[both])
        sums = np.bincount(regions_zyx[both], product)
        covariances.append(sums[counts >= _REGION_BLOCKS] / counts[counts >= _REGION_BLOCKS])
    mean = abs(float(image_zyx[inner_zyx].mean()))
    typical = float(np.median(np.concatenate(covariances))) if any(c.size for c in covariances) else 0.0
    return float(np.sqrt(max(typical, 0))) / mean if mean else 0.0


def _regions(blocks: sitk.Image) -> NDArray[np.int64]:
    """Return for every voxel the number of the cube of `_REGION_MM` that it lies in."""
    steps = [
        (np.arange(n) * step / _REGION_MM).astype(np.int64)
        for n, step in zip(blocks.GetSize()[::-1], blocks.GetSpacing()[::-1], strict=True)
    ]
    z, y, x = np.meshgrid(*steps, indexing="ij")
    return np.asarray((z * (y.max() + 1) + y) * (x.max() + 1) + x)


def _coil_shading(blocks: sitk.Image, inside_zyx: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the image smoothed inside the mask."""
    weight = sitk.GetImageFromArray(inside_zyx.astype(np.float32))
    weight.CopyInformation(blocks)
    smooth = [sitk.SmoothingRecursiveGaussian(image, _BIAS_SIGMA_MM) for image in (blocks * weight, weight)]
    total, count = (sitk.GetArrayFromImage(image) for image in smooth)
    return np.asarray(total / np.maximum(count, np.float32(_MIN_WEIGHT)))
