"""Where boxes will be: constant velocity in a Kalman filter, for all tracks at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POSITION_NOISE = 0.04
"""Noise of a measured box, as a share of the object's size."""
_ACCELERATION = 4.0
"""Standard deviation of what changes the velocity, in sizes of the object per second squared."""
_FIRST_SPEED = 2.0
"""Standard deviation of the velocity that a new track may have, in sizes per second."""
_SIZE_CHANGE = 0.35
"""Sides change less than places do."""


class BoxMotion:
    """The boxes of N tracks as centre x, centre y, width and height, each with its velocity.

    The four are independent of each other, so their covariances are three numbers and the filter is a few products of
    (N, 4) arrays.
    """

    def __init__(self) -> None:
        self.place: Floats = np.zeros((0, 4))
        self.velocity: Floats = np.zeros((0, 4))
        self._variance: Floats = np.zeros((3, 0, 4))
        """Variance of the place, covariance of place and velocity, variance of the velocity."""

    def __len__(self) -> int:
        return len(self.place)

    @property
    def boxes(self) -> Floats:
        """(N, 4) xyxy, px."""
        half = np.maximum(self.place[:, 2:], 1.0) / 2
        return np.concatenate([self.place[:, :2] - half, self.place[:, :2] + half], axis=1)

    @property
    def sizes(self) -> Floats:
        """(N, 1) px, the side of a square of the same area."""
        sizes: Floats = np.sqrt(np.maximum(self.place[:, 2:], 1.0).prod(axis=1, keepdims=True))
        return sizes

    def add(self, boxes: Floats) -> None:
        """Begin tracks at boxes (K, 4) xyxy, px, at rest but unsure of it."""
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
        place = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, sides], axis=1)
        size = np.sqrt(sides.prod(axis=1, keepdims=True)) * _scale()
        variance = np.stack([(_POSITION_NOISE * size) ** 2, np.zeros_like(place), (_FIRST_SPEED * size) ** 2])
        self.place = np.concatenate([self.place, place])
        self.velocity = np.concatenate([self.velocity, np.zeros_like(place)])
        self._variance = np.concatenate([self._variance, variance], axis=1)

    def keep(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> None:
        """Go on with only some of the tracks."""
        self.place, self.velocity, self._variance = self.place[rows], self.velocity[rows], self._variance[:, rows]

    def predict(self, seconds: float) -> None:
        """Move every track on by a time."""
        own, joint, speed = self._variance
        noise = (_ACCELERATION * self.sizes * _scale()) ** 2
        self.place = self.place + seconds * self.velocity
        self._variance = np.stack(
            [
                own + 2 * seconds * joint + seconds**2 * speed + noise * seconds**4 / 4,
                joint + seconds * speed + noise * seconds**3 / 2,
                speed + noise * seconds**2,
            ]
        )

    def move(self, shift: Floats) -> None:
        """Move every track by (x, y) px that are none of its own motion, as when the camera shakes."""
        self.place = self.place + np.array([*shift, 0.0, 0.0])

    def update(self, rows: NDArray[np.int64], place: Floats, seen: NDArray[np.bool_]) -> None:
        """Correct some tracks by what was measured.

        Args:
            rows: (K,) which tracks.
            place: (K, 4) centre x, centre y, width, height, px.
            seen: (K, 4), where False, the value is not a measurement.

        """
        own, joint, speed = self._variance[:, rows]
        noise = (_POSITION_NOISE * self.sizes[rows] * _scale()) ** 2 + 0.25
        total = own + noise
        gain, gain_speed = np.where(seen, own / total, 0.0), np.where(seen, joint / total, 0.0)
        error = place - self.place[rows]
        self.place[rows] += gain * error
        self.velocity[rows] += gain_speed * error
        self.velocity[rows, 2:] = 0  # sides change, but do not go on changing while they are hidden
        self._variance[:, rows] = np.stack([(1 - gain) * own, (1 - gain) * joint, speed - gain_speed * joint])

    def stop(self, rows: NDArray[np.int64], share: float) -> None:
        """Slow some tracks down to a share of their velocity."""
        self.velocity[rows] *= share


def _scale() -> Floats:
    """(4,) of noise, for centre and sides."""
    return np.array([1.0, 1.0, _SIZE_CHANGE, _SIZE_CHANGE])
