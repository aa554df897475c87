"""Everything of the head around the brain: cranial cavity, skull, scalp, face, eyes, jaw, airways, neck.

All lengths and places are those of an adult's head in `Canvas.points`, chosen by eye so that slices look like a
head's; none is measured on a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.canvas import Canvas, Label
from pipeline.synthetic.noise import smooth_field
from pipeline.synthetic.shapes import SLAB, Field, Points, ellipsoid, intersection, smooth_step, tube, union

SKIN_MM = 2.2
BONE_TABLE_MM = 1.6
"""Thickness of the inner and the outer table of the skull."""
VERTEBRA_SHELL_MM, JAW_SHELL_MM = 1.8, 2.2
"""Compact bone around the cancellous bone of vertebrae and jaws."""
ORBIT_WALL_MM, AIRWAY_WALL_MM, FRONTAL_SINUS_WALL_MM = 1.8, 1.8, 1.5
NASAL_MUCOSA_MM, AIRWAY_MUCOSA_MM = 2.2, 0.6
"""Mucosa over the walls of nose and throat, and inside of all airways."""

BRAIN_STEM_PATH = (
    ((0.0, 4.0, -8.0), 12.0),
    ((0.0, 4.0, -22.0), 13.0),
    ((0.0, 3.0, -36.0), 15.5),
    ((0.0, 10.0, -50.0), 9.5),
    ((0.0, 18.0, -66.0), 7.5),
)
SPINAL_CORD_PATH = (((0.0, 18.0, -66.0), 6.5), ((0.0, 26.0, -95.0), 5.5), ((0.0, 27.0, -150.0), 5.5))


@dataclass(frozen=True, slots=True)
class Cavity:
    """Signed distances to the dura, negative inside, float32 z-y-x in millimetres.

    Attributes
    ----------
    cerebrum
        The space above skull base and tentorium.
    posterior_fossa
        The space below the tentorium.
    whole
        Both.
    hull
        Both with the notch at the tentorium filled: what skull and scalp follow outside.
    """

    cerebrum: Field
    posterior_fossa: Field
    whole: Field
    hull: Field


def cranial_cavity(points: Points) -> Cavity:
    """Return the cavity of the skull.

    Parameters
    ----------
    points
        Where to evaluate, z-y-x arrays of one shape.

    Returns
    -------
    Cavity
        Distances of that shape.
    """
    count = points[0].shape[0]
    slabs = [slice(start, start + SLAB) for start in range(0, count, SLAB)]
    parts = [_cavity_distances((points[0][slab], points[1][slab], points[2][slab])) for slab in slabs]
    cerebrum, posterior_fossa, whole, hull = (np.concatenate(slices) for slices in zip(*parts, strict=True))
    return Cavity(cerebrum, posterior_fossa, whole, hull)


def _cavity_distances(points: Points) -> tuple[Field, Field, Field, Field]:
    """Return the four distances of `Cavity`."""
    x, y, z = points
    aside = np.abs(x)
    tentorium = -4 - 0.28 * np.clip(y - 20, 0, None) - 0.3 * aside
    back, front = smooth_step(y, 28, 5), smooth_step(-y, 30, 3)
    middle_floor = -44 + 30 * smooth_step(-aside, -19, 3)
    floor = front * (-26 + 0.12 * aside) + back * tentorium + (1 - front - back) * middle_floor
    rear_vault = ellipsoid(points, (0.0, 8.0, 6.0), (69.0, 79.0, 65.0))
    front_vault = ellipsoid(points, (0.0, -36.0, 8.0), (55.0, 51.0, 53.0))
    vault = union(rear_vault, front_vault, 16)
    cerebrum = intersection(vault, (floor - z) * 0.85, 12)
    fossa = ellipsoid(points, (0.0, 35.0, -38.0), (52.0, 44.0, 30.0))
    petrous = 0.9 * np.clip(aside - 14, 0, None) - 12 - y
    fossa = intersection(fossa, petrous * 0.74, 6)
    posterior_fossa = intersection(fossa, (z - tentorium) * 0.9, 6)
    whole = union(cerebrum, posterior_fossa, 5)
    return cerebrum, posterior_fossa, whole, union(cerebrum, posterior_fossa, 30)


def paint_head(canvas: Canvas, cavity: Cavity, random: np.random.Generator) -> None:
    """Paint skin, soft tissue, bone, eyes and airways; what lies inside the dura is left to the brain.

    Parameters
    ----------
    canvas
        Full of air.
    cavity
        From `cranial_cavity` at the points of the canvas.
    random
        Source of the thickness of bone and scalp.
    """
    shape = canvas.label_zyx.shape
    cells = tuple(size / 7 for size in shape)
    varying = smooth_field(random, (shape[0], shape[1], shape[2]), (cells[0], cells[1], cells[2]))
    bone_mm = np.clip(6.0 + 0.9 * varying, 4.3, 8.0)
    scalp_mm = random.uniform(5.0, 6.5)
    surface = _surface(canvas, cavity.hull - bone_mm - scalp_mm)
    canvas.paint(surface < 0, Label.SOFT_TISSUE)
    _paint_neck_bones(canvas)
    _paint_jaws(canvas)
    _paint_airways(canvas, random)
    _paint_eyes(canvas)
    inside = surface < 0
    canvas.paint((surface > -SKIN_MM) & inside, Label.SKIN, (Label.SOFT_TISSUE, Label.CORTICAL_BONE))
    shell = cavity.whole
    canvas.paint((cavity.hull < bone_mm) & (shell >= 0) & inside, Label.CORTICAL_BONE)
    diploe = (cavity.hull < bone_mm - BONE_TABLE_MM) & (shell > BONE_TABLE_MM)
    canvas.paint(diploe, Label.CANCELLOUS_BONE, (Label.CORTICAL_BONE,))
    canvas.paint(shell < 0, Label.OUTER_CSF)
    _paint_frontal_sinus(canvas)


def _surface(canvas: Canvas, scalp: Field) -> Field:
    """Return the signed distance to the skin."""
    x, y, z = canvas.points
    tilted = (x, y - 10 - 0.1 * (z + 60), np.maximum(z + 70, 0))
    neck = intersection(ellipsoid(tilted, (0.0, 0.0, 0.0), (56.0, 62.0, 400.0)), z + 30, 20)
    face = ellipsoid(canvas.points, (0.0, -50.0, -48.0), (63.0, 52.0, 56.0))
    jaw = ellipsoid(canvas.points, (0.0, -50.0, -90.0), (52.0, 46.0, 42.0))
    surface = union(union(union(scalp, face, 14), jaw, 14), neck, 24)

    cut = canvas.slices((-60, -128, -140), (60, -55, -10))
    part = canvas.window(cut)
    cheeks = ellipsoid(part.mirrored, (34.0, -76.0, -48.0), (25.0, 23.0, 27.0))
    chin = ellipsoid(part.points, (0.0, -86.0, -116.0), (17.0, 12.0, 13.0))
    nose = tube(part.points, [((0.0, -98.0, -28.0), 7.0), ((0.0, -115.0, -58.0), 8.0), ((0.0, -104.0, -64.0), 12.0)])
    surface[cut] = union(union(union(surface[cut], cheeks, 16), chin, 14), nose, 8)

    cut = canvas.slices((-90, -5, -62), (90, 30, -2))
    ears = ellipsoid(canvas.window(cut).mirrored, (79.0, 12.0, -32.0), (6.0, 13.0, 26.0))
    surface[cut] = union(surface[cut], ears, 4)
    return surface


def _paint_neck_bones(canvas: Canvas) -> None:
    part = canvas.between((-40, -30, -150), (40, 80, -66))
    x, y, z = part.points
    canal = tube(part.points, [(corner, radius + 4.5) for corner, radius in SPINAL_CORD_PATH])
    period = 17.0
    local = (x, y, np.mod(z + 66, period) - period / 2)
    body = ellipsoid(local, (0.0, 8.0, 0.0), (13.0, 10.0, 8.6))
    arch = intersection(canal - 5, np.abs(local[2]) - 5.5)
    spine = intersection(ellipsoid(local, (0.0, 50.0, 0.0), (4.0, 22.0, 5.5)), 30 - y)
    bone = union(union(body, arch, 3), spine, 3)
    bone = intersection(bone, z + 70)
    part.paint(bone < 0, Label.CORTICAL_BONE, (Label.SOFT_TISSUE,))
    part.paint(bone < -VERTEBRA_SHELL_MM, Label.CANCELLOUS_BONE, (Label.CORTICAL_BONE,))
    part.paint(canal < 0, Label.OUTER_CSF, (Label.SOFT_TISSUE, Label.CORTICAL_BONE, Label.CANCELLOUS_BONE))


def _paint_jaws(canvas: Canvas) -> None:
    part = canvas.between((-62, -105, -130), (62, 0, -40))
    lower = tube(
        part.mirrored,
        [((0, -86, -114), 6), ((22, -80, -112), 6), ((42, -48, -100), 6), ((47, -28, -88), 6), ((50, -18, -52), 5)],
    )
    upper = tube(part.mirrored, [((0, -88, -80), 6), ((18, -82, -80), 6), ((28, -55, -76), 6)])
    for jaw in (lower, upper):
        part.paint(jaw < 0, Label.CORTICAL_BONE, (Label.SOFT_TISSUE,))
        part.paint(jaw < -JAW_SHELL_MM, Label.CANCELLOUS_BONE, (Label.CORTICAL_BONE,))


def _paint_airways(canvas: Canvas, random: np.random.Generator) -> None:
    part = canvas.between((-45, -110, -150), (45, 10, -20))
    aside = part.mirrored
    nose = ellipsoid(aside, (6.0, -72.0, -54.0), (8.0, 30.0, 17.0))
    conchae = ellipsoid(aside, (8.0, -70.0, -60.0), (3.5, 22.0, 4.0))
    conchae = union(conchae, ellipsoid(aside, (8.0, -68.0, -48.0), (3.0, 18.0, 3.0)))
    throat = tube(part.points, [((0, -40, -58), 9), ((0, -28, -78), 6), ((0, -24, -110), 7), ((0, -22, -150), 8)])
    mouth = ellipsoid(part.points, (0.0, -55.0, -88.0), (22.0, 26.0, 1.6))
    cheeks = ellipsoid(aside, (27.0, -68.0, -56.0), (11.0 + random.uniform(-1, 2), 14.0, 15.0))
    sphenoid = ellipsoid(aside, (7.0, -38.0, -38.0), (6.0, 10.0, 8.0))
    lined = union(union(union(nose, throat, 3), cheeks), sphenoid)
    septum = 0.9 - aside[0]
    air = union(intersection(lined, np.maximum(-conchae, septum)), union(throat, mouth))
    part.paint(lined < AIRWAY_WALL_MM, Label.CORTICAL_BONE, (Label.SOFT_TISSUE,))
    part.paint(union(nose, throat, 3) < NASAL_MUCOSA_MM, Label.MUCOSA)
    part.paint(lined < 0.0, Label.MUCOSA)
    part.paint(air < -AIRWAY_MUCOSA_MM, Label.AIR)


def _paint_eyes(canvas: Canvas) -> None:
    part = canvas.between((-52, -108, -50), (52, -30, -14))
    aside = part.mirrored
    orbit = tube(aside, [((33, -76, -32), 18), ((14, -38, -30), 4)])
    shell = union(orbit, ellipsoid(aside, (33.0, -86.0, -32.0), (16.0, 12.0, 14.0)))
    around = (Label.SOFT_TISSUE, Label.CANCELLOUS_BONE, Label.MUCOSA)
    part.paint(orbit < ORBIT_WALL_MM, Label.CORTICAL_BONE, around)
    part.paint(shell < 0, Label.SOFT_TISSUE, (Label.CORTICAL_BONE, Label.CANCELLOUS_BONE, Label.MUCOSA))
    for across, up in ((10.0, 0.0), (-10.0, 0.0), (0.0, 10.0), (0.0, -10.0)):
        muscle = tube(aside, [((33 + across, -74, -32 + up), 2.2), ((16, -42, -30), 1.5)])
        part.paint(muscle < 0, Label.EYE_MUSCLE, (Label.SOFT_TISSUE,))
    part.paint(tube(aside, [((32, -70, -32), 2), ((12, -34, -28), 2)]) < 0, Label.OPTIC_NERVE)
    part.paint(ellipsoid(aside, (33.0, -80.0, -32.0), (12.0, 12.0, 12.0)) < 0, Label.EYE)


def _paint_frontal_sinus(canvas: Canvas) -> None:
    part = canvas.between((-25, -105, -30), (25, -80, 5))
    sinus = ellipsoid(part.mirrored, (9.0, -91.0, -14.0), (10.0, 4.5, 9.0))
    bone = (Label.CORTICAL_BONE, Label.CANCELLOUS_BONE, Label.SOFT_TISSUE)
    part.paint(sinus < FRONTAL_SINUS_WALL_MM, Label.CORTICAL_BONE, bone)
    part.paint(sinus < 0, Label.AIR, bone)
