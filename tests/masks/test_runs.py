from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from drawn_masks import Bitmap, bitmaps, drawn
from protomask.masks.runs import (
    boxes_of_masks,
    flat_ranges,
    intersect_runs,
    mask_runs,
    move_runs,
    perimeter,
    rectangle_runs,
    runs_area,
    runs_to_window,
    unite_runs,
)


def test_runs_go_down_the_columns() -> None:
    assert mask_runs(drawn(".##", "#.#")).tolist() == [[1, 3], [4, 6]]


@given(bitmaps)
def test_windows_of_runs_are_tight_and_give_the_mask_back(bitmap: Bitmap) -> None:
    runs = mask_runs(bitmap)
    assert runs.dtype == np.int64
    assert (np.diff(runs.ravel()) > 0).all()
    top, left, part = runs_to_window(runs, len(bitmap))
    mask = np.zeros_like(bitmap)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert np.array_equal(mask, bitmap)
    assert part.flags["C_CONTIGUOUS"]
    if bitmap.any():
        x1, y1, x2, y2 = boxes_of_masks(bitmap[None])[0].astype(int).tolist()
        assert left == x1
        assert part.shape[1] == x2 - x1
        assert top <= y1
        assert top + part.shape[0] >= y2
    else:
        assert (top, left, part.shape) == (0, 0, (0, 0))


@given(bitmaps, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_runs_move_with_their_part_of_the_frame(bitmap: Bitmap, left: int, top: int, right: int, bottom: int) -> None:
    frame: Bitmap = np.pad(bitmap, ((top, bottom), (left, right)))
    moved = move_runs(mask_runs(bitmap), len(bitmap), left=left, top=top, frame_height=len(frame))
    assert np.array_equal(moved, mask_runs(frame))
    box = (left, top, left + bitmap.shape[1], top + len(bitmap))
    rectangle = np.pad(np.ones_like(bitmap), ((top, bottom), (left, right)))
    assert np.array_equal(rectangle_runs(box, len(frame)), mask_runs(rectangle))


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)))
def test_runs_of_common_and_of_all_pixels(masks: NDArray[np.bool_]) -> None:
    runs = [mask_runs(mask) for mask in masks]
    assert np.array_equal(unite_runs(runs), mask_runs(np.logical_or.reduce(masks)))
    assert np.array_equal(intersect_runs(runs[0], runs[-1]), mask_runs(masks[0] & masks[-1]))
    assert runs_area(runs[0]) == masks[0].sum()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (1, 1), (1, 7), (7, 1)])
def test_frames_with_few_pixels(shape: tuple[int, int]) -> None:
    assert mask_runs(np.zeros(shape, dtype=np.bool_)).shape == (0, 2)
    full = mask_runs(np.ones(shape, dtype=np.bool_))
    assert runs_area(full) == shape[0] * shape[1]
    assert len(full) == min(1, shape[0] * shape[1])


@given(bitmaps)
def test_any_memory_layout_and_integers_will_do(bitmap: Bitmap) -> None:
    runs = mask_runs(bitmap)
    assert np.array_equal(mask_runs(np.asfortranarray(bitmap)), runs)
    assert np.array_equal(mask_runs(bitmap[::-1][::-1]), runs)
    assert np.array_equal(mask_runs(bitmap.astype(np.uint8)), runs)


def test_runs_of_nothing() -> None:
    nothing = mask_runs(np.zeros((3, 4), dtype=np.bool_))
    assert len(unite_runs([])) == len(unite_runs([nothing])) == len(rectangle_runs((2, 1, 2, 3), 3)) == 0
    assert len(move_runs(nothing, 3, left=1, top=1, frame_height=9)) == len(intersect_runs(nothing, nothing)) == 0
    assert runs_area(nothing) == 0


def test_boxes_of_masks_have_exclusive_far_edges() -> None:
    masks = np.stack([drawn("....", ".#..", "...."), drawn("...#", "....", "#..."), drawn("....", "....", "....")])
    boxes = boxes_of_masks(masks)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[1, 1, 2, 2], [0, 0, 4, 3], [0, 0, 0, 0]]
    assert boxes_of_masks(np.zeros((0, 3, 4), dtype=np.bool_)).shape == (0, 4)
    assert boxes_of_masks(np.zeros((2, 0, 4), dtype=np.bool_)).tolist() == [[0] * 4] * 2


def test_ranges_one_after_another() -> None:
    owner, numbers = flat_ranges(np.array([5, 0, 9]), np.array([2, 0, 3]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert numbers.tolist() == [5, 6, 9, 10, 11]


def disc(radius: float, *, hole: float = 0.0) -> Bitmap:
    rows, columns = np.mgrid[-80:81, -80:81]
    distance = np.hypot(rows + 0.3, columns - 0.2)
    inside: Bitmap = (distance < radius) & (distance >= hole)
    return inside


@pytest.mark.parametrize("radius", [10.0, 30.0, 70.0])
def test_the_perimeter_of_discs(radius: float) -> None:
    assert perimeter(disc(radius)) == pytest.approx(2 * np.pi * radius, rel=0.02)


def test_holes_count_in_the_perimeter() -> None:
    assert perimeter(disc(60, hole=30)) == pytest.approx(perimeter(disc(60)) + perimeter(disc(30)))


@pytest.mark.parametrize("degrees", range(0, 46, 5))
def test_the_perimeter_of_turned_squares(degrees: int) -> None:
    angle = np.deg2rad(degrees)
    rows, columns = np.mgrid[-80:81, -80:81]
    along = rows * np.cos(angle) + columns * np.sin(angle)
    across = columns * np.cos(angle) - rows * np.sin(angle)
    square = (np.abs(along) < 50) & (np.abs(across) < 50)
    assert perimeter(square) == pytest.approx(400, rel=0.08)


def test_the_perimeter_of_a_mask_does_not_depend_on_its_place() -> None:
    mask = disc(20)
    assert perimeter(np.pad(mask, ((3, 0), (0, 9)))) == perimeter(mask)
    assert perimeter(mask.T) == pytest.approx(perimeter(mask))
    assert perimeter(np.zeros((4, 5), dtype=np.bool_)) == perimeter(np.zeros((0, 0), dtype=np.bool_)) == 0
