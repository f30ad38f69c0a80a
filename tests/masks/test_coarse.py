from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from drawn_masks import Bitmap, bitmaps, drawn
from protomask.masks.coarse import CoarseMask, coarse_masks, coarse_size
from protomask.masks.runs import mask_runs


def whole(mask: CoarseMask, size: tuple[int, int]) -> NDArray[np.float32]:
    """The shares of all cells of a grid."""
    grid = CoarseMask(0, 0, np.zeros(size, dtype=np.float32))
    grid.within(mask)[:] = mask.within(grid)
    return grid.shares


def block_means(bitmap: Bitmap, size: tuple[int, int]) -> NDArray[np.float32]:
    picture = Image.fromarray(bitmap.astype(np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BOX))


@pytest.mark.parametrize(
    ("image_size", "longest", "wanted"),
    [((720, 1280), 160, (90, 160)), ((100, 50), 10, (10, 5)), ((30, 40), 160, (30, 40)), ((1, 5000), 100, (1, 100))],
)
def test_cells_are_as_square_as_they_can_be(image_size: tuple[int, int], longest: int, wanted: tuple[int, int]) -> None:
    assert coarse_size(image_size, longest) == wanted


@given(bitmaps, bitmaps)
def test_a_cell_per_pixel_gives_the_masks(first: Bitmap, second: Bitmap) -> None:
    size = (first.shape[0], first.shape[1])
    [mask] = coarse_masks([mask_runs(first)], size, size)
    np.testing.assert_array_equal(whole(mask, size), first)
    empty, same = coarse_masks([mask_runs(np.zeros_like(first)), mask_runs(first)], size, size)
    assert not empty.shares.size
    np.testing.assert_array_equal(whole(same, size), first)


@given(st.integers(0, 99), st.sampled_from([(6, 9), (12, 18), (4, 12), (24, 36), (3, 9)]))
def test_shares_are_exact_where_cells_are_narrow(seed: int, grid_size: tuple[int, int]) -> None:
    bitmap = np.random.default_rng(seed).random((24, 36)) < 0.4
    bitmap[:, 5:8] = True  # runs that go on in the next column
    [mask] = coarse_masks([mask_runs(bitmap)], (24, 36), grid_size)
    np.testing.assert_allclose(whole(mask, grid_size), block_means(bitmap, grid_size), atol=1e-5)


def test_a_mask_that_begins_where_floats_round_down() -> None:
    # 240 / 720 * 90 is a little below 30.
    bitmap = np.zeros((720, 8), dtype=np.bool_)
    bitmap[240:400] = True
    [mask] = coarse_masks([mask_runs(bitmap)], (720, 8), (90, 1))
    assert (mask.top, mask.bottom) == (30, 50)
    assert (mask.shares == 1).all()


def test_wide_cells_are_sampled() -> None:
    rows, columns = np.ogrid[:200, :300]
    disk = (rows - 90) ** 2 + (columns - 160) ** 2 < 70**2
    [mask] = coarse_masks([mask_runs(disk)], (200, 300), (20, 30))
    wanted = block_means(disk, (20, 30))
    np.testing.assert_allclose(whole(mask, (20, 30)), wanted, atol=0.25)
    assert whole(mask, (20, 30)).sum() == pytest.approx(wanted.sum(), rel=0.01)


@given(bitmaps, st.integers(-15, 15), st.integers(-15, 15))
def test_moved_and_united_masks(bitmap: Bitmap, x: int, y: int) -> None:
    size = (bitmap.shape[0], bitmap.shape[1])
    [mask] = coarse_masks([mask_runs(bitmap)], size, size)
    padded = np.pad(bitmap, 15)
    there = np.roll(padded, (y, x), axis=(0, 1))
    united = mask.united(mask.moved(x, y)).moved(15, 15)
    np.testing.assert_array_equal(whole(united, (padded.shape[0], padded.shape[1])), padded | there)


def test_the_part_within_another_window() -> None:
    mask = CoarseMask(2, 3, drawn("##", "#.").astype(np.float32))
    assert (mask.bottom, mask.right) == (4, 5)
    assert mask.within(CoarseMask(3, 0, np.ones((9, 4), dtype=np.float32))).tolist() == [[1.0]]
    assert mask.within(CoarseMask(9, 9, np.ones((2, 2), dtype=np.float32))).size == 0
    assert mask.within(CoarseMask(0, 0, np.ones((1, 1), dtype=np.float32))).size == 0
