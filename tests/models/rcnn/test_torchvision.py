"""Mask R-CNN with the weights of torchvision's models finds what they find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models.test_rcnn_golden import places_of, read_official_picture
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from golden_weights import golden_weights
from protomask.checkpoints import maskrcnn_benchmark, torchvision_rcnn
from protomask.checkpoints.io import fill_counters, load_exactly
from protomask.models.build import build_network
from protomask.models.rcnn.model import MaskRCNN

Maker = Callable[..., Any]
SIZES = {"image_size": 192, "max_image_size": 320}


def pictures(golden_dir: Path) -> list[Tensor]:
    """A wide one and a tall one."""
    return [read_official_picture(golden_dir, 0), read_official_picture(golden_dir, 1).transpose(1, 2).contiguous()]


def first_version(golden_dir: Path) -> MaskRCNN:
    """With weights made to find something: those of the official goldens."""
    network = build_network("mask_rcnn_resnet50_fpn", **SIZES)
    tensors = golden_weights(golden_dir / "msrcnn" / "ms_rcnn_r50_fpn.state_dict.json")
    tensors = maskrcnn_benchmark.rename({key: value for key, value in tensors.items() if ".maskiou." not in key})
    # Made for values that are not divided by their deviation, and for larger images with more objects.
    tensors["backbone.body.conv1.weight"] *= 57
    tensors["box_predictor.cls_score.bias"][0] -= 2
    load_exactly(network, fill_counters(network, tensors), source="golden weights")
    assert isinstance(network, MaskRCNN)
    return network


def second_version(golden_dir: Path) -> MaskRCNN:
    """With random weights, batch norm that fits them, and last layers large enough to find something."""
    torch.manual_seed(0)
    network = build_network("mask_rcnn_resnet50_fpn_v2", num_classes=4, **SIZES)
    assert isinstance(network, MaskRCNN)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    images = network.geometry.batch([network.geometry.preprocess(pictures(golden_dir)[0])])
    with torch.no_grad():
        network.train()
        features = network.pyramid(images.tensors)
        boxes = torch.rand(64, 4) * 100 + torch.tensor([0.0, 0.0, 100.0, 100.0])
        network.classify(features, [boxes])
        network.mask_logits(network.roi_features(features, [boxes], 14), torch.zeros(64, dtype=torch.int64))
        network.eval()
        deltas = network.box_predictor.bbox_pred
        for layer, factor in ((network.rpn_head.cls_logits, 50), (network.box_predictor.cls_score, 5), (deltas, 3)):
            layer.weight *= factor
    return network


def paste_windows(boxes: Tensor) -> Tensor:
    """(N, 4) int64: the whole pixels that masks of these boxes are enlarged to."""
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * 30 / 28
    return torch.cat((centre - half, centre + half), dim=1).long()


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("make", "reference"),
    [(first_version, maskrcnn_resnet50_fpn), (second_version, maskrcnn_resnet50_fpn_v2)],
    ids=["v1", "v2"],
)
@torch.inference_mode()
def test_finds_what_torchvision_finds(make: Maker, reference: Maker, golden_dir: Path) -> None:
    network = make(golden_dir).eval()
    model = reference(
        weights=None, weights_backbone=None, num_classes=network.config.num_classes + 1, min_size=192, max_size=320
    ).eval()
    own = network.state_dict()
    renamed = torchvision_rcnn.rename({key: key for key in model.state_dict()})
    assert set(renamed) == set(own)
    model.load_state_dict({theirs: own[ours] for ours, theirs in renamed.items()})

    images = pictures(golden_dir)
    wanted = model([image.float() / 255 for image in images])
    batch = network.geometry.batch([network.geometry.preprocess(image) for image in images])
    found = network.postprocess(network(batch), [(image.shape[1], image.shape[2]) for image in images])
    for one, other in zip(found, wanted, strict=True):
        assert len(one) >= 20
        places = places_of(one, other["boxes"], other["labels"] - 1, 0.05)
        torch.testing.assert_close(one.class_scores[places], other["scores"], rtol=0, atol=1e-4)
        assert one.mask_scores is None
        masks = other["masks"][:, 0] > 0.5
        # A corner that rounding moves over a pixel's edge moves the whole mask, and is no difference of ours.
        same = (paste_windows(one.boxes[places]) == paste_windows(other["boxes"])).all(dim=1)
        assert same.float().mean() > 0.9
        differing = (one.masks[places] != masks).sum(dim=(1, 2))[same]
        assert (differing <= (masks.sum(dim=(1, 2))[same] / 1000).clamp(min=20)).all()
        assert masks.flatten(1).any(dim=1).float().mean() > 0.5
