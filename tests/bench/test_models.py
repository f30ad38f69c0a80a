from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protomask.bench.models import ModelSpec
from protomask.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "spec", "name"),
    [
        ("yolact_nano", ModelSpec(source="yolact_nano"), "yolact_nano"),
        ("yolact_nano@bf16", ModelSpec(source="yolact_nano", precision="bf16"), "yolact_nano@bf16"),
        ("yolact_nano@torch", ModelSpec(source="yolact_nano", runtime="torch"), "yolact_nano@torch"),
        ("nuclei@bf16@openvino", ModelSpec(source="nuclei", runtime="openvino", precision="bf16"), None),
        ("a@b/model.onnx@compile@fp16", ModelSpec(source="a@b/model.onnx", precision="fp16", compile=True), None),
        ("hf://owner/repository/file.pth", ModelSpec(source="hf://owner/repository/file.pth"), None),
    ],
)
def test_names_with_suffixes(text: str, spec: ModelSpec, name: str | None) -> None:
    assert ModelSpec.parse(text) == spec
    assert ModelSpec.parse(str(spec)) == spec
    assert name is None or str(spec) == name


def test_the_precision_of_those_that_name_none() -> None:
    assert str(ModelSpec.parse("yolact_nano", precision="bf16")) == "yolact_nano@bf16"
    assert str(ModelSpec.parse("yolact_nano@fp16", precision="bf16")) == "yolact_nano@fp16"


def test_a_file_may_have_such_a_name(tmp_path: Path) -> None:
    path = tmp_path / "run@home.safetensors"
    path.touch()
    assert ModelSpec.parse(str(path)).source == str(path)


@pytest.mark.parametrize("text", ["a@int8", "a@", "@bf16", "", "a@bf16@fp16", "a@compile@compile", "a@torch@onnx"])
def test_wrong_suffixes(text: str) -> None:
    with pytest.raises(ConfigError, match="model: expected"):
        ModelSpec.parse(text)


def test_everything_reaches_load(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("protomask.bench.models.load", lambda source, **options: calls.append({"a": source, **options}))
    ModelSpec.parse("a@bf16@compile@torch").load("cpu", threads=3)
    assert calls == [
        {"a": "a", "runtime": "torch", "device": "cpu", "precision": "bf16", "compile": True, "threads": 3}
    ]
