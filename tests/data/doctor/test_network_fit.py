from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from protomask.data.doctor.network_fit import best_anchor_iou, fit_anchors, network_boxes
from protomask.models.families import family_of
from protomask.models.zoo import zoo_entry
from protomask.ops.anchors import NetworkInput
from protomask.ops.boxes import pairwise_iou


def input_of(model: str, **options: Any) -> NetworkInput:
    config = zoo_entry(model).preset().override(**options)
    network_input = family_of(config).network_input
    assert network_input is not None
    return network_input(config)


def boxes(count: int, frame: int, sides: tuple[float, float]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    centres = torch.rand(count, 2, generator=generator) * frame
    half = (sides[0] + torch.rand(count, 2, generator=generator) * (sides[1] - sides[0])) / 2
    return torch.cat((centres - half, centres + half), dim=1)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("yolact_nano", {"image_size": 100}),
        ("yolact_resnet50_pascal", {"image_size": 97}),
        ("mask_rcnn_resnet50_fpn", {"image_size": 64, "max_image_size": 64}),
        ("ms_rcnn_resnet50_fpn", {"image_size": 64, "max_image_size": 64}),
    ],
)
def test_the_nearest_anchor_is_the_best(model: str, options: dict[str, int]) -> None:
    network = input_of(model, **options)
    objects = boxes(300, 90, (3, 70))
    found = best_anchor_iou(objects, network, network.anchor_sizes)
    for best, level in zip(found, network.anchors(network.anchor_sizes), strict=True):
        torch.testing.assert_close(best, pairwise_iou(objects, level).amax(dim=1), atol=1e-5, rtol=1e-4)


def test_small_objects_get_smaller_anchors() -> None:
    network = input_of("yolact_nano", image_size=256)
    fit = fit_anchors(boxes(500, 256, (9, 14)), network)
    assert fit.suggested_sizes is not None
    assert fit.suggested_recall is not None
    assert fit.suggested_recall > fit.recall
    assert min(min(level) for level in fit.suggested_sizes) < 16
    options = json.loads(str(fit.suggested_options))
    better = input_of("yolact_nano", image_size=256, **options)
    again = fit_anchors(boxes(500, 256, (9, 14)), better)
    assert again.recall == pytest.approx(fit.suggested_recall)


def test_boxes_as_the_network_sees_them() -> None:
    network = input_of("yolact_nano", image_size=64)
    seen = network_boxes(
        torch.tensor([[1.0, 2, 3, 4], [10, 10, 20, 30]]), torch.tensor([[64, 32], [128, 128]]), network
    )
    assert seen.tolist() == [[2, 2, 6, 4], [5, 5, 10, 15]]
