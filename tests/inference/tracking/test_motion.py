from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.inference.tracking.motion import BoxMotion

ALL = np.ones((1, 4), dtype=np.bool_)


def boxed(x: float, y: float, width: float = 20, height: float = 10) -> np.ndarray:
    return np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])


@given(st.floats(-200, 200), st.floats(-200, 200), st.lists(st.floats(0.01, 0.2), min_size=25, max_size=40))
def test_constant_velocity_is_learnt_at_any_frame_times(x: float, y: float, times: list[float]) -> None:
    motion = BoxMotion()
    motion.add(boxed(0, 0))
    elapsed = 0.0
    for seconds in times:
        elapsed += seconds
        motion.predict(seconds)
        motion.update(np.array([0]), np.array([[x * elapsed, y * elapsed, 20, 10]]), ALL)
    assert motion.velocity[0] == pytest.approx([x, y, 0, 0], abs=1 + 0.1 * np.hypot(x, y))
    motion.predict(0.1)
    ahead = [x * (elapsed + 0.1), y * (elapsed + 0.1)]
    assert motion.boxes[0] == pytest.approx(boxed(*ahead)[0], abs=1 + 0.03 * np.hypot(x, y))


def test_what_was_not_seen_changes_nothing() -> None:
    motion = BoxMotion()
    motion.add(boxed(50, 50))
    motion.predict(0.1)
    motion.update(np.array([0]), np.array([[60.0, 999, 20, 999]]), np.array([[True, False, True, False]]))
    assert motion.place[0, 0] > 55
    assert motion.place[0, [1, 3]].tolist() == [50, 10]
    assert motion.velocity[0, 0] > 0
    assert motion.velocity[0, 1] == 0


def test_tracks_are_added_moved_and_left_out() -> None:
    motion = BoxMotion()
    motion.add(np.concatenate([boxed(0, 0), boxed(50, 10), boxed(90, 90)]))
    motion.add(np.zeros((0, 4)))
    assert len(motion) == 3
    motion.keep(np.array([True, False, True]))
    motion.move(np.array([5.0, -2]))
    assert motion.place.tolist() == [[5, -2, 20, 10], [95, 88, 20, 10]]
    assert motion.velocity.tolist() == [[0] * 4] * 2
    assert motion.sizes[0, 0] == pytest.approx(200**0.5)
    empty = BoxMotion()
    empty.predict(1.0)
    assert empty.boxes.shape == (0, 4)
