"""The graphs as PyTorch modules, against the postprocess that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from protomask.inference.runtime import BAKED_OPTIONS
from protomask.models.yolact.postprocess import YolactPostprocess
from torch import Tensor, nn

import protomask
from protomask.errors import ConfigError
from protomask.exporting.graphs import OUTPUT_NAMES, wrap
from protomask.exporting.verify import ONE_STAGE, compare
from protomask.exporting.yolact import YolactGraph, resize
from protomask.inference.predictor import Predictor
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.geometry import image_geometry
from protomask.models.yolact.heads import YolactOutput
from protomask.runtimes.exported import ExportedPredictor
from protomask.runtimes.info import ExportInfo

TINY: dict[str, Any] = {
    "class_names": ("nut", "bolt", "gear"), "device": "cpu", "backbone": "shufflenet_v2_x1_0", "image_size": 64,
    "fpn_channels": 16, "protonet_channels": 8, "num_prototypes": 4, "candidate_threshold": 0.0,
}  # fmt: skip


def tiny(**overrides: Any) -> Predictor:
    """An untrained network whose scores differ enough to have an order."""
    torch.manual_seed(0)
    predictor = protomask.build("yolact_nano", **{**TINY, **overrides})
    with torch.no_grad():
        for parameter in predictor.network.head.parameters():
            parameter.mul_(4)
    return predictor


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    """Noise in blocks: what is left of single pixels after resizing hangs on rounding."""
    rng = np.random.default_rng(0)
    blocks = [rng.integers(0, 256, (-(-h // 8), -(-w // 8), 3), dtype=np.uint8) for h, w in sizes]
    large = [np.kron(block, np.ones((8, 8, 1), dtype=np.uint8)).transpose(2, 0, 1) for block in blocks]
    return [torch.from_numpy(image[:, :h, :w].copy()) for image, (h, w) in zip(large, sizes, strict=True)]


class GraphPredictor(ExportedPredictor):
    """A graph that PyTorch runs, behind the code that reads exported files."""

    def __init__(self, graph: nn.Module, info: ExportInfo) -> None:
        super().__init__(info, "graph")
        self.graph = graph.eval()

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = self.graph(torch.from_numpy(image))
        names = [name for name in OUTPUT_NAMES if name != "mask_scores" or len(outputs) == len(OUTPUT_NAMES)]
        return dict(zip(names, (output.numpy() for output in outputs), strict=True))


def as_file(predictor: Predictor, **thresholds: Any) -> GraphPredictor:
    config = predictor.network.config.for_prediction(**thresholds)
    info = ExportInfo(
        config=config, class_names=predictor.class_names, mask_frame="grid", protomask_version=protomask.__version__
    )
    return GraphPredictor(wrap(predictor.network, config), info)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"antialias": False},
        {"antialias": False, "resize_method": "opencv"},
        {"rescoring_channels": (4, 8)},
        {"nms": "cross_class_fast"},
        {"nms": "batched", "candidate_threshold": 0.3},
        {"candidates_per_level": 300, "threshold_detections": True, "max_size_ratio": 4.0},
        {"clip_boxes": True, "empty_boxes_suppress": False},
        {"max_detections": 7, "iou_threshold": 0.2},
        {"max_detections": 300},
        {"candidate_threshold": 0.99},
    ],
    ids=str,
)
def test_a_graph_finds_what_the_model_finds(overrides: dict[str, Any]) -> None:
    predictor = tiny(**overrides)
    exported = as_file(predictor)
    images = pictures((64, 64), (50, 91), (300, 120))
    settled = {name: getattr(exported.info.config, name) for name in BAKED_OPTIONS}
    if overrides.get("candidate_threshold") == 0.99:
        assert [len(exported.predict(image, score_threshold=0)) for image in images] == [0, 0, 0]
        return
    agreement = compare(predictor, exported, images, **settled)
    agreement.check("graph", ONE_STAGE, masks=True)
    assert agreement.detections > 10


class FixedOutput(nn.Module):
    """In place of a network: the same output for every image."""

    rescoring = None

    def __init__(self, config: YolactConfig, output: YolactOutput) -> None:
        super().__init__()
        self.geometry = image_geometry(config)
        self.output = output

    def forward(self, images: Tensor) -> YolactOutput:
        return self.output


@pytest.mark.parametrize("nms", ["fast", "cross_class_fast", "batched"])
@pytest.mark.parametrize("seed", range(6))
def test_made_up_outputs_are_read_alike(nms: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes, anchors = 5, 700
    config = YolactConfig(name="made up", num_classes=classes, image_size=64, nms=nms, candidate_threshold=0.1)
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
    config = config.for_prediction()
    names = tuple("abcde")
    [wanted] = YolactPostprocess(config, names)(output, [(64, 64)])
    info = ExportInfo(config=config, class_names=names, mask_frame="grid", protomask_version="0")
    graph = YolactGraph(FixedOutput(config, output), config)  # type: ignore[arg-type]
    [found] = GraphPredictor(graph, info).predict_images([torch.zeros(3, 64, 64, dtype=torch.uint8)])
    assert len(found) == len(wanted) > 20
    torch.testing.assert_close(found.class_scores, wanted.class_scores)
    torch.testing.assert_close(found.boxes, wanted.boxes)
    assert torch.equal(found.labels, wanted.labels)
    assert torch.equal(found.masks, wanted.masks)


def test_rows_beyond_the_last_detection_are_zero() -> None:
    predictor = tiny(candidate_threshold=0.6)
    outputs = as_file(predictor).run(pictures((64, 64))[0][None].numpy())
    padding = outputs["class_scores"] == 0
    assert 0 < padding.sum() < 100
    assert all(not values[padding].any() for values in outputs.values())


@pytest.mark.parametrize("size", [(64, 64), (37, 150), (500, 333)])
@pytest.mark.parametrize("overrides", [{"antialias": True}, {}, {"resize_method": "opencv"}], ids=str)
def test_the_resize_within_a_graph_is_that_of_the_geometry(size: tuple[int, int], overrides: dict[str, Any]) -> None:
    geometry = image_geometry(YolactConfig(name="any", num_classes=1, image_size=64, **overrides))
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resize(image[None], geometry)[0], geometry.resize(image), rtol=0, atol=1e-3)


def test_masks_come_in_the_size_asked_for() -> None:
    predictor = tiny()
    graph = wrap(predictor.network, predictor.network.config, mask_size=(30, 50))
    with torch.no_grad():
        assert graph(pictures((40, 60))[0][None])[-1].shape == (100, 30, 50)


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        ({"nms": "soft_linear"}, {}, "nms: expected fast, cross_class_fast or batched"),
        ({}, {"mask_size": (0, 10)}, "mask_size: expected two positive numbers"),
    ],
)
def test_what_has_no_graph_is_refused(overrides: dict[str, Any], options: dict[str, Any], message: str) -> None:
    predictor = tiny(**overrides)
    with pytest.raises(ConfigError, match=message):
        wrap(predictor.network, predictor.network.config, **options)
