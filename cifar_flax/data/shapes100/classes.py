"""The 100 shapes of shapes100.

The renderer mirrors at random: no two classes are mirror images, and all letters are symmetric. It rotates by up to 30 degrees
to either side, so no class is another one rotated by 60 or less (a saltire is a plus rotated by 45).
"""

from collections.abc import Callable

import numpy as np

from cifar_flax.data.shapes100.distance_fields import (
    Field,
    X,
    Y,
    arc,
    box,
    corners,
    cut,
    disc,
    distance,
    intersection,
    lens,
    mirrored,
    outline,
    oval,
    pair,
    petals,
    polar,
    polygon,
    spiral,
    stroke,
    union,
)


def pattern(wave: Field) -> Field:
    """A square filled with the pattern where `wave` is negative."""
    return intersection(distance(wave), box(0.95, 0.95))


def gear() -> Field:
    """Eight teeth and a hole."""
    teeth = [polygon(polar([0.6, 1.0, 1.0, 0.6], a + np.array([-14, -8, 8, 14]))) for a in range(0, 360, 45)]
    return cut(union(disc(0.72), *teeth), disc(0.3))


def die(*pips: tuple[int, int]) -> Field:
    """A square with round holes on a grid of 3 by 3."""
    return cut(box(0.85, 0.85), *[disc(0.2, 0.5 * x, 0.5 * y) for x, y in pips])


def eyes(y: float = 0.25) -> Field:
    """Two round eyes."""
    return pair(lambda side: disc(0.16, 0.36 * side, y))


def arrow(*turns: float) -> Field:
    """Arms with heads from the center, at angles in degrees counter-clockwise from the right."""
    heads = [polygon(polar([1.0, 0.6, 0.6], turn + np.array([0, 36, -36]))) for turn in turns]
    return union(*heads, *[stroke([(0, 0), polar(0.5, turn)]) for turn in turns])


def chevron(y: float) -> Field:
    """A thick line bent upwards."""
    return polygon(mirrored([(0, y + 0.5), (0.85, y - 0.15), (0.85, y - 0.6), (0, y + 0.05)]))


def cross(*bars: tuple[float, float]) -> Field:
    """An upright with bars, each (half length, height)."""
    return union(box(0.17, 1), *[box(length, 0.17, y=y) for length, y in bars])


MAZE = [(0.3, 0), (0.3, -0.4), (-0.45, -0.4), (-0.45, 0.4), (0.8, 0.4), (0.8, -0.85), (-0.9, -0.85), (-0.9, 0.85)]
CAR = [(-1, -0.35), (1, -0.35), (1, 0.05), (0.6, 0.12), (0.3, 0.55), (-0.45, 0.55), (-0.75, 0.1), (-1, 0.05)]
PLANE = [(0, 1), (0.14, 0.8), (0.14, 0.35), (1, -0.2), (1, -0.42), (0.14, -0.15), (0.11, -0.6), (0.4, -0.9), (0, -0.9)]
FIR = [(0, 1), (0.42, 0.42), (0.22, 0.42), (0.65, -0.12), (0.35, -0.12), (0.85, -0.68), (0.14, -0.68), (0.14, -1)]
BOLT = [(0.2, 1), (-0.6, -0.12), (-0.08, -0.12), (-0.3, -1), (0.6, 0.22), (0.06, 0.22), (0.5, 1)]
HAMMER = [(-0.75, 0.25), (-0.75, 0.95), (-0.4, 0.85), (0.35, 0.85), (0.9, 0.3), (0.3, 0.4), (-0.4, 0.35)]
TULIP = [(0, 1), (0.25, 0.5), (0.55, 1), (0.7, -0.5)]
CROWN = [(-0.9, -0.65), (0.9, -0.65), (1, 0.55), (0.5, -0.02), (0, 0.8), (-0.5, -0.02), (-1, 0.55)]


def heart(sign: float = 1) -> Field:
    """A heart; upside down with sign -1."""
    point = polygon([(0, -0.95 * sign), (-0.8, -0.08 * sign), (0, 0.4 * sign), (0.8, -0.08 * sign)])
    return union(point, pair(lambda side: disc(0.43, 0.45 * side, 0.17 * sign)))


def snowflake() -> Field:
    """Six arms with a pair of branches each."""
    arms = [stroke([polar(0.95, a), polar(0.95, a + 180)], 0.07) for a in (30, 90, 150)]
    return union(*arms, *[stroke(polar([0.95, 0.5, 0.95], a + np.array([-24, 0, 24])), 0.06) for a in range(30, 390, 60)])


def foot() -> Field:
    """The stem of a spade and of a club."""
    return polygon([(0, 0.1), (0.4, -1), (-0.4, -1)])


# Superclass -> class -> its field. Labels follow this order; each superclass has five classes.
CATALOG: dict[str, dict[str, Callable[[], Field]]] = {
    "polygons": {
        "triangle": lambda: polygon(corners(3)),
        "right triangle": lambda: polygon([(-0.75, 0.85), (-0.75, -0.7), (0.8, -0.7)]),
        "square": lambda: box(0.75, 0.75),
        "pentagon": lambda: polygon(0.95 * corners(5)),
        "hexagon": lambda: polygon(0.95 * corners(6)),
    },
    "quadrilaterals": {
        "rectangle": lambda: box(1, 0.5),
        "rhombus": lambda: polygon([(0, 1), (0.58, 0), (0, -1), (-0.58, 0)]),
        "trapezoid": lambda: polygon([(-1, -0.55), (1, -0.55), (0.45, 0.55), (-0.45, 0.55)]),
        "parallelogram": lambda: polygon([(-1.1, -0.45), (0.35, -0.45), (1.1, 0.45), (-0.35, 0.45)]),
        "kite": lambda: polygon([(0, 0.95), (0.68, 0.4), (0, -1.05), (-0.68, 0.4)]),
    },
    "round shapes": {
        "disc": lambda: disc(0.85),
        "oval": lambda: oval(1, 0.58),
        "half disc": lambda: intersection(disc(1, y=-0.45), -Y - 0.45),
        "quarter disc": lambda: intersection(disc(1.5, -0.7, -0.7), -X - 0.7, -Y - 0.7),
        "teardrop": lambda: union(disc(0.6, y=-0.4), polygon([(0, 1), (-0.53, -0.12), (0.53, -0.12)])),
    },
    "rings": {
        "ring": lambda: outline(disc(0.75), 0.16),
        "double ring": lambda: union(outline(disc(0.9), 0.11), outline(disc(0.45), 0.11)),
        "bullseye": lambda: union(outline(disc(0.88), 0.12), disc(0.45)),
        "broken ring": lambda: arc(0.78, 40, 320, width=0.16),
        "linked rings": lambda: union(outline(disc(0.5, -0.44), 0.1), outline(disc(0.5, 0.44), 0.1)),
    },
    "stars": {
        "four-pointed star": lambda: polygon(corners(4, 0.38)),
        "five-pointed star": lambda: polygon(corners(5, 0.42)),
        "six-pointed star": lambda: polygon(corners(6, 0.55)),
        "eight-pointed star": lambda: polygon(corners(8, 0.5)),
        "starburst": lambda: polygon(corners(14, 0.75)),
    },
    "crosses": {
        "plus": lambda: union(box(0.24, 0.85), box(0.85, 0.24)),
        "Latin cross": lambda: cross((0.65, 0.3)),
        "double cross": lambda: cross((0.45, 0.6), (0.75, 0.0)),
        "Maltese cross": lambda: polygon(polar(np.tile([0.12, 1, 0.8, 1], 4), 45 + 90 / 4 * np.arange(16))),
        "ringed cross": lambda: union(cross((1, 0)), outline(disc(0.6), 0.11)),
    },
    "arrows": {
        "arrow": lambda: union(polygon([(0, 1), (0.7, 0.15), (-0.7, 0.15)]), box(0.22, 0.6, y=-0.4)),
        "two-way arrow": lambda: arrow(0, 180),
        "four-way arrow": lambda: arrow(0, 90, 180, 270),
        "chevron": lambda: chevron(0.05),
        "double chevron": lambda: union(chevron(0.45), chevron(-0.4)),
    },
    "letters": {
        "letter A": lambda: union(stroke([(-0.7, -0.85), (0, 0.85), (0.7, -0.85)]), stroke([(-0.4, -0.3), (0.4, -0.3)])),
        "letter H": lambda: union(box(0.16, 0.9, -0.6), box(0.16, 0.9, 0.6), box(0.6, 0.15)),
        "letter M": lambda: stroke([(-0.8, -0.8), (-0.65, 0.8), (0, -0.35), (0.65, 0.8), (0.8, -0.8)]),
        "letter T": lambda: union(box(0.8, 0.18, y=0.7), box(0.18, 0.9)),
        "letter Y": lambda: union(stroke([(-0.65, 0.8), (0, 0), (0.65, 0.8)], 0.16), stroke([(0, 0), (0, -0.85)], 0.16)),
    },
    "spirals": {
        "spiral": lambda: spiral(0.05, 0.9, 600, width=0.12),
        "coil": lambda: spiral(0.05, 0.95, 1080, width=0.07),
        "square spiral": lambda: stroke([(-0.05, 0), *MAZE], 0.1),
        "galaxy": lambda: union(disc(0.22), spiral(0.1, 0.95, 270), spiral(0.1, 0.95, 270, 180)),
        "triskelion": lambda: union(*[spiral(0.05, 0.95, 150, turn, 0.13) for turn in (0, 120, 240)]),
    },
    "patterns": {
        "stripes": lambda: pattern(np.sin(12 * Y)),
        "waves": lambda: pattern(np.sin(12 * Y + 1.7 * np.sin(7 * X))),
        "zigzags": lambda: pattern(np.sin(10 * (Y + abs((X * 1.5) % 1 - 0.5)))),
        "checkerboard": lambda: pattern(np.sin(6.5 * X) * np.sin(6.5 * Y)),
        "polka dots": lambda: pattern(0.25 - np.cos(8 * X) * np.cos(8 * Y)),
    },
    "flowers": {
        "three-petal flower": lambda: petals(3, 0.4, 0.5),
        "four-petal flower": lambda: petals(4, 0.36, 0.48),
        "five-petal flower": lambda: cut(petals(5, 0.34, 0.4), disc(0.2)),
        "daisy": lambda: union(petals(8, 0.15, 0.32), disc(0.22)),
        "tulip": lambda: union(
            intersection(oval(0.55, 0.75, y=0.35), polygon(mirrored(TULIP))),
            box(0.08, 0.5, y=-0.55),
            oval(0.13, 0.35, 0.6, -0.45, -35),
        ),
    },
    "wheels": {
        "gear": gear,
        "spoked wheel": lambda: union(
            outline(disc(0.85), 0.12), *[stroke([polar(0.8, a), polar(0.8, a + 180)], 0.07) for a in (0, 60, 120)]
        ),
        "sun": lambda: union(disc(0.48), *[stroke(polar([0.72, 0.95], a), 0.09) for a in range(0, 360, 45)]),
        "pinwheel": lambda: union(*[polygon([(0, 0), *polar([1, 0.72], [a, a + 45])]) for a in range(0, 360, 90)]),
        "pie": lambda: cut(disc(0.92), polygon([(0, 0), (1.25, 0.8), (1.25, -0.8)])),
    },
    "dice": {
        "die showing two": lambda: die((-1, 1), (1, -1)),
        "die showing three": lambda: die((-1, 1), (0, 0), (1, -1)),
        "die showing four": lambda: die((-1, 1), (1, 1), (-1, -1), (1, -1)),
        "die showing five": lambda: die((-1, 1), (1, 1), (0, 0), (-1, -1), (1, -1)),
        "die showing six": lambda: die((-1, 1), (1, 1), (-1, 0), (1, 0), (-1, -1), (1, -1)),
    },
    "faces": {
        "smiling face": lambda: cut(disc(0.95), eyes(), arc(0.5, 200, 340, width=0.1)),
        "frowning face": lambda: cut(disc(0.95), eyes(), arc(0.45, 25, 155, y=-0.75, width=0.1)),
        "astonished face": lambda: cut(disc(0.95), eyes(), oval(0.24, 0.3, y=-0.4)),
        "sleeping face": lambda: cut(
            disc(0.95), pair(lambda side: stroke([(0.55 * side, 0.2), (0.2 * side, 0.2)], 0.09)), disc(0.14, y=-0.4)
        ),
        "robot face": lambda: union(
            cut(box(0.75, 0.65, y=-0.25), eyes(-0.05), box(0.45, 0.12, y=-0.55)), stroke([(0, 0.4), (0, 0.85)], 0.1)
        ),
    },
    "animals": {
        "fish": lambda: cut(union(oval(0.7, 0.45, -0.25), polygon([(0.25, 0), (1, 0.55), (1, -0.55)])), disc(0.1, -0.6, 0.1)),
        "cat": lambda: cut(
            union(
                oval(0.85, 0.68, y=-0.25),
                pair(lambda side: polygon([(0.1 * side, 0.3), (0.8 * side, 0.95), (0.82 * side, -0.2)])),
            ),
            eyes(-0.1),
        ),
        "rabbit": lambda: cut(
            union(disc(0.58, y=-0.4), pair(lambda side: oval(0.18, 0.6, 0.1 * side, 0.42, -16 * side))), eyes(-0.3)
        ),
        "mouse": lambda: cut(
            union(disc(0.65, y=-0.3), pair(lambda side: disc(0.42, 0.6 * side, 0.42))),
            pair(lambda side: disc(0.13, 0.25 * side, -0.15)),
        ),
        "butterfly": lambda: union(
            oval(0.12, 0.65, y=-0.1),
            pair(lambda side: oval(0.55, 0.42, 0.55 * side, 0.12, 35 * side)),
            pair(lambda side: oval(0.45, 0.32, 0.55 * side, -0.05, -42 * side)),
        ),
    },
    "vehicles": {
        "car": lambda: union(cut(polygon(CAR), box(0.22, 0.14, -0.3, 0.26)), pair(lambda side: disc(0.24, 0.55 * side, -0.4))),
        "sailboat": lambda: union(
            polygon([(-1, -0.5), (1, -0.5), (0.6, -0.95), (-0.6, -0.95)]),
            polygon([(-0.08, -0.35), (-0.08, 1), (-0.8, -0.35)]),
            polygon([(0.08, -0.35), (0.08, 0.75), (0.75, -0.35)]),
        ),
        "rocket": lambda: cut(
            union(lens(1.3, 0.95, -0.1), polygon([(0, 0), (0.65, -0.95), (0, -0.65), (-0.65, -0.95)])), disc(0.16, y=0.15)
        ),
        "aeroplane": lambda: polygon(mirrored(PLANE)),
        "hot-air balloon": lambda: union(
            disc(0.62, y=0.35),
            polygon([(-0.55, 0.1), (0.55, 0.1), (0.18, -0.5), (-0.18, -0.5)]),
            box(0.22, 0.17, y=-0.85),
            pair(lambda side: stroke([(0.18 * side, -0.5), (0.16 * side, -0.8)], 0.04)),
        ),
    },
    "plants": {
        "fir tree": lambda: polygon(mirrored(FIR)),
        "round tree": lambda: union(disc(0.42, -0.35, 0.2), disc(0.42, 0.35, 0.2), disc(0.48, 0, 0.5), box(0.14, 0.6, y=-0.4)),
        "mushroom": lambda: union(
            intersection(oval(0.95, 0.9), -Y), polygon([(-0.25, 0.1), (0.25, 0.1), (0.33, -0.9), (-0.33, -0.9)])
        ),
        "cactus": lambda: union(
            stroke([(0, -0.8), (0, 0.75)], 0.2),
            stroke([(0, -0.3), (0.62, -0.3), (0.62, 0.3)]),
            stroke([(0, -0.05), (-0.62, -0.05), (-0.62, 0.5)]),
        ),
        "leaf": lambda: cut(lens(1.05, 0.55, 0.05), stroke([(0, -1), (0, 0.5)], 0.05)),
    },
    "sky": {
        "cloud": lambda: union(
            disc(0.38, -0.55, -0.15), disc(0.52, -0.05, 0.15), disc(0.4, 0.52, -0.12), box(0.55, 0.24, y=-0.29)
        ),
        "lightning": lambda: polygon(BOLT),
        "crescent moon": lambda: cut(disc(0.95), disc(0.8, 0.42, 0.12)),
        "snowflake": snowflake,
        "rainbow": lambda: intersection(union(*[outline(disc(r, y=-0.5), 0.09) for r in (0.45, 0.75, 1.05)]), -Y - 0.5),
    },
    "emblems": {
        "heart": heart,
        "spade": lambda: union(heart(-1), foot()),
        "club": lambda: union(disc(0.4, y=0.55), disc(0.4, -0.5, -0.1), disc(0.4, 0.5, -0.1), foot()),
        "crown": lambda: union(polygon(CROWN), *[disc(0.13, x, y) for x, y in ((-1, 0.6), (0, 0.88), (1, 0.6))]),
        "bell": lambda: union(
            disc(0.5, y=0.4), polygon([(-0.5, 0.4), (0.5, 0.4), (0.85, -0.6), (-0.85, -0.6)]), disc(0.2, y=-0.75)
        ),
    },
    "objects": {
        "hammer": lambda: union(polygon(HAMMER), box(0.13, 0.9, 0.05, -0.1)),
        "key": lambda: union(
            outline(disc(0.34, -0.6), 0.12), box(0.65, 0.1, 0.4), box(0.1, 0.22, 0.95, -0.2), box(0.1, 0.22, 0.6, -0.2)
        ),
        "anchor": lambda: union(
            outline(disc(0.2, y=0.75), 0.09),
            box(0.1, 0.75, y=-0.1),
            box(0.4, 0.09, y=0.35),
            arc(0.75, 190, 350, y=-0.1, width=0.12),
        ),
        "umbrella": lambda: union(
            cut(intersection(disc(0.98, y=-0.1), -Y), pair(lambda side: disc(0.25, 0.66 * side, -0.05))),
            box(0.07, 0.45, y=-0.3),
            arc(0.18, 180, 360, 0.18, -0.72, 0.08),
        ),
        "mug": lambda: union(box(0.55, 0.75, -0.2), outline(oval(0.32, 0.4, 0.42), 0.1)),
    },
}
