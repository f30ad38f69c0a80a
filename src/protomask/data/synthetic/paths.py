"""How the objects of a synthetic video, and its camera, move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protomask.data.synthetic.options import Overlap

PathKind = Literal["roam", "cross", "leave", "rest"]

_KINDS: dict[Overlap, tuple[tuple[PathKind, float], ...]] = {
    "heavy": (("roam", 0.45), ("cross", 0.3), ("leave", 0.15), ("rest", 0.1)),
    "little": (("roam", 0.5), ("leave", 0.25), ("rest", 0.25)),
}
_TURN = 0.6
"""Radians per second, standard deviation of how fast objects turn."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """Where an object is: a straight line at constant speed, and a swing around it.

    Attributes:
        start: (x, y) px at the beginning.
        velocity: (x, y) px per second.
        swing: (x, y) px, greatest distance of the swing.
        rate: (x, y) radians per second of the swing.
        phase: (x, y) radians.
        turn: radians per second.

    """

    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    swing: tuple[float, float] = (0.0, 0.0)
    rate: tuple[float, float] = (0.0, 0.0)
    phase: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0

    def at(self, seconds: float) -> tuple[float, float]:
        """(x, y) of the centre, px."""
        x, y = (
            start + velocity * seconds + swing * math.sin(rate * seconds + phase)
            for start, velocity, swing, rate, phase in zip(
                self.start, self.velocity, self.swing, self.rate, self.phase, strict=True
            )
        )
        return x, y


def random_path(
    number: int,
    count: int,
    diameter: float,
    *,
    overlap: Overlap,
    image_size: tuple[int, int],
    seconds: float,
    rng: np.random.Generator,
) -> Path:
    """The path of one of several objects.

    Args:
        number: of the object, from 0.
        count: number of objects.
        diameter: of the object, px.
        overlap: with little of it, every object has a part of the frame for itself, but may leave it.
        image_size: (H, W), px.
        seconds: length of the video.
        rng: decides.

    """
    height, width = image_size
    kinds, shares = zip(*_KINDS[overlap], strict=True)
    kind: PathKind = kinds[int(rng.choice(len(kinds), p=shares))]
    turn = float(rng.normal(0, _TURN))
    if overlap == "heavy":
        home = (width * rng.uniform(0.25, 0.75), height * rng.uniform(0.25, 0.75))
        room = (float(width), float(height))
    else:
        columns = math.ceil(math.sqrt(count * width / height))
        rows = math.ceil(count / columns)
        room = (width / columns, height / rows)
        home = ((number % columns + 0.5) * room[0], (number // columns + 0.5) * room[1])
    if kind == "rest":
        return Path(start=home, turn=turn)
    if kind == "cross":
        return _crossing(home, diameter, image_size, seconds, turn, rng)
    periods = rng.uniform(2.5, 6.0, 2)
    reach = [max(0.5 * side - 0.55 * diameter, 0.0) * rng.uniform(0.5, 1.0) for side in room]
    if kind == "leave":
        # Towards the nearest edge, out of the frame, and back.
        axis = int(rng.integers(2))
        side = image_size[1 - axis]
        reach = [own * (0.15 if place == 1 - axis else 1.0) for place, own in enumerate(reach)]
        reach[axis] = min(home[axis], side - home[axis]) + 0.8 * diameter
    rate = [2 * math.pi / period for period in periods]
    phase = rng.uniform(0, 2 * math.pi, 2)
    return Path(
        start=home,
        swing=(reach[0], reach[1]),
        rate=(rate[0], rate[1]),
        phase=(float(phase[0]), float(phase[1])),
        turn=turn,
    )


def _crossing(
    through: tuple[float, float],
    diameter: float,
    image_size: tuple[int, int],
    seconds: float,
    turn: float,
    rng: np.random.Generator,
) -> Path:
    """A straight path through a point, which is reached somewhere in the middle of the video."""
    height, width = image_size
    speed = math.hypot(width, height) / rng.uniform(1.5, 4.0)
    direction = rng.uniform(0, 2 * math.pi)
    velocity = (speed * math.cos(direction), speed * math.sin(direction))
    when = rng.uniform(0.2, 0.8) * seconds
    start = (through[0] - velocity[0] * when, through[1] - velocity[1] * when)
    return Path(start=start, velocity=velocity, turn=turn)


def camera_path(frames: int, fps: float, shake: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(frames, 2) x, y px by which the camera is displaced: a slow sway, and a hand that trembles.

    Args:
        frames: number of frames.
        fps: frames per second.
        shake: greatest displacement, about, px.
        rng: decides.

    """
    seconds = np.arange(frames)[:, None] / fps
    moved = np.zeros((frames, 2))
    for low, high, share in ((0.2, 0.8, 0.5), (1.5, 4.0, 0.3), (5.0, 11.0, 0.2)):
        rate = 2 * math.pi * rng.uniform(low, high, 2)
        moved += share * np.sin(rate * seconds + rng.uniform(0, 2 * math.pi, 2))
    return moved * shake
