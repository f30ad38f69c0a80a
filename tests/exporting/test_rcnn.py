"""The graph of a Mask R-CNN: in PyTorch the same results as the network's own, and in other runtimes, too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.test_rcnn import make_network, some_picture
from torch import Tensor
from torch.nn import functional as F

import protomask
from protomask.errors import ConfigError
from protomask.exporting.rcnn import RCNNGraph
from protomask.exporting.resize import (
    interpolate_as_torch,
    resize_as_opencv,
    resize_as_pillow,
    resize_as_torch,
    resized_size,
    shortfalls,
)
from protomask.images.resize import resize_opencv, resize_pillow
from protomask.inference.predictor import Predictor
from protomask.models.rcnn.conventions import Conventions
from protomask.models.rcnn.model import MaskRCNN
from protomask.ops.geometry import ShortSideGeometry
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import RegionMasks

Runner = Callable[[Tensor], list[Tensor]]
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


def check_same(network: MaskRCNN, found: list[Tensor], wanted: Instances) -> None:
    boxes, labels, class_scores, *mask_scores, mask_probs = found
    assert torch.equal(labels, wanted.labels)
    torch.testing.assert_close(class_scores, wanted.class_scores, rtol=0, atol=1e-4)
    assert len(mask_scores) == (wanted.mask_scores is not None)
    if wanted.mask_scores is not None:
        torch.testing.assert_close(mask_scores[0], wanted.mask_scores, rtol=0, atol=1e-4)
    height, width = wanted.image_size
    clipped = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
    torch.testing.assert_close(clipped, wanted.boxes, rtol=0, atol=1e-2)
    continuous = network.config.conventions.mask_paste == "continuous"
    instances = Instances(
        boxes=clipped,
        labels=labels,
        class_scores=class_scores,
        masks=RegionMasks(mask_probs, boxes, wanted.image_size, continuous=continuous),
        image_size=wanted.image_size,
        class_names=wanted.class_names,
    )
    for mask, other in zip(instances.masks, wanted.masks, strict=True):
        assert (mask ^ other).sum() <= max(1, 0.01 * (mask | other).sum())


def check_all(network: MaskRCNN, run: Runner) -> int:
    """Compare on all sizes; how many detections there were."""
    count = 0
    for size in SIZES:
        picture = some_picture(*size)
        [wanted] = Predictor(network).predict_images([picture], score_threshold=0.0)
        check_same(network, run(picture[None]), wanted)
        count += len(wanted)
    return count


def in_pytorch(network: MaskRCNN) -> Runner:
    graph = RCNNGraph(network, network.config).eval()

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return list(graph(image))

    return run


@pytest.mark.parametrize("conventions", CONVENTIONS)
@pytest.mark.parametrize("mask_iou", [True, False])
def test_the_graph_finds_what_the_network_finds(conventions: str, mask_iou: bool) -> None:
    network = make_network(conventions=CONVENTIONS[conventions], mask_iou=mask_iou)
    assert check_all(network, in_pytorch(network)) > 100


def test_a_picture_without_detections_gives_none() -> None:
    network = make_network(candidate_threshold=0.99)
    assert check_all(network, in_pytorch(network)) == 0


def test_convolutional_heads_work_too() -> None:
    network = make_network(convolutional_heads=True)
    assert check_all(network, in_pytorch(network)) > 0


def test_other_nms_modes_have_no_graph() -> None:
    network = make_network()
    with pytest.raises(ConfigError, match="nms: expected batched in an exported file, got fast"):
        RCNNGraph(network, network.config.override(nms="fast"))


@pytest.mark.parametrize("rounding", ["floor", "half_up", "short_side"])
@given(size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
def test_sizes_are_worked_out_as_the_geometry_does(rounding: Any, size: tuple[int, int]) -> None:
    geometry = make_geometry(rounding)
    wanted = torch.tensor(geometry.resized_size(size))
    found = resized_size(torch.tensor(size), geometry, shortfalls(geometry))
    short, long = sorted(size)
    basis, target = (long, 1333) if 800 * long > 1333 * short else (short, 800)
    # Where the exact quotient is a whole number or half of one, double precision may say less.
    is_tie = any(side != basis and 2 * side * target % basis == 0 for side in size)
    assert (found - wanted).abs().max() <= is_tie


@pytest.mark.parametrize("size", [(480, 640), (97, 97), (337, 337), (194, 300), (200, 640), (2000, 3000), (1, 3000)])
@pytest.mark.parametrize("rounding", ["floor", "half_up", "short_side"])
def test_sizes_of_pictures_are_exact(rounding: Any, size: tuple[int, int]) -> None:
    geometry = make_geometry(rounding)
    found = resized_size(torch.tensor(size), geometry, shortfalls(geometry))
    assert tuple(found.tolist()) == geometry.resized_size(size)


def make_geometry(rounding: Any) -> ShortSideGeometry:
    return ShortSideGeometry(
        image_size=800, max_image_size=1333, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), rounding=rounding
    )


sides = st.integers(100, 150)
scales = st.floats(0.3, 3)


@settings(max_examples=25, deadline=None)
@given(size=st.tuples(sides, sides), scale=scales)
def test_opencv_resize_gives_the_same_pixels(size: tuple[int, int], scale: float) -> None:
    picture, target = some_picture(*size), (round(size[0] * scale), round(size[1] * scale))
    difference = (resize_as_opencv(picture, target) - resize_opencv(picture, target)).abs()
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


@settings(max_examples=25, deadline=None)
@given(size=st.tuples(sides, sides), scale=scales)
def test_pillow_resize_gives_the_same_pixels(size: tuple[int, int], scale: float) -> None:
    picture, target = some_picture(*size), (round(size[0] * scale), round(size[1] * scale))
    difference = (resize_as_pillow(picture, target) - resize_pillow(picture, target)).abs()
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


def filtered_by_torch(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


@settings(max_examples=50, deadline=None)
@given(size=st.tuples(st.integers(1, 400), st.integers(1, 400)), target=st.tuples(st.integers(32, 300), sides))
def test_filter_of_torch_gives_the_same_pixels(size: tuple[int, int], target: tuple[int, int]) -> None:
    picture = some_picture(*size)
    difference = (resize_as_torch(picture, target) - filtered_by_torch(picture, target)).abs()
    assert difference.max() <= 1
    assert difference.sum() <= max(1, 1e-3 * difference.numel())


@pytest.mark.usefixtures("two_threads")  # with one, and for small images, PyTorch rounds otherwise
@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    target=st.tuples(st.integers(200, 700), st.integers(200, 700)),
)
def test_interpolation_of_torch_gives_the_same_values(size: tuple[int, int], target: tuple[int, int]) -> None:
    picture = some_picture(*size)[None].float()
    wanted = F.interpolate(picture, target, mode="bilinear", align_corners=False)
    # Samples in places that differ by the last digit alone would be a hundred times farther off.
    torch.testing.assert_close(interpolate_as_torch(picture, target), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "resize",
    [(resize_as_pillow, resize_pillow), (resize_as_opencv, resize_opencv), (resize_as_torch, filtered_by_torch)],
)
@pytest.mark.parametrize("target", [(800, 1066), (300, 400), (480, 640)])
def test_hardly_a_pixel_of_large_pictures_differs(resize: tuple[Any, Any], target: tuple[int, int]) -> None:
    picture = some_picture(480, 640)
    assert (resize[0](picture, target) != resize[1](picture, target)).float().mean() < 1e-5


# Other runtimes


def onnxruntime(path: Path) -> Runner:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(path)
    return lambda image: [torch.from_numpy(out) for out in session.run(None, {"image": image.numpy()})]


def openvino(path: Path) -> Runner:
    ov = pytest.importorskip("openvino")
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: Tensor) -> list[Tensor]:
        results = compiled([image.numpy()])
        return [torch.from_numpy(np.array(results[output])) for output in compiled.outputs]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_one_file_serves_every_size_in_both_runtimes(conventions: str, tmp_path: Path) -> None:
    network = make_network(conventions=CONVENTIONS[conventions])
    write(network, tmp_path / "model.onnx")
    for load in (onnxruntime, openvino):
        assert check_all(network, load(tmp_path / "model.onnx")) > 100


@pytest.mark.slow
def test_no_detection_is_an_ordinary_result_in_both_runtimes(tmp_path: Path) -> None:
    network = make_network(candidate_threshold=0.99)
    write(network, tmp_path / "model.onnx")
    for load in (onnxruntime, openvino):
        assert check_all(network, load(tmp_path / "model.onnx")) == 0


def write(network: MaskRCNN, path: Path) -> None:
    pytest.importorskip("onnxscript")
    graph = RCNNGraph(network, network.config).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph, (some_picture(80, 100)[None],), input_names=["image"],
            dynamic_shapes={"image": {2: "height", 3: "width"}}, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_is_written_and_runs_behind_predict(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip({".onnx": "onnxruntime", ".xml": "openvino"}[suffix])
    from protomask.exporting.files import export

    network = make_network(conventions=CONVENTIONS["exact"], mask_iou=True)
    path = tmp_path / f"tiny{suffix}"
    pictures = [some_picture(96, 128), some_picture(60, 200)]
    agreement = export(Predictor(network), path, images=pictures)
    assert agreement.unmatched == 0
    assert agreement.score_difference < 1e-3
    loaded = protomask.load(path)
    [found] = loaded.predict_images([some_picture(333, 100)])
    [wanted] = Predictor(network).predict_images([some_picture(333, 100)])
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-3)
    assert found.mask_scores is not None
    assert [file.name for file in tmp_path.iterdir() if file.suffix not in (".onnx", ".xml", ".bin")] == []


@pytest.mark.slow
def test_eight_bits_find_nearly_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("nncf")
    from protomask.exporting.files import export

    path = tmp_path / "tiny.onnx"
    pictures = [some_picture(96, 128), some_picture(60, 200)]
    agreement = export(Predictor(make_network(mask_iou=True)), path, images=pictures, calibration=pictures)
    assert agreement.unmatched < agreement.detections / 2
    assert protomask.load(path).info.precision == "int8"
    assert b"DequantizeLinear" in path.read_bytes()


def test_options_of_one_stage_alone_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from protomask.exporting.files import export

    predictor, pictures = Predictor(make_network()), [some_picture(96, 128)]
    for changes in ({"mask_size": (9, 9)}, {"fixed_size": True}):
        with pytest.raises(ConfigError, match="mask_size, fixed_size: expected only with the family yolact"):
            export(predictor, tmp_path / "a.onnx", images=pictures, **changes)
    with pytest.raises(ConfigError, match="int8: expected an"):
        export(predictor, tmp_path / "a.xml", images=pictures, calibration=pictures)
