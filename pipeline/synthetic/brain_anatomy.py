"""The brain inside the dura: folded cortex, deep grey matter, ventricles, cerebellum, brain stem, tubers.

All lengths and places are those of an adult's head in `Canvas.points`, chosen by eye so that slices look like a
brain's; none is measured on a person.
"""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.canvas import Canvas, Label
from pipeline.synthetic.head_anatomy import BRAIN_STEM_PATH, SPINAL_CORD_PATH, Cavity
from pipeline.synthetic.noise import smooth_field, wave_field
from pipeline.synthetic.shapes import Field, Point, Points, ellipsoid, intersection, tube

GYRUS_MM = 27.0
"""Wavelength of the folding: two gyri."""
CORTEX_MM = 2.9
FOLIUM_MM = 5.0
CEREBELLAR_CORTEX_MM = 3.4
"""Thicker than in life, where folia are finer than the voxels of a scan."""
VERMIS_MM = 5
"""Half its width; no white matter is drawn in it."""
BRAIN_STEM_CISTERN_MM = 5
FORAMEN_MAGNUM_Z_MM = -50
"""Below, fluid takes the place of bone and muscle around the brain stem."""
CALLOSUM_MM = 6
CALLOSUM_LOWER_Z_MM = 2
"""Thickness of the corpus callosum, and where its arch ends."""
FOLIA_RADIUS_MM = 30.0
"""Where folia have that width."""
SINUS_MM = 6
"""Depth of the venous sinuses below the bone."""
SAGITTAL_SINUS_LOWER_Z_MM, SAGITTAL_SINUS_FRONT_Y_MM = -10, -70
TRANSVERSE_SINUS_UPPER_Z_MM, TRANSVERSE_SINUS_FRONT_Y_MM = -8, 42
TUBER_SEAT_MM = 4, 9
"""Depth below the pia at which the middle of a tuber may lie: in the cortex or close to it."""
TUBER_MIDLINE_MM = 5
"""Tubers have no middle nearer to the midline."""

LATERAL_VENTRICLE_PATH = (
    ((9.0, -32.0, 6.0), 4.5),
    ((10.0, -20.0, 12.0), 5.5),
    ((11.0, 5.0, 18.0), 4.5),
    ((18.0, 28.0, 13.0), 5.5),
    ((24.0, 36.0, 2.0), 6.0),
    ((30.0, 22.0, -14.0), 2.8),
    ((30.0, 2.0, -24.0), 2.2),
)
CAUDATE_PATH = (((15.0, -28.0, 3.0), 6.0), ((16.0, -14.0, 12.0), 5.0), ((19.0, 12.0, 19.0), 2.5))


def paint_brain(canvas: Canvas, cavity: Cavity, random: np.random.Generator, tubers: int) -> tuple[Point, ...]:
    """Paint the brain over the CSF that fills the cavity, left labels on both sides.

    Parameters
    ----------
    canvas, cavity
        The window of the head that holds the cavity, and the distances there.
    random
        Source of the folding and of the tubers.
    tubers
        How many cortical tubers; fewer are painted where they do not fit.

    Returns
    -------
    tuple of (float, float, float)
        Anatomical centre of every tuber, x-y-z in millimetres.
    """
    _paint_cerebellum(canvas, cavity, random)
    depth = _paint_cerebrum(canvas, cavity, random)
    _paint_deep_structures(canvas)
    _paint_sinuses(canvas, cavity)
    return _paint_tubers(canvas, depth, random, tubers)


def paint_brain_stem(canvas: Canvas) -> None:
    """Paint brain stem, spinal cord and the fluid around them down to the end of the neck.

    Parameters
    ----------
    canvas
        The whole head, its brain painted.
    """
    part = canvas.between((-40, -15, -160), (40, 60, 0))
    csf = (Label.OUTER_CSF, Label.CORTEX, Label.WHITE_MATTER, Label.CEREBELLUM_CORTEX, Label.CEREBELLUM_WHITE_MATTER)
    stem = tube(part.points, BRAIN_STEM_PATH)
    canal = (Label.CORTICAL_BONE, Label.CANCELLOUS_BONE, Label.SOFT_TISSUE)
    part.paint((stem < BRAIN_STEM_CISTERN_MM) & (part.points[2] < FORAMEN_MAGNUM_Z_MM), Label.OUTER_CSF, canal)
    part.paint(tube(part.points, SPINAL_CORD_PATH) < 0, Label.SPINAL_CORD, (*csf, *canal))
    peduncle = tube(part.mirrored, [((8, 8, -36), 9), ((24, 32, -38), 7)])
    part.paint(peduncle < 0, Label.CEREBELLUM_WHITE_MATTER, csf)
    part.paint(stem < 0, Label.BRAIN_STEM, (*csf, Label.SPINAL_CORD))
    fourth = ellipsoid(part.points, (0.0, 21.0, -38.0), (7.0, 5.0, 10.0))
    part.paint(fourth < 0, Label.FOURTH_VENTRICLE, (*csf, Label.BRAIN_STEM))


def _paint_cerebrum(canvas: Canvas, cavity: Cavity, random: np.random.Generator) -> Field:
    """Paint cortex and white matter; return the depth below the pia, sulci left out of account."""
    x, _, _ = canvas.points
    varying = _field_mm(canvas, random, 30.0)
    depth = -cavity.cerebrum - np.clip(1.9 + 0.6 * varying, 0.9, 3.5)
    wobble = np.float32(0.8) * _field_mm(canvas, random, 25.0)
    fissure = _fissure(canvas.points, wobble)
    sulci, width = _sulci(canvas, np.minimum(depth, fissure), random, varying)
    sylvian = _sylvian_fissure(canvas.points, wobble)
    pial = np.minimum(np.minimum(depth, sulci - width), np.minimum(fissure - 0.9, sylvian - 1.3))
    cerebrum = cavity.cerebrum < 0
    canvas.paint(cerebrum & (pial >= 0), Label.CORTEX)
    thickness = CORTEX_MM + 0.25 * varying
    canvas.paint(cerebrum & (pial >= thickness), Label.WHITE_MATTER)
    canvas.paint(cerebrum & (pial < 0), Label.OUTER_CSF)
    callosum = ellipsoid(canvas.points, (0.0, 2.0, 2.0), (12.0, 38.0, 25.0))
    arch = (callosum < 0) & (callosum > -CALLOSUM_MM) & (canvas.points[2] > CALLOSUM_LOWER_Z_MM)
    canvas.paint(arch, Label.WHITE_MATTER)
    return np.where(np.abs(x) > TUBER_MIDLINE_MM, np.minimum(depth, fissure), 0).astype(np.float32)


def _field_mm(canvas: Canvas, random: np.random.Generator, cell_mm: float) -> Field:
    shape = canvas.label_zyx.shape
    cells = [cell_mm / max(float(axis[1] - axis[0]), 1e-3) for axis in canvas.axes_zyx]
    return smooth_field(random, (shape[0], shape[1], shape[2]), (cells[0], cells[1], cells[2]))


def _sulci(canvas: Canvas, depth: Field, random: np.random.Generator, varying: Field) -> tuple[Field, Field]:
    """Return the distance to the mid-surface of the nearest sulcus and the half width of the sulcus there."""
    # The folding hardly changes along a ray from the middle of the hemisphere, so that the sulci stand upright
    # on its surface; the far shift of one side makes the two sides differ.
    aside, y, z = canvas.mirrored
    ray = np.sqrt(((aside - 26) / 42) ** 2 + (y / 84) ** 2 + ((z - 4) / 60) ** 2)
    stretch = 1 / np.maximum(ray, np.float32(0.25)) ** np.float32(0.7)
    side = np.where(canvas.points[0] < 0, np.float32(1000), np.float32(0))
    waves = wave_field(random, ((aside - 26) * stretch + side, y * stretch, (z - 4) * stretch), GYRUS_MM)
    slope = np.zeros_like(waves)
    for rise, axis in zip(np.gradient(waves), canvas.axes_zyx, strict=True):
        slope += (rise / np.float32(axis[1] - axis[0])) ** 2
    np.sqrt(slope, out=slope)
    sheet = np.abs(waves) / np.maximum(slope, np.float32(0.35 * slope.mean()))
    deepest = np.clip(16 + 5 * varying, 7, 25)
    reach = np.hypot(sheet, np.clip(depth - deepest, 0, None))
    width = 0.35 + 0.5 * np.clip(1 - depth / deepest, 0, 1)
    return reach, width.astype(np.float32)


def _fissure(points: Points, wobble: Field) -> Field:
    """Return the distance to the gap between the hemispheres, which ends at the corpus callosum."""
    x, y, z = points
    flat = (np.zeros_like(x), y, z)
    callosum = ellipsoid(flat, (0.0, 2.0, 0.0), (1.0, 40.0, 28.0))
    return np.asarray(np.hypot(x - wobble, np.clip(-callosum, 0, None)))


def _sylvian_fissure(points: Points, wobble: Field) -> Field:
    x, y, z = points
    sheet = np.abs(z + 9 - 0.4 * y - 5 * wobble) * 0.85
    along = np.clip(np.abs(y) - 32, 0, None)
    across = np.clip(38 - np.abs(x), 0, None)
    return np.asarray(np.sqrt(sheet**2 + along**2 + across**2))


def _paint_cerebellum(canvas: Canvas, cavity: Cavity, random: np.random.Generator) -> None:
    fossa = cavity.posterior_fossa
    x, y, z = canvas.points
    depth = np.minimum(-fossa - 1.8, y - 5 - 0.1 * np.abs(x))
    radius = np.hypot(z + 40, y - 16)
    angle = np.arctan2(z + 40, y - 16 + 0.12 * np.abs(x))
    varying = _field_mm(canvas, random, 14.0)
    # Folia fan out from the fourth ventricle; the wanted width is theirs at the surface.
    waves = np.float32(np.pi * FOLIA_RADIUS_MM / FOLIUM_MM)
    sheet = np.abs(np.sin(angle * waves + varying)) * np.maximum(radius, 8) / waves
    deepest = 5 + 3 * np.clip(varying, -1, 2)
    reach = np.hypot(sheet, np.clip(depth - deepest, 0, None))
    pial = np.minimum(depth, reach - 0.35)
    inside = fossa < 0
    canvas.paint(inside & (pial >= 0), Label.CEREBELLUM_CORTEX)
    core = inside & (pial >= CEREBELLAR_CORTEX_MM) & (np.abs(x) > VERMIS_MM)
    canvas.paint(core, Label.CEREBELLUM_WHITE_MATTER)


def _paint_deep_structures(canvas: Canvas) -> None:
    """Paint what lies under the cortex, on both sides."""
    part = canvas.between((-45, -50, -40), (45, 50, 32))
    aside = part.mirrored
    core = ellipsoid(aside, (16.0, -2.0, -2.0), (22.0, 30.0, 17.0))
    part.paint(core < 0, Label.WHITE_MATTER, (Label.CORTEX, Label.OUTER_CSF))
    for label, solid in (
        (Label.THALAMUS, ellipsoid(aside, (10.5, 6.0, 1.0), (8.5, 14.0, 9.0))),
        (Label.CAUDATE, tube(aside, CAUDATE_PATH)),
        (Label.PUTAMEN, ellipsoid(aside, (26.0, -8.0, -2.0), (5.0, 17.0, 10.0))),
        (Label.PALLIDUM, ellipsoid(aside, (19.5, -5.0, -3.0), (4.0, 9.0, 6.5))),
        (Label.HIPPOCAMPUS, tube(aside, [((25, -4, -29), 5.5), ((28, 10, -24), 5.0), ((24, 26, -12), 3.5)])),
        (Label.AMYGDALA, ellipsoid(aside, (22.0, -11.0, -28.0), (6.5, 6.0, 6.0))),
        (Label.LATERAL_VENTRICLE, tube(aside, LATERAL_VENTRICLE_PATH)),
    ):
        part.paint(solid < 0, label)
    third = ellipsoid(part.points, (0.0, 0.0, -4.0), (2.4, 15.0, 10.0))
    part.paint(third < 0, Label.THIRD_VENTRICLE)


def _paint_sinuses(canvas: Canvas, cavity: Cavity) -> None:
    """Paint the sagittal sinus under the vault and the transverse sinuses where the tentorium meets the bone."""
    x, y, z = canvas.points
    near = (cavity.whole > -SINUS_MM) & (cavity.whole < 0)
    sagittal = near & (np.abs(x) < 3.2 + 0.5 * cavity.whole)
    sagittal &= (z > SAGITTAL_SINUS_LOWER_Z_MM) & (y > SAGITTAL_SINUS_FRONT_Y_MM)
    canvas.paint(sagittal, Label.VEIN, (Label.OUTER_CSF,))
    seam = intersection(-cavity.cerebrum - 4, -cavity.posterior_fossa - 4)
    transverse = near & (seam < 0) & (y > TRANSVERSE_SINUS_FRONT_Y_MM) & (z < TRANSVERSE_SINUS_UPPER_Z_MM)
    canvas.paint(transverse, Label.VEIN, (Label.OUTER_CSF,))


def _paint_tubers(canvas: Canvas, depth: Field, random: np.random.Generator, tubers: int) -> tuple[Point, ...]:
    """Paint tubers in cortex and the white matter below: swollen gyri, so they close the sulcus they meet."""
    x, y, z = canvas.points
    outer = ellipsoid(canvas.points, (0.0, -2.0, -4.0), (40.0, 44.0, 28.0)) > 0
    outer &= np.isin(canvas.label_zyx, (Label.CORTEX, Label.WHITE_MATTER))
    shallowest_mm, deepest_mm = TUBER_SEAT_MM
    seats = np.argwhere((depth > shallowest_mm) & (depth < deepest_mm) & outer)
    over = (Label.CORTEX, Label.WHITE_MATTER, Label.OUTER_CSF)
    placed: list[tuple[Point, float]] = []
    for seat in random.permutation(seats)[: 200 * tubers]:
        if len(placed) == tubers:
            break
        index = tuple(seat)
        centre = (float(x[index]), float(y[index]), float(z[index]))
        radius = float(random.uniform(5.5, 10.0))
        if any(np.linalg.norm(np.subtract(centre, other)) < 1.3 * (radius + size) + 4 for other, size in placed):
            continue
        cut = canvas.slices(
            (centre[0] - 12, centre[1] - 12, centre[2] - 12), (centre[0] + 12, centre[1] + 12, centre[2] + 12)
        )
        part = canvas.window(cut)
        radii = [radius * float(random.uniform(0.8, 1.2)) for _ in range(3)]
        solid = ellipsoid(part.points, centre, (radii[0], radii[1], radii[2]))
        part.paint((solid < 0) & (depth[cut] > 0), Label.LESION, over)
        placed.append((centre, radius))
    return tuple(centre for centre, _ in placed)
