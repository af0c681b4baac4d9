"""Meshes made of few numbers. Pure."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from langchain_tokenhub.testing.colours import Colour, palette

Point = tuple[float, float, float]
Face = tuple[int, int, int]


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour for each corner."""

    points: tuple[Point, ...]
    faces: tuple[Face, ...]
    colours: tuple[Colour, ...]


@lru_cache(maxsize=64)
def mesh_of(prompt: str, *, white: bool = False, fine: int = 32) -> Mesh:
    """Model a prompt: a teapot if it asks for one, else a vessel or a ring of its own."""
    dice = random.Random(prompt)
    asked = [make for words, make in _MAKERS.items() if re.search(words, prompt.lower())]
    make = dice.choice(asked or [*_MAKERS.values()])
    points, faces = make(dice, fine)
    return Mesh(tuple(points), tuple(faces), tuple(_paint(points, prompt, white=white)))


def _paint(points: list[Point], prompt: str, *, white: bool) -> Iterable[Colour]:
    colours = [(235, 235, 235)] if white else palette(prompt)
    low = min(p[1] for p in points)
    high = max(p[1] for p in points)
    for _, height, _ in points:
        yield colours[int((height - low) / (high - low + 1e-6) * len(colours)) % len(colours)]


Parts = tuple[list[Point], list[Face]]


def _vessel(dice: random.Random, fine: int) -> Parts:
    profile = [(0.0, 0.0)]
    profile += [(dice.uniform(0.35, 0.9), step / 6) for step in range(8)]
    return _lathe([*profile, (0.0, 7 / 6)], fine)


def _ring(dice: random.Random, fine: int) -> Parts:
    radius = dice.uniform(0.2, 0.4)
    path = [
        (math.cos(2 * math.pi * k / fine), 0.5, math.sin(2 * math.pi * k / fine))
        for k in range(fine + 1)
    ]
    return _tube(path, [radius] * len(path), max(8, fine // 2), across=(0.0, 1.0, 0.0))


def _teapot(dice: random.Random, fine: int) -> Parts:
    belly = dice.uniform(0.7, 0.9)
    lid = [(0.3, 1.05), (0.08, 1.1), (0.12, 1.2), (0, 1.25)]
    wall = [(0, 0), (0.5, 0), (belly, 0.35), (belly * 0.95, 0.6), (0.45, 0.9), (0.42, 0.94)]
    body = _lathe([*wall, *lid], fine)
    turns = [math.pi * k / 12 - math.pi / 2 for k in range(13)]
    handle = [(-belly * 0.7 - 0.35 * math.cos(t), 0.55 + 0.3 * math.sin(t), 0.0) for t in turns]
    spout = [(belly * 0.8 + 0.5 * k / 6, 0.35 + 0.6 * (k / 6) ** 1.5, 0.0) for k in range(7)]
    return _join(
        body,
        _tube(handle, [0.07] * 13, max(6, fine // 4)),
        _tube(spout, [0.18 - 0.018 * k for k in range(7)], max(6, fine // 4)),
    )


_MAKERS: dict[str, Callable[[random.Random, int], Parts]] = {
    "壶|teapot|kettle": _teapot,
    "瓶|杯|碗|罐|vase|bottle|cup|bowl|jar": _vessel,
    "环|圈|ring|torus|donut": _ring,
}


def _join(*parts: Parts) -> Parts:
    points: list[Point] = []
    faces: list[Face] = []
    for more_points, more_faces in parts:
        base = len(points)
        points += more_points
        faces += [(a + base, b + base, c + base) for a, b, c in more_faces]
    return points, faces


def _lathe(profile: list[tuple[float, float]], fine: int) -> Parts:
    """Turn a profile of (radius, height) around the upright axis."""
    angles = [2 * math.pi * k / fine for k in range(fine)]
    points = [(r * math.cos(a), h, r * math.sin(a)) for r, h in profile for a in angles]
    return points, _grid(len(profile), fine)


def _tube(
    path: list[Point], radii: list[float], fine: int, across: Point = (0.0, 0.0, 1.0)
) -> Parts:
    """Sweep a circle along a flat path; `across` stands upright on its plane."""
    ends = [path[0], *path, path[-1]]
    points: list[Point] = []
    for at, (centre, radius) in enumerate(zip(path, radii, strict=True)):
        along = _unit(_minus(ends[at + 2], ends[at]))
        side = _unit(_cross(along, across))
        up = _cross(side, along)
        for k in range(fine):
            a = 2 * math.pi * k / fine
            c, s = radius * math.cos(a), radius * math.sin(a)
            points.append(_sum(centre, c, side, s, up))
    return points, _grid(len(path), fine)


def _sum(centre: Point, c: float, side: Point, s: float, up: Point) -> Point:
    x, y, z = (centre[i] + c * side[i] + s * up[i] for i in range(3))
    return x, y, z


def _grid(rows: int, fine: int) -> list[Face]:
    faces: list[Face] = []
    for row, after in pairwise(range(rows)):
        for k in range(fine):
            a, b = row * fine + k, row * fine + (k + 1) % fine
            c, d = after * fine + k, after * fine + (k + 1) % fine
            faces += [(a, c, b), (b, c, d)]
    return faces


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _cross(a: Point, b: Point) -> Point:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _unit(a: Point) -> Point:
    length = math.sqrt(sum(x * x for x in a)) or 1.0
    return a[0] / length, a[1] / length, a[2] / length


def normal_of(mesh: Mesh, face: Face) -> Point:
    """Return the direction a triangle looks in."""
    a, b, c = (mesh.points[i] for i in face)
    return _unit(_cross(_minus(b, a), _minus(c, a)))
