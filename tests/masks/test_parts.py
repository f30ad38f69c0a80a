"""The part of a mask at a place."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.masks.parts import part_at


def drawn(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("row", "column", "wanted"),
    [
        (0, 0, ("##....", ".#....", "......")),
        (0, 5, ("....##", "...#..", "...#..")),  # diagonal neighbours hang together
        (2, 1, ("##....", ".#....", "......")),  # nothing is there: the nearest part
        (-9, 40.5, ("....##", "...#..", "...#..")),
    ],
)
def test_the_part_at_or_nearest_to_a_place(row: float, column: float, wanted: tuple[str, ...]) -> None:
    mask = drawn("##..##", ".#.#..", "...#..")
    np.testing.assert_array_equal(part_at(mask, row, column), drawn(*wanted))


def test_a_ring_stays_whole() -> None:
    ring = drawn(".###.", "#...#", "#...#", ".###.")
    np.testing.assert_array_equal(part_at(ring, 1.5, 2), ring)


def test_an_empty_mask_has_no_part() -> None:
    assert not part_at(np.zeros((3, 3), dtype=np.bool_), 1, 1).any()
    assert part_at(np.zeros((0, 0), dtype=np.bool_), 0, 0).shape == (0, 0)
