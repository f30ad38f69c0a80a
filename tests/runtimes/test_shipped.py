"""The shipped models find the same in PyTorch, ONNX Runtime and OpenVINO, whatever is asked of them."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from protomask.api import load
from protomask.detection.options import NMS_MODES, PredictOptions
from protomask.errors import ConfigError
from protomask.images.decode import Pixels, read_image
from protomask.inference.predictor import Predictor
from protomask.masks.runs import Runs, intersect_runs, runs_area
from protomask.runtimes.onnx import read_info
from protomask.runtimes.shipped import SHIPPED, sample_images, shipped_file
from protomask.structures.instances import Instances

Runtime = Literal["torch", "onnx", "openvino"]
PHOTOGRAPHS = {"everyday": ("everyday", 8), "nuclei": ("dsb2018-nuclei", 4)}
"""Data set of which each model knows so many images."""

FLAT_BELOW = {"everyday": 0.067, "shapes": 0.05}
"""Calibrated scores up to which float32 cannot tell the detections of a model apart."""

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")


@cache
def predictor(name: str, runtime: Runtime) -> Predictor:
    return load(name, runtime=runtime, device="cpu")


@cache
def wanted(name: str, image: Path) -> Instances:
    return predictor(name, "torch").predict(image)


@pytest.fixture(params=SHIPPED)
def name(request: pytest.FixtureRequest) -> str:
    """Of each shipped model."""
    return str(request.param)


@pytest.fixture
def images(name: str, request: pytest.FixtureRequest) -> list[Path]:
    """What the model knows."""
    if name not in PHOTOGRAPHS:
        return sample_images(predictor(name, "torch").class_names)
    data_dir: Path = request.getfixturevalue("data_dir")
    folder, count = PHOTOGRAPHS[name]
    return sorted((data_dir / folder / "images" / "val").glob("*.jpg"))[:count]


def check_same(found: Instances, wanted: Instances) -> None:
    """The same detections: scores within 3e-4 (calibration can be steep), boxes within 0.01 px, IoU of masks at least
    0.99 above 0.3.
    """
    assert len(found) == len(wanted)
    assert found.class_names == wanted.class_names
    # Those that score alike may change places.
    free = list(range(len(found)))
    for one in range(len(wanted)):
        partners = [
            other
            for other in free
            if found.labels[other] == wanted.labels[one]
            and abs(found.scores[other] - wanted.scores[one]) <= 3e-4
            and np.abs(found.boxes[other] - wanted.boxes[one]).max() <= 0.01
        ]
        assert partners, wanted[one]
        partner = partners[0]
        free.remove(partner)
        if wanted.scores[one] > 0.3:
            assert mask_iou(found.runs()[partner], wanted.runs()[one]) >= 0.99, wanted[one]


def mask_iou(first: Runs, second: Runs) -> float:
    shared, areas = runs_area(intersect_runs(first, second)), runs_area(first) + runs_area(second)
    return shared / (areas - shared) if areas else 1.0


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_every_runtime_finds_the_same(name: str, images: list[Path], runtime: Runtime) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[runtime])
    count = 0
    for image in images:
        expected = wanted(name, image)
        check_same(predictor(name, runtime).predict(image), expected)
        count += len(expected)
    assert count > (10 if name == "everyday" else 50)  # few things are in a photograph


OPTIONS: list[dict[str, Any]] = [
    *({"nms": mode, "score_threshold": 0.1} for mode in NMS_MODES),
    {"score_threshold": 0.02, "candidate_threshold": 0.02},
    {"score_threshold": 0.6},
    {"candidate_threshold": 0.5, "score_threshold": 0},
    {"iou_threshold": 0.2},
    {"overlap": "mask_iou", "score_threshold": 0.1},
    {"overlap": "mask_smaller", "nms": "batched", "iou_threshold": 0.7},
    {"threshold_for": "precision=0.9"},
    {"crop": "component", "crop_margin": 0.1},
    {"crop": "none", "score_threshold": 0.6},
    {"edges": "pixels"},
    {"duplicates": "average"},
    {"duplicates": "drop", "nms": "batched"},
    {"exclusive": "depth"},
    {"nms": "batched", "iou_threshold": 0.8},
    {"max_detections": 3},
    {"max_detections": 250, "score_threshold": 0.05},
    {"batch_size": 3},
    {"tile": 192},
    {"tile": 200, "tile_overlap": 40, "batch_size": 2, "max_detections": 20},
]
ELSEWHERE = {"classes", "image_size"}
"""Classes have names of one model only; exported files have settled their input: see `test_classes_and_sizes`."""


@pytest.mark.parametrize("name", SHIPPED)
def test_files_in_the_package_say_where_they_come_from(name: str) -> None:
    with shipped_file(name) as file:
        info = read_info(file)
    assert (info.model, info.licence, info.provenance) == (name, "MIT", {"source": name})


def test_no_option_is_forgotten() -> None:
    assert {key for options in OPTIONS for key in options} == {
        field.name for field in fields(PredictOptions)
    } - ELSEWHERE


def test_classes_and_sizes(name: str, images: list[Path]) -> None:
    model = predictor(name, "onnx")
    first = model.class_names[0]
    for image in images:
        check_same(model.predict(image, classes=(first,)), predictor(name, "torch").predict(image, classes=(first,)))
    with pytest.raises(ConfigError, match=r"image_size: expected \d+, the only size it was made for"):
        model.predict(images[0], image_size=64)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_works_without_pytorch_as_it_does_with_it(
    name: str, images: list[Path], options: dict[str, Any]
) -> None:
    settled = PredictOptions(**options)
    least = 8 if name == "everyday" else 1  # few things are in a photograph
    strips: list[Pixels] = [read_image(image)[:192] for image in images[: max(settled.batch_size, least)]]
    in_torch, in_onnx = predictor(name, "torch"), predictor(name, "onnx")
    assert in_onnx.limits(settled) == in_torch.limits(settled)
    expected = in_torch.predict(strips, settled)
    for one, other in zip(in_onnx.predict(strips, settled), expected, strict=True):
        if name in FLAT_BELOW:  # the lowest scores are one number, and their order a matter of rounding
            one, other = one[one.scores > FLAT_BELOW[name]], other[other.scores > FLAT_BELOW[name]]
        check_same(one, other)
    if name != "everyday":
        assert all(len(one) > 1 for one in expected)
    elif options.get("score_threshold", 0) < 0.5:
        assert sum(map(len, expected)) > 1
