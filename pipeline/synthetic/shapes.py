"""Signed distances to the few solids that a head is made of: negative inside, in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""One value a voxel; float32 unless said otherwise."""
Points = tuple[Field, Field, Field]
"""x, y and z of every voxel, in millimetres."""
Point = tuple[float, float, float]
SLAB = 4
"""Slices that are computed at a time."""


def ellipsoid(points: Points, centre: Point, radii: Point) -> Field:
    """Return the approximate signed distance to an ellipsoid along the axes.

    Parameters
    ----------
    points
        Where to evaluate.
    centre, radii
        In millimetres, x-y-z.

    Returns
    -------
    numpy.ndarray
        float32; exact on the surface, a good approximation within half a radius of it.
    """

    def distance(*part: Field) -> Field:
        unit = np.zeros_like(part[0])
        slope = np.zeros_like(part[0])
        for values, middle, radius in zip(part, centre, radii, strict=True):
            share = (values - np.float32(middle)) / np.float32(radius)
            share *= share
            unit += share
            slope += share / np.float32(radius**2)
        np.sqrt(unit, out=unit)
        np.sqrt(slope, out=slope)
        return unit * (unit - 1) / np.maximum(slope, np.float32(1e-6))

    return _by_slab(distance, *points)


def tube(points: Points, path: Sequence[tuple[Point, float]]) -> Field:
    """Return the signed distance to a tube of changing radius along a polyline.

    Parameters
    ----------
    points
        Where to evaluate.
    path
        Corners (x-y-z) and the radius at each, in millimetres; two or more.

    Returns
    -------
    numpy.ndarray
        float32.
    """

    def distance(*part: Field) -> Field:
        nearest = np.full_like(part[0], np.inf)
        for (start, start_radius), (end, end_radius) in pairwise(path):
            offsets = [values - np.float32(first) for values, first in zip(part, start, strict=True)]
            along = [np.float32(last - first) for first, last in zip(start, end, strict=True)]
            dot: Any = sum(offset * step for offset, step in zip(offsets, along, strict=True))
            share = np.clip(dot / np.float32(sum(step * step for step in along)), 0, 1)
            square: Any = sum((offset - share * step) ** 2 for offset, step in zip(offsets, along, strict=True))
            radius = np.float32(start_radius) + share * np.float32(end_radius - start_radius)
            np.minimum(nearest, np.sqrt(square) - radius, out=nearest)
        return nearest

    return _by_slab(distance, *points)


def union(first: Field, second: Field, blend_mm: float = 0.0) -> Field:
    """Return the distance to two solids together.

    Parameters
    ----------
    first, second
        Signed distances in millimetres, arrays of one shape.
    blend_mm
        Over so much their seam is rounded; 0 leaves it sharp.

    Returns
    -------
    numpy.ndarray
        Of that shape, negative in either solid.
    """
    if not blend_mm:
        return np.asarray(np.minimum(first, second))

    def blend(one: Field, other: Field) -> Field:
        overlap = np.clip(np.float32(blend_mm) - np.abs(one - other), 0, None)
        return np.asarray(np.minimum(one, other) - overlap * overlap / np.float32(4 * blend_mm))

    return _by_slab(blend, first, second)


def intersection(first: Field, second: Field, blend_mm: float = 0.0) -> Field:
    """Return the distance to what two solids share.

    Parameters
    ----------
    first, second
        Signed distances in millimetres, arrays of one shape.
    blend_mm
        Over so much the edge is rounded; 0 leaves it sharp.

    Returns
    -------
    numpy.ndarray
        Of that shape, negative in both solids.
    """
    return -union(-first, -second, blend_mm)


def smooth_step(values: Field, at: float, width: float) -> Field:
    """Return a smooth rise from 0 to 1.

    Parameters
    ----------
    values
        Any shape.
    at
        Value at which it is 0.5.
    width
        About a quarter of the way from 0 to 1, in the unit of the values.

    Returns
    -------
    numpy.ndarray
        float32, the shape of the values.
    """
    return np.asarray(
        (1 / (1 + np.exp(-np.clip((values - np.float32(at)) / np.float32(width), -30, 30)))).astype(np.float32)
    )


def _by_slab(compute: Callable[..., Field], *arrays: Field) -> Field:
    """Compute slab by slab: the temporary arrays then stay in the processor's cache, which is several times faster."""
    whole = np.empty(arrays[0].shape, np.float32)
    for start in range(0, len(whole), SLAB):
        slab = slice(start, start + SLAB)
        whole[slab] = compute(*(array[slab] for array in arrays))
    return whole
