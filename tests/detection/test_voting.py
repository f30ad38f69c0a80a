from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.detection.options import NMS_MODES
from protomask.detection.voting import VotingRows, VotingRule, elect, paint
from protomask.masks.runs import boxes_of_masks

NAMES = ("a", "b")
SIZE = (40, 60)
Floats = NDArray[np.float32]


def region(box: tuple[float, float, float, float], a: float, b: float = 0.0, mask: Floats | float = 1.0) -> VotingRows:
    """One region and its probabilities of both classes."""
    full = np.zeros((1, 21, 21), dtype=np.float32) + np.float32(mask)
    return VotingRows(np.array([box], dtype=np.float32), np.array([[a, b]], dtype=np.float32), full)


def together(*rows: VotingRows) -> VotingRows:
    return VotingRows(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))


def left_half() -> Floats:
    mask = np.zeros((21, 21), dtype=np.float32)
    mask[:, :11] = 1
    return mask


def test_equals_the_official_votes(golden_dir: Path) -> None:
    with np.load(golden_dir / "fcis" / "units.npz") as golden:
        units = {key: golden[key] for key in golden.files if key.startswith("voting/")}
    size: tuple[int, int] = tuple(units["voting/hw"].tolist())
    probs, masks = units["voting/prob"], units["voting/masks"]
    rows = VotingRows(units["voting/boxes"].astype(np.float32), probs[:, 1:], masks)
    rule = VotingRule(max_detections=int(units["voting/max_detections"]))
    names = tuple("abcde")
    elected = elect(rows, size, rule, scale=1.0)
    order = np.lexsort((-elected.class_scores, elected.labels))
    np.testing.assert_array_equal(elected.labels[order] + 1, units["voting/labels"])
    np.testing.assert_allclose(elected.class_scores[order], units["voting/scores"], atol=1e-6)
    np.testing.assert_array_equal(elected.boxes[order], units["voting/out_boxes"])
    np.testing.assert_array_equal(elected.rows[order], units["voting/roi"])
    np.testing.assert_array_equal(elected.num_votes[order], units["voting/num_votes"])
    np.testing.assert_allclose(elected.mask_probs[order], units["voting/out_mask21"], atol=1e-5)
    wanted = np.unpackbits(units["voting/out_masks_packed"], axis=-1)[..., : size[1]].astype(bool)
    found = paint(rows, size, names, rule, scale=1.0)
    np.testing.assert_array_equal(found.masks, wanted[np.argsort(order)])


def test_a_region_alone_elects_its_own_mask() -> None:
    found = paint(region((10, 5, 29, 24), 0.9, mask=left_half()), SIZE, NAMES, VotingRule(), scale=1.0)
    [mask] = found.masks
    assert mask[5:25, 10:20].all()
    assert not mask[:, 21:].any()
    np.testing.assert_array_equal(found.boxes, boxes_of_masks(found.masks))
    assert found.scores.tolist() == [pytest.approx(0.9)]


@pytest.mark.parametrize(("others", "columns"), [((0.1,), 20), ((0.8,), 20), ((0.8, 0.8, 0.8), 10)])
def test_the_probability_of_the_class_is_the_weight_of_a_vote(others: tuple[float, ...], columns: int) -> None:
    box = (10, 5, 29, 24)
    halves = [region(box, probability, mask=left_half()) for probability in others]
    [mask] = paint(together(region(box, 0.9), *halves), SIZE, NAMES, VotingRule(), scale=1.0).masks
    assert mask[10].sum() == pytest.approx(columns, abs=1)


def test_votes_that_agree_nowhere_elect_nothing() -> None:
    right = left_half()[:, ::-1].copy()
    three = [region((10, 5, 29, 24), 0.5, mask=mask) for mask in (left_half() * 0, left_half() * 0, right)]
    elected = elect(together(*three), SIZE, VotingRule(), scale=1.0)
    assert len(elected.rows) == 0
    assert len(paint(together(*three), SIZE, NAMES, VotingRule(), scale=1.0)) == 0


def test_masks_of_one_column_are_dropped() -> None:
    assert len(paint(region((10, 5, 10, 24), 0.9), SIZE, NAMES, VotingRule(), scale=1.0)) == 0
    assert len(paint(region((10, 5, 11, 24), 0.9), SIZE, NAMES, VotingRule(), scale=1.0)) == 1


def test_boxes_are_of_the_resized_image() -> None:
    found = paint(region((20, 10, 59, 49), 0.9), SIZE, NAMES, VotingRule(), scale=2.0)
    assert found.boxes.tolist() == [[10, 5, 31, 25]]  # 59 / 2 is rounded to even


def test_the_wanted_classes_alone_count() -> None:
    rows = together(region((0, 0, 9, 9), 0.9, 0.1), region((20, 0, 29, 9), 0.2, 0.7), region((40, 0, 49, 9), 0.8, 0.3))
    rule = VotingRule(max_detections=2)
    assert paint(rows, SIZE, NAMES, rule, scale=1.0).names == ["a", "a"]
    own = paint(rows, SIZE, NAMES, rule, scale=1.0, labels=np.array([1]))
    assert own.names == ["b", "b"]
    assert own.scores.tolist() == [pytest.approx(0.7), pytest.approx(0.3)]
    assert len(paint(rows, SIZE, NAMES, VotingRule(), scale=1.0, score_threshold=0.75)) == 2


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("labels", [None, np.array([0])])
def test_every_kind_of_nms(nms: Any, labels: NDArray[np.int64] | None) -> None:
    numbers = np.random.default_rng(0)
    corners = numbers.uniform(0, 25, (30, 2))
    rows = VotingRows(
        np.concatenate([corners, corners + numbers.uniform(5, 14, (30, 2))], axis=1).astype(np.float32),
        numbers.dirichlet((1, 1, 1), 30)[:, 1:].astype(np.float32),
        numbers.random((30, 21, 21), dtype=np.float32),
    )
    rule = VotingRule(nms=nms, max_detections=8)
    found = paint(rows, SIZE, NAMES, rule, scale=1.0, labels=labels)
    assert 0 < len(found) <= 8
    assert labels is None or set(found.names) == {"a"}
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_regions_of_a_network_that_diverged(value: float) -> None:
    rows = together(region((10, 5, 29, value), 0.9), region((10, 5, 29, 24), value), region((10, 5, 29, 24), 0.8))
    assert len(paint(rows, SIZE, NAMES, VotingRule(), scale=1.0)) == 1
    broken = region((10, 5, 29, 24), 0.8, mask=value)
    paint(broken, SIZE, NAMES, VotingRule(), scale=1.0)


def test_no_region() -> None:
    nothing = VotingRows(*(part[:0] for part in region((0, 0, 9, 9), 0.5)))
    assert len(paint(nothing, SIZE, NAMES, VotingRule(), scale=1.0)) == 0
