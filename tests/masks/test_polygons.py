from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drawn_masks import Bitmap, bitmaps, drawn
from protomask.masks.polygons import Polygon, mask_to_polygons, polygons_to_mask


def ring_area(ring: NDArray[Any]) -> float:
    x, y = ring.astype(float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


DRAWINGS: dict[str, tuple[Bitmap, list[tuple[int, list[int]]]]] = {
    "empty": (drawn("...", "..."), []),
    "full": (drawn("###", "###"), [(4, [])]),
    "pixel": (drawn("...", ".#."), [(4, [])]),
    "two parts": (drawn("#.#"), [(4, []), (4, [])]),
    "corner touch": (drawn("#.", ".#"), [(4, []), (4, [])]),
    "other corner touch": (drawn(".#", "#."), [(4, []), (4, [])]),
    "ring": (drawn("###", "#.#", "###"), [(4, [4])]),
    "two holes touching in a corner": (drawn("####", "#.##", "##.#", "####"), [(4, [4, 4])]),
    "ring closed by a corner": (drawn("###", "#.#", "##."), [(6, [4])]),
    "island in a hole": (drawn("#####", "#...#", "#.#.#", "#...#", "#####"), [(4, [4]), (4, [])]),
    "second part owns the hole": (drawn("#.####", "..#..#", "..####"), [(4, []), (4, [4])]),
}
"""Vertices of the exterior and of the holes of each part."""


@pytest.mark.parametrize("name", DRAWINGS)
def test_polygons_of_drawings(name: str) -> None:
    mask, expected = DRAWINGS[name]
    polygons = mask_to_polygons(mask)
    assert [(len(part.exterior), [len(hole) for hole in part.holes]) for part in polygons] == expected
    assert np.array_equal(polygons_to_mask(polygons, mask.shape), mask)


def test_a_square_starts_at_its_top_left_corner_and_runs_clockwise() -> None:
    (polygon,) = mask_to_polygons(drawn("....", ".##.", ".##."))
    assert polygon.exterior.tolist() == [[1, 1], [3, 1], [3, 3], [1, 3]]
    assert polygon.exterior.dtype == np.int32
    (moved,) = mask_to_polygons(drawn("....", ".##.", ".##."), offset=(10, 20))
    assert moved.exterior.tolist() == [[11, 21], [13, 21], [13, 23], [11, 23]]


@given(bitmaps, st.integers(0, 5), st.integers(0, 5))
def test_an_offset_moves_exteriors_and_holes(bitmap: Bitmap, left: int, top: int) -> None:
    frame = np.pad(bitmap, ((top, 0), (left, 0)))
    assert np.array_equal(polygons_to_mask(mask_to_polygons(bitmap, offset=(left, top)), frame.shape), frame)


@given(bitmaps)
@settings(max_examples=300)
def test_polygons_keep_every_pixel(bitmap: Bitmap) -> None:
    polygons = mask_to_polygons(bitmap)
    rasterised = polygons_to_mask(polygons, bitmap.shape)
    assert rasterised.dtype == np.bool_
    assert np.array_equal(rasterised, bitmap)
    area = 0.0
    for polygon in polygons:
        assert ring_area(polygon.exterior) > 0
        assert all(ring_area(hole) < 0 for hole in polygon.holes)
        area += ring_area(polygon.exterior) + sum(map(ring_area, polygon.holes))
        for ring in (polygon.exterior, *polygon.holes):
            assert len({tuple(vertex) for vertex in ring.tolist()}) == len(ring)
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps, 1, axis=0)[:, 0] == 0)).all()
        filled = polygons_to_mask([Polygon(polygon.exterior)], bitmap.shape)
        for hole in polygon.holes:
            assert not (polygons_to_mask([Polygon(hole)], bitmap.shape) & ~filled).any()
    assert area == bitmap.sum()


@given(bitmaps)
def test_the_coco_rasteriser_agrees_on_outlines_along_pixel_edges(bitmap: Bitmap) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for polygon in mask_to_polygons(bitmap):
        filled = polygons_to_mask([Polygon(polygon.exterior)], bitmap.shape)
        (code,) = coco.frPyObjects([polygon.exterior.astype(float).ravel().tolist()], *bitmap.shape)
        assert np.array_equal(coco.decode(code).astype(bool), filled)


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_polygons_of_nested_rings(seed: int) -> None:
    rows, columns = np.mgrid[:70, :90]
    y, x, period = np.random.default_rng(seed).uniform((0, 0, 4), (70, 90, 12))
    bitmap = (np.hypot(rows - y, columns - x) % period) < period / 2
    assert np.array_equal(polygons_to_mask(mask_to_polygons(bitmap), bitmap.shape), bitmap)


def test_rasterising_takes_fractions_either_direction_and_cuts_at_the_frame() -> None:
    square = np.array([[-5.0, 0.6], [1.5, 0.6], [1.5, 9.0], [-5.0, 9.0]])
    expected = drawn("...", "#..", "#..")
    for ring in (square, square[::-1]):
        assert np.array_equal(polygons_to_mask([Polygon(ring)], (3, 3)), expected)
    triangle = Polygon(np.array([[0, 0], [4.5, 4], [0, 4]]))
    assert np.array_equal(polygons_to_mask([triangle], (4, 4)), drawn("#...", "##..", "###.", "####"))
    assert not polygons_to_mask([], (2, 3)).any()


def test_overlapping_parts_are_united() -> None:
    frame = Polygon(np.array([[0, 0], [4, 0], [4, 4], [0, 4]]), (np.array([[1, 1], [1, 3], [3, 3], [3, 1]]),))
    bar = Polygon(np.array([[0, 1], [4, 1], [4, 2], [0, 2]]))
    assert np.array_equal(polygons_to_mask([frame, bar], (4, 4)), drawn("####", "####", "#..#", "####"))
