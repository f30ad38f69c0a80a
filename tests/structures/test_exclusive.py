"""One owner for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.structures.exclusive import give_pixels_one_owner
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import DenseMasks


def instances(*masks: NDArray[np.bool_]) -> Instances:
    count = len(masks)
    return Instances(
        boxes=np.tile(np.array([0, 0, 9, 7], dtype=np.float32), (count, 1)),
        labels=np.zeros(count, dtype=np.int64),
        class_scores=np.linspace(0.9, 0.5, count, dtype=np.float32),
        mask_scores=None,
        masks=DenseMasks(np.stack(masks) if masks else np.zeros((0, 7, 9), dtype=np.bool_)),
        image_size=(7, 9),
        class_names=("nut",),
    )


def rectangle(x1: int, y1: int, x2: int, y2: int) -> NDArray[np.bool_]:
    mask = np.zeros((7, 9), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def test_the_best_keeps_all_its_pixels() -> None:
    first, second = rectangle(0, 0, 5, 7), rectangle(3, 0, 9, 7)
    found = give_pixels_one_owner(instances(first, second), "score")
    np.testing.assert_array_equal(found.masks, [first, second & ~first])
    np.testing.assert_array_equal(found.scores, instances(first, second).scores)


def test_the_deepest_keeps_a_pixel() -> None:
    first, second = rectangle(0, 0, 5, 7), rectangle(3, 0, 9, 7)
    found = give_pixels_one_owner(instances(first, second), "depth")
    # Columns 3 and 4 lie 2 and 1 deep in the first, 1 and 2 in the second; rows at the rim are 1 deep in both.
    np.testing.assert_array_equal(found.masks[0][3], rectangle(0, 0, 4, 7)[3])
    np.testing.assert_array_equal(found.masks[1][3], rectangle(4, 0, 9, 7)[3])
    np.testing.assert_array_equal(found.masks[0][0], first[0])


@pytest.mark.parametrize("by", ["score", "depth"])
def test_no_pixel_is_shared_and_none_is_lost(by: Any) -> None:
    masks = [np.random.default_rng(seed).random((7, 9)) < 0.5 for seed in range(5)]
    found = give_pixels_one_owner(instances(*masks), by)
    assert found.masks.sum(axis=0).max() == 1
    np.testing.assert_array_equal(found.masks.any(axis=0), np.any(masks, axis=0))


@pytest.mark.parametrize("by", ["score", "depth"])
def test_what_has_no_pixel_left_is_gone(by: Any) -> None:
    found = give_pixels_one_owner(instances(rectangle(1, 1, 6, 6), rectangle(2, 2, 4, 4)), by)
    assert len(found) == 1
    assert len(give_pixels_one_owner(instances(), by)) == 0
