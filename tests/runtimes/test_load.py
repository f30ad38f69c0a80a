from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from protomask.api import load
from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.runtimes.load import load_exported
from protomask.runtimes.onnx import OnnxPredictor
from protomask.runtimes.shipped import SHIPPED, shipped_file

pytest.importorskip("onnx")
from onnx_files import write_candidates


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_candidates(tmp_path / "model.onnx")


@pytest.mark.parametrize("runtime", ["auto", "onnx"])
def test_onnx_files_run_in_onnx_runtime(file: Path, runtime: Any) -> None:
    for make in (load_exported, load):
        for path in (file, str(file)):
            predictor = make(path, runtime=runtime)
            assert type(predictor) is OnnxPredictor
            assert predictor.source == str(file)


def test_onnx_files_run_in_openvino_too(file: Path) -> None:
    pytest.importorskip("openvino")
    from protomask.runtimes.openvino import OpenVinoPredictor

    for make in (load_exported, load):
        assert type(make(file, runtime="openvino", precision="bf16")) is OpenVinoPredictor


@pytest.mark.parametrize(("name", "module"), [("model.onnx", "onnxruntime"), ("model.xml", "openvino")])
def test_files_that_cannot_be_read(name: str, module: str, tmp_path: Path) -> None:
    pytest.importorskip(module)
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        load(tmp_path / name)
    (tmp_path / name).write_text("nothing")
    with pytest.raises(CheckpointError, match=f"{name}: .* cannot read it"):
        load(tmp_path / name)


@pytest.mark.parametrize(("name", "runtime"), [("model.xml", "auto"), ("model.onnx", "openvino")])
def test_openvino_is_an_extra(name: str, runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / name).touch()
    with pytest.raises(MissingExtraError, match=rf"{name}: .*pip install 'protomask\[openvino\]'"):
        load(tmp_path / name, runtime=runtime)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"model": "yolact_nano"}, "model"),
        ({"class_names": ["a"]}, "class_names"),
        ({"device": "cuda"}, "device"),
        ({"compile": True}, "compile"),
        ({"compile": True, "model": "yolact_nano"}, "model, compile"),
    ],
)
def test_options_of_pytorch_models_are_refused(options: dict[str, Any], names: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{names}: expected none with the exported file {re.escape(str(file))}"):
        load(file, **options)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("model.onnx", {"runtime": "torch"}, r"runtime: expected .* for the exported file model\.onnx, got torch"),
        ("model.xml", {"runtime": "onnx"}, r"runtime: expected openvino for model\.xml, got onnx"),
        ("model.onnx", {"runtime": "tensorrt"}, "runtime: expected auto, torch, onnx or openvino, got 'tensorrt'"),
        ("model.safetensors", {"runtime": "onnx"}, r"runtime: expected torch for model\.safetensors, got onnx; export"),
        ("model.onnx", {"precision": "bf16"}, "precision: expected float32 in ONNX Runtime, got 'bf16'"),
    ],
)
def test_runtimes_that_do_not_fit(
    path: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(path).touch()
    with pytest.raises(ConfigError, match=message):
        load(path, **options)


def test_a_shipped_model_is_a_file_by_another_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protomask.runtimes.shipped.files", lambda package: file.parent)
    (file.parent / "weights").mkdir()
    for name in SHIPPED.values():
        (file.parent / "weights" / name).write_bytes(file.read_bytes())
    with shipped_file("nuclei") as path:
        assert path.name == SHIPPED["nuclei"]
    for name in SHIPPED:
        predictor = load(name)
        assert type(predictor) is OnnxPredictor
        assert predictor.source == name
    assert load().source == "everyday"
    assert load("yolact_nano", runtime="onnx", device="cpu", model="yolact_nano").source == "yolact_nano"
