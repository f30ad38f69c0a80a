"""MMDetection's YOLACT files, loaded as a user does, against numbers of MMDetection's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import protomask
from golden_values import (
    CPU,
    Golden,
    check_samples,
    golden_image,
    golden_mask,
    outputs_of,
    places_of,
    read_golden,
    same_order,
)
from golden_weights import golden_weights
from protomask.detection.options import PredictOptions
from protomask.models.families import read_output
from protomask.models.yolact.model import Yolact
from protomask.ops.boxes import cxcywh_to_xyxy, decode_boxes
from protomask.ops.geometry import preprocess_pixels
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor

SIDE = 550
EVERYTHING = PredictOptions(score_threshold=0)


@pytest.fixture(scope="module")
def predictor(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TorchPredictor:
    weights = golden_weights(golden_dir / "mmdet" / "yolact_r50.state_dict.json")
    path = tmp_path_factory.mktemp("weights") / "yolact_r50_1x8_coco_20200908-f38d58df.pth"
    meta = {"CLASSES": ("person", "bicycle"), "mmdet_version": "2.4.0", "epoch": 55, "config": "model = dict()"}
    torch.save({"meta": meta, "state_dict": weights}, path)
    loaded = protomask.load(path, runtime="torch", device="cpu")
    path.unlink()
    assert loaded.model_name == "yolact_resnet50"
    return loaded


@pytest.mark.parametrize("number", [1, 2])
def test_network_and_detections_equal_those_of_mmdetection(
    predictor: TorchPredictor, number: int, golden_dir: Path
) -> None:
    network = predictor.network
    assert isinstance(network, Yolact)
    golden = read_golden(golden_dir / "mmdet" / f"yolact_r50.image{number}.npz")
    image = golden_image(golden_dir, number)
    images = preprocess_pixels(image, network.geometry, CPU)[None]
    np.testing.assert_allclose(images[0, :, ::16, ::16].numpy(), golden["input_grid16"], atol=1e-6)
    np.testing.assert_allclose(images[0].mean(dim=(1, 2)).numpy(), golden["input_chan_mean"], atol=1e-6)

    outputs = outputs_of(network, images, "backbone", "fpn")
    output, levels = outputs[""], outputs["fpn"]
    for stage, feature in zip((1, 2, 3), outputs["backbone"], strict=True):
        check_samples(golden, f"backbone{stage}", feature)
    for level, feature in zip(("P3", "P4", "P5", "P6", "P7"), levels, strict=True):
        check_samples(golden, level, feature)
    check_samples(golden, "proto", output.prototypes)
    check_samples(golden, "reg", output.box_deltas)
    check_samples(golden, "coeff", output.mask_coefficients)
    # There the background is the last class, and the semantic channel of class c is c - 1.
    check_samples(golden, "cls_logits", output.class_logits.roll(-1, dims=2))
    with torch.inference_mode():
        check_samples(golden, "segm_logits", network.semantic(levels[0]).roll(-1, dims=1))
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
    [found] = read_output(network, output, [(SIDE, SIDE)], EVERYTHING)
    check_detections(golden, found, golden["det.box550"], 0.05)

    found = predictor.predict(image, EVERYTHING)
    places = check_detections(golden, found, golden["det.box"], 0.06)
    check_masks(golden, found[places])


def check_detections(golden: Golden, found: Instances, boxes: NDArray[Any], tolerance: float) -> NDArray[np.int64]:
    """The same classes and boxes in the same order, up to swaps; returns the place of each golden one in ours."""
    scores, labels = golden["det.score"], golden["det.label"]
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    places = places_of(found, boxes, labels, tolerance)
    wanted = list(zip(labels.tolist(), range(len(labels)), strict=True))
    got = list(zip(found.labels.tolist(), places.argsort().tolist(), strict=True))
    assert same_order(got, wanted, scores)
    return places


def check_masks(golden: Golden, found: Instances) -> None:
    size = (int(golden["det.rle_size"][0]), int(golden["det.rle_size"][1]))
    for mask, rle, area in zip(found.masks, golden["det.rle"], golden["det.area"], strict=True):
        wanted = golden_mask(size, rle)
        differing, union = int((mask != wanted).sum()), int((mask | wanted).sum())
        assert differing <= (union // 100 if area > 100 else 5)
