from __future__ import annotations

import numpy as np

from protomask.inference.tracking.hiding import covered, hidden_part, hidden_reach, measured_places
from protomask.masks.coarse import CoarseMask

CELL = np.array([2.0, 2.0])
SIZE = (100, 100)
NOWHERE = np.array([[np.inf, np.inf, -np.inf, -np.inf]])


def block(left: int, top: int, width: int, height: int) -> CoarseMask:
    return CoarseMask(top, left, np.ones((height, width), dtype=np.float32))


def test_the_hidden_part_lies_under_others_within_the_frame() -> None:
    front, seen = block(10, 10, 10, 10), block(5, 12, 5, 4)
    cover = covered([front, seen, front], (50, 50))
    assert cover.shares.max() == 1
    part = hidden_part(block(5, 12, 12, 4), seen, cover)
    assert hidden_reach([part]).tolist() == [[10, 12, 17, 16]]
    outside = hidden_part(block(-4, -4, 6, 6), block(0, 0, 2, 2), covered([block(0, 0, 2, 2)], (50, 50)))
    assert hidden_reach([outside]).tolist() == NOWHERE.tolist()


def test_a_box_whose_side_is_hidden_goes_by_the_other_side() -> None:
    should = np.array([[10.0, 10, 50, 30]])
    seen = np.array([[12.0, 10, 36, 30]])
    free = measured_places(should, seen, NOWHERE, SIZE, CELL)
    assert free.place.tolist() == [[24, 20, 24, 20]]
    assert free.seen.all()
    right_hidden = measured_places(should, seen, np.array([[18, 5, 25, 15.0]]), SIZE, CELL)
    assert right_hidden.place.tolist() == [[32, 20, 40, 20]]
    assert right_hidden.seen.tolist() == [[True, True, False, True]]
    left_hidden = measured_places(should, seen, np.array([[3, 5, 10, 15.0]]), SIZE, CELL)
    assert left_hidden.place[0, 0] == 16
    both = measured_places(should, seen, np.array([[3, 5, 25, 15.0]]), SIZE, CELL)
    assert both.seen.tolist() == [[False, True, False, True]]


def test_the_edge_of_the_frame_hides_too() -> None:
    leaving = measured_places(np.array([[-10.0, 40, 20, 60]]), np.array([[0.0, 40, 22, 60]]), NOWHERE, SIZE, CELL)
    assert leaving.place.tolist() == [[7, 50, 30, 20]]
    entering = measured_places(np.array([[80.0, 90, 110, 120]]), np.array([[78.0, 88, 100, 100]]), NOWHERE, SIZE, CELL)
    assert entering.place.tolist() == [[93, 103, 30, 30]]
    assert entering.seen.tolist() == [[True, True, False, False]]
