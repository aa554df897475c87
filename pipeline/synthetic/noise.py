"""Smooth random fields: for deforming a head, for the texture of a tissue and for the bias of a coil."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.shapes import Field


def smooth_field(
    random: np.random.Generator, shape_zyx: tuple[int, int, int], cell_zyx: tuple[float, float, float]
) -> Field:
    """Return a random field of about zero mean and unit deviation that varies over one cell.

    Parameters
    ----------
    random
        Source of the numbers.
    shape_zyx
        Size of the field in voxels.
    cell_zyx
        Distance of the control points in voxels; between them cubic B-splines run.

    Returns
    -------
    numpy.ndarray
        float32, `shape_zyx`.
    """
    z_basis, y_basis, x_basis = (_spline_basis(size, cell) for size, cell in zip(shape_zyx, cell_zyx, strict=True))
    controls = random.standard_normal((z_basis.shape[1], y_basis.shape[1], x_basis.shape[1])).astype(np.float32)
    planes = y_basis @ (controls @ x_basis.T)
    return (z_basis @ planes.reshape(planes.shape[0], -1)).reshape(shape_zyx)


def _spline_basis(size: int, cell: float) -> Field:
    """Return the weights (size, control points) of a cubic B-spline, scaled to unit deviation."""
    cell = min(max(cell, 1.0), float(size))
    count = int(np.ceil(size / cell)) + 3
    distance = np.abs(np.arange(size)[:, None] / cell + 1 - np.arange(count)[None, :])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, inner, outer)
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights.astype(np.float32)


def wave_field(random: np.random.Generator, coordinates: tuple[Field, ...], length_mm: float, waves: int = 14) -> Field:
    """Return a random field of unit deviation whose sign changes every half `length_mm`.

    Parameters
    ----------
    random
        Source of directions and phases.
    coordinates
        x, y and z of every point in millimetres, arrays of one shape.
    length_mm
        Mean wavelength; single waves differ from it by up to a fifth.
    waves
        How many plane waves are added.

    Returns
    -------
    numpy.ndarray
        float32, the shape of the coordinates.
    """
    total = np.zeros_like(coordinates[0])
    for _ in range(waves):
        direction = random.standard_normal(3)
        direction *= 2 * np.pi / (np.linalg.norm(direction) * length_mm * random.uniform(0.8, 1.2))
        phase = np.full_like(total, random.uniform(0, 2 * np.pi))
        for component, values in zip(direction, coordinates, strict=True):
            phase += np.float32(component) * values
        total += np.cos(phase, out=phase)
    return total * np.float32(np.sqrt(2 / waves))
