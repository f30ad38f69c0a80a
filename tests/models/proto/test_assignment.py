from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from protomask.models.proto.assignment import assign_aligned, assign_static, points_in_crowds
from protomask.models.proto.truth import BatchTruth, choose_places, sample_grid
from protomask.ops.boxes import cxcywh_to_xyxy
from targets import empty_target, target_of_boxes
from tiny_proto import tiny_config, tiny_network

SIZE = (64, 64)


def references(**changes: Any) -> Tensor:
    return tiny_network(**changes).references([(8, 8), (4, 4), (2, 2)], torch.device("cpu"))


def no_masks(points: Tensor) -> Tensor:
    return torch.ones(points.shape)


@pytest.mark.parametrize(
    "boxes", [[(8, 8, 40, 40)], [(0, 0, 2, 2), (33, 33, 35, 64)], [(0, 0, 64, 64), (20, 20, 28, 28)]]
)
def test_every_object_gets_points_near_it(boxes: list[tuple[float, ...]]) -> None:
    grid = references()
    truth = BatchTruth.of([target_of_boxes(boxes, size=SIZE), empty_target(SIZE)])
    scores = torch.full((2, len(grid), 3), 0.01)
    predicted = cxcywh_to_xyxy(grid).expand(2, -1, -1)
    points, positive, weights = assign_aligned(tiny_config(), scores, predicted, grid, truth, no_masks)
    assert positive[0].any(dim=-1).all()
    assert not positive[1].any()
    assert weights[0].amax(dim=-1).tolist() == pytest.approx([1.0] * len(boxes))
    for own, box in enumerate(boxes):
        chosen = grid[points[0, own][positive[0, own]]]
        reach = 0.75 * chosen[:, 2:] / 4
        centre, half = (
            torch.tensor([(box[0] + box[2]) / 128, (box[1] + box[3]) / 128]),
            torch.tensor([(box[2] - box[0]) / 128, (box[3] - box[1]) / 128]),
        )
        assert ((chosen[:, :2] - centre).abs() <= torch.maximum(half, reach) + 1e-6).all()


def test_a_point_learns_one_object_only() -> None:
    grid = references()
    truth = BatchTruth.of([target_of_boxes([(8, 8, 40, 40), (10, 10, 42, 42)], size=SIZE)])
    scores = torch.full((1, len(grid), 3), 0.01)
    generator = torch.Generator().manual_seed(0)
    predicted = cxcywh_to_xyxy(grid)[None] + torch.rand(1, len(grid), 4, generator=generator) * 0.01
    points, positive, _ = assign_aligned(tiny_config(), scores, predicted, grid, truth, no_masks)
    chosen = points[positive].tolist()
    assert len(chosen) == len(set(chosen))


def test_the_best_aligned_point_counts_most() -> None:
    grid = references()
    target = target_of_boxes([(8, 8, 40, 40)], size=SIZE)
    truth = BatchTruth.of([target])
    scores = torch.full((1, len(grid), 3), 0.5)
    predicted = cxcywh_to_xyxy(grid)[None].clone()
    exact = 3 * 8 + 2  # of the finest level: its cell lies in the box
    predicted[0, exact] = truth.boxes[0, 0]
    points, _, weights = assign_aligned(tiny_config(), scores, predicted, grid, truth, no_masks)
    assert points[0, 0, 0] == exact
    assert weights[0, 0, 0] == 1
    # A mask that misses takes the place of the first away.
    points, _, _ = assign_aligned(tiny_config(), scores, predicted, grid, truth, lambda found: (found != exact).float())
    assert points[0, 0, 0] != exact


@pytest.mark.parametrize("head", ["points", "anchors"])
def test_static_assignment_goes_by_the_references(head: str) -> None:
    grid = references(head=head)
    target = target_of_boxes([(8, 8, 40, 40), (20, 20, 60, 60)], crowds=(1,), size=SIZE)
    objects = [target[~target.is_crowd]]
    found = assign_static(tiny_config(head=head), grid, objects, [target], BatchTruth.of(objects))
    chosen = cxcywh_to_xyxy(grid[found.points[0, 0][found.positive[0, 0]]]) * 64
    assert len(chosen) >= 1
    low, high = torch.maximum(chosen[:, :2], torch.tensor(8.0)), torch.minimum(chosen[:, 2:], torch.tensor(40.0))
    assert ((high - low) > 0).all()


def test_points_in_crowds_are_neutral() -> None:
    grid = references()
    target = target_of_boxes([(0, 0, 32, 64)], crowds=(0,), size=SIZE)
    assert torch.equal(points_in_crowds(grid, [target])[0], grid[:, 0] < 0.5)


def test_places_lie_about_their_objects_and_know_what_is_there() -> None:
    target = target_of_boxes([(16, 16, 48, 32), (0, 0, 2, 2)], size=SIZE)
    truth = BatchTruth.of([target, empty_target(SIZE)])
    places = choose_places(truth, [target, empty_target(SIZE)], 20, (16, 16))
    assert places.positions.shape == (2, 2, 400, 2)
    x, y = (places.positions[0, 0] * 64).unbind(-1)
    truly = (x >= 16) & (x < 48) & (y >= 16) & (y < 32)
    assert torch.equal(places.inside[0, 0] > 0, truly)
    assert 0.3 < truly.float().mean() < 0.8
    assert places.inside[0, 1].any()
    assert not places.inside[1].any()


def test_sampled_values_are_those_of_the_cells() -> None:
    grid = torch.arange(12.0).view(1, 3, 4, 1)
    centres = torch.tensor([[(column + 0.5) / 4, (row + 0.5) / 3] for row in range(3) for column in range(4)])
    assert torch.allclose(sample_grid(grid, centres.view(1, 1, 12, 2))[0, 0, :, 0], torch.arange(12.0), atol=1e-5)
