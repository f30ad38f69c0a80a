"""What a caller's name for a model stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protomask.errors import CheckpointError, ConfigError
from protomask.models import naming
from protomask.models.naming import ModelSource, fetch_published, find_model, run_weights


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("yolact_nano", {"kind": "zoo"}),
        ("yolact_resnet50", {"kind": "zoo"}),
        ("ms_rcnn_r50_caffe_fpn_1x_coco", {"kind": "published"}),
        ("a/b.safetensors", {"kind": "own", "path": Path("a/b.safetensors")}),
        ("b.pth", {"kind": "foreign", "path": Path("b.pth")}),
        ("b.pt", {"kind": "foreign", "path": Path("b.pt")}),
        ("b.pkl", {"kind": "foreign", "path": Path("b.pkl")}),
        ("b.onnx", {"kind": "exported", "path": Path("b.onnx")}),
        ("b.xml", {"kind": "exported", "path": Path("b.xml")}),
        ("hf://o/r/f.onnx", {"kind": "exported", "hub": ("o/r", "f.onnx", None)}),
        ("hf://o/r@v1/d/f.safetensors", {"kind": "own", "hub": ("o/r", "d/f.safetensors", "v1")}),
        ("hf://o/r/f.pth", {"kind": "foreign", "hub": ("o/r", "f.pth", None)}),
    ],
)
def test_everything_that_names_a_model(name: str, found: dict[str, Any]) -> None:
    made("a/b.safetensors", "b.pth", "b.pt", "b.pkl", "b.onnx", "b.xml")
    assert find_model(name) == ModelSource(name=name, **found)


def test_a_run_folder_stands_for_its_best_weights() -> None:
    made("runs/a/last.safetensors")
    assert find_model("runs/a").path == Path("runs/a/last.safetensors")
    made("runs/a/best.safetensors")
    assert find_model("runs/a") == find_model("runs/a/best.safetensors")
    assert run_weights(Path("runs/a")) == Path("runs/a/best.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolact_resnet5", r"no model of that name; did you mean yolact_resnet50, "),
        ("Yolact-Nano", r"no model of that name; did you mean yolact_nano"),
        ("mask_rcnn_r50_fpn_1x", r"did you mean mask_rcnn_r50_fpn_1x_coco"),
        (
            "zzz",
            r"^zzz: no such file or folder, and no model of that name; known models: everyday, shapes, nuclei, ",
        ),
        ("runs/shape/best.safetensors", r"no such file; did you mean runs/shapes/best\.safetensors\?$"),
        ("run/shapes", r"^run/shapes: no such file or folder; did you mean runs/shapes\?$"),
        ("runs/shapes/bets.safetensors", r"no such file; did you mean runs/shapes/best\.safetensors\?$"),
        ("exports/other.xml", r"no such file; did you mean exports/nano\.onnx or exports/nano\.xml\?$"),
        ("nowhere/a.onnx", r"^nowhere/a\.onnx: no such file$"),
        ("runs", r"^runs: expected the folder of a training run, found no weights in it; did you mean runs/shapes\?$"),
        (".", r"expected the folder of a training run, found no weights in it$"),
        (
            "notes.txt",
            r"expected a \.safetensors, \.pth, \.pt, \.pkl, \.params, \.onnx, \.xml, \.pt2, \.tflite, \.pte or \.param "
            "file, or a run folder",
        ),
        ("hf://o/r/f.bin", r"expected a \.safetensors, "),
        ("a\0b.pth", "no such file"),
        (f"{'a' * 5000}.pth", "cannot be read: .*too long"),
    ],
)
def test_near_misses(name: str, message: str) -> None:
    made("runs/shapes/best.safetensors", "exports/nano.xml", "exports/nano.bin", "exports/nano.onnx", "notes.txt")
    with pytest.raises(CheckpointError, match=message):
        find_model(name)


@pytest.mark.parametrize("name", ["hf://owner/repository", "hf://owner", "hf:///a/b", "", None, 3])
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(ConfigError, match="expected"):
        find_model(name)


def test_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def from_hub(repository: str, filename: str, **options: Any) -> Path:
        asked.append((repository, filename, options["revision"]))
        return Path("cache") / filename

    def from_url(url: str, digits: str) -> Path:
        asked.append((url.rpartition("/")[2], digits))
        return Path("cache") / "url"

    monkeypatch.setattr(naming, "fetch_from_hub", from_hub)
    monkeypatch.setattr(naming, "fetch_url", from_url)
    assert find_model("yolact_nano").fetched().path is None  # in the package
    assert find_model("hf://o/r@v1/nano.xml").fetched().path == Path("cache/nano.xml")
    assert find_model("hf://o/r/nano.ncnn.param").fetched().path == Path("cache/nano.ncnn.param")
    assert find_model("yolact_resnet101").fetched().path == Path("cache/yolact_base_54_800000.pth")
    assert find_model("mask_rcnn_resnet50_fpn").fetched().path == Path("cache/url")
    assert asked == [
        ("o/r", "nano.xml", "v1"),
        ("o/r", "nano.bin", "v1"),
        ("o/r", "nano.ncnn.param", None),
        ("o/r", "nano.ncnn.bin", None),
        ("dbolya/yolact-base", "yolact_base_54_800000.pth", None),
        ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "bf2d0c1e"),
    ]


def test_a_failed_download_names_models_that_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Path:
        raise CheckpointError("no network")

    monkeypatch.setattr(naming, "fetch_from_hub", fail)
    with pytest.raises(
        CheckpointError, match=r"^no network\nModels that need no download: everyday, shapes, nuclei, yolact_nano$"
    ):
        find_model("hf://o/r/a.pth").fetched()


def test_models_nobody_publishes_say_so() -> None:
    with pytest.raises(CheckpointError, match=r"yolact_resnet18_256: no published weights .*; train it, or load"):
        fetch_published("yolact_resnet18_256")


def test_looking_up_needs_no_torch() -> None:
    code = (
        "import sys, protomask.models.naming as naming; naming.find_model('yolact_nano')\n"
        "sys.exit(bool({'torch', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
