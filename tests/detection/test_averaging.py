from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.detection.averaging import find_votes
from protomask.detection.mask_nms import mask_overlaps
from protomask.detection.options import NMS_MODES, NmsMode
from protomask.detection.prototypes import PrototypeMasks, PrototypeRule, detect
from protomask.masks.grids import assemble_windows

Floats = NDArray[np.float32]


def test_boxes_and_coefficients_are_means_by_score() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10], [40, 40, 50, 50]], dtype=np.float32)
    scores = np.array([[0.6, 0.2, 0.9, 0.5]], dtype=np.float32)
    kept, labels = np.array([2, 0, 3]), np.zeros(3, dtype=np.int64)
    votes = find_votes(boxes, scores, kept, labels)
    expected = np.array([[5, 0, 15, 10], [0.25, 0, 10.25, 10], [40, 40, 50, 50]])  # IoU 0.82, 0.33 and 0.43
    np.testing.assert_allclose(votes.average(boxes[votes.rows], 3), expected, rtol=1e-6)
    coefficients = np.array([[4], [8], [3], [7]], dtype=np.float32)
    np.testing.assert_allclose(votes.average(coefficients[votes.rows], 3), [[3], [5], [7]], rtol=1e-6)


def test_only_candidates_of_the_class_vote_and_what_is_kept_does_not_vote_for_others() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0.5, 10, 10.5]], dtype=np.float32)
    scores = np.array([[0.6, 0.5, 0], [0, 0.1, 0.8]], dtype=np.float32)
    votes = find_votes(boxes, scores, np.array([2, 0, 1]), np.array([1, 0, 0]))
    found = {(int(owner), int(row)) for owner, row in zip(votes.owners, votes.rows, strict=True)}
    assert found == {(0, 2), (0, 1), (1, 0), (2, 1)}


def test_boxes_without_area_and_without_candidates_stay_as_they_are() -> None:
    boxes = np.array([[3, 3, 3, 3], [3, 3, 3, 3]], dtype=np.float32)
    votes = find_votes(boxes, np.full((1, 2), 0.5, dtype=np.float32), np.array([0, 1]), np.array([0, 0]))
    np.testing.assert_array_equal(votes.average(boxes[votes.rows], 2), boxes)
    none = find_votes(boxes[:0], np.zeros((1, 0), dtype=np.float32), np.zeros(0, int), np.zeros(0, int))
    assert none.average(boxes[:0], 0).shape == (0, 4)


def crowd(seed: int, count: int = 200) -> tuple[Floats, Floats]:
    """Logits of two classes and boxes, of which many show one of a few objects."""
    random = np.random.default_rng(seed)
    objects = random.random((12, 2))
    centre = objects[random.integers(12, size=count)] + 0.01 * random.standard_normal((count, 2))
    reach = 0.08 + 0.01 * random.random((count, 2))
    boxes = np.concatenate([centre - reach, centre + reach], axis=1).astype(np.float32)
    return random.standard_normal((count, 3)).astype(np.float32) * 2, boxes


@pytest.mark.parametrize("nms", NMS_MODES)
@given(seed=st.integers(0, 10**6))
def test_what_is_averaged_does_not_depend_on_what_is_wanted(nms: NmsMode, seed: int) -> None:
    logits, boxes = crowd(seed)
    rule = PrototypeRule(duplicates="average", nms=nms, threshold_detections=True)
    everything, wanted = detect(logits, boxes, rule), detect(logits, boxes, rule, score_threshold=0.6)
    assert len(wanted.rows) <= len(everything.rows)
    if nms in ("batched", "fast"):  # of these, what is better does not depend on what is worse
        first = slice(len(wanted.rows))
        np.testing.assert_array_equal(wanted.rows, everything.rows[first])
    plain = detect(logits, boxes, rule.replace(duplicates="drop"), score_threshold=0.6)
    for name in ("rows", "labels", "class_scores"):
        np.testing.assert_array_equal(getattr(wanted, name), getattr(plain, name))
    assert np.abs(wanted.boxes - plain.boxes).max(initial=0) < 0.1
    assert wanted.means(boxes) == pytest.approx(wanted.boxes, abs=1e-6)
    np.testing.assert_array_equal(plain.means(boxes), plain.boxes)


@pytest.mark.parametrize("nms", ["batched", "fast", "cross_class_fast"])
@given(seed=st.integers(0, 10**6))
def test_averaged_masks_are_no_more_alike_than_nms_allows(nms: NmsMode, seed: int) -> None:
    logits, boxes = crowd(seed)
    random = np.random.default_rng(seed)
    prototypes = random.standard_normal((20, 20, 3)).astype(np.float32)
    masks = PrototypeMasks(prototypes, random.standard_normal((len(boxes), 3)).astype(np.float32))
    rule = PrototypeRule(duplicates="average", nms=nms, overlap="mask_iou", iou_threshold=0.4)
    kept = detect(logits, boxes, rule, masks=masks)
    assert 0 < len(kept.rows) <= len(detect(logits, boxes, rule.replace(duplicates="drop"), masks=masks).rows)
    assert kept.means(boxes) == pytest.approx(kept.boxes, abs=1e-6)
    windows = assemble_windows(prototypes, kept.means(masks.coefficients), kept.boxes)
    overlaps = mask_overlaps(windows, (20, 20), "mask_iou")
    meeting = kept.labels[:, None] == kept.labels if nms != "cross_class_fast" else True
    assert (overlaps * meeting).max() <= 0.4


@pytest.mark.parametrize(
    ("changes", "rows"), [({}, [0]), ({"duplicates": "drop"}, [0, 1]), ({"nms": "soft_linear"}, [0, 1])]
)
def test_a_mask_that_becomes_that_of_another_by_averaging_is_a_duplicate(
    changes: dict[str, Any], rows: list[int]
) -> None:
    prototypes = np.zeros((10, 10, 2), dtype=np.float32)
    prototypes[:, :3, 0], prototypes[:, 3:, 0], prototypes[:, 3:, 1] = 9, -9, 9
    # The whole, the left third, and the whole again in a box that is nearer to that of the third.
    masks = PrototypeMasks(prototypes, np.array([[1, 2], [1, 0], [5, 10]], dtype=np.float32))
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.88]], dtype=np.float32)
    logits = np.array([[0, 4], [0, 3], [0, 2]], dtype=np.float32)
    rule = PrototypeRule(duplicates="average", nms="batched", overlap="mask_iou").replace(**changes)
    assert detect(logits, boxes, rule, masks=masks).rows.tolist() == rows
