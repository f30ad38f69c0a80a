"""Shapes of the synthetic objects: closed polygons in a unit frame, inside the circle of radius 1 around the origin."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_MAX_ASPECT = {"square": 1.25, "bar": 1.0, "arrow": 1.15}


def _arc(start: float, stop: float, count: int, radius: float = 1.0) -> Points:
    angles = np.linspace(start, stop, count)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(radius: float = 1.0) -> Points:
    return _arc(0.0, 2 * math.pi, 49, radius)[:-1]


def _subdivide(corners: Points, parts: int) -> Points:
    """Cut every edge into equal parts, so that a warp bends edges and does not only move corners."""
    following = np.roll(corners, -1, axis=0)
    steps = np.arange(parts)[None, :, None] / parts
    return (corners[:, None] + (following - corners)[:, None] * steps).reshape(-1, 2)


def _disk(rng: np.random.Generator) -> list[Points]:
    return [_circle()]


def _ring(rng: np.random.Generator) -> list[Points]:
    return [_circle(), _circle(rng.uniform(0.45, 0.68))]


def _square(rng: np.random.Generator) -> list[Points]:
    half = math.sqrt(0.5)
    return [_subdivide(np.array([[-half, -half], [half, -half], [half, half], [-half, half]]), 8)]


def _triangle(rng: np.random.Generator) -> list[Points]:
    angles = np.array([0.0, 2.0, 4.0]) * math.pi / 3 + rng.uniform(-0.16, 0.16, 3)
    return [_subdivide(np.stack([np.cos(angles), np.sin(angles)], axis=1), 10)]


def _star(rng: np.random.Generator) -> list[Points]:
    tips = int(rng.integers(5, 7))
    radii = np.where(np.arange(2 * tips) % 2 == 0, 1.0, rng.uniform(0.38, 0.5))
    angles = np.arange(2 * tips) * math.pi / tips
    return [_subdivide(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1), 3)]


def _cross(rng: np.random.Generator) -> list[Points]:
    half = rng.uniform(0.24, 0.36)
    reach = math.sqrt(1 - half * half)
    arm = np.array([[reach, -half], [reach, half], [half, half]])
    arms = [arm]
    for _ in range(3):
        arm = np.stack([-arm[:, 1], arm[:, 0]], axis=1)
        arms.append(arm)
    return [_subdivide(np.concatenate(arms), 4)]


def _crescent(rng: np.random.Generator) -> list[Points]:
    """Between the unit circle and a second circle through both tips that bulges towards its middle, the waist."""
    opening = rng.uniform(0.75, 1.15)
    tip_x, tip_y = math.cos(opening), math.sin(opening)
    waist_x = rng.uniform(-0.5, -0.25)
    centre_x = (1 - waist_x * waist_x) / (2 * (tip_x - waist_x))
    half_angle = math.atan2(tip_y, tip_x - centre_x)
    outer = _arc(opening, 2 * math.pi - opening, 40)
    inner = _arc(2 * math.pi - half_angle, half_angle, 32, centre_x - waist_x) + np.array([centre_x, 0.0])
    return [np.concatenate([outer, inner[1:-1]])]


def _heart(rng: np.random.Generator) -> list[Points]:
    angle = np.linspace(0, 2 * math.pi, 57)[:-1]
    x = 16 * np.sin(angle) ** 3
    y = -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle))
    return [np.stack([x, y - 2.5], axis=1) / 16.5]


def _arrow(rng: np.random.Generator) -> list[Points]:
    shaft, head = rng.uniform(0.15, 0.22), rng.uniform(0.46, 0.6)
    neck, tail = rng.uniform(0.0, 0.3), -math.sqrt(1 - shaft * shaft)
    lower = np.array([[neck, head], [neck, shaft], [tail, shaft]])
    corners = np.concatenate([np.array([[1.0, 0.0]]), lower, lower[::-1] * np.array([1.0, -1.0])])
    return [_subdivide(corners, 5)]


def _bar(rng: np.random.Generator) -> list[Points]:
    half = 1 / rng.uniform(4.0, 7.5)
    if rng.random() < 0.5:
        return [_subdivide(np.array([[-1.0, -half], [1.0, -half], [1.0, half], [-1.0, half]]), 12)]
    cap = _arc(-math.pi / 2, math.pi / 2, 9, half) + np.array([1 - half, 0.0])
    return [_subdivide(np.concatenate([cap, -cap]), 2)]


_SHAPES: dict[str, Callable[[np.random.Generator], list[Points]]] = {
    "disk": _disk,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "bar": _bar,
}
"""Makes one random member of each class: its exterior (K, 2), then its holes, x right and y down, within radius 1."""

CLASS_NAMES: tuple[str, ...] = tuple(_SHAPES)


def deformed_rings(name: str, diameter: float, rng: np.random.Generator) -> list[Points]:
    """A random member of the class at its size, stretched, sheared, gently bent and rotated around the origin."""
    shape = _SHAPES[name](rng)
    stretch = math.sqrt(rng.uniform(1.0, _MAX_ASPECT.get(name, 1.35)))
    shear = rng.uniform(-0.12, 0.12)
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = np.array([[stretch, 0.0], [shear, 1 / stretch]]) @ turn
    phase = rng.uniform(0, 2 * math.pi, 2)
    frequency = rng.uniform(1.5, 3.0, 2)
    amount = rng.uniform(0.0, 0.06, 2)

    def bend(points: Points) -> Points:
        return points + amount * np.sin(frequency * points[:, ::-1] + phase)

    return [bend(ring) @ matrix * (diameter / 2) for ring in shape]
