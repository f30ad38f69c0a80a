"""NMS by masks, against its definition on dense masks."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.detection import mask_nms
from protomask.detection.mask_nms import best_pairs, mask_overlaps, nms_by_overlaps
from protomask.detection.options import NMS_MODES, NmsMode, Overlap
from protomask.detection.prototypes import PrototypeMasks, PrototypeRule, detect
from protomask.errors import ConfigError
from protomask.masks.grids import GridWindow

Floats = NDArray[np.float32]


def windows(seed: int, count: int = 12, size: int = 11) -> tuple[list[GridWindow], NDArray[np.bool_]]:
    """Random masks in random windows, and the same dense."""
    random = np.random.default_rng(seed)
    dense = np.zeros((count, size, size), dtype=np.bool_)
    found = []
    for place in range(count):
        top, left = random.integers(0, size - 3, 2).tolist()
        height, width = random.integers(0, size - max(top, left), 2).tolist()
        probs = random.random((height, width), dtype=np.float32)
        dense[place, top : top + height, left : left + width] = probs > 0.5
        found.append(GridWindow(top, left, probs))
    return found, dense


@pytest.mark.parametrize("old_numpy", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_overlaps_are_those_of_dense_masks(seed: int, old_numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if old_numpy:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    monkeypatch.setattr(mask_nms, "_PAIRS_AT_ONCE", 5)
    given_windows, dense = windows(seed)
    flat = dense.reshape(len(dense), -1).astype(np.float64)
    common, areas = flat @ flat.T, flat.sum(axis=1)
    np.fill_diagonal(common, 0)
    for overlap, whole in (
        ("mask_iou", areas[:, None] + areas - common),
        ("mask_smaller", np.minimum(areas[:, None], areas)),
    ):
        kind: Overlap = next(one for one in get_args(Overlap) if one == overlap)
        wanted = common / np.maximum(whole, 1)
        np.testing.assert_allclose(mask_overlaps(given_windows, (11, 11), kind), wanted, rtol=1e-6)


def test_no_masks() -> None:
    assert mask_overlaps([], (5, 5), "mask_iou").shape == (0, 0)
    nothing = best_pairs(np.zeros((2, 0), dtype=np.float32), 10)
    table = np.zeros((0, 0), dtype=np.float32)
    for mode in get_args(NmsMode):
        kept = nms_by_overlaps(nothing, table, mode, iou_threshold=0.5, max_detections=5)
        assert [len(part) for part in kept] == [0, 0, 0]


def test_the_best_pairs_take_part() -> None:
    scores = np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.6]], dtype=np.float32)
    rows, labels, values = best_pairs(scores, 100, score_threshold=0.2)
    np.testing.assert_array_equal(rows, [0, 1, 2, 2])
    np.testing.assert_array_equal(labels, [0, 1, 1, 0])
    np.testing.assert_array_equal(values, np.array([0.9, 0.8, 0.6, 0.5], dtype=np.float32))
    rows, labels, _ = best_pairs(scores, 100, across_classes=True)
    np.testing.assert_array_equal(rows, [0, 1, 2])
    np.testing.assert_array_equal(labels, [0, 1, 1])
    many = np.linspace(0.1, 0.9, 50, dtype=np.float32)[None]
    assert len(best_pairs(many, 2)[0]) == 20


def reference(labels: Any, scores: Any, overlaps: Any, mode: str, threshold: float) -> dict[int, float]:
    """Scores of the pairs that remain, by the definition of each kind; row and pair are the same here."""
    left = {pair: float(scores[pair]) for pair in range(len(scores))}
    same = np.ones_like(overlaps, dtype=bool) if mode == "cross_class_fast" else labels[:, None] == labels
    if mode in ("fast", "cross_class_fast"):
        return {
            pair: score for pair, score in left.items()
            if not any(same[pair, better] and overlaps[pair, better] > threshold for better in range(pair))
        }  # fmt: skip
    kept: dict[int, float] = {}
    while left:
        best = max(left, key=lambda pair: left[pair])
        kept[best] = left.pop(best)
        for pair in list(left):
            share = overlaps[best, pair] if same[best, pair] else 0.0
            if mode == "batched":
                if share > threshold:
                    del left[pair]
            elif mode == "soft_linear":
                left[pair] *= 1 - share if share > threshold else 1
            else:
                left[pair] *= np.exp(-(share**2) / 0.5)
    return {pair: score for pair, score in kept.items() if score >= 0.001 or mode == "batched"}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(NMS_MODES), st.floats(0.05, 0.9))
def test_every_kind_is_its_definition(seed: int, mode: Any, threshold: float) -> None:
    random = np.random.default_rng(seed)
    overlaps = random.random((9, 9), dtype=np.float32)
    overlaps = np.triu(overlaps, 1) + np.triu(overlaps, 1).T
    labels = random.integers(0, 2, 9)
    scores = np.sort(random.random(9, dtype=np.float32))[::-1].copy()
    rows, kept_labels, kept_scores = nms_by_overlaps(
        (np.arange(9), labels, scores), overlaps, mode, iou_threshold=threshold, max_detections=9
    )
    wanted = reference(labels, scores, overlaps, mode, float(np.float32(threshold)))
    assert dict(zip(rows.tolist(), kept_scores.tolist(), strict=True)) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_array_equal(kept_labels, labels[rows])
    assert (np.diff(kept_scores) <= 0).all()


def crossing_bars() -> tuple[Floats, Floats, PrototypeMasks]:
    """Two bars that cross, whose boxes are the same, and a copy of the first; logits and boxes of three candidates."""
    first, second = np.full((16, 16), -9.0, dtype=np.float32), np.full((16, 16), -9.0, dtype=np.float32)
    first[7:9], second[:, 7:9] = 9, 9
    prototypes = np.stack([first, second], axis=2)
    coefficients = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    boxes = np.tile(np.array([0.1, 0.1, 0.9, 0.9], dtype=np.float32), (3, 1))
    logits = np.array([[0, 4], [0, 3], [0, 2]], dtype=np.float32)
    return logits, boxes, PrototypeMasks(prototypes, coefficients)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_crossing_objects_survive_and_copies_do_not(nms: Any) -> None:
    logits, boxes, masks = crossing_bars()
    by_boxes = detect(logits, boxes, PrototypeRule(nms=nms))
    by_masks = detect(logits, boxes, PrototypeRule(nms=nms, overlap="mask_iou"), masks=masks)
    if nms.startswith("soft"):
        assert by_masks.class_scores[1] > 0.9
        assert len(by_masks.rows) == 2 or by_masks.class_scores[2] < 0.3
        assert len(by_boxes.rows) == 1 or by_boxes.class_scores[1] < 0.5
    else:
        assert by_boxes.rows.tolist() == [0]
        assert by_masks.rows.tolist() == [0, 1]


def test_a_mask_within_another_is_found_by_the_smaller_one() -> None:
    logits, boxes, masks = crossing_bars()
    masks.prototypes[..., 1] = masks.prototypes[..., 0]
    masks.prototypes[:, 8:, 1] = -9  # half of the first
    two = PrototypeMasks(masks.prototypes, masks.coefficients[:2])
    kept = {
        overlap: detect(logits[:2], boxes[:2], PrototypeRule(overlap=overlap, iou_threshold=0.6), masks=two).rows
        for overlap in ("mask_iou", "mask_smaller")
    }
    assert {name: len(rows) for name, rows in kept.items()} == {"mask_iou": 2, "mask_smaller": 1}


def test_masks_must_be_known() -> None:
    logits, boxes, _ = crossing_bars()
    with pytest.raises(ConfigError, match="overlap: expected box_iou where masks are not known before NMS"):
        detect(logits, boxes, PrototypeRule(overlap="mask_iou"))
