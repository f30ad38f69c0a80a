"""Mask R-CNN and Mask Scoring R-CNN against numbers of the official code and of MMDetection's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_values import (
    CPU,
    Golden,
    check_samples,
    golden_image,
    golden_mask,
    official_rcnn_image,
    places_of,
    read_golden,
)
from golden_weights import golden_weights
from networks import load_rcnn, official_rcnn
from protomask.checkpoints import mmdet_rcnn
from protomask.detection.options import PredictOptions
from protomask.models.families import read_output
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.ops.geometry import preprocess_pixels
from protomask.structures.instances import Instances

# About ten times what float32 alone does to the official code, which ran in float64 for these.
TOLERANCES = {
    "feat": 5e-4,
    "rpn_obj": 5e-4,
    "rpn_box": 1e-4,
    "box_cls": 1e-3,
    "box_reg": 2e-4,
    "mask_roi": 1e-3,
    "mask_logits": 3e-3,
    "maskiou_all": 2e-4,
    "mask_scores": 2e-5,
}
EVERYTHING = PredictOptions(score_threshold=0)
LEVELS = ("P2", "P3", "P4", "P5", "P6")
MMDET = {"mask_rcnn_r50_fpn": "mask_rcnn_resnet50_fpn", "ms_rcnn_r50_caffe_fpn": "ms_rcnn_resnet50_fpn"}


@pytest.fixture(scope="module", autouse=True)
def golden_threads(two_threads: None) -> None:
    """These networks are large enough for two."""


# Without its last head it is the official Mask R-CNN, whose goldens are the same numbers up to there.
@pytest.fixture(
    scope="module", params=["ms_rcnn_resnet50_fpn", pytest.param("mask_rcnn_resnet50_fpn", marks=pytest.mark.slow)]
)
def official(request: pytest.FixtureRequest, golden_dir: Path) -> MaskRCNN:
    return official_rcnn(golden_dir, request.param)


@pytest.fixture(scope="module", params=MMDET)
def of_mmdet(request: pytest.FixtureRequest, golden_dir: Path) -> tuple[str, MaskRCNN]:
    """(name of the goldens, our network with their weights)."""
    name = request.param
    tensors = golden_weights(golden_dir / "mmdet" / f"{name}.state_dict.json")
    filename = f"{name}_1x_coco_20200702_180848-61c9355e.pth"
    return name, load_rcnn(MMDET[name], mmdet_rcnn.rename(tensors), conventions=mmdet_rcnn.conventions(filename))


def close(golden: Golden, name: str, tensor: Tensor) -> None:
    """All values, or the sampled ones where the golden has only these."""
    index = golden.get(f"{name}/idx", slice(None))
    tolerance = TOLERANCES[name.rstrip("01234")]
    got, wanted = tensor.double().flatten().numpy()[index], golden[f"{name}/f64"].flatten()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=name)


def rpn_maps(output: RCNNOutput) -> list[tuple[Tensor, Tensor]]:
    """Of each level the logits and deltas as their convolutions made them, (1, A, h, w) and (1, 4 * A, h, w)."""
    sizes = [feature.shape[-2:] for feature in output.features]
    return [
        (logits.view(1, *size, -1).permute(0, 3, 1, 2), deltas.reshape(1, *size, -1).permute(0, 3, 1, 2))
        for logits, deltas, size in zip(output.objectness_logits, output.rpn_box_deltas, sizes, strict=True)
    ]


def check_proposals(found: Tensor, wanted: NDArray[Any]) -> None:
    """The same set; a pair of neighbours at the limit or near the NMS threshold may be told apart by rounding."""
    assert len(found) == len(wanted)
    distance = torch.cdist(torch.from_numpy(wanted).float(), found, p=float("inf")).amin(dim=1)
    assert (distance < 0.05).float().mean() >= 0.995


def mask_logits_of_all_classes(network: MaskRCNN, roi_features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N, classes with background, 28, 28), and (N, 28, 28) of the class in question."""
    everything = network.mask_predictor(network.mask_head(roi_features))
    own = everything[torch.arange(len(labels)), labels + 1]
    some = network.mask_logits(roi_features[:5], labels[:5])
    torch.testing.assert_close(some, own[:5], rtol=0, atol=1e-4)
    return everything, own


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
@torch.inference_mode()
def test_everything_equals_the_official_code(official: MaskRCNN, number: int, golden_dir: Path) -> None:
    golden = read_golden(golden_dir / "msrcnn" / f"ms_rcnn_r50_fpn.img{number}.npz")
    image = official_rcnn_image(golden_dir, number)
    images = official.geometry.batch([preprocess_pixels(image, official.geometry, CPU)])
    assert images.sizes == (tuple(golden["resized_hw"]),)
    assert tuple(images.tensors.shape[-2:]) == tuple(golden["padded_hw"])
    np.testing.assert_allclose(images.tensors.flatten().numpy()[golden["input/idx"]], golden["input/f32"], atol=1e-4)

    output = official(images)
    for level, (logits, deltas) in enumerate(rpn_maps(output)):
        close(golden, f"feat{level}", output.features[level])
        close(golden, f"rpn_obj{level}", logits)
        close(golden, f"rpn_box{level}", deltas)
    check_proposals(output.proposals[0], golden["prop/boxes_f64"])

    # With the official proposals and detections, so that no difference of the stages before adds up.
    logits, deltas = official.classify(output.features, [torch.from_numpy(golden["prop/boxes_f64"][:50]).float()])
    close(golden, "box_cls", logits)
    close(golden, "box_reg", deltas)
    boxes = torch.from_numpy(golden["det/boxes_f64"]).float()
    labels = torch.from_numpy(golden["det/labels"]).long() - 1
    scores = torch.from_numpy(golden["det/scores_f64"])
    roi_features = official.roi_features(output.features, [boxes], 14)
    close(golden, "mask_roi", roi_features)
    everything, own = mask_logits_of_all_classes(official, roi_features, labels)
    close(golden, "mask_logits", everything)
    if official.mask_iou_head is not None:
        close(golden, "maskiou_all", official.mask_iou_head(roi_features, own.sigmoid()))
        mask_scores = official.mask_scores(roi_features, own, labels)
        assert mask_scores is not None
        close(golden, "mask_scores", mask_scores * scores)

    size = image.shape[:2]
    assert size == tuple(golden["image_hw"])
    [found] = read_output(official, output, [size], EVERYTHING)
    scale = np.tile(np.array(size[::-1], dtype=np.float32) / np.array(images.sizes[0][::-1], dtype=np.float32), 2)
    places = places_of(found, boxes.numpy() * scale, labels.numpy(), 0.05)
    np.testing.assert_allclose(found.class_scores[places], scores, rtol=0, atol=3e-4)
    check_masks(found, places, golden["det/rle"], 0.001)
    if official.mask_iou_head is None:
        assert found.mask_scores is None
    else:
        check_final_scores(found, places, golden["mask_scores/f64"], 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
@torch.inference_mode()
def test_everything_equals_mmdetection(of_mmdet: tuple[str, MaskRCNN], number: int, golden_dir: Path) -> None:
    name, network = of_mmdet
    golden = read_golden(golden_dir / "mmdet" / f"{name}.image{number}.npz")
    image = golden_image(golden_dir, number)
    images = network.geometry.batch([preprocess_pixels(image, network.geometry, CPU)])
    assert images.sizes == (tuple(golden["img_shape"]),)
    assert tuple(images.tensors.shape) == tuple(golden["input_shape"])
    np.testing.assert_allclose(images.tensors[0, :, ::16, ::16].numpy(), golden["input_grid16"], atol=1e-4)

    output = network(images)
    for level, (logits, deltas) in enumerate(rpn_maps(output)):
        check_samples(golden, LEVELS[level], output.features[level])
        check_samples(golden, f"rpn_cls{level}", logits)
        check_samples(golden, f"rpn_reg{level}", deltas)
        np.testing.assert_allclose(output.anchors[level][:3].numpy(), golden["anchors.base"][level], atol=1e-4)
        # The anchor one row down.
        below = output.anchors[level][3 * output.features[level].shape[-1]] - output.anchors[level][0]
        assert below.tolist() == [0, golden["anchors.strides"][level]] * 2
    check_proposals(output.proposals[0], golden["prop.box"])

    boxes, labels = torch.from_numpy(golden["prop.box"]), torch.from_numpy(golden["det.label"]).long()
    assert network.roi_levels(boxes).tolist() == golden["prop.roi_level"].tolist()
    check_samples(golden, "box_roi_feat", network.roi_features(output.features, [boxes], 7))
    logits, deltas = network.classify(output.features, [boxes])
    check_samples(golden, "cls_logits", logits.roll(-1, dims=1))  # their background is the last class
    check_samples(golden, "reg", deltas[:, 1:].flatten(1))
    roi_features = network.roi_features(output.features, [torch.from_numpy(golden["det.box_net"])], 14)
    check_samples(golden, "mask_roi_feat", roi_features)
    everything, own = mask_logits_of_all_classes(network, roi_features, labels)
    check_samples(golden, "mask_logits", everything[:, 1:])
    if network.mask_iou_head is not None:
        check_samples(golden, "mask_iou", network.mask_iou_head(roi_features, own.sigmoid())[:, 1:])

    size = image.shape[:2]
    assert size == tuple(golden["image_hw"])
    [found] = read_output(network, output, [size], EVERYTHING)
    # Two exponentials of large random deltas in a row: rounding alone moves their boxes by up to 0.13 network pixels.
    places = places_of(found, golden["det.box"], golden["det.label"], 0.25)
    np.testing.assert_allclose(found.class_scores[places], golden["det.score"], atol=5e-4)
    # Masks of boxes without an inside are artefacts.
    x1, y1, x2, y2 = golden["det.box"].T
    ordinary = (x2 - x1 >= 2) & (y2 - y1 >= 2) & (golden["det.area"] > 100)
    check_masks(found, places[ordinary], golden["det.rle"][ordinary], 0.01)
    if network.mask_iou_head is not None:
        check_final_scores(found, places, golden["det.mask_score"], 1e-3)


def check_final_scores(found: Instances, places: NDArray[np.int64], wanted: NDArray[Any], tolerance: float) -> None:
    """Where the estimate is an IoU, the product is the official one; elsewhere it is limited."""
    limited = np.minimum(np.maximum(wanted, 0), found.class_scores[places])
    np.testing.assert_allclose(found.scores[places], limited, rtol=0, atol=tolerance)


def check_masks(found: Instances, places: NDArray[np.int64], codes: NDArray[Any], share: float) -> None:
    """Masks of the found at those places are the wanted ones but for ten pixels or a share of them, at the outline."""
    assert len(places)
    for mask, code in zip(found.masks[places], codes, strict=True):
        wanted = golden_mask(found.image_size, code)
        differing, union = int((mask ^ wanted).sum()), int((mask | wanted).sum())
        assert differing <= max(10, share * union)
