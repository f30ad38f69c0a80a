from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import protomask
from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.inference.runtime import ExportInfo, load_exported
from protomask.models.zoo import mask_rcnn_resnet50_fpn, yolact_nano

INFO = ExportInfo(
    config=yolact_nano(), class_names=("nut", "bolt"), mask_frame="grid", input_size=(256, 256), licence="MIT",
    provenance={"source": "yolact_nano"}, protomask_version="0.1.0",
)  # fmt: skip


@pytest.mark.parametrize(
    "info",
    [
        INFO,
        ExportInfo(
            config=mask_rcnn_resnet50_fpn(), class_names=("nut",), mask_frame="region", protomask_version="0.1.0"
        ),
    ],
)
def test_info_comes_back(info: ExportInfo) -> None:
    assert ExportInfo.from_json(info.to_json(), "file") == info


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "9"}, "expected format version 1, got 9"),
        ({"family": "other"}, "cannot be read: .*expected one of yolact, rcnn"),
        ({"config": {"name": "x"}}, "cannot be read: .*missing num_classes"),
    ],
)
def test_info_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(INFO.to_json()), **change})
    with pytest.raises(CheckpointError, match=message):
        ExportInfo.from_json(text, "model.onnx")


def test_a_foreign_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected a file made by protomask export"):
        ExportInfo.from_json(None, "model.onnx")


@pytest.mark.parametrize(("name", "module"), [("model.onnx", "onnxruntime"), ("model.xml", "openvino")])
def test_files_that_cannot_be_read(name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(module)
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        protomask.load(tmp_path / name)
    (tmp_path / name).write_text("nothing")
    with pytest.raises(CheckpointError, match=f"{name}: .* cannot read it"):
        protomask.load(tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="pip install 'protomask"):
        protomask.load(tmp_path / name)


@pytest.mark.parametrize(
    "options", [{"model": "yolact_nano"}, {"class_names": ["a"]}, {"device": "cuda"}, {"compile": True}]
)
def test_options_of_pytorch_models_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"model\.onnx: expected an exported file without"):
        protomask.load("model.onnx", **options)


def test_onnx_runtime_has_one_precision() -> None:
    with pytest.raises(ConfigError, match=r"precision: expected float32 for an \.onnx file, got 'bf16'"):
        load_exported("model.onnx", precision="bf16")


def test_precision_must_be_known() -> None:
    with pytest.raises(ConfigError, match="precision: expected one of float32, bf16, fp16, got 'int4'"):
        load_exported("model.xml", precision="int4")  # type: ignore[arg-type]
