"""Outlines in pixels, against bicubic interpolation of the whole grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.masks import fine
from protomask.masks.fine import fine_runs
from protomask.masks.grids import GridWindow, resized_line
from protomask.masks.runs import runs_to_window

Floats = NDArray[np.float32]


def keys(distance: float) -> float:
    """Kernel of Keys (1981) with a = -0.5."""
    d = abs(distance)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def matrix(cells: int, pixels: int) -> NDArray[np.float64]:
    """(pixels, cells) weights, with cells beyond the edge repeated."""
    weights = np.zeros((pixels, cells))
    for pixel, at in enumerate(resized_line(cells, pixels).positions.tolist()):
        for cell in range(int(at) - 3, int(at) + 5):
            weights[pixel, min(max(cell, 0), cells - 1)] += keys(at - cell)
    return weights


def pixels_of(logits: Floats, size: tuple[int, int], crop: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    rows, columns = (resized_line(cells, pixels) for cells, pixels in zip(logits.shape, size, strict=True))
    window = runs_to_window(fine_runs(GridWindow(0, 0, logits), rows, columns, crop, size[0]), size[0])
    found = np.zeros(size, dtype=np.bool_)
    height, width = window.mask.shape
    found[window.top : window.top + height, window.left : window.left + width] = window.mask
    return found


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("size", [(40, 31), (9, 11), (5, 7), (120, 4)])
def test_every_pixel_is_that_of_the_interpolated_grid(
    size: tuple[int, int], chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chunks:
        monkeypatch.setattr(fine, "_STRIP", 3 * size[0])
    logits = np.random.default_rng(size[0]).normal(0, 3, (9, 11)).astype(np.float32)
    dense = matrix(9, size[0]) @ logits.astype(np.float64) @ matrix(11, size[1]).T
    found = pixels_of(logits, size, (0, 0, size[1], size[0]))
    clear = np.abs(dense) > 1e-4
    np.testing.assert_array_equal(found[clear], (dense > 0)[clear])
    crop = (1, 2, size[1] - 1, size[0] - 1)
    cropped = pixels_of(logits, size, crop)
    inner = np.zeros(size, dtype=np.bool_)
    inner[2 : size[0] - 1, 1 : size[1] - 1] = True
    np.testing.assert_array_equal(cropped, found & inner)


def test_a_part_of_the_grid_is_enough() -> None:
    logits = np.random.default_rng(3).normal(0, 3, (12, 12)).astype(np.float32)
    rows, columns = resized_line(12, 60), resized_line(12, 60)
    crop = (22, 21, 41, 38)  # cells 4 to 8
    whole = fine_runs(GridWindow(0, 0, logits), rows, columns, crop, 60)
    part = fine_runs(GridWindow(2, 2, logits[2:11, 2:11]), rows, columns, crop, 60)
    np.testing.assert_array_equal(part, whole)


def test_full_and_empty_masks() -> None:
    full = np.full((4, 4), 9, dtype=np.float32)
    assert pixels_of(full, (10, 10), (0, 0, 10, 10)).all()
    assert not pixels_of(-full, (10, 10), (0, 0, 10, 10)).any()
    assert not pixels_of(full, (10, 10), (5, 5, 5, 9)).any()


def test_what_a_diverged_network_gives_stays_where_it_is() -> None:
    logits = np.full((20, 20), -1, dtype=np.float32)
    logits[2, 2], logits[2, 3], logits[3, 2] = np.nan, np.inf, -np.inf
    logits[12:16, 12:16] = 9
    found = pixels_of(logits, (20, 20), (0, 0, 20, 20))
    assert found[12:16, 12:16].all()
    assert not found[6:10].any()
