from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.inference.tracking.similarity import box_overlaps, overlaps
from protomask.masks.coarse import CoarseMask


def block(left: int, top: int, width: int = 10, height: int = 10) -> CoarseMask:
    return CoarseMask(top, left, np.ones((height, width), dtype=np.float32))


def boxes(*masks: CoarseMask) -> np.ndarray:
    return np.array([[mask.left, mask.top, mask.right, mask.bottom] for mask in masks], dtype=np.float64).reshape(-1, 4)


def test_what_others_hide_is_excused() -> None:
    whole, front = block(0, 0), block(5, 0)
    seen = block(0, 0, width=5)
    shared = overlaps([whole, front], boxes(whole, front), [seen, front], boxes(seen, front))
    assert shared.plain == pytest.approx(np.array([[0.5, 1 / 3], [0, 1]]))
    assert shared.excused == pytest.approx(np.array([[1, 0.5], [0, 1]]))
    assert shared.hidden == pytest.approx(np.ones(2))


@given(st.lists(st.tuples(*[st.integers(-3, 8)] * 2, *[st.integers(0, 7)] * 2), max_size=6))
def test_masks_of_one_list_and_of_two_are_compared_alike(places: list[tuple[int, int, int, int]]) -> None:
    masks = [block(*place) for place in places]
    again = overlaps(masks, boxes(*masks), masks, boxes(*masks))
    other = overlaps(masks, boxes(*masks), list(masks), boxes(*masks))
    np.testing.assert_array_equal(again.plain, other.plain)
    np.testing.assert_array_equal(again.excused, other.excused)
    for row, first in enumerate(masks):
        for column, second in enumerate(masks):
            wide = min(first.right, second.right) - max(first.left, second.left)
            high = min(first.bottom, second.bottom) - max(first.top, second.top)
            shared = max(wide, 0) * max(high, 0)
            wanted = shared / max(first.shares.size + second.shares.size - shared, 1)
            assert again.plain[row, column] == pytest.approx(wanted)


def test_shares_of_cells_are_compared_too() -> None:
    faint = CoarseMask(0, 0, np.full((10, 10), 0.5, dtype=np.float32))
    assert overlaps([faint], boxes(faint), [faint], boxes(faint)).plain == pytest.approx(1.0)
    assert overlaps([faint], boxes(faint), [block(0, 0)], boxes(faint)).plain[0, 0] == pytest.approx(50 / 75)


def test_small_masks_go_by_boxes() -> None:
    small, nothing = block(0, 0, 3, 3), block(0, 0, 0, 0)
    there = np.array([[0.0, 0, 30, 30]])
    shared = overlaps([small, nothing], np.repeat(there, 2, axis=0), [block(90, 90)], there)
    assert shared.plain.tolist() == [[1.0], [1.0]]
    assert shared.hidden.tolist() == [0, 0]
    assert overlaps([], boxes(), [small], there).plain.shape == (0, 1)
    assert overlaps([small], there, [], boxes()).plain.shape == (1, 0)


def test_boxes() -> None:
    first = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    second = np.array([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    assert box_overlaps(first, second) == pytest.approx(np.array([[1 / 3, 1, 0], [0, 0, 0]]))
