from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawn_masks import Bitmap, bitmaps, drawn
from protomask.masks.boundary import boundary_width, dilate, erode, mask_boundary
from protomask.masks.runs import MaskWindow


@pytest.mark.parametrize(
    ("size", "width"), [((480, 640), 16), ((256, 256), 7), ((30, 40), 1), ((5, 5), 1), ((0, 0), 1), ((1000, 1000), 28)]
)
def test_width_is_two_percent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert boundary_width(size) == width


def test_a_rectangle_with_a_hole() -> None:
    mask = drawn(
        "#########",
        "#########",
        "#########",
        "######.##",
        "#########",
        "#########",
    )
    expected = drawn(
        "#########",
        "#.......#",
        "#....####",
        "#....#.##",
        "#....####",
        "#########",
    )
    window = mask_boundary(MaskWindow(3, 4, mask), 1)
    assert (window.top, window.left) == (3, 4)
    assert (window.mask == expected).all()
    assert (mask_boundary(MaskWindow(3, 4, mask), 3).mask == mask).all()


def neighbourhood(mask: Bitmap, row: int, column: int, radius: int) -> Bitmap:
    padded = np.pad(mask, radius)
    return padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]


@given(bitmaps, st.integers(1, 4))
def test_erosion_and_dilation_look_at_the_neighbourhood(mask: Bitmap, radius: int) -> None:
    eroded, dilated = erode(mask, radius), dilate(mask, radius)
    for row, column in np.ndindex(mask.shape):
        around = neighbourhood(mask, row, column, radius)
        assert eroded[row, column] == around.all()
        assert dilated[row, column] == around.any()


@given(bitmaps, st.integers(1, 4))
def test_a_boundary_grows_with_its_width(mask: Bitmap, width: int) -> None:
    narrow, wide = (mask_boundary(MaskWindow(0, 0, mask), one).mask for one in (width, width + 1))
    assert not (narrow & ~wide).any()
    assert not (wide & ~mask).any()
    assert narrow.any() == mask.any()


def test_the_empty_mask() -> None:
    empty = np.zeros((0, 0), dtype=np.bool_)
    assert erode(empty, 2).shape == dilate(empty, 2).shape == (0, 0)
    assert mask_boundary(MaskWindow(0, 0, empty), 2).mask.shape == (0, 0)
