"""The voxel grid that a head is painted on, and the label numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.shapes import Field, Point, Points


class Label(IntEnum):
    """FreeSurfer's numbers for the left side and the midline; 500 and more are head tissue outside the brain."""

    AIR = 0
    WHITE_MATTER = 2
    CORTEX = 3
    LATERAL_VENTRICLE = 4
    CEREBELLUM_WHITE_MATTER = 7
    CEREBELLUM_CORTEX = 8
    THALAMUS = 10
    CAUDATE = 11
    PUTAMEN = 12
    PALLIDUM = 13
    THIRD_VENTRICLE = 14
    FOURTH_VENTRICLE = 15
    BRAIN_STEM = 16
    HIPPOCAMPUS = 17
    AMYGDALA = 18
    OUTER_CSF = 24
    LESION = 25
    EYE = 506
    SOFT_TISSUE = 507
    EYE_MUSCLE = 508
    MUCOSA = 509
    SKIN = 511
    SPINAL_CORD = 512
    VEIN = 514
    CORTICAL_BONE = 515
    CANCELLOUS_BONE = 516
    OPTIC_NERVE = 530


RIGHT_OF_LEFT = {2: 41, 3: 42, 4: 43, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 25: 57}
"""The right-sided number of every left-sided one."""

FIRST_HEAD_LABEL = 500


@dataclass(frozen=True, slots=True)
class Canvas:
    """Labels and the anatomical coordinates of every voxel; a window shares the memory of the whole.

    Attributes
    ----------
    label_zyx
        uint16.
    points
        Anatomical x (left), y (posterior), z (superior) of every voxel in millimetres of a head of scale 1,
        already bent: a straight solid painted in them comes out deformed.
    axes_zyx
        Unbent coordinates along the three axes.
    """

    label_zyx: NDArray[np.uint16]
    points: Points
    axes_zyx: tuple[Field, Field, Field]

    @property
    def mirrored(self) -> Points:
        """The points with the distance from the midline for x: what is painted there appears on both sides."""
        x, y, z = self.points
        return np.abs(x), y, z

    def slices(self, lower_xyz_mm: Point, upper_xyz_mm: Point, margin_mm: float = 12.0) -> tuple[slice, slice, slice]:
        """Return the part of the grid between two corners.

        Parameters
        ----------
        lower_xyz_mm, upper_xyz_mm
            Corners in unbent coordinates.
        margin_mm
            Added on all sides, as room for the bending.

        Returns
        -------
        tuple of slice
            Along z, y and x; cut off where the grid ends.
        """
        cuts = []
        for axis, low, high in zip(self.axes_zyx, lower_xyz_mm[::-1], upper_xyz_mm[::-1], strict=True):
            start, stop = np.searchsorted(axis, (low - margin_mm, high + margin_mm))
            cuts.append(slice(int(start), int(stop)))
        return cuts[0], cuts[1], cuts[2]

    def window(self, part: tuple[slice, slice, slice]) -> Canvas:
        """Return a part of the canvas, which shares its memory.

        Parameters
        ----------
        part
            As `slices` returns it.

        Returns
        -------
        Canvas
            Painting on it paints on this canvas.
        """
        x, y, z = (values[part] for values in self.points)
        axes = tuple(axis[cut] for axis, cut in zip(self.axes_zyx, part, strict=True))
        return Canvas(self.label_zyx[part], (x, y, z), (axes[0], axes[1], axes[2]))

    def between(self, lower_xyz_mm: Point, upper_xyz_mm: Point) -> Canvas:
        """Return the window between two corners, with room for the bending.

        Parameters
        ----------
        lower_xyz_mm, upper_xyz_mm
            Corners in unbent coordinates.

        Returns
        -------
        Canvas
            Shares the memory of this one.
        """
        return self.window(self.slices(lower_xyz_mm, upper_xyz_mm))

    def paint(self, where: NDArray[np.bool_], label: Label, over: Collection[Label] | None = None) -> None:
        """Write a label into some voxels.

        Parameters
        ----------
        where
            bool, z-y-x, the shape of the canvas.
        label
            Written where `where` is true.
        over
            Labels that are painted over; None for all.
        """
        if over is not None:
            where = where & np.isin(self.label_zyx, list(over))
        self.label_zyx[where] = label
