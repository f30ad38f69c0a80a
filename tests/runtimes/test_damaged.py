"""Exported files that do not do what they say, and what only PyTorch models can do."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import protomask
from onnx_files import CANDIDATES, DETECTIONS, candidates, detections, write_candidates, write_detections
from protomask.errors import CheckpointError, ConfigError
from protomask.inference.predictor import Predictor
from protomask.runtimes.info import METADATA_KEY, ExportInfo, FixedInput
from protomask.runtimes.load import load_exported

onnx = pytest.importorskip("onnx")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

IMAGE = np.zeros((40, 60, 3), dtype=np.uint8)


def with_input(path: Path, info: ExportInfo, name: str, kind: int, shape: list[int | str]) -> Path:
    """A file with another input, whose outputs are constants."""
    outputs = candidates() if info.form == "candidates" else detections((40, 60))
    nodes = [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(value, key))
        for key, value in outputs.items()
    ]
    told = [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs if key != "labels"]
    told += [helper.make_tensor_value_info("labels", TensorProto.INT64, None)] if "labels" in outputs else []
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(name, kind, shape)], told)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("pixels", TensorProto.UINT8, ["b", 3, "h", "w"]),
        ("image", TensorProto.FLOAT, ["b", 3, "h", "w"]),
        ("image", TensorProto.UINT8, ["b", 1, "h", "w"]),
        ("image", TensorProto.UINT8, [3, "h", "w"]),
        ("image", TensorProto.UINT8, ["b", 3, 64, 64]),
    ],
)
def test_another_input_is_refused_when_the_file_is_loaded(
    tmp_path: Path, name: str, kind: int, shape: list[int | str]
) -> None:
    info = DETECTIONS.replace(input=FixedInput(size=(32, 32), method="bilinear"))
    for one in (CANDIDATES, info):
        path = with_input(tmp_path / "a.onnx", one, name, kind, shape)
        with pytest.raises(
            CheckpointError, match=r"a\.onnx: expected one input, image, uint8 of shape \(B, 3, 32, 32\)"
        ):
            load_exported(path)


ODD_DETECTIONS: list[dict[str, Any]] = [
    {"boxes": np.zeros((4, 3), np.float32)},
    {"boxes": np.zeros(4, np.float32)},
    {"labels": np.zeros((4, 1), np.int64)},
    {"labels": np.array([0, 2, 1, 0])},
    {"labels": np.array([0, -1, 1, 0])},
    {"class_scores": np.zeros(3, np.float32)},
    {"masks": np.zeros((4, 8), np.float32)},
    {"masks": np.zeros((3, 8, 8), np.float32)},
]


@pytest.mark.parametrize("changes", ODD_DETECTIONS)
def test_odd_detections_name_the_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    outputs = {**detections((40, 60)), **changes}
    path = write_detections(tmp_path / "a.onnx", outputs=outputs)
    with pytest.raises(CheckpointError, match=r"a\.onnx: expected "):
        load_exported(path).predict(IMAGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_logits": np.zeros((5, 4), np.float32)},
        {"boxes": np.zeros((4, 4), np.float32)},
        {"boxes": np.zeros((5, 5), np.float32)},
        {"mask_coefficients": np.zeros((5, 3), np.float32)},
        {"prototypes": np.zeros((8, 4), np.float32)},
    ],
)
def test_odd_candidates_name_the_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_candidates(tmp_path / "a.onnx", outputs=candidates(**changes))
    with pytest.raises(CheckpointError, match=r"a\.onnx: "):
        load_exported(path).predict(IMAGE)


def test_metadata_have_a_budget() -> None:
    with pytest.raises(CheckpointError, match="at most 4194304 characters"):
        ExportInfo.from_json("[" * (5 << 20), "a.onnx")
    for text in ("[" * 100000, '{"format_version": ' + "9" * 5000 + "}", "[]", "null", '{"a": 1}', "\ud800"):
        with pytest.raises(CheckpointError, match=r"a\.onnx"):
            ExportInfo.from_json(text, "a.onnx")
    with pytest.raises(ConfigError, match="size"):
        FixedInput(size=(16384, 16384), method="bilinear")


@pytest.mark.parametrize("name", ["half", "network", "to", "train", "eval", "state_dict", "parameters"])
def test_what_only_torch_models_have_is_refused_in_words(name: str) -> None:
    model = protomask.load()
    with pytest.raises(ConfigError, match=rf'{name}: everyday runs in Onnx.*runtime="torch"'):
        getattr(model, name)
    assert not hasattr(model, name)
    assert not hasattr(model, "no_such_thing")


def told(model: Predictor) -> list[Any]:
    found = model.predict(IMAGE, score_threshold=0.0, max_detections=3)
    return [found.scores.tolist(), found.rle()]


def test_exported_predictors_are_pickled_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = load_exported(write_candidates(Path("own.onnx")), threads=1)
    for model in (own, protomask.load()):
        first = told(model)
        assert told(pickle.loads(pickle.dumps(model))) == first
        assert told(copy.deepcopy(model)) == first
        assert told(copy.copy(model)) == first
        assert pickle.loads(pickle.dumps(model)).source == model.source
        with pytest.raises(ConfigError, match=r"model\.predict\(image\)"):
            model(IMAGE)
