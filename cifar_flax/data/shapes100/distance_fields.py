"""Signed distance fields on one canvas, from which shapes are composed.

A field is float32 [CANVAS, CANVAS]: the approximate distance to the outline of a shape, negative inside, in units in which the
shape fits a circle of radius 1 around the origin. x points right and y up; row 0 is the lowest. Minimum is union and maximum is
intersection. A renderer can antialias, swell and rotate a field without drawing the shape again.

References:
  Quilez, "2D distance functions", https://iquilezles.org/articles/distfunctions2d/
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

CANVAS = 192  # samples a side: five per pixel at the largest size drawn, enough for linear interpolation
EXTENT = 1.25  # the canvas spans [-EXTENT, EXTENT], beyond the shapes, so that fields are positive along its border

X, Y = np.meshgrid(*[np.linspace(-EXTENT, EXTENT, CANVAS, dtype=np.float32)] * 2)

Field = np.ndarray
Points = Sequence[ArrayLike] | np.ndarray


def distance(drawn: np.ndarray) -> Field:
    """Scales a function that is negative inside a shape to distances near its outline, for antialiasing."""
    slope = np.hypot(*np.gradient(drawn, 2 * EXTENT / (CANVAS - 1)))
    return (drawn / np.maximum(slope, 0.3)).astype(np.float32)


def disc(radius: float, x: float = 0, y: float = 0) -> Field:
    """A disc around (x, y)."""
    return np.hypot(X - x, Y - y) - radius


def oval(width: float, height: float, x: float = 0, y: float = 0, turn: float = 0) -> Field:
    """An ellipse with these semi-axes around (x, y), turned counter-clockwise by `turn` degrees about the origin."""
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return distance(np.hypot((c * X + s * Y - x) / width, (c * Y - s * X - y) / height) - 1)


def box(width: float, height: float, x: float = 0, y: float = 0) -> Field:
    """A rectangle with these half sides around (x, y)."""
    return np.maximum(abs(X - x) - width, abs(Y - y) - height)


def stroke(points: Points, width: float = 0.14) -> Field:
    """A round pen of radius `width` drawn along a line through `points`."""
    nearest = np.full_like(X, np.inf)
    for (ax, ay), (bx, by) in pairwise(points):
        dx, dy = bx - ax, by - ay
        along = np.clip(((X - ax) * dx + (Y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(X - ax - along * dx, Y - ay - along * dy))
    return nearest - width


def polygon(points: Points) -> Field:
    """A filled polygon, convex or not; the even-odd rule applies where it crosses itself."""
    closed = [*points, points[0]]
    inside = np.zeros(X.shape, bool)
    for (ax, ay), (bx, by) in pairwise(closed):
        if ay != by:
            inside ^= ((ay > Y) != (by > Y)) & (ax + (Y - ay) * (bx - ax) / (by - ay) > X)
    return np.where(inside, -1, 1) * stroke(closed, 0)


def union(*fields: Field) -> Field:
    """The points in any of the fields."""
    return np.minimum.reduce(fields)


def intersection(*fields: Field) -> Field:
    """The points in all of the fields."""
    return np.maximum.reduce(fields)


def cut(field: Field, *holes: Field) -> Field:
    """The field without the holes."""
    return np.maximum(field, -union(*holes))


def pair(draw: Callable[[int], Field]) -> Field:
    """The union of a left and a right version, drawn with -1 and 1."""
    return union(draw(-1), draw(1))


def outline(field: Field, width: float) -> Field:
    """A line of half-width `width` along the edge of a field."""
    return abs(field) - width


def lens(radius: float, away: float, y: float) -> Field:
    """The intersection of two discs, with pointed ends up and down."""
    return intersection(disc(radius, -away, y), disc(radius, away, y))


def polar(radius: ArrayLike, degrees: ArrayLike) -> np.ndarray:
    """Points [N, 2] at these radii and angles, counter-clockwise from the right."""
    radius, radians = np.broadcast_arrays(radius, np.deg2rad(degrees))
    return np.stack([radius * np.cos(radians), radius * np.sin(radians)], -1)


def corners(n: int, inner: float | None = None) -> np.ndarray:
    """Corners [N, 2] of a regular n-gon with a corner on top; with `inner`, of a star with n points and that inner radius."""
    if inner is None:
        return polar(1, 90 + 360 / n * np.arange(n))
    return polar(np.tile([1, inner], n), 90 + 180 / n * np.arange(2 * n))


def mirrored(points: Points) -> Points:
    """A symmetric polygon from its right half, listed from top to bottom."""
    return [*points, *[(-x, y) for x, y in reversed(points) if x]]


def petals(n: int, width: float, length: float) -> Field:
    """N ovals around the middle, the first of them on top."""
    return union(*[oval(width, length, y=1 - length, turn=360 / n * i) for i in range(n)])


def spiral(start: float, end: float, degrees: float, turn: float = 0, width: float = 0.1) -> Field:
    """An Archimedean spiral from radius `start` to `end` over `degrees`, turned by `turn` degrees."""
    along = np.linspace(0, 1, 9 + int(degrees) // 15)
    return stroke(polar(start + (end - start) * along, turn + degrees * along), width)


def arc(radius: float, start: float, end: float, x: float = 0, y: float = 0, width: float = 0.1) -> Field:
    """A stroke along a circle around (x, y), from `start` to `end` degrees."""
    return stroke(np.array([x, y]) + polar(radius, np.linspace(start, end, 17)), width)
