"""Zones and lines as pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.inference.zones.regions import Line, Zone
from protomask.masks.polygons import Polygon
from protomask.masks.runs import Runs, runs_to_window


def dense(runs: Runs, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros(size, dtype=np.bool_)
    top, left, part = runs_to_window(runs, size[0])
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def line(*points: tuple[float, float]) -> Line:
    return Line("gate", np.array(points, dtype=np.float64))


def test_a_zone_is_the_pixels_whose_centres_it_covers() -> None:
    hole = np.array([(3, 3), (3, 5), (5, 5), (5, 3)], dtype=np.float64)
    ring = np.array([(2, 1), (8, 1), (8, 6), (2, 6)], dtype=np.float64)
    found = dense(Zone("yard", (Polygon(ring, (hole,)),)).pixels((8, 10)), (8, 10))
    wanted = np.zeros((8, 10), dtype=np.bool_)
    wanted[1:6, 2:8] = True
    wanted[3:5, 3:5] = False
    assert np.array_equal(found, wanted)


def test_left_and_right_are_as_seen_along_the_line_on_the_screen() -> None:
    left, right = line((2, 4), (8, 4)).sides((8, 10))  # from left to right: above it is left
    above, below = dense(left, (8, 10)), dense(right, (8, 10))
    assert above[:4, 2:8].all()
    assert not above[4:].any()
    assert below[4:, 2:8].all()
    assert not below[:4].any()
    assert not (above | below)[:, :2].any()  # beyond the ends of the line there is no side
    assert not (above | below)[:, 8:].any()


@pytest.mark.parametrize("turn", [3.0, -3.0], ids=["right", "left"])
def test_a_bent_line_has_one_left_and_one_right_at_its_corner(turn: float) -> None:
    size = (12, 20)
    left, right = line((2, 6), (10, 6), (18, 6 + turn)).sides(size)
    one, other = dense(left, size), dense(right, size)
    assert not (one & other).any()
    x = np.arange(3, 17)
    edge = np.where(x < 10, 6.0, 6 + turn * (x + 0.5 - 10) / 8)
    for column, height in zip(x, edge, strict=True):
        assert one[: int(np.floor(height - 0.6)), column].all()
        assert other[int(np.ceil(height + 0.6)) :, column].all()


@given(st.lists(st.tuples(st.integers(-5, 25), st.integers(-5, 20)), min_size=2, max_size=4, unique=True))
def test_turning_a_line_around_exchanges_its_sides(points: list[tuple[int, int]]) -> None:
    size = (15, 21)
    left, right = line(*points).sides(size)
    other_left, other_right = line(*points[::-1]).sides(size)
    if len(points) == 2:  # where a longer line crosses itself, its two segments are equally near
        assert not (dense(left, size) & dense(other_left, size)).any()
        assert not (dense(right, size) & dense(other_right, size)).any()
    assert not (dense(left, size) & dense(right, size)).any()
