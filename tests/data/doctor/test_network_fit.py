from __future__ import annotations

import json

import pytest
import torch

from protomask.data.doctor.network_fit import best_anchor_iou, fit_anchors, network_boxes
from protomask.engine.network_input import network_input
from protomask.models.zoo import build_network
from protomask.ops.boxes import pairwise_iou


def boxes(count: int, frame: int, sides: tuple[float, float]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    centres = torch.rand(count, 2, generator=generator) * frame
    half = (sides[0] + torch.rand(count, 2, generator=generator) * (sides[1] - sides[0])) / 2
    return torch.cat((centres - half, centres + half), dim=1)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("yolact_nano", {"image_size": 100}),
        pytest.param("yolact_resnet50_pascal", {"image_size": 97}, marks=pytest.mark.slow),
        pytest.param("mask_rcnn_resnet50_fpn", {"image_size": 64, "max_image_size": 64}, marks=pytest.mark.slow),
        pytest.param("ms_rcnn_resnet50_fpn", {"image_size": 64, "max_image_size": 64}, marks=pytest.mark.slow),
    ],
)
def test_the_nearest_anchor_is_the_best(model: str, options: dict[str, int]) -> None:
    network = network_input(build_network(model, num_classes=1, **options))
    objects = boxes(300, 90, (3, 70))
    found = best_anchor_iou(objects, network, network.anchor_sizes)
    for best, level in zip(found, network.anchors(network.anchor_sizes), strict=True):
        torch.testing.assert_close(best, pairwise_iou(objects, level).amax(dim=1), atol=1e-5, rtol=1e-4)


def test_small_objects_get_smaller_anchors() -> None:
    network = network_input(build_network("yolact_nano", num_classes=1, image_size=256))
    fit = fit_anchors(boxes(500, 256, (9, 14)), network)
    assert fit.suggested_sizes is not None
    assert fit.suggested_recall is not None
    assert fit.suggested_recall > fit.recall
    assert min(min(level) for level in fit.suggested_sizes) < 16
    options = json.loads(str(fit.suggested_options))
    better = network_input(build_network("yolact_nano", num_classes=1, image_size=256, **options))
    again = fit_anchors(boxes(500, 256, (9, 14)), better)
    assert again.recall == pytest.approx(fit.suggested_recall)


def test_boxes_as_the_network_sees_them() -> None:
    network = network_input(build_network("yolact_nano", num_classes=1, image_size=64))
    seen = network_boxes(
        torch.tensor([[1.0, 2, 3, 4], [10, 10, 20, 30]]), torch.tensor([[64, 32], [128, 128]]), network
    )
    assert seen.tolist() == [[2, 2, 6, 4], [5, 5, 10, 15]]
