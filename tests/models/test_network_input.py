from __future__ import annotations

import torch

from networks import build_rcnn, build_yolact
from protomask.models.rcnn.network_input import network_input as rcnn_input
from protomask.models.yolact.network_input import network_input as yolact_input
from protomask.ops.boxes import cxcywh_to_xyxy


def test_anchors_of_yolact_are_those_of_the_network() -> None:
    network = build_yolact(num_classes=2, image_size=100, fpn_channels=8, protonet_channels=8)
    seen = yolact_input(network.config)
    with torch.inference_mode():
        output = network.eval()(torch.zeros(1, 3, 100, 100))
    expected = cxcywh_to_xyxy(output.anchors) * 100
    torch.testing.assert_close(torch.cat(list(seen.anchors(seen.anchor_sizes))), expected)
    assert seen.resized_size((300, 200)) == (100, 100)
    assert seen.as_options(((8.0,), (9.0,))) == '{"anchor_scales": [[8.0], [9.0]]}'
    doubled = tuple(tuple(2 * size for size in level) for level in seen.anchor_sizes)
    assert torch.cat(list(seen.anchors(doubled))).shape == expected.shape


def test_anchors_of_mask_rcnn_include_those_of_the_network() -> None:
    network = build_rcnn(
        backbone="resnet18", num_classes=2, image_size=64, max_image_size=128, fpn_channels=8, head_channels=8
    )
    seen = rcnn_input(network.config)
    with torch.inference_mode():
        output = network.eval()(network.geometry.batch([torch.zeros(3, 64, 128)]))
    anchors = {tuple(row) for row in torch.cat(list(seen.anchors(seen.anchor_sizes))).tolist()}
    assert {tuple(row) for row in torch.cat(output.anchors).tolist()} <= anchors
    assert seen.as_options(((8.0,), (9.0,))) == '{"anchor_sizes": [8.0, 9.0]}'
