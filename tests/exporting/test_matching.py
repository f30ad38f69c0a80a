from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protomask.exporting.matching import Differences, Limits, compare_image, one_to_one, together
from protomask.structures.instances import Instances

LIMITS = Limits(score=1e-3, box=0.5, mask_iou=0.95)
NAMES = ("nut", "bolt")
Row = tuple[float, int, int, int]
"""Score, label, and left and top of a box of 10 x 10 pixels, which its mask fills."""


def instances(*rows: Row, moved: float = 0.0, hidden: int = 0) -> Instances:
    """Some instances; their boxes moved to the right, their masks without so many rows of pixels."""
    masks = np.zeros((len(rows), 64, 64), dtype=np.bool_)
    for mask, (_, _, x, y) in zip(masks, rows, strict=True):
        mask[y + hidden : y + 10, x : x + 10] = True
    corners = [(x + moved, y, x + 10 + moved, y + 10) for _, _, x, y in rows]
    return Instances(
        boxes=np.array(corners, dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _, _ in rows], dtype=np.int64),
        class_scores=np.array([score for score, _, _, _ in rows], dtype=np.float32),
        masks=masks,
        image_size=(64, 64),
        class_names=NAMES,
    )


FIRST, SECOND, THIRD = (0.9, 0, 0, 0), (0.8, 1, 20, 0), (0.2, 0, 40, 40)


@pytest.mark.parametrize(
    ("wanted", "found", "changes"),
    [
        (instances(), instances(), {}),
        (instances(FIRST, SECOND), instances(FIRST, SECOND), {"detections": 2}),
        (instances(FIRST, SECOND), instances(SECOND, FIRST), {"detections": 2}),
        (instances(FIRST, THIRD), instances(FIRST, THIRD), {"detections": 1, "weaker": 1}),
        (instances(FIRST, SECOND), instances(FIRST), {"detections": 2, "unmatched": 1}),
        (instances(FIRST), instances(FIRST, SECOND), {"detections": 1, "unmatched": 1}),
        (instances(FIRST), instances((0.9, 1, 0, 0)), {"detections": 1, "unmatched": 2}),
        (instances(FIRST, THIRD), instances(FIRST), {"detections": 1, "weaker": 1, "weaker_unmatched": 1}),
        (instances(FIRST), instances(FIRST, moved=0.25), {"detections": 1, "box": 0.25}),
        (instances(FIRST), instances(FIRST, moved=1.0), {"detections": 1, "box": 1.0, "deviating": 1}),
        (instances(FIRST), instances(FIRST, hidden=1), {"detections": 1, "mask_iou": 0.9, "deviating": 1}),
    ],
    ids=["empty", "same", "order", "weak", "lost", "added", "class", "weak_lost", "near", "far", "mask"],
)
def test_images_are_compared(wanted: Instances, found: Instances, changes: dict[str, Any]) -> None:
    got = compare_image(wanted, found, score_threshold=0.3, limits=LIMITS, max_detections=100)
    assert got == Differences()._replace(**changes)


def test_masks_of_another_grid_are_reported_but_need_not_agree() -> None:
    got = compare_image(
        instances(FIRST), instances(FIRST, hidden=5), score_threshold=0.3, limits=LIMITS, max_detections=9, masks=False
    )
    assert (got.deviating, got.mask_iou) == (0, 0.5)


def test_either_side_of_the_threshold_is_no_difference() -> None:
    near = (instances((0.30001, 0, 0, 0)), instances((0.29999, 0, 0, 0)))
    for wanted, found in (near, near[::-1]):
        got = compare_image(wanted, found, score_threshold=0.3, limits=LIMITS, max_detections=100)
        assert (got.unmatched, got.deviating, got.weaker_unmatched) == (0, 0, 0)


def test_the_last_place_of_a_full_list_may_go_to_either_of_two_that_score_alike() -> None:
    wanted, found = instances(FIRST, (0.5, 0, 20, 0)), instances(FIRST, (0.50001, 0, 40, 0))
    for places, unmatched in ((2, 0), (3, 2)):
        got = compare_image(wanted, found, score_threshold=0.3, limits=LIMITS, max_detections=places)
        assert got.unmatched == unmatched


def test_the_best_overlaps_are_matched_first() -> None:
    wanted = instances((0.9, 0, 0, 0), (0.8, 0, 3, 0))
    found = instances((0.9, 0, 3, 0), (0.8, 0, 30, 30))
    assert one_to_one(wanted, found).tolist() == [-1, 0]
    assert one_to_one(wanted, instances()).tolist() == [-1, -1]


def test_differences_of_images_add_up() -> None:
    first = Differences(detections=3, unmatched=1, score=0.1, box=0.2, mask_iou=0.9, weaker=2, weaker_unmatched=1)
    second = Differences(detections=4, deviating=2, score=0.3, box=0.1, mask_iou=0.8)
    assert together([first, second]) == Differences(7, 1, 2, 0.3, 0.2, 0.8, 2, 1)
    assert together([]) == Differences()
