from __future__ import annotations

import numpy as np
import pytest

from protomask.explaining import overlays
from protomask.explaining.overlays import View

GRAY = np.full((60, 120, 3), 100, dtype=np.uint8)


def box(*corners: float) -> np.ndarray:
    return np.array(corners, dtype=np.float32)


@pytest.mark.parametrize("size", [(60, 120), (1, 300), (500, 3)])
def test_a_whole_view_has_the_shape_of_the_image(size: tuple[int, int]) -> None:
    view = View.whole(np.zeros((*size, 3), dtype=np.uint8), 240)
    assert max(view.pixels.shape[:2]) == 240
    assert view.is_whole
    assert overlays.heat(view, np.ones((5, 7), dtype=np.float32)).pixels.shape == view.pixels.shape


def test_a_near_view_is_around_the_box_and_within_the_image() -> None:
    view = View.near(GRAY, box(0, 0, 10, 10), 90)
    assert list(view.part) == [0, 0, 30, 30]
    assert view.corners(box(0, 0, 10, 10)) == [0, 0, 30, 30]
    assert View.near(GRAY, box(60, 20, 70, 30), 90).part == pytest.approx((50, 10, 80, 40))
    assert View.near(GRAY, box(0, 0, 100, 50), 90).is_whole


def test_values_spread_over_the_part_that_is_seen() -> None:
    values = np.zeros((6, 12), dtype=np.float32)
    values[:, :3] = 1
    near = View.near(GRAY, box(0, 0, 10, 10), 30)
    assert near.spread(values, smooth=False).min() == 1
    far = View.near(GRAY, box(100, 0, 110, 10), 30)
    assert far.spread(values).max() == 0


def test_the_crop_divides_the_mask_in_two_colours() -> None:
    view = View.whole(GRAY, 120)
    window = np.zeros((6, 12), dtype=np.bool_)
    window[:, :6] = True
    shown = overlays.mask_parts(view, np.ones((6, 12), dtype=np.float32), window).pixels
    left, right = shown[30, 20].tolist(), shown[30, 100].tolist()
    assert left[2] > left[0]  # blue stays
    assert right[0] > right[2]  # orange goes
    untouched = overlays.mask_parts(view, np.zeros((6, 12), dtype=np.float32), window).pixels
    assert np.array_equal(untouched, view.pixels)


def test_the_sign_decides_the_colour() -> None:
    values = np.array([[1.0, 0.0, -1.0]], dtype=np.float32).repeat(3, axis=0)
    shown = overlays.signed_heat(View.whole(GRAY, 120), values, 1.0).pixels
    plus, nothing, minus = (shown[30, x].astype(int) for x in (5, 60, 115))
    assert plus[2] > plus[0]
    assert minus[0] > minus[2]
    assert np.ptp(nothing) <= 12


def test_a_grid_shows_its_cells() -> None:
    shown = overlays.grid_image(np.array([[0.0, 1.0]], dtype=np.float32), side=10)
    assert shown.shape == (10, 10, 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize(
    "corners", [(-10, -10, 500, 500), (30, 30, 30, 30), (119.5, 59.5, 130, 80), (130, 70, 150, 90)]
)
def test_any_box_can_be_cut_out(corners: tuple[float, ...]) -> None:
    assert overlays.cut_out(GRAY, box(*corners), side=8).shape == (8, 8, 3)
