"""Who suppressed whom, on boxes whose overlaps are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from protomask.detection.options import Limits, NmsMode
from protomask.explaining.competition import competition
from protomask.explaining.results import Competitor
from protomask.models.inside import Candidates, Inside

# Boxes of one height in a row: (left, right), label, score; in one class IoUs follow from the sides.
ROWS: list[tuple[float, float, int, float]] = [
    (0.0, 0.4, 0, 0.9),  # kept: 0
    (0.1, 0.5, 0, 0.8),  # IoU 0.6 with the first
    (0.2, 0.6, 0, 0.7),  # IoU 0.33 with the first, 0.6 with the second
    (0.0, 0.4, 1, 0.6),  # the place of the first in another class; kept: 1
    (0.05, 0.4, 0, 0.2),  # below the threshold
    (0.8, 1.0, 0, 0.5),  # overlaps nothing
    (0.25, 0.45, 0, 0.4),  # IoU 0.33 with the first, 0.5 with the second
]


def compete(nms: NmsMode = "fast", kept: tuple[int, ...] = (0, 3), **changes: Any) -> list[list[Competitor]]:
    boxes = np.array([(left, 0, right, 1) for left, right, *_ in ROWS], dtype=np.float32)
    labels = np.array([row[2] for row in ROWS])
    scores = np.array([row[3] for row in ROWS], dtype=np.float32)
    candidates = Candidates(
        boxes=boxes, origins=boxes, numbers=np.arange(len(ROWS)) + 100, levels=np.zeros(len(ROWS), dtype=np.int64),
        labels=labels, scores=scores,
    )  # fmt: skip
    rows = np.array(kept, dtype=np.int64)
    inside = Inside(
        rows=None, boxes=boxes[rows], labels=labels[rows], class_scores=scores[rows], mask_scores=None,
        class_probs=np.zeros((len(rows), 3), dtype=np.float32), candidates=candidates, kept=rows,
    )  # fmt: skip
    settled = {"iou_threshold": 0.5, "score_threshold": 0.3, "image_size": (50, 200), **changes}
    return competition(inside, np.arange(len(rows)), Limits(nms, 100), **settled)


def outcomes(rivals: list[Competitor]) -> dict[int, tuple[str, int | None]]:
    return {one.number - 100: (one.outcome, one.by) for one in rivals}


def test_every_candidate_has_its_outcome() -> None:
    first, other_class = compete()
    assert outcomes(first) == {
        0: ("kept", None),
        1: ("suppressed", 0),
        2: ("suppressed", None),  # by the second, which is suppressed itself
        4: ("below threshold", None),
        6: ("beyond limit", None),
    }
    assert [one.number - 100 for one in first] == [0, 1, 2, 6, 4]  # itself, then by score
    assert outcomes(other_class) == {3: ("kept", None)}


def test_across_classes_everybody_meets() -> None:
    [first] = compete("cross_class_fast", kept=(0,))
    assert outcomes(first)[3] == ("suppressed", 0)


def test_boxes_are_in_pixels_of_the_image() -> None:
    [[first, *_], _] = compete()
    assert first.box.tolist() == [0, 0, 80, 50]
    assert first.iou == 1


def test_a_row_that_is_not_in_the_result_has_no_number() -> None:
    boxes = compete(kept=(0,))
    assert outcomes(boxes[0])[1] == ("suppressed", 0)


def test_nothing_kept_is_an_ordinary_case() -> None:
    assert compete(kept=()) == []
