from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from protomask.masks.outlines import outline_runs
from protomask.masks.polygons import mask_to_polygons
from protomask.masks.rle import decode_rle
from protomask.masks.runs import runs_area
from protomask.masks.segmentations import join_rings, segmentation_of_mask, simplified

SIZE = (24, 24)
masks = arrays(np.bool_, SIZE)


def distance(point: NDArray[Any], ring: NDArray[Any]) -> float:
    """Of a point from the nearest edge of a closed ring."""
    starts, ends = ring, np.roll(ring, -1, axis=0)
    along = ends - starts
    share = np.clip(((point - starts) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-12), 0, 1)
    return float(np.hypot(*(point - starts - share[:, None] * along).T).min())


def disc(radius: int = 10) -> NDArray[np.bool_]:
    y, x = np.ogrid[:24, :24]
    inside: NDArray[np.bool_] = (y - 11.5) ** 2 + (x - 11.5) ** 2 < radius**2
    return inside


@given(masks, st.sampled_from([0.5, 1.0, 3.0]))
def test_simplified_rings_stay_within_the_tolerance(mask: NDArray[np.bool_], tolerance: float) -> None:
    for polygon in mask_to_polygons(mask):
        ring = polygon.exterior
        fewer = simplified(ring, tolerance)
        assert len(fewer) <= len(ring)
        assert {tuple(point) for point in fewer.tolist()} <= {tuple(point) for point in ring.tolist()}
        assert max(distance(point, fewer) for point in ring) <= tolerance + 1e-9
        np.testing.assert_array_equal(simplified(ring, 0), ring)


def test_a_disc_keeps_its_shape_with_a_fraction_of_its_vertices() -> None:
    [polygon] = mask_to_polygons(disc())
    fewer = simplified(polygon.exterior, 1.0)
    assert 6 <= len(fewer) < len(polygon.exterior) / 3
    area = runs_area(outline_runs([fewer.astype(float).ravel().tolist()], SIZE))
    assert area == pytest.approx(disc().sum(), rel=0.1)


def test_a_ring_is_not_simplified_away() -> None:
    ring = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]], dtype=np.int32)
    np.testing.assert_array_equal(simplified(ring, 100.0), ring)


@given(masks)
def test_segmentations_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    found = segmentation_of_mask(mask)
    if isinstance(found, list):
        np.testing.assert_equal(runs_area(outline_runs(found, SIZE)) if found else 0, int(mask.sum()))
    else:
        np.testing.assert_array_equal(decode_rle(found), mask)


def test_simplified_segmentations() -> None:
    exact, simple = segmentation_of_mask(disc()), segmentation_of_mask(disc(), tolerance=1.0)
    assert isinstance(exact, list)
    assert isinstance(simple, list)
    assert len(simple[0]) < len(exact[0]) / 3
    holed = disc() & ~disc(4)
    assert segmentation_of_mask(holed, tolerance=1.0) == segmentation_of_mask(holed)  # codes are exact


@given(masks)
def test_joined_rings_enclose_the_mask(mask: NDArray[np.bool_]) -> None:
    rings = [ring for part in mask_to_polygons(mask) for ring in (part.exterior, *part.holes)]
    if rings:
        line = join_rings(rings).astype(float).ravel().tolist()
        assert runs_area(outline_runs([line], SIZE)) == mask.sum()
