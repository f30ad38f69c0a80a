from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.detection.options import NMS_MODES, NmsMode, PredictOptions
from protomask.detection.prototypes import (
    Kept,
    PrototypeMasks,
    PrototypeRows,
    PrototypeRule,
    best_of_levels,
    detect,
    paint,
    possible_rows,
)
from protomask.errors import ConfigError
from protomask.structures.instances import Instances

Floats = NDArray[np.float32]
NAMES = ("a", "b", "c")
ARRAYS = ("rows", "boxes", "labels", "class_scores")
RULE = PrototypeRule(max_detections=30, max_candidates=80, input_side=64)


def candidates(count: int = 240, classes: int = 3, *, sharpness: float = 3.0, seed: int = 0) -> tuple[Floats, Floats]:
    """(K, C + 1) logits and (K, 4) boxes that crowd in the image and reach beyond it."""
    random = np.random.default_rng(seed)
    centre = random.random((count, 2), dtype=np.float32)
    reach = (0.05 + 0.2 * random.random((count, 2))).astype(np.float32)
    logits = sharpness * random.standard_normal((count, classes + 1), dtype=np.float32)
    return logits, np.concatenate([centre - reach, centre + reach], axis=1)


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Floats = powers / powers.sum(axis=1, keepdims=True)
    return scores


def assert_same(got: Kept, wanted: Kept) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)


def some_of(kept: Kept, chosen: Any) -> Kept:
    return Kept(**{name: getattr(kept, name)[chosen] for name in ARRAYS})


# What the caller chooses, and what follows from it


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"score_threshold": 0.9, "batch_size": 3, "tile": 64}, {}),
        ({"nms": "batched", "iou_threshold": 0.3}, {"nms": "batched", "iou_threshold": 0.3}),
        ({"candidate_threshold": 0.0}, {"candidate_threshold": 0.0}),
        ({"max_detections": 80}, {"max_detections": 80}),
        ({"max_detections": 5}, {"max_detections": 5}),
        # As many candidates for each detection as before: 81 * 80 / 30.
        ({"max_detections": 81}, {"max_detections": 81, "max_candidates": 216}),
        # Officially it returns all that it keeps.
        ({"nms": "cross_class_fast"}, {"nms": "cross_class_fast", "max_detections": 80}),
        ({"nms": "cross_class_fast", "max_detections": 9}, {"nms": "cross_class_fast", "max_detections": 9}),
    ],
)
def test_rules_are_settled(options: dict[str, Any], changes: dict[str, Any]) -> None:
    assert RULE.settle(PredictOptions(**options)) == RULE.replace(**changes)


def test_a_model_that_allows_more_detections_than_candidates_keeps_what_fits() -> None:
    rule = RULE.replace(max_detections=100, max_candidates=80)
    assert rule.settle(PredictOptions()).max_candidates == 80
    assert rule.settle(PredictOptions(nms="cross_class_fast")).max_detections == 100


def test_rules_are_plain_json() -> None:
    rule = RULE.replace(candidates_per_level=7, anchors_per_level=(4, 2), clip_boxes=True)
    assert PrototypeRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


# Detections


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_mode_keeps_the_promises_of_its_result(nms: NmsMode) -> None:
    logits, boxes = candidates()
    kept = detect(logits, boxes, RULE.settle(PredictOptions(nms=nms)))
    assert 0 < len(kept.rows) <= (80 if nms == "cross_class_fast" else 30)
    assert kept.rows.dtype == kept.labels.dtype == np.int64
    assert kept.boxes.dtype == kept.class_scores.dtype == np.float32
    assert (np.diff(kept.class_scores) <= 0).all()
    np.testing.assert_array_equal(kept.boxes, boxes[kept.rows])
    own = softmax(logits)[kept.rows, kept.labels + 1]
    if nms.startswith("soft"):
        assert (kept.class_scores <= own + 1e-6).all()
    else:
        np.testing.assert_allclose(kept.class_scores, own, rtol=1e-6)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_a_score_threshold_leaves_what_scores_above_it(nms: NmsMode) -> None:
    logits, boxes = candidates()
    rule = RULE.settle(PredictOptions(nms=nms))
    everything = detect(logits, boxes, rule)
    middle = float(np.median(everything.class_scores))
    above = detect(logits, boxes, rule, score_threshold=middle)
    assert 0 < len(above.rows) < len(everything.rows)
    assert_same(above, some_of(everything, everything.class_scores > np.float32(middle)))


@pytest.mark.parametrize("nms", NMS_MODES)
def test_the_best_come_first_when_fewer_are_wanted(nms: NmsMode) -> None:
    logits, boxes = candidates()
    everything = detect(logits, boxes, RULE.settle(PredictOptions(nms=nms)))
    few = detect(logits, boxes, RULE.settle(PredictOptions(nms=nms, max_detections=4)))
    assert_same(few, some_of(everything, slice(4)))


@pytest.mark.parametrize("nms", NMS_MODES)
def test_only_candidates_above_their_threshold_are_looked_at(nms: NmsMode) -> None:
    logits, boxes = candidates()
    best = np.sort(softmax(logits)[:, 1:].max(axis=1))[::-1]
    rule = RULE.settle(PredictOptions(nms=nms, candidate_threshold=float(best[2])))
    assert 0 < len(detect(logits, boxes, rule).rows) <= 2 * 3  # two anchors, with every class at most
    assert len(detect(logits, boxes, rule.replace(candidate_threshold=1.0)).rows) == 0


@pytest.mark.parametrize("nms", ["fast", "cross_class_fast", "batched"])
def test_a_lower_iou_threshold_keeps_less(nms: NmsMode) -> None:
    strict, loose = (
        detect(*candidates(), RULE.settle(PredictOptions(nms=nms, iou_threshold=value, max_detections=1000)))
        for value in (0.1, 0.9)
    )
    assert len(strict.rows) < len(loose.rows)


def test_detections_need_the_score_of_candidates_where_the_model_says_so() -> None:
    logits, boxes = candidates()
    plain = RULE.settle(PredictOptions(max_detections=500))
    strict = plain.replace(threshold_detections=True)
    everything = detect(logits, boxes, plain)
    assert (everything.class_scores <= 0.05).any()
    for threshold in (0.05, 0.3):
        found = detect(logits, boxes, strict.replace(candidate_threshold=threshold))
        assert_same(found, some_of(everything, everything.class_scores > np.float32(threshold)))


def test_boxes_can_be_clipped_before_suppression() -> None:
    """Two boxes beyond the left edge with little in common, nearly all of which is inside."""
    boxes = np.array([[0.0, 0.3, 0.2, 0.7], [-0.8, 0.3, 0.2, 0.7]], dtype=np.float32)
    logits = np.array([[0, 5, 0, 0], [0, 4, 0, 0]], dtype=np.float32)
    assert len(detect(logits, boxes, RULE, score_threshold=0.5).rows) == 2
    clipped = detect(logits, boxes, RULE.replace(clip_boxes=True), score_threshold=0.5)
    assert clipped.boxes.tolist() == [[0.0, np.float32(0.3), np.float32(0.2), np.float32(0.7)]]


def test_greedy_modes_measure_pixels() -> None:
    """With a pixel added to each side, as the official code counts, two boxes of an IoU of a half have more."""
    half = np.array([[0.0, 0.0, 0.2, 0.2], [0.0, 0.0, 0.2, 0.098]], dtype=np.float32)
    logits = np.array([[0, 5], [0, 4]], dtype=np.float32)
    counts = [len(detect(logits, half, PrototypeRule(nms="batched", input_side=side)).rows) for side in (50, 100_000)]
    assert counts == [1, 2]


def test_empty_boxes_suppress_each_other_only_where_the_model_says_so() -> None:
    boxes = np.array([[0.1, 0.1, 0.1, 0.5], [0.7, 0.7, 0.9, 0.7]], dtype=np.float32)
    logits = np.array([[0, 5], [0, 4]], dtype=np.float32)
    assert len(detect(logits, boxes, RULE).rows) == 1
    assert len(detect(logits, boxes, RULE.replace(empty_boxes_suppress=False)).rows) == 2


@pytest.mark.parametrize("nms", NMS_MODES)
def test_nothing_found(nms: NmsMode) -> None:
    rule = RULE.settle(PredictOptions(nms=nms))
    logits, boxes = candidates()
    logits[:, 0] = 60
    for kept in (detect(logits, boxes, rule), detect(logits[:0], boxes[:0], rule)):
        assert [len(getattr(kept, name)) for name in ARRAYS] == [0, 0, 0, 0]
        assert kept.boxes.shape == (0, 4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("broken", ["logits", "boxes"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_a_diverged_network_gives_finite_boxes_and_scores(
    nms: NmsMode, broken: str, value: float, threshold: float
) -> None:
    arrays = dict(zip(("logits", "boxes"), candidates(), strict=True))
    arrays[broken].ravel()[::3] = value
    rule = RULE.settle(PredictOptions(nms=nms, candidate_threshold=threshold))
    kept = detect(arrays["logits"], arrays["boxes"], rule)
    assert np.isfinite(kept.boxes).all()
    assert ((kept.class_scores >= 0) & (kept.class_scores <= 1)).all()


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0.1, 20))
def test_no_row_that_scores_above_the_threshold_is_thought_impossible(
    seed: int, threshold: float, sharpness: float
) -> None:
    logits, _ = candidates(40, sharpness=sharpness, seed=seed)
    wanted = np.flatnonzero(softmax(logits)[:, 1:].max(axis=1) > np.float32(threshold))
    assert np.isin(wanted, possible_rows(logits, threshold)).all()


# Pyramid levels


def test_the_best_of_each_level_are_marked() -> None:
    scores, anchors = np.array([0.1, 0.9, 0.5, 0.7, 0.2, 0.3], dtype=np.float32), np.arange(6)
    assert best_of_levels(scores, anchors, (4, 2), 2).tolist() == [False, True, False, True, True, True]
    assert best_of_levels(scores, anchors, (4, 2), 9).all()
    assert best_of_levels(scores, anchors, (4, 0, 2), 1).tolist() == [False, True, False, False, False, True]
    assert best_of_levels(scores[:0], anchors[:0], (0, 0), 2).tolist() == []
    assert best_of_levels(scores[[2, 3, 5]], anchors[[2, 3, 5]], (4, 2), 1).tolist() == [False, True, True]
    with pytest.raises(
        ConfigError, match=r"^candidates_per_level: expected 5 anchors \(4, 1 on the levels\), got .* 5"
    ):
        best_of_levels(scores, anchors, (4, 1), 2)


def test_equal_scores_of_a_level_are_marked_in_their_order() -> None:
    scores = np.full(6, 0.5, dtype=np.float32)
    assert best_of_levels(scores, np.arange(6), (4, 2), 1).tolist() == [True, False, False, False, True, False]


def test_only_the_best_of_each_level_are_looked_at() -> None:
    logits, boxes = candidates()
    rule = RULE.replace(candidates_per_level=1, anchors_per_level=(180, 60), candidate_threshold=0.0)
    kept = detect(logits, boxes, rule)
    best = softmax(logits)[:, 1:].max(axis=1)
    assert set(kept.rows.tolist()) == {int(best[:180].argmax()), 180 + int(best[180:].argmax())}


@pytest.mark.parametrize("limit", [1, 5, None])
@pytest.mark.parametrize("nms", NMS_MODES)
def test_rows_that_could_not_score_enough_may_be_left_out(limit: int | None, nms: NmsMode) -> None:
    """As an exported network does it, which says whose anchors the rest are."""
    logits, boxes = candidates()
    rule = RULE.settle(PredictOptions(nms=nms)).replace(candidates_per_level=limit, anchors_per_level=(180, 60))
    rest = possible_rows(logits, rule.candidate_threshold)
    assert 0 < len(rest) < len(logits)
    whole = detect(logits, boxes, rule)
    part = detect(logits[rest], boxes[rest], rule, anchors=rest)
    assert_same(part._replace(rows=rest[part.rows]), whole)


# Instances


def rows(count: int = 4, *, grids: bool = False, mask_scores: Floats | None = None) -> PrototypeRows:
    random = np.random.default_rng(0)
    _, boxes = candidates(count)
    prototypes = random.standard_normal((9, 9, 5), dtype=np.float32)
    coefficients = random.standard_normal((count, 5), dtype=np.float32)
    masks: PrototypeMasks | Floats = PrototypeMasks(prototypes, coefficients)
    if grids:
        masks = (1 / (1 + np.exp(-np.einsum("hwk,nk->nhw", prototypes, coefficients)))).astype(np.float32)
    scores = np.linspace(0.9, 0.3, count, dtype=np.float32)
    return PrototypeRows(boxes, np.arange(count) % 3, scores, masks, mask_scores)


def painted(kept: PrototypeRows) -> Instances:
    return paint(kept, (50, 70), NAMES)


@pytest.mark.parametrize("grids", [False, True])
def test_instances_are_in_the_frame_of_the_original_image(grids: bool) -> None:
    kept = rows(grids=grids)
    found = painted(kept)
    assert found.image_size == (50, 70)
    assert found.class_names == NAMES
    assert found.mask_scores is None
    np.testing.assert_array_equal(found.labels, kept.labels)
    np.testing.assert_array_equal(found.scores, kept.class_scores)
    frame = np.array([70, 50, 70, 50], dtype=np.float32)
    np.testing.assert_array_equal(found.boxes, (kept.boxes * frame).clip(0, frame))
    assert found.masks.shape == (4, 50, 70)
    assert found.areas.min() > 0


def test_masks_from_prototypes_lie_near_their_boxes() -> None:
    found = painted(rows())
    reach = np.array([70, 50]) / 9 * 2  # a cell of padding and one of interpolation
    for one in found:
        y, x = np.nonzero(one.mask)
        assert (np.array([x.min(), y.min()]) >= one.box[:2] - reach).all()
        assert (np.array([x.max(), y.max()]) <= one.box[2:] + reach).all()


def test_the_final_score_decides_the_order() -> None:
    kept = rows(mask_scores=np.array([0.5, 1.0, 0.2, 0.9], dtype=np.float32))
    found = painted(kept)
    scores = kept.class_scores * np.array([0.5, 1.0, 0.2, 0.9], dtype=np.float32)
    np.testing.assert_array_equal(found.scores, np.sort(scores)[::-1])
    np.testing.assert_array_equal(found.labels, kept.labels[np.argsort(-scores)])


@pytest.mark.filterwarnings("error")
def test_mask_scores_are_brought_into_their_range() -> None:
    found = painted(rows(mask_scores=np.array([-0.5, 1.5, np.nan, np.inf], dtype=np.float32)))
    assert found.mask_scores is not None
    assert sorted(found.mask_scores.tolist()) == [0, 0, 1, 1]


def test_no_rows() -> None:
    for grids in (False, True):
        found = painted(rows(0, grids=grids))
        assert len(found) == 0
        assert found.masks.shape == (0, 50, 70)
        assert found.rle() == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_diverged_prototypes_give_some_masks(value: float) -> None:
    kept = rows()
    assert isinstance(kept.masks, PrototypeMasks)
    for broken in kept.masks:
        broken.ravel()[::3] = value
    kept.boxes[1, 2], kept.boxes[2, 0] = 1e38, -1e38
    found = painted(kept)
    assert found.masks.shape == (4, 50, 70)
    assert (found.boxes <= np.array([70, 50, 70, 50])).all()


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("wanted", [[0], [2], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("score_threshold", [0.0, 0.3])
def test_wanted_classes_are_found_as_with_all(nms: NmsMode, wanted: list[int], score_threshold: float) -> None:
    logits, boxes = candidates()
    labels = np.array(wanted)
    rule = RULE.replace(nms=nms, max_detections=10_000)
    whole = detect(logits, boxes, rule, score_threshold=score_threshold)
    expected = some_of(whole, np.isin(whole.labels, labels))
    assert len(expected.rows) > 5
    assert_same(detect(logits, boxes, rule, score_threshold=score_threshold, labels=labels), expected)
    # Others take no places among the best.
    few = detect(logits, boxes, rule.replace(max_detections=3), score_threshold=score_threshold, labels=labels)
    assert_same(few, some_of(expected, slice(3)))
