"""The graphs as PyTorch modules, against the predictions that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graph_predictor import GraphPredictor, graph_of, info_of
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.exporting.agreement import ONE_STAGE
from protomask.exporting.graphs import wrap
from protomask.exporting.prototypes import CandidatesGraph, PrototypeGraph, resize
from protomask.exporting.search import choose_search_depth, needed_depth
from protomask.exporting.verify import compare
from protomask.exporting.yolact import READING
from protomask.models.families import YOLACT
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.geometry import image_geometry
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.boxes import decode_boxes
from protomask.structures.instances import Instances
from tiny_yolact import block_images, tiny_yolact

EVERYTHING = PredictOptions(score_threshold=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"antialias": False},
        {"antialias": False, "resize_method": "opencv"},
        {"rescoring_channels": (4, 8)},
        {"nms": "cross_class_fast"},
        {"nms": "batched", "candidate_threshold": 0.3},
        {"nms": "soft_linear", "candidate_threshold": 0.3, "max_detections": 20},
        {"crop": "none"},
        {"crop_margin": 0.2, "rescoring_channels": (4, 8)},
        {"overlap": "mask_iou"},
        {"overlap": "mask_smaller", "iou_threshold": 0.7, "threshold_detections": True},
        {"overlap": "mask_iou", "nms": "cross_class_fast"},
        {"overlap": "mask_iou", "nms": "batched", "max_detections": 40},
        {"overlap": "mask_smaller", "nms": "batched", "max_detections": 30, "rescoring_channels": (4, 8)},
        {"overlap": "mask_iou", "nms": "soft_linear", "max_detections": 30},
        {"overlap": "mask_iou", "nms": "soft_gaussian", "max_detections": 30},
        {"candidates_per_level": 300, "threshold_detections": True, "max_size_ratio": 4.0},
        {"clip_boxes": True, "empty_boxes_suppress": False},
        {"max_detections": 7, "iou_threshold": 0.2},
        {"max_detections": 300},
        {"candidate_threshold": 0.99},
    ],
    ids=str,
)
def test_a_graph_finds_what_the_model_finds(changes: dict[str, Any]) -> None:
    predictor = tiny_yolact(**changes)
    exported = graph_of(predictor.network)
    images = block_images((64, 64), (50, 91), (300, 120))
    if changes.get("candidate_threshold") == 0.99:
        assert [len(exported.predict(image, EVERYTHING)) for image in images] == [0, 0, 0]
        return
    agreement = compare(predictor, exported, images, options=EVERYTHING, limits=ONE_STAGE)
    assert (agreement.faults, agreement.warnings) == (0, ())
    assert agreement.detections > 10


class FixedOutput(nn.Module):
    """In place of a network: the same output for every image."""

    rescoring = None

    def __init__(self, config: YolactConfig, output: YolactOutput) -> None:
        super().__init__()
        self.config = config
        self.class_names = tuple("abcde")
        self.geometry = image_geometry(config)
        self.output = output

    def forward(self, images: Tensor) -> YolactOutput:
        return self.output


@pytest.mark.parametrize("nms", ["fast", "cross_class_fast", "batched"])
@pytest.mark.parametrize("seed", range(6))
def test_made_up_outputs_are_read_alike(nms: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes, anchors = 5, 700
    given = YolactConfig(name="made up", num_classes=classes, image_size=64, nms=nms, candidate_threshold=0.1)
    config: Any = YOLACT.settle(given, EVERYTHING)
    logits = torch.randn(1, anchors, classes + 1, generator=generator) * (seed + 1)
    deltas = torch.randn(1, anchors, 4, generator=generator)
    deltas[0, :5] = torch.tensor([0.0, 0.0, 1e30, 1e30])  # no such box
    output = YolactOutput(
        box_deltas=deltas,
        class_logits=logits,
        mask_coefficients=torch.randn(1, anchors, 4, generator=generator).tanh(),
        prototypes=torch.rand(1, 16, 16, 4, generator=generator),
        anchors=torch.rand(anchors, 4, generator=generator) * 0.5 + 0.1,
        semantic_logits=None,
    )
    network: Any = FixedOutput(config, output)
    [rows] = YOLACT.detect(network, output, EVERYTHING)
    wanted = YOLACT.paint(network, rows, (64, 64), EVERYTHING)
    graph = GraphPredictor(PrototypeGraph(network, config, READING), info_of(config, network.class_names))
    found = graph.predict(np.zeros((64, 64, 3), dtype=np.uint8), EVERYTHING)
    assert len(found) == len(wanted) > 20
    np.testing.assert_allclose(found.class_scores, wanted.class_scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.masks, wanted.masks)


def crowded(**changes: Any) -> tuple[Any, YolactOutput]:
    """What a young network of 5 classes gives: 150 anchors for one object come before those of many small ones."""
    generator = torch.Generator().manual_seed(0)
    given = YolactConfig(name="made up", num_classes=5, image_size=64, candidate_threshold=0.0, **changes)
    config: Any = YOLACT.settle(given, EVERYTHING)
    logits = torch.randn(1, 400, 6, generator=generator) * 0.1
    logits[0, 150:, 0] += 2
    small = torch.rand(250, 2, generator=generator)
    anchors = torch.cat((torch.full((150, 4), 0.5), torch.cat((small, torch.full((250, 2), 0.02)), dim=1)))
    output = YolactOutput(
        box_deltas=torch.zeros(1, 400, 4),
        class_logits=logits,
        mask_coefficients=torch.randn(1, 400, 4, generator=generator).tanh(),
        prototypes=torch.rand(1, 16, 16, 4, generator=generator),
        anchors=anchors,
        semantic_logits=None,
    )
    return config, output


def found_by_graph(config: Any, output: YolactOutput, **options: Any) -> Instances:
    network: Any = FixedOutput(config, output)
    graph = GraphPredictor(PrototypeGraph(network, config, READING, **options), info_of(config, network.class_names))
    return graph.predict(np.zeros((64, 64, 3), dtype=np.uint8), EVERYTHING)


def found_by_model(config: Any, output: YolactOutput) -> Instances:
    network: Any = FixedOutput(config, output)
    [rows] = YOLACT.detect(network, output, EVERYTHING)
    return YOLACT.paint(network, rows, (64, 64), EVERYTHING)


@pytest.mark.parametrize("nms", ["fast", "batched"])
def test_a_crowd_that_a_short_search_does_not_fill_is_found_by_a_deep_one(nms: Any) -> None:
    config, output = crowded(nms=nms, max_detections=60)
    wanted = found_by_model(config, output)
    assert len(wanted) == 60
    needed = needed_depth(config, parts(output))
    assert 750 < needed < 900
    short, enough = (found_by_graph(config, output, search_depth=depth) for depth in (600, needed))
    assert len(short) == 5
    for found in (enough, *([found_by_graph(config, output)] if nms == "fast" else [])):
        np.testing.assert_allclose(found.class_scores, wanted.class_scores, rtol=1e-5)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-5, atol=1e-4)


def parts(output: YolactOutput) -> dict[str, Any]:
    boxes = decode_boxes(output.box_deltas, output.anchors)
    return {"class_logits": output.class_logits.numpy(), "boxes": boxes.numpy()}


@pytest.mark.parametrize(
    ("changes", "needed", "depth"),
    [
        ({"nms": "cross_class_fast"}, [9999], None),
        ({}, [], None),  # 3 classes of 200 candidates are less than 1000 pairs
        ({"num_classes": 80}, [], 1000),
        ({"num_classes": 80}, [10, 400], 1000),
        ({"num_classes": 80}, [900, 1200, 1100], 1500),
        ({"num_classes": 80}, [2000], None),
        ({"num_classes": 1200}, [2000], 2500),
        ({"num_classes": 1200}, [9999], 3840),
        ({"num_classes": 80, "max_detections": 500, "max_candidates": 1000}, [9999], 5000),
        ({"nms": "batched"}, [], 1000),
        ({"nms": "batched"}, [2000], 2500),
        ({"nms": "batched"}, [9999], 3840),
    ],
    ids=str,
)
def test_the_depth_of_the_search_is_that_which_images_need(
    changes: dict[str, Any], needed: list[int], depth: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protomask.exporting.search.needed_depth", lambda config, one: one["needed"])
    config = YolactConfig(name="any", image_size=64, **{"num_classes": 3, **changes})
    given: Any = ({"needed": one} for one in needed)
    assert choose_search_depth(config, given) == depth


def test_rows_beyond_the_last_detection_are_zero() -> None:
    exported = graph_of(tiny_yolact(candidate_threshold=0.6).network)
    outputs = exported.run(block_images((64, 64))[0].transpose(2, 0, 1)[None])
    padding = outputs["class_scores"] == 0
    assert 0 < padding.sum() < 100
    assert all(not values[padding].any() for values in outputs.values())


@pytest.mark.parametrize("size", [(64, 64), (37, 150), (500, 333)])
@pytest.mark.parametrize("changes", [{"antialias": True}, {}, {"resize_method": "opencv"}], ids=str)
def test_the_resize_within_a_graph_is_that_of_the_geometry(size: tuple[int, int], changes: dict[str, Any]) -> None:
    geometry = image_geometry(YolactConfig(name="any", num_classes=1, image_size=64, **changes))
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resize(image[None], geometry)[0], geometry.resize(image), rtol=0, atol=1e-3)


def test_masks_come_in_the_size_asked_for() -> None:
    network = tiny_yolact().network
    graph = wrap(network, network.config, mask_size=(30, 50)).eval()
    with torch.no_grad():
        assert graph(torch.zeros(1, 3, 40, 60, dtype=torch.uint8))[3].shape == (100, 30, 50)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"crop": "component"}, {}, "crop: expected box or none in an exported file of detections, got component"),
        ({"edges": "pixels"}, {}, "edges: expected grid in an exported file of detections, got pixels"),
        ({}, {"mask_size": (0, 10)}, "mask_size: expected two positive numbers"),
        ({}, {"search_depth": 99}, r"search_depth: expected at least max_detections \(100\), got 99"),
        ({"nms": "cross_class_fast"}, {"search_depth": 500}, "search_depth: expected none with nms cross_class_fast"),
    ],
)
def test_what_has_no_graph_is_refused(changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
    network = tiny_yolact(**changes).network
    with pytest.raises(ConfigError, match=message):
        wrap(network, network.config, **options)


def test_candidates_are_what_the_network_returns() -> None:
    network = tiny_yolact().network
    assert isinstance(network, Yolact)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        logits, boxes, coefficients, prototypes = CandidatesGraph(network, READING).eval()(images)
        output = network(network.geometry.normalize(images))
    assert boxes.shape == (2, logits.shape[1], 4)
    for found, wanted in (
        (logits, output.class_logits),
        (coefficients, output.mask_coefficients),
        (prototypes, output.prototypes),
    ):
        torch.testing.assert_close(found, wanted)


def test_rescored_masks_have_no_candidates() -> None:
    network = tiny_yolact(rescoring_channels=(4, 8)).network
    assert isinstance(network, Yolact)
    with pytest.raises(ConfigError, match="form: expected detections for yolact_nano, whose masks are rescored"):
        CandidatesGraph(network, READING)
