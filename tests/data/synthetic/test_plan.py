from __future__ import annotations

import numpy as np
import pytest

from protomask.data.synthetic.plan import MIN_VISIBLE_AREA, MIN_VISIBLE_SHARE, PlacedObject, plan_scene
from protomask.data.synthetic.shapes import CLASS_NAMES


@pytest.fixture(scope="module")
def plans() -> list[list[PlacedObject]]:
    return [plan_scene(11, index) for index in range(200)]


def test_every_class_appears_about_as_often(plans: list[list[PlacedObject]]) -> None:
    labels = [item.label for placed in plans for item in placed]
    shares = np.bincount(labels, minlength=len(CLASS_NAMES)) / len(labels)
    assert len(CLASS_NAMES) >= 8
    assert shares.min() > 0.06
    assert shares.max() < 0.14


def test_objects_really_overlap_and_stay_recognisable(plans: list[list[PlacedObject]]) -> None:
    hidden = np.array([item.occluded_share for placed in plans for item in placed])
    visible = np.array([item.visible.sum() for placed in plans for item in placed])
    assert 0.25 <= (hidden > 0.2).mean() <= 0.45
    assert hidden.max() <= 1 - MIN_VISIBLE_SHARE
    assert visible.min() >= MIN_VISIBLE_AREA


def test_sizes_range_from_tiny_to_large_and_shapes_from_compact_to_thin(plans: list[list[PlacedObject]]) -> None:
    diameters = np.array([item.diameter for placed in plans for item in placed])
    assert 0.02 < (diameters < 14).mean() < 0.15
    assert (diameters > 80).mean() > 0.05
    bars = [item for placed in plans for item in placed if CLASS_NAMES[item.label] == "bar"]
    assert max(item.diameter**2 / item.full_area for item in bars) > 5


def test_rings_have_holes(plans: list[list[PlacedObject]]) -> None:
    rings = [item for placed in plans for item in placed if CLASS_NAMES[item.label] == "ring"]
    assert rings
    for item in rings:
        assert len(item.rings) == 2
        x, y = (int(value) for value in item.rings[1].mean(axis=0))
        row, column = y - item.top, x - item.left
        if 0 <= row < item.visible.shape[0] and 0 <= column < item.visible.shape[1]:
            assert item.coverage[row, column] < 128
