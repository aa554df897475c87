"""A procedural head: a label map with FreeSurfer's numbers, made of bent solids and folded sheets.

Made for demonstrations and tests: every run of the node needs a study, and no patient's scan may ship with it.
The anatomy is plausible, not true to any person.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from pipeline.synthetic.brain_anatomy import paint_brain, paint_brain_stem
from pipeline.synthetic.canvas import FIRST_HEAD_LABEL, RIGHT_OF_LEFT, Canvas, Label
from pipeline.synthetic.head_anatomy import Cavity, cranial_cavity, paint_head
from pipeline.synthetic.noise import smooth_field
from pipeline.synthetic.shapes import Field, Point

LOWER_XYZ_MM: Point = (-92.0, -128.0, -140.0)
UPPER_XYZ_MM: Point = (92.0, 112.0, 90.0)
"""Extent of a head of scale 1 about the middle of its brain; the neck is cut by the lower end."""
BRAIN_LOWER_XYZ_MM: Point = (-72.0, -90.0, -72.0)
BRAIN_UPPER_XYZ_MM: Point = (72.0, 90.0, 72.0)
BENDING_MM = 1.6
BENDING_CELL_MM = 45.0


def procedural_head(seed: int, *, spacing_mm: float = 1.0, scale: float = 1.0, tubers: int = 8) -> sitk.Image:
    """Return the label map of a head with cortical tubers.

    Parameters
    ----------
    seed
        The same seed, spacing and scale give the same head; at another spacing the folding differs.
    spacing_mm
        Edge of the cubic voxels.
    scale
        Size against an adult head.
    tubers
        How many tubers; all fit up to about 20.

    Returns
    -------
    SimpleITK.Image
        uint16, axes along LPS (x to the patient's left), numbers as FreeSurfer's with head tissue from 500;
        tubers are 25 on the left and 57 on the right. The origin of the patient space lies inside the brain.

    Raises
    ------
    ValueError
        If the spacing or the scale is not positive, or too coarse for a head (over 8 mm).
    """
    if not 0 < spacing_mm <= 8 * scale:
        raise ValueError(f"a head of scale {scale} cannot be drawn with voxels of {spacing_mm} mm")
    random = np.random.default_rng(seed)
    canvas = _empty_canvas(random, spacing_mm / scale)
    cavity = cranial_cavity(canvas.points)
    paint_head(canvas, cavity, random)
    cut = canvas.slices(BRAIN_LOWER_XYZ_MM, BRAIN_UPPER_XYZ_MM)
    inner = Cavity(cavity.cerebrum[cut], cavity.posterior_fossa[cut], cavity.whole[cut], cavity.hull[cut])
    paint_brain(canvas.window(cut), inner, random, tubers)
    paint_brain_stem(canvas)
    _name_right_side(canvas)
    labels = sitk.GetImageFromArray(canvas.label_zyx)
    labels.SetSpacing([spacing_mm] * 3)
    labels.SetOrigin([float(axis[0]) * scale for axis in canvas.axes_zyx[::-1]])
    return labels


def brain_volume_ml(labels: sitk.Image) -> float:
    """Return the volume of brain tissue and ventricles, without the fluid around them.

    Parameters
    ----------
    labels
        Label map with numbers as in `Label`.

    Returns
    -------
    float
        Millilitres.
    """
    label_zyx = sitk.GetArrayViewFromImage(labels)
    brain = (label_zyx > 0) & (label_zyx < FIRST_HEAD_LABEL) & (label_zyx != Label.OUTER_CSF)
    return float(np.count_nonzero(brain)) * float(np.prod(labels.GetSpacing())) / 1000


def _empty_canvas(random: np.random.Generator, step_mm: float) -> Canvas:
    """Return a canvas full of air with bent coordinates of a randomly stretched head."""
    axes: list[Field] = [
        np.arange(low, high, step_mm, dtype=np.float32)
        for low, high in zip(LOWER_XYZ_MM[::-1], UPPER_XYZ_MM[::-1], strict=True)
    ]
    shape = (axes[0].size, axes[1].size, axes[2].size)
    cell = BENDING_CELL_MM / step_mm
    stretch = random.uniform(0.975, 1.025, 3)
    grids = np.meshgrid(*axes, indexing="ij", copy=False)
    z, y, x = (
        np.float32(factor) * grid + np.float32(BENDING_MM) * smooth_field(random, shape, (cell, cell, cell))
        for factor, grid in zip(stretch, grids, strict=True)
    )
    return Canvas(np.zeros(shape, np.uint16), (x, y, z), (axes[0], axes[1], axes[2]))


def _name_right_side(canvas: Canvas) -> None:
    """Give what lies right of the midline its right-sided numbers."""
    numbers = np.arange(1024, dtype=np.uint16)
    for left, right in RIGHT_OF_LEFT.items():
        numbers[left] = right
    side = canvas.points[0] < 0
    canvas.label_zyx[side] = numbers[canvas.label_zyx[side]]
