"""Small exported files without a model: ONNX graphs that return constants, with the metadata of `protomask export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.detection.prototypes import PrototypeRule
from protomask.runtimes.info import METADATA_KEY, AnyInput, ExportInfo, FixedInput, Thresholds

onnx = pytest.importorskip("onnx")  # who imports this module is skipped without it
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

NAMES = ("nut", "bolt")
SIDE = 32
"""Of the images that a file of candidates gets, pixels."""
RULE = PrototypeRule(max_detections=20, input_side=SIDE)
CANDIDATES = ExportInfo(
    model="yolact_nano", family="yolact", class_names=NAMES, form="candidates",
    input=FixedInput(size=(SIDE, SIDE), method="bilinear"), mask_frame="grid",
    thresholds=Thresholds(nms="fast", iou_threshold=0.5, candidate_threshold=0.05, max_detections=20), rule=RULE,
    licence="MIT", provenance={"source": "tests"}, protomask_version="0.1.0",
)  # fmt: skip
DETECTIONS = ExportInfo(
    model="yolact_nano", family="yolact", class_names=NAMES, input=AnyInput(), mask_frame="grid",
    thresholds=Thresholds(nms="fast", iou_threshold=0.5, candidate_threshold=0.05, max_detections=4),
    protomask_version="0.1.0",
)  # fmt: skip

# Relative boxes of the candidates, and their scores as background, nut and bolt.
CANDIDATE_ROWS: list[tuple[tuple[float, float, float, float], tuple[float, float, float]]] = [
    ((0.125, 0.125, 0.375, 0.375), (0.1, 0.9, 0.0)),
    ((0.125, 0.125, 0.375, 0.5), (0.2, 0.8, 0.0)),  # two thirds of it in common with the first
    ((0.5, 0.5, 0.875, 0.875), (0.3, 0.0, 0.7)),
    ((0.5, 0.5, 0.875, 0.875), (0.4, 0.6, 0.0)),  # where the third is, of the other class
    ((0.625, 0.125, 0.875, 0.25), (0.96, 0.04, 0.0)),
]


def candidates(**changes: Any) -> dict[str, NDArray[Any]]:
    """What a file of candidates returns for a black image; masks fill their boxes."""
    scores = np.array([scores for _, scores in CANDIDATE_ROWS], dtype=np.float32)
    coefficients = np.zeros((len(CANDIDATE_ROWS), 4), dtype=np.float32)
    coefficients[:, 0] = 20
    outputs: dict[str, NDArray[Any]] = {
        "class_logits": np.log(np.maximum(scores, np.float32(1e-6))),
        "boxes": np.array([box for box, _ in CANDIDATE_ROWS], dtype=np.float32),
        "mask_coefficients": coefficients,
        "prototypes": np.ones((8, 8, 4), dtype=np.float32),
    }
    return {**outputs, **changes}


def detections(size: tuple[int, int], **changes: Any) -> dict[str, NDArray[Any]]:
    """What a file of detections returns for an image (H, W): three, and padding."""
    height, width = size
    masks = np.zeros((4, 8, 8), dtype=np.float32)
    masks[0, 1:4, 1:4] = masks[1, 4:7, 4:7] = masks[2, 1:3, 5:7] = 1
    outputs: dict[str, NDArray[Any]] = {
        "boxes": np.array(
            [[0.125, 0.125, 0.5, 0.5], [0.5, 0.5, 0.875, 0.875], [0.625, 0.125, 0.875, 0.375], [0, 0, 0, 0]],
            dtype=np.float32,
        ) * np.array([width, height, width, height], dtype=np.float32),
        "labels": np.array([0, 1, 1, 0], dtype=np.int64),
        "class_scores": np.array([0.9, 0.7, 0.2, 0.0], dtype=np.float32),
        "masks": masks,
    }  # fmt: skip
    return {**outputs, **changes}


def write_candidates(
    path: Path, info: ExportInfo | str | None = CANDIDATES, outputs: Mapping[str, NDArray[Any]] | None = None
) -> Path:
    """A file for any number of images, whose first candidate scores less the more red its image's first pixel is."""
    outputs = candidates() if outputs is None else outputs
    nodes = [
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Slice", ["image", "from", "to", "axes"], ["pixel"]),
        helper.make_node("Cast", ["pixel"], ["red"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["red", "column"], ["reds"]),
        helper.make_node("Mul", ["reds", "less"], ["change"]),
    ]
    constants = {
        "from": np.array([0, 0, 0]), "to": np.array([1, 1, 1]), "axes": np.array([1, 2, 3]),
        "column": np.array([-1, 1, 1]), "less": np.zeros((1, len(CANDIDATE_ROWS), len(NAMES) + 1), dtype=np.float32),
    }  # fmt: skip
    constants["less"][0, 0, 1] = -1 / 255
    for name, values in outputs.items():
        constants |= {f"{name}_one": values[None], f"{name}_rest": np.array(values.shape)}
        nodes.append(helper.make_node("Concat", ["batch", f"{name}_rest"], [f"{name}_shape"], axis=0))
        expanded = f"{name}_same" if name == "class_logits" else name
        nodes.append(helper.make_node("Expand", [f"{name}_one", f"{name}_shape"], [expanded]))
    if "class_logits" in outputs:
        nodes.append(helper.make_node("Add", ["class_logits_same", "change"], ["class_logits"]))
    shapes = {name: ("batch_size", *values.shape) for name, values in outputs.items()}
    return _write(path, nodes, constants, outputs, shapes, info)


def write_detections(
    path: Path, info: ExportInfo | str | None = DETECTIONS, outputs: Mapping[str, NDArray[Any]] | None = None
) -> Path:
    """A file for one image at a time, which returns the same for each: what `detections` says of one 32 x 32."""
    outputs = detections((SIDE, SIDE)) if outputs is None else outputs
    nodes = [helper.make_node("Identity", [f"{name}_one"], [name]) for name in outputs]
    constants = {f"{name}_one": values for name, values in outputs.items()}
    return _write(path, nodes, constants, outputs, {name: values.shape for name, values in outputs.items()}, info)


def _write(
    path: Path,
    nodes: list[Any],
    constants: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int | str, ...]],
    info: ExportInfo | str | None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch_size", 3, "height", "width"])],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), list(shapes[name]))
            for name, values in outputs.items()
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if info is not None:
        text = info if isinstance(info, str) else info.to_json()
        helper.set_model_props(model, {METADATA_KEY: text})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
