"""Mask R-CNN with the weights of torchvision's models finds what they find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from golden_values import CPU, official_rcnn_image, places_of
from golden_weights import golden_weights
from networks import build_rcnn, load_rcnn
from protomask.checkpoints import maskrcnn_benchmark, torchvision_rcnn
from protomask.detection.options import PredictOptions
from protomask.images.decode import Pixels
from protomask.models.families import read_output
from protomask.models.rcnn.model import MaskRCNN
from protomask.ops.geometry import preprocess_pixels

Maker = Callable[..., Any]
SIZES: dict[str, Any] = {"image_size": 192, "max_image_size": 320}


def some_images(golden_dir: Path) -> list[Pixels]:
    """A wide one and a tall one."""
    return [official_rcnn_image(golden_dir, 0), official_rcnn_image(golden_dir, 1).transpose(1, 0, 2).copy()]


def first_version(golden_dir: Path) -> MaskRCNN:
    """With weights made to find something: those of the official goldens."""
    tensors = golden_weights(golden_dir / "msrcnn" / "ms_rcnn_r50_fpn.state_dict.json")
    tensors = maskrcnn_benchmark.rename({key: value for key, value in tensors.items() if ".maskiou." not in key})
    # Made for values that are not divided by their deviation, and for larger images with more objects.
    tensors["backbone.body.conv1.weight"] *= 57
    tensors["box_predictor.cls_score.bias"][0] -= 2
    return load_rcnn("mask_rcnn_resnet50_fpn", tensors, **SIZES)


def second_version(golden_dir: Path) -> MaskRCNN:
    """With random weights, batch norm that fits them, and last layers large enough to find something."""
    torch.manual_seed(0)
    network = build_rcnn("mask_rcnn_resnet50_fpn_v2", num_classes=4, **SIZES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    images = network.geometry.batch([preprocess_pixels(some_images(golden_dir)[0], network.geometry, CPU)])
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


def paste_windows(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N, 4): the whole pixels that masks of these boxes are enlarged to."""
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * 30 / 28
    return np.concatenate((centre - half, centre + half), axis=1).astype(np.int64)


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

    images = some_images(golden_dir)
    wanted = model([torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images])
    batch = network.geometry.batch([preprocess_pixels(image, network.geometry, CPU) for image in images])
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    found = read_output(network, network(batch), sizes, PredictOptions(score_threshold=0))
    for one, tensors in zip(found, wanted, strict=True):
        other = {name: tensor.numpy() for name, tensor in tensors.items()}
        assert len(one) >= 20
        places = places_of(one, other["boxes"], other["labels"] - 1, 0.05)
        np.testing.assert_allclose(one.class_scores[places], other["scores"], rtol=0, atol=1e-4)
        assert one.mask_scores is None
        masks = other["masks"][:, 0] > 0.5
        areas = masks.sum(axis=(1, 2))
        # A corner that rounding moves over a pixel's edge moves the whole mask, and is not a difference of ours.
        same = (paste_windows(one.boxes[places]) == paste_windows(other["boxes"])).all(axis=1)
        assert same.mean() > 0.9
        differing = (one.masks[places] != masks).sum(axis=(1, 2))
        assert (differing <= np.maximum(areas / 1000, 20))[same].all()
        assert (areas > 0).mean() > 0.5
