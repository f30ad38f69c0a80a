"""MMDetection's YOLACT files, loaded as a user does, against numbers of MMDetection's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import protomask
from golden_values import Golden, check_samples, read_golden, read_picture, same_order
from golden_weights import golden_weights
from protomask.inference.predictor import Predictor
from protomask.masks.rle import decode_rle
from protomask.ops.boxes import cxcywh_to_xyxy, decode_boxes
from protomask.structures.instances import Instances

SIDE = 550


@pytest.fixture(scope="module")
def predictor(golden_dir: Path, tmp_path_factory: Any) -> Predictor:
    weights = golden_weights(golden_dir / "mmdet" / "yolact_r50.state_dict.json")
    path = tmp_path_factory.mktemp("weights") / "yolact_r50_1x8_coco_20200908-f38d58df.pth"
    meta = {"CLASSES": ("person", "bicycle"), "mmdet_version": "2.4.0", "epoch": 55, "config": "model = dict()"}
    torch.save({"meta": meta, "state_dict": weights}, path)
    loaded = protomask.load(path, device="cpu")
    path.unlink()
    assert loaded.network.config.name == "yolact_resnet50"
    return loaded


@pytest.mark.parametrize("number", [1, 2])
def test_network_and_detections_equal_those_of_mmdetection(predictor: Predictor, number: int, golden_dir: Path) -> None:
    network = predictor.network
    golden = read_golden(golden_dir / "mmdet" / f"yolact_r50.image{number}.npz")
    images = network.geometry.preprocess(read_picture(golden_dir, number))[None]
    np.testing.assert_allclose(images[0, :, ::16, ::16].numpy(), golden["input_grid16"], atol=1e-6)
    np.testing.assert_allclose(images[0].mean(dim=(1, 2)).numpy(), golden["input_chan_mean"], atol=1e-6)

    with torch.inference_mode():
        features = network.backbone(images)
        levels = network.fpn(features)
        output = network(images)
        semantic_logits = network.semantic(levels[0])
    for stage, feature in zip((1, 2, 3), features, strict=True):
        check_samples(golden, f"backbone{stage}", feature)
    for level, feature in zip(("P3", "P4", "P5", "P6", "P7"), levels, strict=True):
        check_samples(golden, level, feature)
    check_samples(golden, "proto", output.prototypes)
    check_samples(golden, "reg", output.box_deltas)
    check_samples(golden, "coeff", output.mask_coefficients)
    # There the background is the last class, and the semantic channel of class c is c - 1.
    check_samples(golden, "cls_logits", output.class_logits.roll(-1, dims=2))
    check_samples(golden, "segm_logits", semantic_logits.roll(-1, dims=1))
    assert list(network.config.anchors_per_level) == [
        3 * rows * columns for rows, columns in golden["priors.level_sizes"]
    ]
    assert len(output.anchors) == golden["priors.count"]
    anchors = cxcywh_to_xyxy(output.anchors) * SIDE
    np.testing.assert_allclose(anchors[golden["priors.rows"]].numpy(), golden["priors.val"], atol=1e-3)

    priors = torch.from_numpy(golden["det.prior"].astype(np.int64))
    ratio = network.config.max_size_ratio
    boxes = decode_boxes(output.box_deltas[0, priors], output.anchors[priors], max_size_ratio=ratio).clamp(0, 1) * SIDE
    np.testing.assert_allclose(boxes.numpy(), golden["det.box550"], atol=0.05)
    np.testing.assert_allclose(output.mask_coefficients[0, priors].numpy(), golden["det.coef"], atol=1e-3)
    check_detections(golden, network.postprocess(output, [(SIDE, SIDE)])[0], golden["det.box550"], 0.05)

    found = predictor.predict(golden_dir / "yolact" / "inputs" / f"image{number}.png", score_threshold=0.0)
    places = check_detections(golden, found, golden["det.box"], 0.06)
    check_masks(golden, found, places)


def check_detections(golden: Golden, found: Instances, boxes: np.ndarray, tolerance: float) -> Tensor:
    """The same classes and boxes in the same order, up to swaps; returns the golden's place of each instance."""
    scores, labels = golden["det.score"], golden["det.label"]
    assert len(found) == len(scores)
    np.testing.assert_allclose(found.scores.numpy(), scores, atol=1e-4)
    distance = np.abs(found.boxes.numpy()[:, None] - boxes[None]).max(axis=2)
    distance += 1e6 * (found.labels.numpy()[:, None] != labels[None])
    places = distance.argmin(axis=1)
    assert distance.min(axis=1).max() <= tolerance
    assert len(set(places.tolist())) == len(found)
    wanted = list(zip(labels.tolist(), range(len(labels)), strict=True))
    assert same_order(list(zip(found.labels.tolist(), places.tolist(), strict=True)), wanted, scores)
    return torch.from_numpy(places)


def check_masks(golden: Golden, found: Instances, places: Tensor) -> None:
    size = golden["det.rle_size"].tolist()
    for mask, place in zip(found.masks, places.tolist(), strict=True):
        wanted = decode_rle({"size": size, "counts": bytes(golden["det.rle"][place])})
        differing, union = int((mask != wanted).sum()), int((mask | wanted).sum())
        assert differing <= (union // 100 if golden["det.area"][place] > 100 else 5)
