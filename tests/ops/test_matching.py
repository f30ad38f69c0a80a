from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from protomask.errors import ConfigError
from protomask.ops.boxes import cxcywh_to_xyxy, encode_boxes
from protomask.ops.matching import BACKGROUND, NEUTRAL, Matcher, assign_bipartite

ANCHORS = torch.tensor([[0.25, 0.25, 0.2, 0.2], [0.75, 0.25, 0.2, 0.2], [0.5, 0.75, 0.4, 0.4]])
NO_BOXES, NO_LABELS = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, NDArray[Any]]:
    with np.load(golden_dir / "yolact" / "ops.npz") as file:
        return {key: file[key] for key in file.files if key.startswith("match")}


@pytest.mark.parametrize("variant", ["nocrowd", "crowd"])
def test_matches_equal_the_official_ones(golden: dict[str, NDArray[Any]], variant: str) -> None:
    positive_iou, negative_iou, crowd_overlap = golden["match.thresholds"].tolist()
    matcher = Matcher(positive_iou=positive_iou, negative_iou=negative_iou, crowd_overlap=crowd_overlap)
    boxes, anchors = torch.from_numpy(golden["match.truths"]), torch.from_numpy(golden["match.priors"])
    crowds = torch.from_numpy(golden["match.crowd_boxes"]) if variant == "crowd" else None
    idxs, labels = matcher(boxes, torch.from_numpy(golden["match.labels"]), anchors, crowds)
    np.testing.assert_array_equal(labels.numpy(), golden[f"match_{variant}.conf_t"])
    np.testing.assert_array_equal(idxs.numpy(), golden[f"match_{variant}.idx_t"])
    encoded = encode_boxes(boxes[idxs], anchors)
    np.testing.assert_allclose(encoded.numpy(), golden[f"match_{variant}.loc_t"], rtol=1e-4, atol=1e-4)


def naive_assignment(overlaps: Tensor) -> list[int]:
    """The definition: take the best remaining pair, strike out its row and its column, repeat."""
    remaining = overlaps.tolist()
    rows, columns = set(range(overlaps.shape[0])), set(range(overlaps.shape[1]))
    assigned = [-1] * overlaps.shape[0]
    while rows and columns:
        _, row, column = min((-remaining[row][column], row, column) for row in rows for column in columns)
        assigned[row] = column
        rows.remove(row)
        columns.remove(column)
    return assigned


@given(st.integers(0, 8), st.integers(1, 8), st.sampled_from([1, 2, 4, 10**6]), st.integers(0, 2**32))
def test_assignment_follows_its_definition(rows: int, columns: int, levels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    overlaps = torch.randint(0, levels, (rows, columns), generator=generator).float() / levels
    before = overlaps.clone()
    assert assign_bipartite(overlaps).tolist() == naive_assignment(overlaps)
    assert torch.equal(overlaps, before)


def test_every_object_has_an_anchor_even_without_overlap() -> None:
    boxes = torch.tensor([[2.0, 2.0, 3.0, 3.0], [0.15, 0.15, 0.35, 0.35]])
    idxs, labels = Matcher()(boxes, torch.tensor([4, 7]), ANCHORS)
    assert labels[0] == 8
    assert idxs[0] == 1
    assert sorted(labels.tolist()) == [BACKGROUND, 5, 8]


def test_the_thresholds_are_positive_from_and_background_below() -> None:
    # IoU of the anchor with each shifted copy of itself: (1 - s) / (1 + s).
    anchors = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).repeat(4, 1)
    for row, iou in enumerate((1.0, 0.55, 0.45, 0.35)):
        anchors[row, 0] += 0.4 * (1 - iou) / (1 + iou)
    _, labels = Matcher()(torch.tensor([[0.3, 0.3, 0.7, 0.7]]), torch.tensor([2]), anchors)
    assert labels.tolist() == [3, 3, NEUTRAL, BACKGROUND]


def test_no_objects() -> None:
    idxs, labels = Matcher()(NO_BOXES, NO_LABELS, ANCHORS, NO_BOXES)
    assert idxs.tolist() == [0, 0, 0]
    assert labels.tolist() == [BACKGROUND] * 3


def test_only_crowds() -> None:
    crowd = cxcywh_to_xyxy(ANCHORS[1:2])
    _, labels = Matcher()(NO_BOXES, NO_LABELS, ANCHORS, crowd)
    assert labels.tolist() == [BACKGROUND, NEUTRAL, BACKGROUND]


def test_crowds_leave_positives_alone() -> None:
    everything = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    _, labels = Matcher()(cxcywh_to_xyxy(ANCHORS[:1]), torch.tensor([0]), ANCHORS, everything)
    assert labels.tolist() == [1, NEUTRAL, NEUTRAL]


def test_more_objects_than_anchors() -> None:
    boxes = cxcywh_to_xyxy(ANCHORS[[0, 0, 1, 1, 2]])
    _, labels = Matcher()(boxes, torch.arange(5), ANCHORS)
    assert labels.tolist() == [1, 3, 5]


def test_boxes_and_anchors_without_area_are_no_overlap() -> None:
    anchors = torch.cat((ANCHORS, torch.tensor([[0.1, 0.1, 0.0, 0.0]])))
    boxes = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.15, 0.15, 0.35, 0.35]])
    _, labels = Matcher()(boxes, torch.tensor([0, 1]), anchors, torch.tensor([[0.1, 0.1, 0.1, 0.1]]))
    assert labels[0] == 2
    assert set(labels.tolist()) <= {BACKGROUND, NEUTRAL, 1, 2}


@pytest.mark.parametrize("wrong", [{"positive_iou": 0.3}, {"negative_iou": -0.1}, {"positive_iou": 1.1}])
def test_thresholds_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="negative_iou <= positive_iou"):
        Matcher(**wrong)
