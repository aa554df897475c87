"""Things that are no heads, drawn from relaxation times: phantoms, fruit, limbs, other body parts and mere patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.synthetic.noise import smooth_field, wave_field
from pipeline.synthetic.rendering import FAT, FLUID, MUSCLE, Tissue
from pipeline.synthetic.shapes import Field

STEP_MM = 2.0
"""Of the grid that things are drawn on."""
SIZE = 96

VOID = Tissue(1000, 1, 0.0, 0.0)
SKIN = Tissue(900, 45, 0.55, 0.1)
BONE = Tissue(1000, 20, 0.06, 0.2)
MARROW = Tissue(450, 80, 0.36, 0.15)
ORGAN = Tissue(800, 45, 0.72, 0.05)
KIDNEY = Tissue(1300, 75, 0.85, 0.08)
CORD = Tissue(930, 74, 0.72)
DISC = Tissue(1100, 90, 0.7, 0.1)
PULP = Tissue(1500, 220, 0.95, 0.08)
JUICE = Tissue(2200, 700, 1.0, 0.05)
PITH = Tissue(900, 60, 0.35, 0.2)
SEED = Tissue(300, 30, 0.2, 0.1)
OIL = Tissue(250, 90, 0.9, 0.02)


def doped(random: np.random.Generator) -> Tissue:
    """Return water with some salt of nickel or copper."""
    t1_ms = float(random.uniform(100, 1500))
    return Tissue(t1_ms, t1_ms * float(random.uniform(0.5, 0.95)), 1.0, 0.01)


class Drawing:
    """A grid on which tissues are painted over one another."""

    def __init__(self, random: np.random.Generator) -> None:
        axis = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) * STEP_MM
        self.random = random
        self.z, self.y, self.x = np.meshgrid(axis, axis, axis, indexing="ij")
        self.tissue_zyx = np.zeros((SIZE,) * 3, np.uint8)
        self.tissues = [VOID]

    @property
    def points(self) -> tuple[Field, Field, Field]:
        """x, y and z of every voxel in millimetres."""
        return self.x, self.y, self.z

    def paint(self, where: NDArray[np.bool_], tissue: Tissue) -> None:
        """Paint a tissue over what is there."""
        if tissue not in self.tissues:
            self.tissues.append(tissue)
        self.tissue_zyx[where] = self.tissues.index(tissue)

    def ball(self, radii_mm: tuple[float, float, float], at_mm: tuple[float, float, float] = (0, 0, 0)) -> Field:
        """Return the distance from a middle in units of the radii."""
        parts = zip(self.points, at_mm, radii_mm, strict=True)
        return np.asarray(np.sqrt(sum(((values - at) / radius) ** 2 for values, at, radius in parts)))

    def rod(self, radii_mm: tuple[float, float], at_mm: tuple[float, float] = (0, 0)) -> Field:
        """Return the distance from an axis along z in units of the radii."""
        return np.asarray(np.hypot((self.x - at_mm[0]) / radii_mm[0], (self.y - at_mm[1]) / radii_mm[1]))

    def wobble(self, cell_mm: float = 60.0) -> Field:
        """Return a smooth random field of unit deviation."""
        cell = cell_mm / STEP_MM
        return smooth_field(self.random, (SIZE, SIZE, SIZE), (cell, cell, cell))

    def between(self, low: float, high: float) -> float:
        """Return a random number."""
        return float(self.random.uniform(low, high))

    def radii(self, low: float = 55, high: float = 88) -> tuple[float, float, float]:
        """Return radii of a head's size, not far from one another."""
        first = self.between(low, high)
        return first, first * self.between(0.85, 1.1), first * self.between(0.85, 1.1)


def bottle(drawing: Drawing) -> None:
    """A bottle of one fluid with its neck, some with air on top."""
    radius_mm, top_mm = drawing.between(45, 80), drawing.between(40, 90)
    fluid = doped(drawing.random)
    shape = drawing.rod((radius_mm, radius_mm)) < 1
    drawing.paint(shape & (drawing.z < top_mm) & (drawing.z > -drawing.between(60, 96)), fluid)
    drawing.paint((drawing.rod((radius_mm / 3, radius_mm / 3)) < 1) & (drawing.z >= top_mm), fluid)
    if drawing.random.random() < 0.5:
        drawing.paint(drawing.y > radius_mm * drawing.between(0.6, 1), VOID)


def sphere(drawing: Drawing) -> None:
    """A ball of one fluid, some with a small bubble of air."""
    radius_mm = drawing.between(50, 90)
    drawing.paint(drawing.ball((radius_mm,) * 3) < 1, doped(drawing.random))
    drawing.paint(drawing.ball((12, 6, 12), (0, radius_mm - 6, 0)) < 1, VOID)


def melon(drawing: Drawing) -> None:
    """Skin, rind, flesh with fibres, and a hollow with seeds."""
    depth = drawing.ball(drawing.radii(60, 92)) + 0.02 * drawing.wobble()
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < drawing.between(0.95, 0.98), PITH)
    drawing.paint(depth < drawing.between(0.85, 0.93), PULP)
    hollow = depth < drawing.between(0.25, 0.5)
    drawing.paint(hollow, JUICE)
    seeds = wave_field(drawing.random, drawing.points, drawing.between(8, 16)) > 1.2
    drawing.paint(seeds & (hollow if drawing.random.random() < 0.5 else depth < 0.8), SEED)


def inserts(drawing: Drawing) -> None:
    """A cylinder of water with rods of other relaxation times."""
    radius_mm = drawing.between(55, 90)
    inside = drawing.rod((radius_mm, radius_mm)) < 1
    drawing.paint(inside, doped(drawing.random))
    count, ring_mm = int(drawing.random.integers(4, 12)), radius_mm * drawing.between(0.4, 0.7)
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        at_mm, rod_mm = (ring_mm * float(np.cos(angle)), ring_mm * float(np.sin(angle))), drawing.between(6, 14)
        drawing.paint(drawing.rod((rod_mm + 2, rod_mm + 2), at_mm) < 1, VOID)
        drawing.paint(drawing.rod((rod_mm, rod_mm), at_mm) < 1, doped(drawing.random))
    drawing.paint(np.abs(drawing.z) > drawing.between(50, 96), VOID)


def thigh(drawing: Drawing) -> None:
    """Skin, fat, muscles with fat between, and the femur."""
    radius_mm = drawing.between(55, 90)
    depth = drawing.rod((radius_mm, radius_mm * drawing.between(0.85, 1.1))) + 0.04 * drawing.wobble()
    fat = drawing.between(0.7, 0.93)
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < 1 - 3 / radius_mm, FAT)
    drawing.paint(depth < fat, MUSCLE)
    septa = np.abs(wave_field(drawing.random, (drawing.x, drawing.y, drawing.z * 0.1), 60)) < drawing.between(
        0.04, 0.15
    )
    drawing.paint(septa & (depth < fat), FAT)
    at_mm, bone_mm = (drawing.between(-20, 20), drawing.between(-20, 20)), drawing.between(11, 17)
    drawing.paint(drawing.rod((bone_mm, bone_mm), at_mm) < 1, BONE)
    drawing.paint(drawing.rod((bone_mm - 6, bone_mm - 6), at_mm) < 1, FAT)


def noise(drawing: Drawing) -> None:
    """Nothing: the scanner adds its noise."""


def checker(drawing: Drawing) -> None:
    """Two fluids in cubes, in a ball, a cylinder or the whole field."""
    edge_mm = drawing.between(6, 40)
    cubes = sum(np.floor((values + 500) / edge_mm) for values in drawing.points) % 2 > 0
    shapes = (drawing.ball(drawing.radii()) < 1, drawing.rod((80, 80)) < 1, cubes | True)
    inside = shapes[int(drawing.random.integers(len(shapes)))]
    drawing.paint(inside, doped(drawing.random))
    drawing.paint(inside & cubes, doped(drawing.random) if drawing.random.random() < 0.7 else VOID)


def kiwi(drawing: Drawing) -> None:
    """A pale core, rays outwards with seeds between them, flesh and skin."""
    radii_mm = drawing.radii()
    depth, angle = drawing.ball(radii_mm), np.arctan2(drawing.y, drawing.x)
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < drawing.between(0.95, 0.99), PULP)
    rays = np.sin(angle * int(drawing.random.integers(12, 40)) + drawing.wobble()) > 0.2
    drawing.paint(rays & (depth < 0.8), JUICE)
    drawing.paint((rays ^ True) & (depth < 0.6) & (depth > 0.35) & (drawing.wobble(8) > 0.8), SEED)
    drawing.paint(depth < drawing.between(0.2, 0.35), PITH)


def citrus(drawing: Drawing) -> None:
    """Peel, pith and segments with thin walls between them."""
    depth = drawing.ball(drawing.radii()) + 0.015 * drawing.wobble()
    angle = np.arctan2(drawing.y, drawing.x) + 0.1 * drawing.wobble()
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < drawing.between(0.94, 0.98), PITH)
    drawing.paint(depth < drawing.between(0.82, 0.92), PULP)
    cells = wave_field(drawing.random, drawing.points, drawing.between(8, 20)) > 0.3
    drawing.paint(cells & (depth < 0.85), JUICE)
    walls = np.abs(np.sin(angle * int(drawing.random.integers(8, 14)) / 2)) * np.hypot(drawing.x, drawing.y) < 6
    drawing.paint((walls | (drawing.rod((8, 8)) < 1)) & (depth < 0.9), PITH)


def knee(drawing: Drawing) -> None:
    """Two ends of bones with marrow, cartilage between, muscle, fat and skin."""
    radius_mm = drawing.between(50, 72)
    depth = drawing.rod((radius_mm, radius_mm * drawing.between(0.9, 1.15))) + 0.04 * drawing.wobble()
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < 0.95, FAT)
    drawing.paint(depth < drawing.between(0.75, 0.9), MUSCLE)
    for side, end_mm in ((1, drawing.between(38, 48)), (-1, drawing.between(34, 44))):
        swelling = np.exp(-np.abs(drawing.z) / 40)
        bone = drawing.rod((end_mm, end_mm * 0.85)) / (0.4 + 0.6 * swelling)
        half = side * drawing.z > 3
        drawing.paint(half & (bone < 1), BONE)
        drawing.paint(half & (bone < 0.9), MARROW)
    drawing.paint((np.abs(drawing.z) < 3) & (drawing.rod((40, 34)) < 1), JUICE)
    drawing.paint(drawing.ball((22, 9, 22), (0, 45, 5)) < 1, MARROW)


def neck(drawing: Drawing) -> None:
    """Vertebrae and cord, windpipe, muscles, vessels, fat and skin."""
    radius_mm = drawing.between(52, 75)
    depth = drawing.rod((radius_mm, radius_mm * drawing.between(0.85, 1.1))) + 0.04 * drawing.wobble()
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < 0.96, FAT)
    drawing.paint(depth < drawing.between(0.8, 0.92), MUSCLE)
    drawing.paint((depth < 0.9) & (drawing.wobble(20) > 1), FAT)
    discs = np.mod(drawing.z, 18) < 4
    spine = drawing.rod((13, 11)) < 1
    drawing.paint(spine, MARROW)
    drawing.paint(spine & discs, DISC)
    drawing.paint(drawing.rod((13, 9), (0, -20)) < 1, BONE)
    drawing.paint(drawing.rod((10, 7), (0, -19)) < 1, FLUID)
    drawing.paint(drawing.rod((6, 4), (0, -19)) < 1, CORD)
    drawing.paint(drawing.rod((9, 8), (0, 30)) < 1, VOID)
    for side in (-1, 1):
        drawing.paint(drawing.rod((5, 5), (side * 28, 18)) < 1, VOID)


def abdomen(drawing: Drawing) -> None:
    """A small one: fat, wall of muscle, liver, kidneys, spine, aorta and bowel with gas."""
    depth = drawing.rod((drawing.between(78, 94), drawing.between(58, 80))) + 0.03 * drawing.wobble()
    wall = drawing.between(0.78, 0.92)
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < 0.97, FAT)
    drawing.paint(depth < wall, MUSCLE)
    inside = depth < wall - 0.08
    drawing.paint(inside, FAT)
    drawing.paint(inside & (drawing.ball((45, 40, 60), (35, 12, 20)) + 0.1 * drawing.wobble() < 1), ORGAN)
    drawing.paint(inside & (drawing.wobble(30) > 0.6) & (drawing.x < 20), JUICE)
    drawing.paint(inside & (drawing.wobble(25) > 1.4) & (drawing.y > 10), VOID)
    for side in (-1, 1):
        drawing.paint(inside & (drawing.ball((18, 20, 40), (side * 40, -25, -20)) < 1), KIDNEY)
    drawing.paint(drawing.rod((20, 17), (0, -30)) < 1, MARROW)
    drawing.paint(drawing.rod((8, 6), (0, -52)) < 1, FLUID)
    drawing.paint(drawing.rod((9, 9), (2, -5)) < 1, VOID)


def gradient(drawing: Drawing) -> None:
    """Steps from one side to the other, over all of the field or inside a box."""
    way = drawing.x * drawing.between(-1, 1) + drawing.y * drawing.between(-1, 1) + drawing.z * drawing.between(-1, 1)
    rank = (way - way.min()) / np.ptp(way)
    box = np.maximum.reduce([np.abs(values) for values in drawing.points]) < drawing.between(50, 110)
    for low in np.linspace(0.0, 0.95, 20):
        drawing.paint(box & (rank > low), Tissue(900, 80, float(low) + 0.05, 0.02))


def onion(drawing: Drawing) -> None:
    """Shells, each followed by a thin dark one."""
    depth = drawing.ball(drawing.radii(60, 92)) + drawing.between(0, 0.06) * drawing.wobble()
    drawing.paint(depth < 1, SKIN)
    shell = drawing.between(0.06, 0.2)
    drawing.paint((depth < 0.97) & (np.mod(depth, shell) < shell * drawing.between(0.6, 0.85)), PULP)
    drawing.paint((depth < 0.97) & (np.mod(depth, shell) < shell * 0.2), JUICE)


def jars(drawing: Drawing) -> None:
    """Several bottles side by side, some in a bath."""
    if drawing.random.random() < 0.5:
        drawing.paint(drawing.rod((88, 88)) < 1, doped(drawing.random))
    for x_mm in (-48, 0, 48):
        for y_mm in (-48, 0, 48):
            jar_mm, at_mm = drawing.between(14, 23), (x_mm + drawing.between(-2, 2), y_mm + drawing.between(-2, 2))
            drawing.paint(drawing.rod((jar_mm + 2, jar_mm + 2), at_mm) < 1, VOID)
            drawing.paint(drawing.rod((jar_mm, jar_mm), at_mm) < 1, doped(drawing.random))


def helmet(drawing: Drawing) -> None:
    """A head's outline as vendors sell it: fluid, a wall that shows nothing, and a layer of oil around."""
    depth = drawing.ball(drawing.radii(68, 90))
    wall = drawing.between(0.82, 0.92)
    drawing.paint(depth < 1, OIL if drawing.random.random() < 0.5 else doped(drawing.random))
    drawing.paint(depth < wall, VOID)
    drawing.paint(depth < wall - drawing.between(0.03, 0.1), doped(drawing.random))
    for _ in range(int(drawing.random.integers(0, 6))):
        at_mm = tuple(drawing.between(-35, 35) for _ in range(3))
        drawing.paint(
            drawing.ball((drawing.between(5, 16),) * 3, (at_mm[0], at_mm[1], at_mm[2])) < 1, doped(drawing.random)
        )


def coconut(drawing: Drawing) -> None:
    """Husk with fibres, a dark shell, flesh and water with air above."""
    depth = drawing.ball(drawing.radii(65, 92)) + 0.02 * drawing.wobble()
    drawing.paint(depth < 1, PITH)
    drawing.paint((depth < 1) & (drawing.wobble(6) > 0.7), PULP)
    shell = drawing.between(0.75, 0.9)
    drawing.paint(depth < shell, VOID)
    drawing.paint(depth < shell - 0.06, OIL)
    water = depth < shell - drawing.between(0.15, 0.3)
    drawing.paint(water, JUICE)
    drawing.paint(water & (drawing.y > drawing.between(10, 50)), VOID)


def cabbage(drawing: Drawing) -> None:
    """Crumpled leaves with air between them."""
    depth = drawing.ball(drawing.radii(60, 92)) + drawing.between(0.05, 0.2) * drawing.wobble(drawing.between(20, 50))
    leaf = drawing.between(0.05, 0.15)
    drawing.paint((depth < 1) & (np.mod(depth, leaf) < leaf * drawing.between(0.6, 0.95)), PULP)
    drawing.paint((depth < 0.9) & (drawing.rod((10, 10)) < 1), PITH)


def sponge(drawing: Drawing) -> None:
    """A ball of folded strands of two or three tissues, without anything around."""
    depth = drawing.ball(drawing.radii(58, 85)) + 0.03 * drawing.wobble()
    folds = wave_field(drawing.random, drawing.points, drawing.between(14, 50))
    drawing.paint(depth < 1, PULP)
    drawing.paint((depth < 1) & (folds > 0), ORGAN)
    drawing.paint((depth < 1) & (np.abs(folds) < drawing.between(0.05, 0.4)), JUICE)


def pelvis(drawing: Drawing) -> None:
    """Alike left and right: hips with their joints, muscles, bladder and rectum, fat and skin."""
    depth = drawing.rod((drawing.between(84, 94), drawing.between(55, 75))) + 0.02 * drawing.wobble()
    drawing.paint(depth < 1, SKIN)
    drawing.paint(depth < 0.96, FAT)
    drawing.paint(depth < drawing.between(0.75, 0.9), MUSCLE)
    joint_mm = drawing.between(18, 24)
    for side in (-1, 1):
        drawing.paint(drawing.ball((26, 14, 60), (side * 45, -25, 20)) < 1, MARROW)
        drawing.paint(drawing.ball((joint_mm + 3,) * 3, (side * 52, 5, -20)) < 1, JUICE)
        drawing.paint(drawing.ball((joint_mm,) * 3, (side * 52, 5, -20)) < 1, MARROW)
    drawing.paint(drawing.ball((30, 26, drawing.between(18, 34)), (0, 22, -5)) < 1, FLUID)
    drawing.paint(drawing.ball((15, 13, 50), (0, -30, -10)) < 1, ORGAN)
    drawing.paint(drawing.ball((8, 7, 45), (0, -30, -10)) < 1, VOID)


def legs(drawing: Drawing) -> None:
    """Two calves side by side."""
    radius_mm = drawing.between(34, 44)
    for side in (-1, 1):
        depth = drawing.rod((radius_mm, radius_mm), (side * (radius_mm + 2), 0)) + 0.03 * drawing.wobble()
        drawing.paint(depth < 1, SKIN)
        drawing.paint(depth < 0.95, FAT)
        drawing.paint(depth < drawing.between(0.75, 0.88), MUSCLE)
        drawing.paint(drawing.rod((11, 11), (side * (radius_mm + 2), 8)) < 1, BONE)
        drawing.paint(drawing.rod((7, 7), (side * (radius_mm + 2), 8)) < 1, FAT)


def cauliflower(drawing: Drawing) -> None:
    """A dome of florets on a branching stalk, within leaves."""
    middle, radii_mm = (0.0, 0.0, drawing.between(0, 15)), drawing.radii(58, 82)
    depth = drawing.ball(radii_mm, middle)
    florets = wave_field(drawing.random, drawing.points, drawing.between(12, 26))
    drawing.paint((depth < 1) & (drawing.z > -20), PULP)
    drawing.paint((depth < 0.97) & (florets > drawing.between(0.4, 0.9)) & (drawing.z > -20), VOID)
    drawing.paint((depth < drawing.between(0.5, 0.7)) & (drawing.z > -40), ORGAN)
    drawing.paint((drawing.rod((18, 18)) < 1) & (drawing.z < 10) & (drawing.z > -75), PITH)
    leaves = (depth < 1.1) & (depth > 1.03) & (drawing.z < 0)
    drawing.paint(leaves, SKIN)


def grapes(drawing: Drawing) -> None:
    """A bunch of berries with seeds, air between them."""
    ways = drawing.random.standard_normal((220, 3))
    depths = 75 * drawing.random.random((220, 1)) ** (1 / 3)
    berries = cKDTree(ways / np.linalg.norm(ways, axis=1, keepdims=True) * depths)
    distance = berries.query(np.stack(drawing.points, axis=-1))[0]
    berry_mm = drawing.between(9, 14)
    drawing.paint(distance < berry_mm, SKIN)
    drawing.paint(distance < berry_mm - 1.5, JUICE)
    drawing.paint(distance < 3, SEED)


def walnut(drawing: Drawing) -> None:
    """Alike left and right: a hard shell, two folded halves in it, air and a wall between."""
    depth = drawing.ball(drawing.radii(65, 90)) + 0.02 * drawing.wobble()
    drawing.paint(depth < 1, BONE)
    drawing.paint(depth < drawing.between(0.86, 0.93), VOID)
    folds = wave_field(drawing.random, (np.abs(drawing.x), drawing.y, drawing.z), drawing.between(18, 40))
    kernel = (depth < 0.82) & (np.abs(folds) > drawing.between(0.1, 0.4)) & (np.abs(drawing.x) > 4)
    drawing.paint(kernel, OIL)
    drawing.paint(kernel & (folds > 0.6), PULP)
    drawing.paint((np.abs(drawing.x) < 1.5) & (depth < 0.9), PITH)


Draw = Callable[[Drawing], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing; the limits of `pipeline.plausibility` were chosen on those that are `fitted`."""

    draw: Draw
    fitted: bool

    @property
    def name(self) -> str:
        """What it is."""
        return self.draw.__name__


FITTED: tuple[Draw, ...] = (
    bottle, sphere, melon, inserts, thigh, noise, checker, kiwi, abdomen, coconut, cabbage, onion, sponge,
)  # fmt: skip
UNREAD: tuple[Draw, ...] = (
    citrus, knee, neck, gradient, jars, helmet, pelvis, legs, cauliflower, grapes, walnut,
)  # fmt: skip
KINDS = {draw.__name__: Kind(draw, draw in FITTED) for draw in (*FITTED, *UNREAD)}
