from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from protomask.bench.memory import MemoryUse

if TYPE_CHECKING:
    from cli.conftest import Run

QUICK = ["--device", "cpu", "--rounds", 2, "--limit", 2, "--batch-sizes", 1, 3]
STAGES = ["decode", "preprocess", "network", "nms", "masks", "total"]


@pytest.mark.slow
def test_two_models_compared(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bench"
    models = [str(weights), f"{weights}@bf16"]
    outcome = run("bench", *models, "--data", scenes, *QUICK, "--score-threshold", 0, "--save-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    for word in (*STAGES, "95th percentile", "cores", "images/s, batch 3", "peak MiB", "mask AP50", "bench.svg"):
        assert word in outcome.out
    assert ElementTree.parse(folder / "bench.svg").getroot().tag.endswith("svg")
    report = json.loads((folder / "bench.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "bench.svg"]
    check_schema(report)
    assert [row["model"] for row in report["models"]] == models
    assert [row["precision"] for row in report["models"]] == ["float32", "bf16"]
    assert report["settings"]["images"] == ["photo_1.jpg", "photo_2.jpg"]
    assert report["settings"]["data_images"] == 2
    assert [row["instances_per_image"] for row in report["models"]] == [100.0, 100.0]


def check_schema(report: dict[str, Any]) -> None:
    assert list(report) == ["machine", "settings", "models", "missing"]
    assert {"cpu", "cores", "threads", "memory_gib", "python", "torch", "protomask", "date"} <= set(report["machine"])
    for row in report["models"]:
        assert list(row) == [
            "model", "source", "precision", "compile", "runtime", "instances_per_image", "stages", "throughput",
            "memory", "ap",
        ]  # fmt: skip
        assert list(row["stages"]) == STAGES
        stages = row["stages"]
        assert all(0 <= one["median_ms"] <= one["p95_ms"] for one in stages.values())
        assert stages["total"]["median_ms"] >= max(stages[name]["median_ms"] for name in STAGES[:-1])
        assert [entry["batch_size"] for entry in row["throughput"]] == [1, 3]
        assert all(entry["images_per_second"] > 0 for entry in row["throughput"])
        assert list(row["memory"]) == ["loaded_mib", "peak_mib", "gpu_peak_mib"]
        if sys.platform != "win32":
            assert 20 < row["memory"]["loaded_mib"] <= row["memory"]["peak_mib"]
        assert set(row["ap"]) == {f"{kind}_{name}" for kind in ("box", "mask") for name in ("AP", "AP50", "AP75")}


def test_missing_models_are_left_out(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = MemoryUse(loaded_mib=100.0, peak_mib=200.0, gpu_peak_mib=None)
    monkeypatch.setattr("protomask.bench.compare.measure_memory", lambda *_, **__: use)  # starts processes
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    models = ["gone.onnx", "yolact_nano", tmp_path / "broken.onnx"]
    outcome = run("bench", *models, "--rounds", 1, "--warmup", 0, "--limit", 1, "--batch-sizes", 1)
    assert outcome.code == 1
    assert "yolact_nano" in outcome.out
    first, second, last = outcome.err.splitlines()
    assert first == "error: gone.onnx is left out: gone.onnx: no such file"
    assert second.startswith(f"error: {models[2]} is left out: ")
    assert last == f"left out, see above: gone.onnx, {models[2]}"
    told = run("bench", *models, "--rounds", 1, "--warmup", 0, "--limit", 1, "--batch-sizes", 1, "--json").json
    assert [row["model"] for row in told["models"]] == ["yolact_nano"]
    assert list(told["missing"]) == ["gone.onnx", str(models[2])]


def test_ap_is_that_of_eval(run: Run, weights: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = MemoryUse(loaded_mib=100.0, peak_mib=200.0, gpu_peak_mib=None)
    monkeypatch.setattr("protomask.bench.compare.measure_memory", lambda *_, **__: use)  # starts processes
    model = [weights, "--images", scenes / "images" / "val", "--data", scenes, "--device", "cpu"]
    outcome = run("bench", *model, "--rounds", 1, "--batch-sizes", 1, 3, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    report = outcome.json
    check_schema(report)
    assert len(report["settings"]["images"]) == report["settings"]["data_images"] == 3
    told = run("eval", "--data", scenes, "--weights", weights, "--device", "cpu", "--num-workers", 0, "--json").json
    assert report["models"][0]["ap"] == {
        f"{kind}_{name}": pytest.approx(told[kind][name]) for kind in ("box", "mask") for name in ("AP", "AP50", "AP75")
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["yolact_nano", "--batch-sizes", "1", "0"], 2, "batch_sizes: expected at least 1, got 0"),
        (["yolact_nano", "--batch-sizes", "many"], 2, "--batch-sizes: expected INT, got"),
        (["yolact_nano", "--rounds", "0"], 2, "rounds: expected at least 1, got 0"),
        (["yolact_nano", "--limit", "0"], 2, "limit: expected at least 1, got 0"),
        (["yolact_nano", "--threads", "0"], 2, "threads: expected at least 1, got 0"),
        (["yolact_nano", "--warmup", "-1"], 2, "warmup: expected at least 0, got -1"),
        (
            ["yolact_nano", "yolact_nano"],
            2,
            "models: expected at least one, all different, got yolact_nano yola",
        ),
        (
            ["yolact_nano@int3"],
            2,
            "model: expected NAME, or NAME@ and one of float32, bf16, fp16, torch, onnx, openvino, compile, got",
        ),
        (["yolact_nano", "--images", "nosuch"], 1, "nosuch: no such file or folder"),
        (["yolact_nano", "--data", "nosuch"], 1, "dataset nosuch: expected a folder"),
        (["nosuch.safetensors"], 1, "nosuch.safetensors: no such file"),
        ([], 2, "missing: models"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_messages(run: Run, arguments: list[str], code: int, message: str) -> None:
    outcome = run("bench", *arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_model_with_other_classes(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations" / "val.json").read_text())
    for category in content["categories"]:
        category["name"] = f"other {category['name']}"
    (tmp_path / "val.json").write_text(json.dumps(content))
    paths = {"train_annotations": scenes / "annotations" / "train.json", "val_annotations": tmp_path / "val.json"}
    paths |= {"train_images": scenes / "images" / "train", "val_images": scenes / "images" / "val"}
    (tmp_path / "data.yaml").write_text("".join(f"{key}: {path}\n" for key, path in paths.items()))
    outcome = run("bench", weights, "--data", tmp_path / "data.yaml", *QUICK)
    assert outcome.code == 1
    assert "the categories do not match the class names" in outcome.err


def test_ap_of_another_split(run: Run, weights: Path, scenes: Path) -> None:
    outcome = run("bench", weights, "--data", scenes, "--split", "train", *QUICK, "--json")
    assert outcome.code == 0
    assert (outcome.json["settings"]["data_split"], outcome.json["settings"]["data_images"]) == ("train", 2)
