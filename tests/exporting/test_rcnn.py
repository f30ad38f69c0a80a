"""The graph of a Mask R-CNN: in PyTorch the same results as the network's own, and in other runtimes, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graph_predictor import graph_of
from padded_images import some_image
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.exporting.files import export
from protomask.exporting.graphs import OUTPUT_NAMES
from protomask.exporting.job import WriteJob
from protomask.exporting.onnx import write_onnx
from protomask.exporting.rcnn import RCNNGraph
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.models.rcnn.conventions import Conventions
from protomask.models.rcnn.model import MaskRCNN
from protomask.runtimes.load import load_exported
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor
from tiny_rcnn import tiny_rcnn

EVERYTHING = PredictOptions(score_threshold=0)
SIZES = ((96, 128), (60, 200), (333, 100), (97, 97), (1, 1))
CONVENTIONS = {
    "torchvision": Conventions(),
    "legacy": Conventions(
        channel_order="BGR", resize_rounding="short_side", extent_offset=1, anchors="legacy", nms_inclusive=True,
        level_eps_inside=True, min_proposal_side=0.0, min_detection_side=0.0,
    ),
    "exact": Conventions(
        resize="opencv", resize_rounding="half_up", anchors="exact", limit_delta_below=True, roi_align_aligned=True,
        roi_sampling_ratio=0, mask_paste="continuous",
    ),
}  # fmt: skip


def pixels(size: tuple[int, int]) -> Pixels:
    return some_image(*size).permute(1, 2, 0).contiguous().numpy()


def check_same(found: Instances, wanted: Instances) -> None:
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.class_scores, wanted.class_scores, rtol=0, atol=1e-4)
    assert (found.mask_scores is None) == (wanted.mask_scores is None)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=1e-2)
    for mask, other in zip(found.masks, wanted.masks, strict=True):
        assert (mask ^ other).sum() <= max(1, 0.01 * (mask | other).sum())


def check_all(network: MaskRCNN, exported: Predictor) -> int:
    """Compare on all sizes; how many detections there were."""
    predictor = TorchPredictor(network)
    count = 0
    for size in SIZES:
        wanted = predictor.predict(pixels(size), EVERYTHING)
        check_same(exported.predict(pixels(size), EVERYTHING), wanted)
        count += len(wanted)
    return count


@pytest.mark.parametrize("conventions", CONVENTIONS)
@pytest.mark.parametrize("mask_iou", [True, False])
def test_the_graph_finds_what_the_network_finds(conventions: str, mask_iou: bool) -> None:
    network = tiny_rcnn(conventions=CONVENTIONS[conventions], mask_iou=mask_iou)
    assert check_all(network, graph_of(network)) > 100


def test_an_image_without_detections_gives_none() -> None:
    network = tiny_rcnn(candidate_threshold=0.99)
    assert check_all(network, graph_of(network)) == 0


def test_convolutional_heads_work_too() -> None:
    network = tiny_rcnn(convolutional_heads=True)
    assert check_all(network, graph_of(network)) > 0


def test_other_nms_modes_have_no_graph() -> None:
    network = tiny_rcnn()
    with pytest.raises(ConfigError, match="nms: expected batched in an exported file, got fast"):
        RCNNGraph(network, network.config.override(nms="fast"))


def test_options_of_one_stage_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    predictor, images = TorchPredictor(tiny_rcnn()), [pixels((96, 128))]
    changes: Any
    for changes in ({"mask_size": (9, 9)}, {"fixed_size": True}):
        with pytest.raises(ConfigError, match="mask_size, fixed_size: expected only with the family yolact"):
            export(predictor, tmp_path / "a.onnx", images=images, **changes)
    with pytest.raises(ConfigError, match="search_depth: expected none for test, whose file has no such limit"):
        export(predictor, tmp_path / "a.onnx", images=images, search_depth=1000)
    with pytest.raises(ConfigError, match="form: expected detections for test, got candidates"):
        export(predictor, tmp_path / "a.onnx", images=images, form="candidates")
    with pytest.raises(ConfigError, match="int8: expected an"):
        export(predictor, tmp_path / "a.xml", images=images, calibration=images)


# Other runtimes


@pytest.mark.slow
@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_one_file_serves_every_size_in_both_runtimes(conventions: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    network = tiny_rcnn(conventions=CONVENTIONS[conventions])
    path = tmp_path / "tiny.onnx"
    agreement = export(TorchPredictor(network), path, images=[pixels((96, 128)), pixels((60, 200))])
    assert agreement.unmatched == 0
    assert agreement.score_difference < 1e-3
    assert set(agreement.parts) == {"objectness_logits", "rpn_box_deltas"}
    assert max(agreement.parts.values()) < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]
    assert check_all(network, load_exported(path)) > 100
    assert check_all(network, load_exported(path, runtime="openvino")) > 100


@pytest.mark.slow
def test_an_openvino_file_is_written_by_way_of_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    network = tiny_rcnn(conventions=CONVENTIONS["exact"])
    export(TorchPredictor(network), tmp_path / "tiny.xml", images=[pixels((96, 128)), pixels((60, 200))])
    assert {file.name for file in tmp_path.iterdir()} == {"tiny.xml", "tiny.bin"}
    assert check_all(network, load_exported(tmp_path / "tiny.xml")) > 100


@pytest.mark.slow
def test_no_detection_is_an_ordinary_result_in_both_runtimes(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    network = tiny_rcnn(candidate_threshold=0.99)
    wrapped = graph_of(network)
    example, path = some_image(80, 100)[None], tmp_path / "tiny.onnx"
    part_names = ("objectness", "deltas")
    with torch.no_grad():
        wrapped.graph(example)  # makes the anchors
    write_onnx(
        WriteJob(
            graph=wrapped.graph, info=wrapped.info, path=path, example=example, output_names=OUTPUT_NAMES,
            part_names=part_names,
        )
    )  # fmt: skip
    assert check_all(network, load_exported(path)) == 0
    assert check_all(network, load_exported(path, runtime="openvino")) == 0


@pytest.mark.slow
def test_eight_bits_find_nearly_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("nncf")
    path = tmp_path / "tiny.onnx"
    images = [pixels((96, 128)), pixels((60, 200))]
    options = PredictOptions(score_threshold=0.1)  # scores of an untrained network are low
    agreement = export(TorchPredictor(tiny_rcnn()), path, images=images, options=options, calibration=images)
    assert agreement.detections > 10
    assert agreement.unmatched < agreement.detections / 2
    assert load_exported(path).info.precision == "int8"
    assert b"DequantizeLinear" in path.read_bytes()
